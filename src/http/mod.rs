//! HTTP/1.1 without I/O: bytes to a request's head and body framing, and response bytes.
//!
//! httparse reads the head; what is stricter here than there (RFC 9112 leaves it open, smuggling lives on it) is written
//! out below: a line ends in CRLF only, exactly one Host, no two ways to tell a body's length.

use std::io::Write as _;
use std::time::SystemTime;

use crate::record::timestamp;

/// Longest head, from the request line to the empty line. The API server's is under 500 bytes.
pub const HEAD_MAX: usize = 16 * 1024;

/// Most header fields of a head.
pub const HEADERS_MAX: usize = 64;

/// Longest line before a chunk, extensions included.
const CHUNK_LINE_MAX: usize = 256;

/// What makes a request unanswerable as it stands: the status and the one line that the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The response's status.
    pub status: Status,
    /// Why, for the body and the `error` header.
    pub why: &'static str,
}

const fn bad(why: &'static str) -> Refusal {
    Refusal { status: Status::BadRequest, why }
}

pub use crate::observe::labels::Status;

impl Status {
    /// The three digits.
    pub fn code(self) -> &'static str {
        self.name()
    }

    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::UnsupportedMediaType => "415 Unsupported Media Type",
            Self::ExpectationFailed => "417 Expectation Failed",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::NotImplemented => "501 Not Implemented",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

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
    /// So many bytes (0 where the head says nothing).
    Length(u64),
    /// RFC 9112, section 7.1.
    Chunked,
}

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// The request's method.
    pub method: Method,
    /// The target's path, without query; `*` and what has no path as they came.
    pub path: &'b str,
    /// How long the body is.
    pub framing: Framing,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// HTTP/1.0, which must be told when the connection stays open.
    pub http10: bool,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// Content-Type is `application/json`, with any parameters.
    pub json: bool,
    /// The token of `Authorization: Bearer TOKEN`.
    pub bearer: Option<&'b [u8]>,
}

/// The length of the head that `bytes` starts with, or `None` while it is not complete. `seen` bytes were looked at
/// before and held no end, so a head that trickles in is not searched from its start again.
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

/// Reads a complete head, as [`head_length`] measured it.
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
    let mut head = Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            _ => Method::Other,
        },
        path: path_of(target),
        framing: Framing::Length(0),
        keep_alive: !http10,
        http10,
        expects_continue: false,
        json: false,
        bearer: None,
    };
    let mut seen = Seen::default();
    for field in request.headers.iter() {
        read_field(&mut head, &mut seen, field.name, field.value)?;
    }
    match seen.hosts {
        0 if !http10 => return Err(bad("malformed request: no Host")),
        0 | 1 => {}
        _ => return Err(bad("malformed request: several Host")),
    }
    head.keep_alive = !seen.close && (!http10 || seen.keep_alive);
    head.framing = match (seen.length, seen.chunked) {
        (Some(_), true) => {
            return Err(bad("malformed request: both Content-Length and Transfer-Encoding"));
        }
        (_, true) if http10 => return Err(bad("malformed request: Transfer-Encoding in HTTP/1.0")),
        (_, true) => Framing::Chunked,
        (length, false) => Framing::Length(length.unwrap_or(0)),
    };
    head.json = seen.content_types == 1 && head.json;
    Ok(head)
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

/// The path of an origin-form or absolute-form target (RFC 9112, section 3.2). An absolute form may leave it out.
fn path_of(target: &str) -> &str {
    let (path, when_empty) = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") => {
            let path = rest.find(['/', '?']).and_then(|at| rest.get(at..));
            (path.unwrap_or_default(), "/")
        }
        _ => (target, ""),
    };
    match path.split_once('?').map_or(path, |(path, _)| path) {
        "" => when_empty,
        path => path,
    }
}

