//! A request, from its head to the reply. It must not know file names, rotation or the command line.

mod body;
pub mod connection;
pub mod memory;
mod reply;
mod request;
pub mod routes;
pub mod service;
