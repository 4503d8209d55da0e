//! HTTP/1.1 as bytes: heads and chunk framing are read, responses are written (RFC 9110, RFC 9112).
//!
//! Owns what a well-formed request is, and is stricter than RFC 9112 demands wherever it leaves a choice, because
//! request smuggling lives on such choices. Must not know sockets, clocks, or what a path or a body means.

mod chunk;
mod head;
mod response;

pub use chunk::{chunk_line, trailer_length};
pub use head::{Content, Framing, HEAD_MAX, HEADERS_MAX, Head, Method, head_length, parse_head};
pub use response::{CONTINUE, Response, Status};

/// Why a request cannot be read any further. The connection is closed after the reply, since nobody knows where the
/// next request would begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The reply's status.
    pub status: Status,
    /// One line that says why, for the reply's body and its `error` header.
    pub why: &'static str,
}

/// A 400.
const fn bad(why: &'static str) -> Refusal {
    Refusal { status: Status::BadRequest, why }
}
