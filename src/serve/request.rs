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
    pub(super) http10: bool,
    pub(super) head_only: bool,
    pub(super) awaits_continue: bool,
    pub(super) arrived: Instant,
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

    /// For a request whose head made no sense.
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
