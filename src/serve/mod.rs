//! A request, from its head to the reply. It must not know file names, rotation or the command line.

mod body;
mod close;
pub mod connection;
mod handshake;
pub mod memory;
mod reply;
mod report;
mod request;
pub mod routes;
pub mod service;
