//! What the words of the command line do: everything is opened, wired, run and ended here. It must not know how any of it
//! works.

pub mod policy;
pub mod read;
mod reloader;
pub mod serve;
pub mod server;
mod settings;
pub mod signals;
pub mod start_error;
pub mod verify;
