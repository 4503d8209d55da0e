//! A blocking client that sends whatever bytes it is given and reads answers strictly: what it lets pass, any HTTP
//! client reads the same way.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::certificates::SERVICE_NAME;

/// No read or write waits longer; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(40);

/// One connection.
pub struct Client {
    stream: Stream,
    received: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// One whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, whatever the case of its name; there must not be two of it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "two {name} headers: {self:?}");
        value
    }

    /// Whether the answer announces that the connection ends with it.
    pub fn closes(&self) -> bool {
        self.header("Connection") == Some("close")
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }
}

impl Client {
    /// Plain TCP.
    pub fn plain(address: SocketAddr) -> Self {
        Self::try_plain(address).expect("a TCP connection")
    }

    /// Plain TCP, or why there is no connection.
    pub fn try_plain(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: Stream::Plain(connect(address)?), received: Vec::new() })
    }

    /// TLS with the handshake done.
    pub fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::try_tls(address, config).expect("a TLS handshake")
    }

    /// TLS, or why the handshake failed on this side.
    pub fn try_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(SERVICE_NAME).expect("a DNS name");
        let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut socket = connect(address)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Self { stream: Stream::Tls(Box::new(StreamOwned::new(session, socket))), received: Vec::new() })
    }

    /// TLS whose handshake begins with [`Client::shake_hands`] or the first bytes that are sent; only the TCP connection
    /// is made.
    pub fn tls_not_yet(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from(SERVICE_NAME).expect("a DNS name");
        let session = ClientConnection::new(Arc::clone(config), name).expect("a TLS session");
        let socket = connect(address).expect("a TCP connection");
        Self { stream: Stream::Tls(Box::new(StreamOwned::new(session, socket))), received: Vec::new() }
    }

    /// Completes the handshake.
    pub fn shake_hands(&mut self) {
        if let Stream::Tls(tls) = &mut self.stream {
            while tls.conn.is_handshaking() {
                tls.conn.complete_io(&mut tls.sock).expect("a TLS handshake");
            }
        }
    }

    /// Whether nothing has come that was not read: no byte and no end. What an HTTP client's pool wants to know of a
    /// connection before it uses it again.
    pub fn is_quiet(&self) -> bool {
        let tcp = match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        };
        tcp.set_nonblocking(true).expect("a socket");
        let peeked = tcp.peek(&mut [0]);
        tcp.set_nonblocking(false).expect("a socket");
        let nothing = matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        nothing && self.received.is_empty()
    }

    /// The session beneath, to see what was negotiated. Panics on a plain connection.
    pub fn session(&self) -> &ClientConnection {
        match &self.stream {
            Stream::Tls(tls) => &tls.conn,
            Stream::Plain(_) => panic!("a plain connection has no TLS session"),
        }
    }

    /// Asks for new keys in both directions (RFC 8446, section 4.6.3).
    pub fn try_new_keys(&mut self) -> io::Result<()> {
        let Stream::Tls(tls) = &mut self.stream else {
            panic!("a plain connection has no keys");
        };
        tls.conn.refresh_traffic_keys().map_err(io::Error::other)?;
        while tls.conn.wants_write() {
            tls.conn.write_tls(&mut tls.sock)?;
        }
        Ok(())
    }

    /// Sends bytes as they are, in one write (and one TLS record where they fit).
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server takes the bytes");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// Sends a request and reads its answer.
    pub fn exchange(&mut self, request: &[u8]) -> Response {
        self.send(request);
        self.response()
    }

    /// Ends our writing side, politely (close_notify, then FIN); the answer can still be read.
    pub fn finish(&mut self) {
        let tcp = match &mut self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => {
                tls.conn.send_close_notify();
                let _ = tls.conn.complete_io(&mut tls.sock);
                &mut tls.sock
            }
        };
        let _ = tcp.shutdown(Shutdown::Write);
    }

    /// Reads the next answer: head, and as many bytes of body as it says.
    pub fn response(&mut self) -> Response {
        self.try_response().expect("a whole answer")
    }

    pub fn try_response(&mut self) -> io::Result<Response> {
        let mut response = self.try_head()?;
        let length = response.header("Content-Length").unwrap_or_else(|| panic!("no Content-Length in {response:?}"));
        assert!(!length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()), "Content-Length {length:?}");
        let length: usize = length.parse().expect("a length");
        while self.received.len() < length {
            self.receive()?;
        }
        response.body = self.received.drain(..length).collect();
        Ok(response)
    }

    /// Reads a head with no body after it: an answer to HEAD, or an interim answer (1xx).
    pub fn head(&mut self) -> Response {
        self.try_head().expect("a whole head")
    }

    fn try_head(&mut self) -> io::Result<Response> {
        let end = loop {
            let found = self.received.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            self.receive()?;
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        Ok(parse_head(&head))
    }

    /// Waits for the server to end its side in order (with close_notify where there is TLS); nothing may come before.
    pub fn expect_end(&mut self) {
        let end = self.try_end();
        assert!(matches!(end, Ok(())), "the connection did not end in order: {end:?}");
    }

    pub fn try_end(&mut self) -> io::Result<()> {
        let more = if self.received.is_empty() {
            match self.receive() {
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Ended>()) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
                Ok(()) => &self.received,
            }
        } else {
            &self.received
        };
        let more = String::from_utf8_lossy(more).into_owned();
        Err(io::Error::other(format!("more came: {more:?}")))
    }

    /// At least one byte more into `received`.
    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let length = match &mut self.stream {
            Stream::Plain(tcp) => tcp.read(&mut buffer)?,
            Stream::Tls(tls) => tls.read(&mut buffer)?,
        };
        if length == 0 {
            let so_far = String::from_utf8_lossy(&self.received).into_owned();
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, Ended(so_far)));
        }
        self.received.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}

