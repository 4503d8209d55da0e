//! The floor: what this machine asks for the same bytes when nobody looks at the JSON.
//!
//! The same TLS library with the same provider, one thread a connection, blocking sockets, reused buffers, one write(2)
//! of the whole line and one of a reply of the same length. A request is parsed just far enough to know where its body
//! ends. It speaks only as well as the benchmark's generator needs it to; it is no server.
//!
//! It is tuned, so that a ratio to it means something:
//! - threads wait in accept(2) themselves, so a new connection costs neither a thread nor a hand-over;
//! - a read takes as many records as have arrived, up to [`INCOMING`];
//! - a body is copied once, from the plaintext that rustls gives to the line's buffer, which is kept from one
//!   connection to the next.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

/// Bytes that one read(2) may take: four full records. Reads of 4 KiB cost a tenth more from 20 KB on, reads of a
/// record at a time a twentieth; more than this gains nothing.
const INCOMING: usize = 4 * RECORD;
/// The longest record: 2^14 bytes of plain text, its type, tag and header.
const RECORD: usize = 16_384 + 1 + 16 + 5;
/// Longest reply or handshake flight, encrypted.
const OUTGOING: usize = 8 * 1024;
/// What the real server splices into each line, in length.
const TIMESTAMP: &[u8] = b",\"requestReceivedTimestamp\":\"2026-11-20T21:34:38.123456789Z\"}\n";
/// A reply as long as the real one.
const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 130\r\n\r\n\
{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"response\":{\"uid\":\"00000000-0000-0000-0000-000000000000\",\"allowed\":true}}";

/// Runs the floor with the few flags of the contract that it knows, until it is killed.
pub(crate) fn main(flags: impl Iterator<Item = String>) -> io::Result<()> {
    let (mut cert, mut key, mut log, mut port) = (PathBuf::new(), PathBuf::new(), PathBuf::new(), 0_u16);
    let mut sync = false;
    for flag in flags {
        match flag.split_once('=') {
            Some(("--cert-filename", value)) => cert = value.into(),
            Some(("--cert-key-filename", value)) => key = value.into(),
            Some(("--logger-filename", value)) => log = value.into(),
            Some(("--server-port", value)) => port = value.parse().map_err(io::Error::other)?,
            Some(("--logger-sync", value)) => sync = value == "always",
            _ => {}
        }
    }
    let certificates =
        rustls_pemfile::certs(&mut io::BufReader::new(File::open(cert)?)).collect::<Result<Vec<_>, _>>()?;
    let key = rustls_pemfile::private_key(&mut io::BufReader::new(File::open(key)?))?
        .ok_or_else(|| io::Error::other("no key"))?;
    let mut tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(io::Error::other)?;
    tls.send_tls13_tickets = 0;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let floor = Arc::new(Floor {
        tls: Arc::new(tls),
        listener: TcpListener::bind(("127.0.0.1", port))?,
        log: OpenOptions::new().create(true).append(true).open(log)?,
        sync,
        waiting: AtomicUsize::new(1),
    });
    floor.accept();
    Ok(())
}

struct Floor {
    tls: Arc<ServerConfig>,
    listener: TcpListener,
    log: File,
    sync: bool,
    /// Threads in accept(2); the one that takes the last place there makes another.
    waiting: AtomicUsize,
}

impl Floor {
    fn accept(self: &Arc<Self>) {
        let mut buffers =
            Buffers { incoming: vec![0; INCOMING], outgoing: vec![0; OUTGOING], request: Vec::with_capacity(INCOMING) };
        loop {
            let accepted = self.listener.accept();
            if self.waiting.fetch_sub(1, SeqCst) == 1 {
                self.waiting.fetch_add(1, SeqCst);
                let floor = Arc::clone(self);
                std::thread::spawn(move || floor.accept());
            }
            if let Ok((stream, _)) = accepted {
                // A peer that goes away in the middle is no concern of the floor's.
                let _ = self.serve(&stream, &mut buffers);
            }
            self.waiting.fetch_add(1, SeqCst);
        }
    }

    fn serve(&self, mut stream: &TcpStream, buffers: &mut Buffers) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut tls = UnbufferedServerConnection::new(Arc::clone(&self.tls)).map_err(io::Error::other)?;
        let Buffers { incoming, outgoing, request } = buffers;
        request.clear();
        let (mut start, mut end, mut queued, mut expected) = (0, 0, 0, None);
        loop {
            let UnbufferedStatus { mut discard, state } = tls.process_tls_records(&mut incoming[start..end]);
            let mut wants_more = false;
            match state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        request.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    queued += data.encode(&mut outgoing[queued..]).map_err(io::Error::other)?;
                }
                ConnectionState::TransmitTlsData(data) => {
                    stream.write_all(&outgoing[..queued])?;
                    queued = 0;
                    data.done();
                }
                ConnectionState::BlockedHandshake => wants_more = true,
                ConnectionState::WriteTraffic(mut traffic) => {
                    if expected.is_none() {
                        expected = expect(request)?;
                    }
                    if let Some((head, _)) = expected.take_if(|(_, whole)| *whole <= request.len()) {
                        request.truncate(request.trim_ascii_end().len() - 1);
                        request.extend_from_slice(TIMESTAMP);
                        (&self.log).write_all(&request[head..])?;
                        if self.sync {
                            self.log.sync_data()?;
                        }
                        request.clear();
                        let length = traffic.encrypt(REPLY, outgoing).map_err(io::Error::other)?;
                        stream.write_all(&outgoing[..length])?;
                    }
                    wants_more = true;
                }
                _ => return Ok(()),
            }
            start += discard;
            if wants_more {
                if start == end {
                    (start, end) = (0, 0);
                } else if incoming.len() - end < RECORD {
                    incoming.copy_within(start..end, 0);
                    (start, end) = (0, end - start);
                }
                match stream.read(&mut incoming[end..])? {
                    0 => return Ok(()),
                    n => end += n,
                }
            }
        }
    }
}

struct Buffers {
    /// TLS records as they came.
    incoming: Vec<u8>,
    /// TLS records to send.
    outgoing: Vec<u8>,
    /// Head and body in plain text, then the line.
    request: Vec<u8>,
}

/// The lengths of the head and of the whole request, once the head is there; makes room for the rest.
fn expect(request: &mut Vec<u8>) -> io::Result<Option<(usize, usize)>> {
    const LENGTH: &[u8] = b"\r\nContent-Length: ";
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let length = request[..end]
        .windows(LENGTH.len())
        .position(|name| name == LENGTH)
        .ok_or_else(|| io::Error::other("no Content-Length"))?;
    let body = request[length + LENGTH.len()..end]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    let whole = end + 4 + body;
    request.reserve((whole + TIMESTAMP.len()).saturating_sub(request.len()));
    Ok(Some((end + 4, whole)))
}
