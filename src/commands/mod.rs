//! What the words of the command line do.

pub mod read;
pub mod serve;
pub mod signals;
