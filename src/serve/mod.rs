//! A request, from its head to the reply.

mod body;
pub mod connection;
pub mod memory;
mod request;
pub mod routes;
pub mod service;
