//! What the integration tests share: the program as a child process ([`Server`]), a blocking client that reads answers
//! strictly ([`Client`]), throw-away certificates, the recorded bodies, and a second opinion on JSON.

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod attack;
pub mod certificates;
pub mod client;
pub mod corpus;
pub mod json;
pub mod load;
pub mod server;
pub mod stage;

pub use certificates::Authority;
pub use client::{Client, Response, chunked, get, post, request};
pub use server::{Server, Setup, program};

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything that must happen may take before a test gives up on it. Far more than is ever needed, because
/// continuous integration is slow at times; reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Within this time a test has to be served if what holds the server up must not count: the deadlines of requests, which
/// would end it as well, are 30 s.
pub const BEFORE_ANY_DEADLINE: Duration = Duration::from_secs(25);

/// Sets the flag when it goes, and so when an assertion fails, too: a scope waits for all its threads, and those that wait
/// for the flag would go on for ever.
pub struct StopAtEnd<'f>(pub &'f AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls until `condition` gives something. For what the program does after it has answered, such as counting.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Opens a FIFO for reading without waiting for a writer. To read what is not there waits, as usual.
pub fn open_to_read(fifo: &Path) -> File {
    use rustix::fs::OFlags;
    let reader = rustix::fs::open(fifo, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, 0.into()).unwrap();
    rustix::io::ioctl_fionbio(&reader, false).unwrap();
    File::from(reader)
}

/// Closes a FIFO's reader, and waits until nobody has it open for reading: a process that another test is just starting
/// holds the descriptors of this one for a moment.
pub fn close_reader<T>(reader: T, fifo: &Path) {
    use rustix::fs::OFlags;
    drop(reader);
    eventually("a FIFO without a reader", || {
        let writer = rustix::fs::open(fifo, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, 0.into());
        (writer.err()? == rustix::io::Errno::NXIO).then_some(())
    });
}
