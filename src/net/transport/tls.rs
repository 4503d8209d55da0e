//! TLS records: what rustls' unbuffered API asks for, until plain text has come or has been sent.
//!
//! Whatever is encoded is written before the session is unlocked, so that the bytes of two threads (a reply to a key
//! update here, a close_notify there) stand on the wire in the order in which they were encrypted.

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use super::seal::{encode, encrypt};
use super::timed::write_by;
use super::{Destination, Error, Transport};
use crate::net::connection::Session;

/// Content types of records (RFC 8446, section 5.1 and appendix D.4).
pub(super) const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;

/// One record to send.
pub(super) enum Record<'p> {
    Data(&'p [u8]),
    CloseNotify,
}

impl Transport<'_> {
    /// Sends one record.
    pub(super) fn send_record(
        &mut self,
        session: &Mutex<Session>,
        record: &Record<'_>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut session = lock(session);
        let mut used = 0;
        loop {
            let incoming = self.incoming.get_mut(self.start..self.end).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = session.tls.process_tls_records(incoming);
            let mut done = false;
            match state.map_err(Error::Tls)? {
                // A pipelined request.
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(Error::Tls)?;
                        discard += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    used += encode(&mut self.outgoing, used, |to| data.encode(to))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(mut traffic) => {
                    used += encrypt(&mut self.outgoing, used, |to| match record {
                        Record::Data(piece) => traffic.encrypt(piece, to),
                        Record::CloseNotify => traffic.queue_close_notify(to),
                    })?;
                    done = true;
                }
                ConnectionState::PeerClosed => self.ended = true,
                _ => return Err(Error::Io(ErrorKind::BrokenPipe.into())),
            }
            self.start = self.end.min(self.start.saturating_add(discard));
            if done {
                break;
            }
        }
        session.between_records = self.start == self.end;
        self.flush(used, deadline)
    }

    /// Decrypts what has come, up to the first plain text, and answers what TLS itself wants answered. Returns the number
    /// of bytes of plain text.
    pub(super) fn decrypt(
        &mut self,
        session: &Mutex<Session>,
        deadline: Instant,
        mut destination: Destination<'_>,
    ) -> Result<usize, Error> {
        let mut session = lock(session);
        let mut delivered = 0;
        let mut used = 0;
        let mut failure = None;
        while delivered == 0 {
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
                    used += encode(&mut self.outgoing, used, |to| data.encode(to))?;
                    // After an error rustls hands out what was queued before it, and last the alert. It is not asked again
                    // after that, or it would look at the bad bytes once more.
                    let queued_before = matches!(self.outgoing.get(at), Some(&(HANDSHAKE | CHANGE_CIPHER_SPEC)));
                    waits = failure.is_some() && !queued_before;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    let flight = self.outgoing.get(..used).unwrap_or_default();
                    write_by(&self.connection.socket, flight, deadline, &mut self.write_timeout)?;
                    used = 0;
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
        let flushed = self.flush(used, deadline);
        match failure {
            Some(error) => Err(Error::Tls(error)),
            None => flushed.map(|()| delivered),
        }
    }

    fn flush(&mut self, used: usize, deadline: Instant) -> Result<(), Error> {
        let bytes = self.outgoing.get(..used).unwrap_or_default();
        write_by(&self.connection.socket, bytes, deadline, &mut self.write_timeout)
    }
}

pub(super) fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}
