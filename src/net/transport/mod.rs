//! Bytes in and out of one connection, over TLS or not, each step with a deadline. Knows nothing of HTTP.
//!
//! TLS goes through rustls' unbuffered API: records are decrypted in our own reused buffer and go from there to where
//! they are wanted, the head's bytes into a small buffer, a body's straight into the body.

mod seal;
mod timed;
mod wire;

use std::io::{self, ErrorKind, Read as _};
use std::net::Shutdown;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use crate::serve::memory::Bodies;
use seal::{encode, encrypt};
use timed::{SLACK, TimeOut, write_by};
pub use wire::Wire;

/// Read at once between requests: the API server's typical request, and no more, for there may be many idle connections.
const INCOMING: usize = 4 * 1024 + 512;

/// Holds our handshake flight with one ECDSA certificate, and every reply.
const OUTGOING: usize = 1024;

/// Head bytes kept between requests; more is given back when a connection turns idle.
const PLAIN_KEPT: usize = 8 * 1024;

/// Why no more bytes can be had or sent.
#[derive(Debug)]
pub enum Error {
    /// The deadline passed.
    TimedOut,
    /// The socket failed: reset, broken pipe.
    Io(io::Error),
    /// The peer broke the TLS protocol, or sent an alert.
    Tls(rustls::Error),
    /// The first byte was not that of a TLS handshake record; true if it could begin an HTTP request.
    NotTls(bool),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(error),
        }
    }
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of plain text.
    Data(usize),
    /// Bytes, but no plain text yet: part of a TLS record.
    Partial,
    /// The peer will send no more.
    End,
}

/// A connection's bytes, as its own thread sees them.
#[derive(Debug)]
pub struct Transport<'w> {
    wire: &'w Wire,
    bodies: &'w Bodies,
    /// Bytes off the wire: `start..end` are not processed yet.
    incoming: Vec<u8>,
    /// The small `incoming` while a window from `bodies` stands in its place.
    set_aside: Option<Vec<u8>>,
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
    /// Plain text that nobody has taken yet, from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    read_timeout: TimeOut,
    write_timeout: TimeOut,
    ended: bool,
}

impl<'w> Transport<'w> {
    /// Nothing is read or sent yet.
    pub fn new(wire: &'w Wire, bodies: &'w Bodies) -> Self {
        Self {
            wire,
            bodies,
            incoming: vec![0; INCOMING],
            set_aside: None,
            start: 0,
            end: 0,
            outgoing: vec![0; if wire.tls.is_some() { OUTGOING } else { 0 }],
            plain: Vec::new(),
            taken: 0,
            read_timeout: TimeOut::NONE,
            write_timeout: TimeOut::NONE,
            ended: false,
        }
    }

    /// Completes the TLS handshake. Returns at once where no TLS is spoken.
    pub fn handshake(&mut self, deadline: Instant) -> Result<Progress, Error> {
        let Some(tls) = &self.wire.tls else {
            return Ok(Progress::Partial);
        };
        let mut first = true;
        loop {
            let received = self.receive(deadline)?;
            if std::mem::take(&mut first)
                && let Some(byte) = self.incoming.first().filter(|byte| received > 0 && **byte != HANDSHAKE_RECORD)
            {
                return Err(Error::NotTls(byte.is_ascii_uppercase()));
            }
            if received == 0 {
                return Ok(Progress::End);
            }
            // Plain text that came along stays where `unread` finds it.
            self.advance(deadline, None)?;
            if !lock(tls).connection.is_handshaking() {
                self.shrink_outgoing();
                return Ok(Progress::Partial);
            }
            if self.ended {
                return Ok(Progress::End);
            }
        }
    }

    /// Plain text that has come and nobody has consumed.
    pub fn unread(&self) -> &[u8] {
        self.plain.get(self.taken..).unwrap_or_default()
    }