/// What must be known of all fields before the head can be judged.
#[derive(Default)]
struct Seen {
    hosts: usize,
    content_types: usize,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

fn read_field<'b>(head: &mut Head<'b>, seen: &mut Seen, name: &str, value: &'b [u8]) -> Result<(), Refusal> {
    let is = |field: &str| name.eq_ignore_ascii_case(field);
    if is("host") {
        seen.hosts += 1;
        if !value.iter().all(|&b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&b)) {
            return Err(bad("malformed request: Host"));
        }
    } else if is("content-length") {
        let length = content_length(value).ok_or(bad("malformed request: Content-Length"))?;
        if seen.length.is_some_and(|before| before != length) {
            return Err(bad("malformed request: differing Content-Lengths"));
        }
        seen.length = Some(length);
    } else if is("transfer-encoding") {
        if seen.chunked {
            return Err(bad("malformed request: several Transfer-Encodings"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal {
                status: Status::NotImplemented,
                why: "no transfer coding but chunked is known here",
            });
        }
        seen.chunked = true;
    } else if is("connection") {
        for option in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            seen.close |= option.eq_ignore_ascii_case(b"close");
            seen.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    } else if is("content-type") {
        seen.content_types += 1;
        let media_type = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        head.json = media_type.eq_ignore_ascii_case(b"application/json");
    } else if is("expect") && !head.http10 {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal { status: Status::ExpectationFailed, why: "only 100-continue can be expected" });
        }
        head.expects_continue = true;
    } else if is("authorization") {
        head.bearer = value
            .split_at_checked(7)
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, token)| token.trim_ascii());
    }
    Ok(())
}

/// Digits only: no sign, no list, no white space inside.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

/// The line before a chunk: its length with the CRLF and the chunk's size, or `None` while it is not complete.
/// Extensions are read over (RFC 9112, section 7.1.1).
pub fn chunk_line(bytes: &[u8]) -> Result<Option<(usize, u64)>, Refusal> {
    let Some(at) = bytes.iter().take(CHUNK_LINE_MAX).position(|&b| b == b'\n') else {
        if bytes.len() >= CHUNK_LINE_MAX {
            return Err(bad("malformed chunk: its line is longer than 256 bytes"));
        }
        return Ok(None);
    };
    let line = bytes.get(..at).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.ok_or(bad("malformed chunk: a line ends in LF without CR"))?;
    let digits = line.iter().position(|&b| b == b';').and_then(|at| line.get(..at)).unwrap_or(line);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(bad("malformed chunk: its size"));
    }
    if line.iter().any(|&b| b.is_ascii_control() && b != b'\t') {
        return Err(bad("malformed chunk: a control byte in its extension"));
    }
    let size = str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let size = size.ok_or(bad("malformed chunk: its size"))?;
    Ok(Some((at + 1, size)))
}

/// The length of the trailer section that `bytes` starts with (fields are thrown away), or `None` while it is not
/// complete.
pub fn trailer_length(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    if bytes.starts_with(b"\r\n") {
        return Ok(Some(2));
    }
    let Some(length) = head_length(bytes, 0)? else {
        return Ok(None);
    };
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(bytes.get(..length).unwrap_or_default(), &mut fields) {
        Ok(httparse::Status::Complete(_)) => Ok(Some(length)),
        _ => Err(bad("malformed trailer section")),
    }
}

/// `HTTP/1.1 100 Continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A response to be written out. Lives for one [`Response::write`].
#[derive(Debug)]
pub struct Response<'a> {
    /// The status.
    pub status: Status,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: &'a [u8],
    /// `Allow`, for a 405.
    pub allow: Option<&'static str>,
    /// Says why in an `error` header too, as the Go original does.
    pub error: Option<&'a str>,
    /// `Connection: close`.
    pub close: bool,
    /// The request was HTTP/1.0: `Connection: keep-alive` where it stays open.
    pub http10: bool,
    /// The request was HEAD: the body is measured, not sent.
    pub head_only: bool,
}

