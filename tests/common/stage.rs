//! The two audit listeners as stages for the same play: what is true of HTTP on one must be true on the other.

use super::client::{Client, Response, request};
use super::corpus;
use super::server::{Server, Setup};

/// A valid head but for what a case puts in.
pub const HOST: (&str, &str) = ("Host", "localhost");
pub const JSON: (&str, &str) = ("Content-Type", "application/json");
pub const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");

/// One server, one listener, and the request that works on it.
pub struct Stage {
    pub server: Server,
    pub path: &'static str,
    pub valid: Vec<u8>,
    pub http: bool,
}

impl Stage {
    /// Both audit listeners: the same code must serve them.
    pub fn both() -> [Self; 2] {
        [Self::https(), Self::http()]
    }

    pub fn https() -> Self {
        Self { server: Server::start(), path: "/log-request", valid: corpus::review("valid"), http: false }
    }

    pub fn http() -> Self {
        Self {
            server: Setup::new().flag("http-port", "0").start(),
            path: "/audit-events",
            valid: corpus::event_list(&["valid"]),
            http: true,
        }
    }

    pub fn connect(&self) -> Client {
        if self.http { self.server.connect_http() } else { self.server.connect() }
    }

    /// A POST of `body` with these headers.
    pub fn with(&self, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        request("POST", self.path, headers, body)
    }

    /// A POST of the valid body with its length and these headers beside.
    pub fn valid_with(&self, headers: &[(&str, &str)]) -> Vec<u8> {
        let length = self.valid.len().to_string();
        let mut all = vec![HOST, JSON, ("Content-Length", length.as_str())];
        all.extend_from_slice(headers);
        self.with(&all, &self.valid)
    }

    pub fn valid_request(&self) -> Vec<u8> {
        self.valid_with(&[])
    }

    /// A chunked POST whose body is given as it goes over the wire.
    pub fn raw_chunks(&self, body: &[u8]) -> Vec<u8> {
        self.with(&[HOST, JSON, CHUNKED], body)
    }

    /// `request` is refused with one of `statuses`, the connection stays in use.
    pub fn refuses(&self, name: &str, request: &[u8], statuses: &[u16]) -> Response {
        let mut client = self.connect();
        let response = client.exchange(request);
        assert_refusal(name, &response, statuses);
        assert!(!response.closes(), "{name}: {response:?}");
        let next = client.exchange(&self.valid_request());
        assert_eq!(next.status, 200, "{name}: the next request");
        response
    }

    /// `request` is refused with one of `statuses`, the connection is closed, and what follows on it is never served.
    pub fn refuses_and_closes(&self, name: &str, request: &[u8], statuses: &[u16]) -> Response {
        let mut client = self.connect();
        let mut bytes = request.to_vec();
        bytes.extend_from_slice(&self.valid_request());
        // The server may have closed before it was all sent; the answer must still be readable.
        let _ = client.try_send(&bytes);
        let response = client.try_response().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_refusal(name, &response, statuses);
        assert!(response.closes(), "{name}: {response:?}");
        client.try_end().unwrap_or_else(|error| panic!("{name}: {error}"));
        response
    }

    /// `request` is served like any other, and the connection stays in use.
    pub fn serves(&self, name: &str, request: &[u8]) {
        let mut client = self.connect();
        let response = client.exchange(request);
        assert_eq!(response.status, 200, "{name}: {response:?}");
        let next = client.exchange(&self.valid_request());
        assert_eq!(next.status, 200, "{name}: the next request");
    }

    /// The log holds exactly one line for each request that was answered 200, all of them the valid body's.
    pub fn assert_nothing_else_recorded(&self) {
        let lines = self.server.lines();
        // A request is counted a moment after its reply.
        self.server.wait_for_metric("valid_requests_processed_total", lines.len() as f64);
        for line in lines {
            let line = String::from_utf8(line).unwrap();
            assert!(line.contains(r#":"valid""#), "{line}");
        }
    }
}

/// Asserts a short plain-text answer whose words stand in the `error` header too.
pub fn assert_refusal(name: &str, response: &Response, statuses: &[u16]) {
    assert!(statuses.contains(&response.status), "{name}: {statuses:?} was expected: {response:?}");
    let kind = response.header("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{name}: {response:?}");
    let words = response.text().trim_end_matches('\n');
    assert_eq!(response.header("error"), Some(words), "{name}");
    assert!(!words.is_empty() && words.len() <= 200 && !words.contains('\n'), "{name}: {words:?}");
}
