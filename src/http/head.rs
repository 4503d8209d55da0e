//! A request's head (RFC 9112, sections 2 to 6).
//!
//! httparse splits the head into its parts. Checked here is what it leaves open: lines end in CRLF only, there is exactly
//! one Host, and a body's length is told in one way only.

use super::{Refusal, Status, bad};

/// Longest head in bytes, from the request line to the empty line. The API server's is under 500 bytes.
pub const HEAD_MAX: usize = 16 * 1024;

/// Most header fields of a head. The API server sends 7.
pub const HEADERS_MAX: usize = 64;

/// The methods that some path answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// Any other token.
    Other,
}

/// How the body's end is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The body's length in bytes; 0 where the head says nothing.
    Length(u64),
    /// Chunked transfer coding (RFC 9112, section 7.1).
    Chunked,
}

/// What Content-Type and Content-Encoding say of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// `Content-Type: application/json`, with any parameters.
    Json,
    /// No Content-Type, several, or another one.
    Other,
    /// A Content-Encoding other than `identity`, whatever the Content-Type.
    Encoded,
}

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// The request's method.
    pub method: Method,
    /// The target's path without its query.
    pub path: &'b str,
    /// How the body's end is found.
    pub framing: Framing,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// The request is HTTP/1.0: its client has to be told if the connection stays open.
    pub http10: bool,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// What the head says of the body.
    pub content: Content,
    /// The token of `Authorization: Bearer TOKEN`.
    pub bearer: Option<&'b [u8]>,
}

/// The length of the head that `bytes` begins with, or `None` while it is not complete.
///
/// `seen` is the number of bytes that an earlier call looked at without finding the end: a head that trickles in is
/// then not searched from its start again. Errors: 400 for a bare LF, 431 for a head larger than [`HEAD_MAX`].
pub fn head_length(bytes: &[u8], seen: usize) -> Result<Option<usize>, Refusal> {
    let mut from = seen;
    while let Some(offset) = bytes.get(from..).and_then(|rest| rest.iter().position(|&b| b == b'\n')) {
        let end = from + offset + 1;
        let line = bytes.get(..end).unwrap_or_default();
        if !line.ends_with(b"\r\n") {
            return Err(bad("malformed request: a line ends in LF without CR"));
        }
        if end > HEAD_MAX {
            break;
        }
        if line.ends_with(b"\r\n\r\n") {
            return Ok(Some(end));
        }
        from = end;
    }
    if bytes.len() >= HEAD_MAX {
        return Err(Refusal { status: Status::HeadTooLarge, why: "the request's head is larger than 16 KiB" });
    }
    Ok(None)
}

/// Reads a complete head, as [`head_length`] measured it. Errors: 400 for what is malformed or ambiguous, and 417, 431,
/// 501, 505 where they fit.
pub fn parse_head(bytes: &[u8]) -> Result<Head<'_>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(bad("malformed request")),
        Err(error) => return Err(refusal_of(error, bytes)),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(bad("malformed request line"));
    };
    let http10 = version == 0;
    let path = path_of(target).ok_or(bad("malformed request: its target is no path"))?;
    let mut seen = Fields::default();
    for field in request.headers.iter() {
        seen.read(field.name, field.value)?;
    }
    match seen.hosts {
        0 if !http10 => return Err(bad("malformed request: no Host")),
        0 | 1 => {}
        _ => return Err(bad("malformed request: several Host")),
    }
    let framing = match (seen.length, seen.chunked) {
        (Some(_), true) => return Err(bad("malformed request: both Content-Length and Transfer-Encoding")),
        (None, true) if http10 => return Err(bad("malformed request: Transfer-Encoding in HTTP/1.0")),
        (None, true) => Framing::Chunked,
        (length, false) => Framing::Length(length.unwrap_or(0)),
    };
    // RFC 9110, section 10.1.1: an HTTP/1.0 client's expectations are ignored.
    if seen.expects_unknown && !http10 {
        return Err(Refusal { status: Status::ExpectationFailed, why: "only 100-continue can be expected" });
    }
    Ok(Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            _ => Method::Other,
        },
        path,
        framing,
        keep_alive: !seen.close && (!http10 || seen.keep_alive),
        http10,
        expects_continue: seen.expects_continue && !http10,
        content: match (seen.encoded, seen.json, seen.content_types) {
            (true, ..) => Content::Encoded,
            (false, true, 1) => Content::Json,
            _ => Content::Other,
        },
        bearer: seen.bearer,
    })
}