impl Response<'_> {
    /// Appends the response's bytes to `out`; `date` is for the `Date` header.
    pub fn write(&self, date: SystemTime, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.line().as_bytes());
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(self.content_type.as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(&timestamp::http_date(date));
        // A write to a Vec cannot fail.
        let _ = write!(out, "\r\nContent-Length: {}", self.body.len());
        if let Some(allow) = self.allow {
            out.extend_from_slice(b"\r\nAllow: ");
            out.extend_from_slice(allow.as_bytes());
        }
        if let Some(error) = self.error {
            out.extend_from_slice(b"\r\nError: ");
            out.extend(error.bytes().map(|b| if b.is_ascii_graphic() { b } else { b' ' }));
        }
        if self.status == Status::Unavailable {
            // An integer Retry-After makes the API server send the same review again; 0 makes it do so at once.
            out.extend_from_slice(b"\r\nRetry-After: 0");
        }
        if self.close {
            out.extend_from_slice(b"\r\nConnection: close");
        } else if self.http10 {
            out.extend_from_slice(b"\r\nConnection: keep-alive");
        }
        out.extend_from_slice(b"\r\n\r\n");
        if !self.head_only {
            out.extend_from_slice(self.body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Head<'_>, Refusal> {
        match head_length(text.as_bytes(), 0)? {
            Some(length) => parse_head(text.as_bytes().get(..length).unwrap()),
            None => panic!("incomplete: {text:?}"),
        }
    }

    fn with(fields: &str) -> Result<Head<'static>, Refusal> {
        let text = format!("POST /log-request?timeout=1s HTTP/1.1\r\nHost: a.b.svc:443\r\n{fields}\r\n");
        parse(text.leak())
    }

    fn status(result: Result<Head<'_>, Refusal>) -> &'static str {
        result.err().map_or("accepted", |refusal| refusal.status.code())
    }

    #[test]
    fn the_api_servers_head_is_read() {
        let head = with("User-Agent: kube-apiserver-admission\r\nContent-Length: 12\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n").unwrap();
        assert_eq!(head.method, Method::Post);
        assert_eq!(head.path, "/log-request");
        assert_eq!(head.framing, Framing::Length(12));
        assert!(head.keep_alive && head.json && !head.http10 && !head.expects_continue);
    }

    #[test]
    fn a_bare_line_feed_is_refused_before_the_head_is_complete() {
        assert!(head_length(b"POST / HTTP/1.1\nHost: a\n", 0).is_err());
        assert!(head_length(b"POST / HTTP/1.1\r\nHost: a\n\r\n", 0).is_err());
    }

    #[test]
    fn what_tells_a_bodys_length_in_two_ways_is_refused() {
        assert_eq!(status(with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n")), "400");
        assert_eq!(status(with("Content-Length: 3\r\nContent-Length: 4\r\n")), "400");
        assert_eq!(status(with("Content-Length: 3\r\nContent-Length: 3\r\n")), "accepted");
        assert_eq!(status(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")), "400");
        for length in ["+3", "-3", "3, 3", "3 3", "0x3", "", "18446744073709551616", "3;"] {
            assert_eq!(status(with(&format!("Content-Length: {length}\r\n"))), "400", "{length}");
        }
        for coding in ["gzip", "gzip, chunked", "identity", "xchunked", "chunked, chunked", "\u{b}chunked"] {
            assert_ne!(status(with(&format!("Transfer-Encoding: {coding}\r\n"))), "accepted", "{coding}");
        }
    }

    #[test]
    fn white_space_before_a_colon_folding_and_control_bytes_are_refused() {
        for fields in [
            "Content-Length : 3\r\n",
            "X: a\r\n b\r\n",
            "X: a\0b\r\n",
            "X\0: a\r\n",
            " X: a\r\n",
            "X: a\rb\r\n",
            ": a\r\n",
            "X\r\n",
        ] {
            assert_eq!(status(with(fields)), "400", "{fields:?}");
        }
    }

    #[test]
    fn exactly_one_host_is_wanted_of_http_1_1() {
        assert_eq!(status(parse("GET / HTTP/1.1\r\n\r\n")), "400");
        assert_eq!(status(with("Host: b\r\n")), "400");
        assert_eq!(status(parse("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")), "400");
        assert_eq!(status(parse("GET / HTTP/1.0\r\n\r\n")), "accepted");
    }

    #[test]
    fn other_versions_are_told_so() {
        assert_eq!(status(parse("GET / HTTP/2.0\r\nHost: a\r\n\r\n")), "505");
        assert_eq!(status(parse("GET / HTTP/1.2\r\nHost: a\r\n\r\n")), "505");
        assert_eq!(status(parse("GET / HTP/1.1\r\nHost: a\r\n\r\n")), "400");
        assert_eq!(status(parse("GET /\r\nHost: a\r\n\r\n")), "400");
        assert_eq!(status(parse("GET / x HTTP/1.1\r\nHost: a\r\n\r\n")), "400");
        assert_eq!(status(parse("GET / HTTP/1.1 \r\nHost: a\r\n\r\n")), "400");
    }

    #[test]
    fn heads_at_the_limits_are_read_and_past_them_refused() {
        assert_eq!(status(with(&"X: a\r\n".repeat(63))), "accepted");
        assert_eq!(status(with(&"X: a\r\n".repeat(64))), "431");
        let long = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n));
        let frame = long(0).len();
        assert_eq!(head_length(long(HEAD_MAX - frame).as_bytes(), 0), Ok(Some(HEAD_MAX)));
        let refusal = head_length(long(HEAD_MAX - frame + 1).as_bytes(), 0).unwrap_err();
        assert_eq!(refusal.status, Status::HeadTooLarge);
    }

    #[test]
    fn a_head_that_trickles_in_ends_at_the_same_byte() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let mut seen = 0;
        for end in 0..text.len() {
            match head_length(text.get(..end).unwrap(), seen).unwrap() {
                Some(length) => {
                    assert_eq!((length, end), (27, 27));
                    return;
                }
                None => seen = end,
            }
        }
        panic!("never complete");
    }

    #[test]
    fn absolute_form_targets_lose_their_authority_and_queries_are_ignored() {
        for (target, path) in [
            ("https://a.b/log-request?timeout=1s", "/log-request"),
            ("HTTP://a.b", "/"),
            ("http://a.b?x", "/"),
            ("*", "*"),
            ("/a?b?c", "/a"),
            ("/a/../b", "/a/../b"),
            ("?", ""),
            ("ftp://a/b", "ftp://a/b"),
        ] {
            assert_eq!(path_of(target), path);
        }
    }

    #[test]
    fn content_types_are_compared_without_case_and_parameters() {
        for (value, json) in [
            ("application/json", true),
            ("Application/JSON ; charset=utf-8", true),
            ("application/json, text/plain", false),
            ("text/json", false),
            ("", false),
        ] {
            assert_eq!(with(&format!("Content-Type: {value}\r\n")).unwrap().json, json, "{value}");
        }
        assert!(!with("Content-Type: application/json\r\nContent-Type: application/json\r\n").unwrap().json);
    }

    #[test]
    fn connection_options_decide_whether_the_connection_stays() {
        assert!(!with("Connection: foo, Close\r\n").unwrap().keep_alive);
        assert!(!parse("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
        assert!(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().keep_alive);
    }

    #[test]
    fn chunk_lines_hold_hex_digits_and_perhaps_an_extension() {
        assert_eq!(chunk_line(b"1a\r\n"), Ok(Some((4, 26))));
        assert_eq!(chunk_line(b"0;name=\"value\"\r\nrest"), Ok(Some((16, 0))));
        assert_eq!(chunk_line(b"ffffffffffffffff\r\n"), Ok(Some((18, u64::MAX))));
        assert_eq!(chunk_line(b"1a"), Ok(None));
        assert_eq!(chunk_line(b""), Ok(None));
        for line in ["", "+1", "-1", "0x1", " 1", "1 ", "1 ;a", "g", "10000000000000000", "1;\0", "1;a\rb"] {
            assert!(chunk_line(format!("{line}\r\n").as_bytes()).is_err(), "{line:?}");
        }
        assert!(chunk_line(b"1\n").is_err());
        assert!(chunk_line(&[b'0'; CHUNK_LINE_MAX]).is_err());
    }

    #[test]
    fn trailers_are_read_over() {
        assert_eq!(trailer_length(b"\r\nrest"), Ok(Some(2)));
        assert_eq!(trailer_length(b"A: b\r\n\r\nrest"), Ok(Some(8)));
        assert_eq!(trailer_length(b"A: b\r\n"), Ok(None));
        assert!(trailer_length(b"A b\r\n\r\n").is_err());
        assert!(trailer_length(b"\n").is_err());
    }

    #[test]
    fn a_bearer_token_is_found() {
        assert_eq!(with("Authorization: bearer  abc \r\n").unwrap().bearer, Some(&b"abc"[..]));
        assert_eq!(with("Authorization: Basic abc\r\n").unwrap().bearer, None);
    }

    #[test]
    fn a_response_measures_its_body_and_keeps_the_error_on_one_line() {
        let mut out = Vec::new();
        let response = Response {
            status: Status::Unavailable,
            content_type: "text/plain",
            body: b"abc",
            allow: None,
            error: Some("a\r\nb"),
            close: true,
            http10: false,
            head_only: false,
        };
        response.write(SystemTime::UNIX_EPOCH, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 3\r\nError: a  b\r\nRetry-After: 0\r\nConnection: close\r\n\r\nabc"
        );
    }
}
