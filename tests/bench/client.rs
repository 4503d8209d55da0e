//! One connection as the API server's Go transport makes it, over rustls.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::hybrid::Hybrid;

/// Plain text in the first record of a request: Go's transport has a buffer of this size before the socket.
const FIRST_RECORD: usize = 4096;
/// Plain text in each record after it: as much as TLS allows.
const RECORD: usize = 16 * 1024;
/// Encrypted, the longest record and some more.
const BUFFER: usize = RECORD + 1024;

/// The settings of a client that looks like the API server (TLS 1.3, X25519MLKEM768 and x25519 offered, AES-128-GCM
/// first, no tickets), but believes any certificate, for the generator must be cheaper than what it measures.
pub(crate) fn config() -> Arc<ClientConfig> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    provider.kx_groups.insert(0, &Hybrid);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A connection after its handshake.
pub(crate) struct Connection {
    stream: TcpStream,
    tls: UnbufferedClientConnection,
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
    reply: Vec<u8>,
}

impl Connection {
    /// Connects and shakes hands.
    pub(crate) fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("kube-audit-rest.kube-audit-rest.svc").map_err(io::Error::other)?;
        let mut connection = Self {
            stream,
            tls: UnbufferedClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?,
            incoming: vec![0; BUFFER],
            start: 0,
            end: 0,
            outgoing: vec![0; BUFFER],
            reply: Vec::with_capacity(1024),
        };
        connection.advance(Until::Writable)?;
        Ok(connection)
    }

    /// Sends a request and waits for the whole reply, which must be a 200.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<()> {
        self.advance(Until::Sent(request))?;
        self.reply.clear();
        self.advance(Until::Reply)?;
        if self.reply.starts_with(b"HTTP/1.1 200 ") {
            Ok(())
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&self.reply).into_owned()))
        }
    }

    /// Says goodbye as TLS wants it, and closes.
    pub(crate) fn close(mut self) -> io::Result<()> {
        let status = self.tls.process_tls_records(&mut self.incoming[self.start..self.end]);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
            let length = traffic.queue_close_notify(&mut self.outgoing).map_err(io::Error::other)?;
            self.stream.write_all(&self.outgoing[..length])?;
        }
        Ok(())
    }

    fn advance(&mut self, until: Until<'_>) -> io::Result<()> {
        let mut queued = 0;
        loop {
            let incoming = &mut self.incoming[self.start..self.end];
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(incoming);
            let mut wants_more = false;
            match state.map_err(io::Error::other)? {
                ConnectionState::EncodeTlsData(mut data) => {
                    queued += data.encode(&mut self.outgoing[queued..]).map_err(io::Error::other)?;
                }
                ConnectionState::TransmitTlsData(data) => {
                    self.stream.write_all(&self.outgoing[..queued])?;
                    queued = 0;
                    data.done();
                }
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        self.reply.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::WriteTraffic(mut traffic) => match until {
                    Until::Writable => return Ok(()),
                    Until::Reply if is_whole(&self.reply)? => return Ok(()),
                    Until::Reply => wants_more = true,
                    Until::Sent(request) => {
                        let (first, rest) = request.split_at(request.len().min(FIRST_RECORD));
                        for record in std::iter::once(first).chain(rest.chunks(RECORD)) {
                            let length = traffic.encrypt(record, &mut self.outgoing).map_err(io::Error::other)?;
                            self.stream.write_all(&self.outgoing[..length])?;
                        }
                        return Ok(());
                    }
                },
                ConnectionState::BlockedHandshake => wants_more = true,
                other => {
                    return Err(io::Error::other(format!("the server ended the connection: {other:?}")));
                }
            }
            self.start += discard;
            if wants_more {
                self.incoming.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
                match self.stream.read(&mut self.incoming[self.end..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => self.end += n,
                }
            }
        }
    }
}

/// What [`Connection::advance`] is after.
enum Until<'a> {
    /// The handshake is over.
    Writable,
    /// This request was handed to the kernel.
    Sent(&'a [u8]),
    /// A whole reply has come.
    Reply,
}

/// Whether a reply with a Content-Length (the only kind expected) is all there.
fn is_whole(reply: &[u8]) -> io::Result<bool> {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let Some(head) = reply.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let name = reply[..head]
        .windows(LENGTH.len())
        .position(|name| name.eq_ignore_ascii_case(LENGTH))
        .ok_or_else(|| io::Error::other("a reply without Content-Length"))?;
    let body = reply[name + LENGTH.len()..head]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    Ok(reply.len() >= head + 4 + body)
}

/// Believes whatever it is shown.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}