fn refusal_of(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => {
            Refusal { status: Status::HeadTooLarge, why: "the request has more than 64 header fields" }
        }
        httparse::Error::Version if names_a_version(bytes) => {
            Refusal { status: Status::VersionNotSupported, why: "only HTTP/1.1 and HTTP/1.0 are spoken here" }
        }
        httparse::Error::HeaderName => bad("malformed request: a header field's name"),
        httparse::Error::HeaderValue => bad("malformed request: a header field's value"),
        _ => bad("malformed request line"),
    }
}

/// Whether the request line is three words of which the last is `HTTP/` digit `.` digit.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&b| b == b' ').skip(2);
    let (Some(version), None) = (words.next(), words.next()) else {
        return false;
    };
    matches!(version.strip_prefix(b"HTTP/"), Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// The path, without a query, of a target in origin form or absolute form (RFC 9112, section 3.2), the only ones for
/// which there is something here: `None` for `*`, an authority, another scheme, and what is not ASCII.
fn path_of(target: &str) -> Option<&str> {
    if !target.is_ascii() {
        return None;
    }
    let path = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or_default()
    };
    // An absolute form may leave the path out.
    path.split('?').next().map(|path| if path.is_empty() { "/" } else { path })
}

/// What the header fields say, taken together.
#[derive(Default)]
struct Fields<'b> {
    /// How many Host fields there are.
    hosts: usize,
    /// Content-Length.
    length: Option<u64>,
    /// `Transfer-Encoding: chunked`.
    chunked: bool,
    /// `Connection: close`.
    close: bool,
    /// `Connection: keep-alive`.
    keep_alive: bool,
    /// How many Content-Type fields there are.
    content_types: usize,
    /// The last of them is `application/json`.
    json: bool,
    /// There is a Content-Encoding other than `identity`.
    encoded: bool,
    /// `Expect: 100-continue`.
    expects_continue: bool,
    /// Any other expectation.
    expects_unknown: bool,
    /// The token of `Authorization: Bearer TOKEN`.
    bearer: Option<&'b [u8]>,
}

impl<'b> Fields<'b> {
    fn read(&mut self, name: &str, value: &'b [u8]) -> Result<(), Refusal> {
        let is = |field: &str| name.eq_ignore_ascii_case(field);
        if is("host") {
            self.hosts += 1;
            if !value.iter().all(|&b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&b)) {
                return Err(bad("malformed request: Host"));
            }
        } else if is("content-length") {
            let length = content_length(value).ok_or(bad("malformed request: Content-Length"))?;
            if self.length.is_some_and(|before| before != length) {
                return Err(bad("malformed request: differing Content-Lengths"));
            }
            self.length = Some(length);
        } else if is("transfer-encoding") {
            if self.chunked {
                return Err(bad("malformed request: several Transfer-Encodings"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                let why = "no transfer coding but chunked is known here";
                return Err(Refusal { status: Status::NotImplemented, why });
            }
            self.chunked = true;
        } else if is("connection") {
            self.close |= elements(value).any(|option| option.eq_ignore_ascii_case(b"close"));
            self.keep_alive |= elements(value).any(|option| option.eq_ignore_ascii_case(b"keep-alive"));
        } else if is("content-type") {
            self.content_types += 1;
            let media_type = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
            self.json = media_type.eq_ignore_ascii_case(b"application/json");
        } else if is("content-encoding") {
            self.encoded |=
                elements(value).any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
        } else if is("expect") {
            let known = value.eq_ignore_ascii_case(b"100-continue");
            self.expects_continue |= known;
            self.expects_unknown |= !known;
        } else if is("authorization") {
            self.bearer = value
                .split_at_checked(7)
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
                .map(|(_, token)| token.trim_ascii());
        }
        Ok(())
    }
}

/// The elements of a comma-separated list (RFC 9110, section 5.6.1).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii)
}

/// Digits only: no sign, no list, no white space inside.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
