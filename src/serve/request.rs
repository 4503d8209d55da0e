//! What is kept of a request once its head has been judged.

use std::time::{Instant, SystemTime};

use super::reply::Next;
use crate::http::{Framing, Head, Method};

/// What the reply needs to know of the request.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) framing: Framing,
    /// What the client wants of the connection after the reply.
    pub(super) next: Next,
    /// The request is HTTP/1.0.
    pub(super) http10: bool,
    /// The method is HEAD: the reply has no body.
    pub(super) head_only: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) awaits_continue: bool,
    /// When the head was complete, for deadlines and durations.
    pub(super) arrived: Instant,
    /// The same as a time of day, for the line.
    pub(super) received: SystemTime,
}

impl Request {
    pub(super) fn new(head: &Head<'_>, arrived: Instant, received: SystemTime) -> Self {
        Self {
            framing: head.framing,
            next: if head.keep_alive { Next::KeepOpen } else { Next::Close },
            http10: head.http10,
            head_only: head.method == Method::Head,
            awaits_continue: head.expects_continue && head.framing != Framing::Length(0),
            arrived,
            received,
        }
    }

    /// Stands for a request whose head or body cannot be read: the connection ends after the reply.
    pub(super) fn unreadable() -> Self {
        Self {
            framing: Framing::Length(0),
            next: Next::Close,
            http10: false,
            head_only: false,
            awaits_continue: false,
            arrived: Instant::now(),
            received: SystemTime::now(),
        }
    }
}