/// The peer ended its side; holds what had come of an answer.
#[derive(Debug)]
struct Ended(String);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server closed the connection after {:?}", self.0)
    }
}

impl std::error::Error for Ended {}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    Ok(tcp)
}

fn parse_head(head: &[u8]) -> Response {
    let head = str::from_utf8(head).expect("a head in UTF-8");
    assert!(!head.replace("\r\n", "").contains(char::is_control), "control characters in {head:?}");
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let mut parts = status_line.splitn(3, ' ');
    let (Some(version), Some(status), Some(_reason)) = (parts.next(), parts.next(), parts.next()) else {
        panic!("status line {status_line:?}");
    };
    assert!(matches!(version, "HTTP/1.1" | "HTTP/1.0") && status.len() == 3, "status line {status_line:?}");
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("header line {line:?}"));
            let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            assert!(!name.is_empty() && name.bytes().all(token) && value == value.trim(), "header line {line:?}");
            (name.to_owned(), value.to_owned())
        })
        .collect();
    Response { version: version.to_owned(), status: status.parse().expect("a status code"), headers, body: Vec::new() }
}

/// A POST as the API server words it.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    request(
        "POST",
        path,
        &[
            ("Host", SERVICE_NAME),
            ("User-Agent", "kube-apiserver-admission"),
            ("Content-Length", &body.len().to_string()),
            ("Accept", "application/json, */*"),
            ("Content-Type", "application/json"),
            ("Accept-Encoding", "gzip"),
        ],
        body,
    )
}

/// A GET.
pub fn get(path: &str) -> Vec<u8> {
    request("GET", path, &[("Host", "localhost")], b"")
}

/// A request with exactly these headers.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A chunked body whose chunks have the given sizes, over and over.
pub fn chunked(mut body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while !body.is_empty() {
        let size = *sizes.next().expect("at least one size");
        let (chunk, rest) = body.split_at(size.clamp(1, body.len()));
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        body = rest;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
