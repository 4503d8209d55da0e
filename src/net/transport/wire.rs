//! What other threads may do to a connection: see its socket, and close it.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

/// The part of a connection that other threads may touch, to close it from outside.
pub struct Wire {
    pub(super) stream: TcpStream,
    /// `None`: plain TCP.
    pub(super) tls: Option<Mutex<Tls>>,
}

/// A TLS session, locked by whoever calls into it.
pub(super) struct Tls {
    pub(super) connection: UnbufferedServerConnection,
    /// No byte of an unfinished record or message is waiting in the incoming buffer. Only then may another thread, which
    /// does not have that buffer, call into `connection`: rustls counts on seeing the same bytes again.
    pub(super) between_records: bool,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Wire {
    /// A connection just accepted; TLS where a configuration is given.
    pub fn new(stream: TcpStream, config: Option<Arc<rustls::ServerConfig>>) -> Result<Self, rustls::Error> {
        let connection = config.map(UnbufferedServerConnection::new).transpose()?;
        let tls = connection.map(|connection| Mutex::new(Tls { connection, between_records: false }));
        Ok(Self { stream, tls })
    }

    /// Ends our writing side, after close_notify where TLS is spoken, and leaves the reading side open. For a
    /// connection whose own thread waits for a request; never blocks for long.
    pub fn say_goodbye(&self) {
        if let Some(tls) = &self.tls
            && let Ok(mut tls) = tls.try_lock()
            && tls.between_records
        {
            let mut alert = [0; 128];
            if let UnbufferedStatus { state: Ok(ConnectionState::WriteTraffic(mut traffic)), .. } =
                tls.connection.process_tls_records(&mut [])
                && let Ok(length) = traffic.queue_close_notify(&mut alert)
            {
                let _ = self.stream.set_write_timeout(Some(Duration::from_millis(1)));
                let _ = (&self.stream).write_all(alert.get(..length).unwrap_or_default());
            }
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends both sides at once; the connection's own thread sees the end of the stream.
    pub fn cut(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
