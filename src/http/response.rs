//! Responses as bytes.

use std::io::Write as _;
use std::time::SystemTime;

use crate::record::timestamp;

pub use crate::observe::labels::Status;

impl Status {
    /// The three digits and the reason phrase.
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

/// The interim response that asks for the body (RFC 9110, section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a response says beside its body; written out with [`Response::write`].
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The status.
    pub status: Status,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Allow`, for a 405.
    pub allow: Option<&'static str>,
    /// One line that says why the request is refused, for the `error` header, as the Go original has it.
    pub error: Option<&'a str>,
    /// `Connection: close`.
    pub close: bool,
    /// The request was HTTP/1.0: `Connection: keep-alive` where the connection stays open.
    pub http10: bool,
    /// The request was HEAD: the body is measured, not sent.
    pub head_only: bool,
}

impl Response<'_> {
    /// Appends the response's bytes to `out`; `date` is for the `Date` header.
    pub fn write(&self, body: &[u8], date: SystemTime, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.line().as_bytes());
        field(out, "Content-Type", self.content_type.as_bytes());
        field(out, "Date", &timestamp::http_date(date));
        // A write to a Vec cannot fail.
        let _ = write!(out, "\r\nContent-Length: {}", body.len());
        if let Some(allow) = self.allow {
            field(out, "Allow", allow.as_bytes());
        }
        if let Some(error) = self.error {
            out.extend_from_slice(b"\r\nError: ");
            out.extend(error.bytes().map(|b| if b.is_ascii_graphic() { b } else { b' ' }));
        }
        match self.status {
            // An integer Retry-After makes the API server send the same review again; 0 makes it do so at once.
            Status::Unavailable => field(out, "Retry-After", b"0"),
            // The coding that would have been taken (RFC 9110, section 12.5.3).
            Status::UnsupportedMediaType => field(out, "Accept-Encoding", b"identity"),
            _ => {}
        }
        if self.close {
            field(out, "Connection", b"close");
        } else if self.http10 {
            field(out, "Connection", b"keep-alive");
        }
        out.extend_from_slice(b"\r\n\r\n");
        if !self.head_only {
            out.extend_from_slice(body);
        }
    }
}

/// Ends the line before and appends a header field, without the end of its own line.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [b"\r\n", name.as_bytes(), b": ", value] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(status: Status, error: Option<&str>) -> String {
        let mut out = Vec::new();
        let response = Response {
            status,
            content_type: "text/plain",
            allow: None,
            error,
            close: true,
            http10: false,
            head_only: false,
        };
        response.write(b"abc", SystemTime::UNIX_EPOCH, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_measures_its_body_and_keeps_the_error_on_one_line() {
        assert_eq!(
            written(Status::Unavailable, Some("a\r\nb")),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 3\r\nError: a  b\r\nRetry-After: 0\r\nConnection: close\r\n\r\nabc"
        );
    }

    #[test]
    fn a_415_says_that_only_identity_is_taken() {
        assert!(written(Status::UnsupportedMediaType, None).contains("\r\nAccept-Encoding: identity\r\n"));
        assert!(!written(Status::BadRequest, None).contains("Accept-Encoding"));
    }
}