    /// Marks the first `count` bytes of [`Transport::unread`] as done with.
    pub fn consume(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count);
        if self.taken >= self.plain.len() {
            self.plain.clear();
            self.taken = 0;
        }
    }

    /// Whether part of a TLS record has come and the rest has not.
    pub fn is_amid_record(&self) -> bool {
        self.start < self.end
    }

    /// One step: plain text to [`Transport::unread`].
    pub fn read(&mut self, deadline: Instant) -> Result<Progress, Error> {
        self.step(deadline, None)
    }

    /// One step: plain text to the end of `body` while it is shorter than `length`, the rest to [`Transport::unread`].
    pub fn read_body(&mut self, body: &mut Vec<u8>, length: usize, deadline: Instant) -> Result<Progress, Error> {
        self.step(deadline, Some((body, length)))
    }

    fn step(&mut self, deadline: Instant, mut body: Option<(&mut Vec<u8>, usize)>) -> Result<Progress, Error> {
        // Records read along with earlier ones come first.
        if self.is_amid_record() {
            let count = self.advance(deadline, body.as_mut())?;
            if count > 0 {
                return Ok(Progress::Data(count));
            }
        }
        if self.ended || self.receive(deadline)? == 0 {
            self.ended = true;
            return Ok(Progress::End);
        }
        match self.advance(deadline, body.as_mut())? {
            0 if self.ended => Ok(Progress::End),
            0 => Ok(Progress::Partial),
            count => Ok(Progress::Data(count)),
        }
    }

    /// Reads through a window from now on if as many as `count` bytes are still to come.
    pub fn expect(&mut self, count: usize) {
        if count > INCOMING {
            self.widen();
        }
    }

    fn widen(&mut self) {
        if self.set_aside.is_none() {
            let window = self.bodies.take_window();
            let small = std::mem::replace(&mut self.incoming, window);
            self.move_unprocessed_from(&small);
            self.set_aside = Some(small);
        }
    }

    /// Puts the unprocessed bytes of `other`, which was `incoming` until now, to the front of `incoming`.
    fn move_unprocessed_from(&mut self, other: &[u8]) {
        let unprocessed = other.get(self.start..self.end).unwrap_or_default();
        self.incoming.iter_mut().zip(unprocessed).for_each(|(to, from)| *to = *from);
        (self.start, self.end) = (0, unprocessed.len());
    }

    /// Gives back what only a large request needed. For a connection that turns idle.
    pub fn shrink(&mut self) {
        if self.end - self.start <= INCOMING
            && let Some(small) = self.set_aside.take()
        {
            let window = std::mem::replace(&mut self.incoming, small);
            self.move_unprocessed_from(&window);
            self.bodies.give_window_back(window);
        }
        self.shrink_outgoing();
        if self.plain.capacity() > PLAIN_KEPT && self.plain.len() <= OUTGOING {
            self.plain.shrink_to(OUTGOING);
        }
    }

    fn shrink_outgoing(&mut self) {
        if self.outgoing.len() > OUTGOING {
            self.outgoing.truncate(OUTGOING);
            self.outgoing.shrink_to_fit();
        }
    }

    /// Sends all of `data`.
    pub fn send(&mut self, data: &[u8], deadline: Instant) -> Result<(), Error> {
        if self.wire.tls.is_none() {
            return self.transmit(data, deadline);
        }
        // The largest plain text of one record, so that a long reply needs no buffer of its own length.
        for piece in data.chunks(16 * 1024) {
            self.send_record(Some(piece), deadline)?;
        }
        Ok(())
    }

    /// Sends one record: plain text, or the close_notify.
    fn send_record(&mut self, piece: Option<&[u8]>, deadline: Instant) -> Result<(), Error> {
        let Some(tls) = &self.wire.tls else {
            return Ok(());
        };
        let mut tls = lock(tls);
        let mut used = 0;
        loop {
            let incoming = self.incoming.get_mut(self.start..self.end).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = tls.connection.process_tls_records(incoming);
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
                    used += encode(&mut self.outgoing, used, |to| data.encode(to))?
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(mut traffic) => {
                    used += encrypt(&mut self.outgoing, used, |to| match piece {
                        Some(piece) => traffic.encrypt(piece, to),
                        None => traffic.queue_close_notify(to),
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
        tls.between_records = self.start == self.end;
        drop(tls);
        self.flush(used, deadline)
    }

    /// For a peer that does not speak TLS where it should: sends `reply` as it is, ends our writing side and reads on
    /// until the peer has closed or `deadline`, so that it comes to read the reply.
    pub fn end_in_plain(&mut self, reply: &[u8], deadline: Instant) {
        if write_by(&self.wire.stream, reply, deadline, &mut self.write_timeout).is_ok() {
            let _ = self.wire.stream.shutdown(Shutdown::Write);
            while self.receive(deadline).is_ok_and(|count| count > 0) {
                (self.start, self.end) = (0, 0);
            }
        }
    }

    /// Ends our writing side, after close_notify where TLS is spoken, be it amid a record of the peer's.
    pub fn say_goodbye(&mut self) {
        let _ = self.send_record(None, Instant::now() + SLACK);
        let _ = self.wire.stream.shutdown(Shutdown::Write);
    }

    /// Processes what has come, up to the first plain text.
    fn advance(&mut self, deadline: Instant, mut body: Option<&mut (&mut Vec<u8>, usize)>) -> Result<usize, Error> {
        let Some(tls) = &self.wire.tls else {
            let count = self.end - self.start;
            let payload = self.incoming.get(self.start..self.end).unwrap_or_default();
            deliver(payload, &mut self.plain, &mut self.taken, &mut body);
            self.start = self.end;
            return Ok(count);
        };
        let mut delivered = 0;
        let mut used = 0;
        let mut failure = None;
        let mut tls = lock(tls);
        while delivered == 0 {
            let incoming = self.incoming.get_mut(self.start..self.end).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = tls.connection.process_tls_records(incoming);
            let mut waits = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(Error::Tls)?;
                        discard += record.discard;
                        delivered += record.payload.len();
                        deliver(record.payload, &mut self.plain, &mut self.taken, &mut body);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    used += encode(&mut self.outgoing, used, |to| data.encode(to))?;
                    // That was the alert; one more call would look at the same bad bytes again.
                    waits = failure.is_some();
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    let flight = self.outgoing.get(..used).unwrap_or_default();
                    write_by(&self.wire.stream, flight, deadline, &mut self.write_timeout)?;
                    used = 0;
                }
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::Closed) => {
                    self.ended = true;
                    waits = true;
                }
                Ok(_) => waits = true,
                // The alert that tells the peer is encoded by the next call.
                Err(error) if failure.is_none() => failure = Some(error),
                Err(_) => waits = true,
            }
            self.start = self.end.min(self.start.saturating_add(discard));
            if waits {
                break;
            }
        }
        tls.between_records = self.start == self.end && failure.is_none() && !tls.connection.is_handshaking();
        drop(tls);
        match failure {
            Some(error) => {
                let _ = self.flush(used, deadline);
                Err(Error::Tls(error))
            }
            None => self.flush(used, deadline).map(|()| delivered),
        }
    }

    fn flush(&mut self, used: usize, deadline: Instant) -> Result<(), Error> {
        let bytes = self.outgoing.get(..used).unwrap_or_default();
        write_by(&self.wire.stream, bytes, deadline, &mut self.write_timeout)
    }

    fn transmit(&mut self, data: &[u8], deadline: Instant) -> Result<(), Error> {
        write_by(&self.wire.stream, data, deadline, &mut self.write_timeout)
    }

    /// One read(2) behind what is unprocessed.
    fn receive(&mut self, deadline: Instant) -> Result<usize, Error> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.incoming.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.incoming.len() {
            // A window holds every record, and every handshake message that rustls would take (64 KiB).
            if self.set_aside.is_some() {
                return Err(Error::Tls(rustls::Error::PeerSentOversizedRecord));
            }
            self.widen();
        }
        let space = self.incoming.get_mut(self.end..).unwrap_or_default();
        let mut stream = &self.wire.stream;
        let set = |left| stream.set_read_timeout(Some(left));
        let count = self.read_timeout.bound(deadline, set, || stream.read(space))?;
        self.end += count;
        Ok(count)
    }
}

impl Drop for Transport<'_> {
    fn drop(&mut self) {
        if self.set_aside.is_some() {
            self.bodies.give_window_back(std::mem::take(&mut self.incoming));
        }
    }
}

/// The content type of a handshake record (RFC 8446, section 5.1): what every TLS connection begins with.
const HANDSHAKE_RECORD: u8 = 22;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body takes what it lacks, the rest is unread plain text.
fn deliver(mut payload: &[u8], plain: &mut Vec<u8>, taken: &mut usize, body: &mut Option<&mut (&mut Vec<u8>, usize)>) {
    if let Some((body, length)) = body {
        let (part, rest) = payload.split_at(payload.len().min(length.saturating_sub(body.len())));
        body.extend_from_slice(part);
        payload = rest;
    }
    if !payload.is_empty() {
        plain.drain(..(*taken).min(plain.len()));
        *taken = 0;
        plain.extend_from_slice(payload);
    }
}
