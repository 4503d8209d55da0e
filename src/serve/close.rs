//! How a connection ends.

use std::thread;
use std::time::{Duration, Instant};

use super::connection::{Handler, Stop};
use super::reply::Reply;
use super::request::Request;
use crate::http::Status;
use crate::net::transport::Progress;

/// How long, and how many bytes, a refused client may still send after the reply, so that it comes to read the reply.
const DISCARD: Duration = Duration::from_secs(10);
const DISCARD_BYTES: usize = 256 * 1024 * 1024;

/// How long our writing side is kept open after the reply to a request that gave way, so that the client comes to read it.
const GIVEN_WAY: Duration = Duration::from_millis(250);

impl Handler<'_> {
    /// Ends a connection that cannot go on.
    pub(super) fn stop(&mut self, stop: Stop) {
        match stop {
            Stop::Gone => {}
            Stop::Refuse(refusal) => {
                let reply = Reply::refusal(refusal.status, refusal.why);
                if self.answer(&Request::unreadable(), reply).is_ok() {
                    self.close(DISCARD);
                }
            }
            Stop::GiveWay => {
                let why = "not recorded: the body came slowly, and others wait for its place or its memory";
                let reply = Reply::refusal(Status::Unavailable, why);
                if self.answer(&Request::unreadable(), reply).is_ok() {
                    // Our reading side is closed already, and the kernel resets a connection on which bytes arrive after
                    // both are closed: the reply would be lost.
                    thread::sleep(GIVEN_WAY);
                }
            }
        }
    }

    /// Ends a connection after a reply with `Connection: close`. What the client still sends is thrown away for a while,
    /// so that it reads the reply and gets no reset. Meanwhile the connection may have to make room for another.
    pub(super) fn close(&mut self, patience: Duration) {
        if self.is_muted() {
            return;
        }
        // Before others may close it: they would not wait for a close_notify of ours that is under way.
        self.transport.say_goodbye();
        self.connection.await_request();
        let deadline = Instant::now() + patience;
        let mut left = DISCARD_BYTES;
        while let Ok(Progress::Data(count)) = self.transport.read(deadline)
            && count < left
        {
            left -= count;
            self.transport.consume(usize::MAX);
        }
    }
}
