//! TLS records: what rustls' unbuffered API asks for, until plain text has come or has been sent.
//!
//! Whatever is encoded is written before the session is unlocked, so that the bytes of two threads (a reply with the
//! answer to a key update here, a close_notify there) stand on the wire in the order in which they were encrypted.

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustls::server::ServerConnectionData;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus, WriteTraffic};

use super::timed::write_by;
use super::{Destination, Error, Transport};
use crate::net::connection::Session;

/// Content types of records (RFC 8446, section 5.1 and appendix D.4).
pub(super) const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;

/// More than encryption adds to a record, with the answer to a key update before it.
const OVERHEAD: usize = 256;

/// What is to be sent.
#[derive(Clone, Copy)]
pub(super) enum Record<'p> {
    /// Plain text of one record.
    Data(&'p [u8]),
    CloseNotify,
}

impl Transport<'_> {
    /// Decrypts what has come, up to the first plain text or, where there is a record to send, until that is sent; and
    /// answers what TLS itself wants answered. Returns the number of bytes of plain text.
    pub(super) fn exchange(
        &mut self,
        session: &Mutex<Session>,
        deadline: Instant,
        destination: &mut Destination<'_>,
        mut record: Option<Record<'_>>,
    ) -> Result<usize, Error> {
        let mut session = lock(session);
        let mut delivered = 0;
        let mut used = 0;
        let mut failure = None;
        while record.is_some() || delivered == 0 {
            let incoming = self.incoming.get_mut(self.start..self.end).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = session.tls.process_tls_records(incoming);
            let mut waits = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(Error::Tls)?;
                        discard += record.discard;
                        delivered += record.payload.len();
                        destination.deliver(record.payload, &mut self.plain, &mut self.taken);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let at = used;
                    used += encode(&mut data, &mut self.outgoing, used)?;
                    // After an error rustls hands out what was queued before it, and last the alert. It must not be asked
                    // again after the alert, or it would look at the bad bytes once more.
                    let queued_before = matches!(self.outgoing.get(at), Some(&(HANDSHAKE | CHANGE_CIPHER_SPEC)));
                    waits = failure.is_some() && !queued_before;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    let flight = self.outgoing.get(..used).unwrap_or_default();
                    write_by(&self.connection.socket, flight, deadline, &mut self.write_timeout)?;
                    used = 0;
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if let Some(record) = record.take() {
                        used += encrypt(&mut traffic, record, &mut self.outgoing, used)?;
                    }
                    waits = true;
                }
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::Closed) => {
                    self.ended = true;
                    waits = true;
                }
                Ok(_) => waits = true,
                Err(error) if failure.is_none() => failure = Some(error),
                Err(_) => waits = true,
            }
            // After an error rustls has to see the same bytes for as long as it has something queued.
            if failure.is_none() {
                self.start = self.end.min(self.start.saturating_add(discard));
            }
            if waits {
                break;
            }
        }
        session.between_records = self.start == self.end && failure.is_none() && !session.tls.is_handshaking();
        let bytes = self.outgoing.get(..used).unwrap_or_default();
        let flushed = write_by(&self.connection.socket, bytes, deadline, &mut self.write_timeout);
        match failure {
            Some(error) => Err(Error::Tls(error)),
            None if record.is_some() => Err(Error::Io(ErrorKind::BrokenPipe.into())),
            None => flushed.map(|()| delivered),
        }
    }
}

/// Appends to the first `used` bytes of `outgoing`, which grows as needed, what rustls wants sent. Returns its length.
fn encode(
    data: &mut EncodeTlsData<'_, ServerConnectionData>,
    outgoing: &mut Vec<u8>,
    used: usize,
) -> Result<usize, Error> {
    loop {
        match data.encode(outgoing.get_mut(used..).unwrap_or_default()) {
            Ok(count) => return Ok(count),
            Err(EncodeError::InsufficientSize(lack)) if used + lack.required_size > outgoing.len() => {
                outgoing.resize(used + lack.required_size, 0);
            }
            Err(_) => return Err(Error::Tls(rustls::Error::EncryptError)),
        }
    }
}

/// Appends `record`, encrypted, in the same way.
fn encrypt(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    record: Record<'_>,
    outgoing: &mut Vec<u8>,
    used: usize,
) -> Result<usize, Error> {
    let length = match record {
        Record::Data(piece) => piece.len(),
        Record::CloseNotify => 0,
    };
    let least = used + length + OVERHEAD;
    if outgoing.len() < least {
        outgoing.resize(least, 0);
    }
    let to = outgoing.get_mut(used..).unwrap_or_default();
    let encrypted = match record {
        Record::Data(piece) => traffic.encrypt(piece, to),
        Record::CloseNotify => traffic.queue_close_notify(to),
    };
    encrypted.map_err(|_| Error::Tls(rustls::Error::EncryptError))
}

pub(super) fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}
