//! Bytes in and out of one connection, over TLS or not, each step with a deadline.
//!
//! TLS goes through rustls' unbuffered API: records are decrypted in our own reused buffer and go from there to where
//! they are wanted, the head's bytes into a small buffer, a body's straight into the body.

mod timed;
mod tls;
mod windows;

use std::io::{self, ErrorKind, Read as _};
use std::net::Shutdown;
use std::time::Instant;

use crate::net::connection::Connection;
use crate::tls::handshake_failure::HandshakeFailure;
use timed::{SLACK, TimeOut, write_by};
use tls::Record;
pub use windows::{WINDOW, Windows};

/// Bytes read at once while no large body arrives: enough for the API server's typical request. Each idle connection
/// keeps a buffer of this size.
const INCOMING: usize = 4 * 1024 + 512;

/// Bytes of the buffer for records to be sent that are kept between requests: enough for our handshake flight with one
/// ECDSA certificate, and for the usual reply.
const OUTGOING: usize = 1024;

/// Bytes of the buffer for unread plain text that are kept between requests.
const PLAIN_KEPT: usize = 8 * 1024;

/// Plain text of one record that we send (RFC 8446, section 5.1), so that a long reply needs no buffer of its own length.
const RECORD: usize = 16 * 1024;

/// Why no more bytes can be had or sent.
#[derive(Debug)]
pub enum Error {
    /// The deadline passed.
    TimedOut,
    /// The socket failed: reset, broken pipe.
    Io(io::Error),
    /// The peer broke the TLS protocol, or sent an alert.
    Tls(rustls::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(error),
        }
    }
}

impl From<Error> for HandshakeFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::TimedOut => Self::TIMEOUT,
            Error::Io(error) => Self::from_io(&error),
            Error::Tls(error) => Self::from_tls(&error),
        }
    }
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of plain text; 0 where only part of a TLS record has come.
    Data(usize),
    /// The peer will send no more.
    End,
}

/// A connection's bytes, as its own thread sees them.
#[derive(Debug)]
pub struct Transport<'c> {
    connection: &'c Connection,
    windows: &'c Windows,
    /// Bytes off the wire: `start..end` are not processed yet.
    incoming: Vec<u8>,
    /// The small `incoming` while a window stands in its place.
    set_aside: Option<Vec<u8>>,
    start: usize,
    end: usize,
    /// TLS records to be sent.
    outgoing: Vec<u8>,
    /// Plain text; what stands before `taken` was consumed.
    plain: Vec<u8>,
    taken: usize,
    read_timeout: TimeOut,
    write_timeout: TimeOut,
    /// The peer sends no more.
    ended: bool,
}

impl<'c> Transport<'c> {
    /// Nothing is read or sent yet.
    pub fn new(connection: &'c Connection, windows: &'c Windows) -> Self {
        Self {
            connection,
            windows,
            incoming: vec![0; INCOMING],
            set_aside: None,
            start: 0,
            end: 0,
            outgoing: vec![0; if connection.session.is_some() { OUTGOING } else { 0 }],
            plain: Vec::new(),
            taken: 0,
            read_timeout: TimeOut::NONE,
            write_timeout: TimeOut::NONE,
            ended: false,
        }
    }

    /// Completes the TLS handshake. Returns at once where no TLS is spoken.
    ///
    /// # Errors
    /// [`HandshakeFailure`].
    pub fn handshake(&mut self, deadline: Instant) -> Result<(), HandshakeFailure> {
        let connection = self.connection;
        let Some(session) = &connection.session else {
            return Ok(());
        };
        self.receive_of_handshake(deadline)?;
        match self.incoming.first() {
            Some(&tls::HANDSHAKE) => {}
            Some(byte) if byte.is_ascii_uppercase() => return Err(HandshakeFailure::PLAIN_HTTP),
            _ => return Err(HandshakeFailure::NOT_TLS),
        }
        loop {
            // Plain text that came along stays where `unread` finds it.
            self.exchange(session, deadline, &mut Destination::Unread, None)?;
            if !tls::lock(session).tls.is_handshaking() {
                self.shrink_outgoing();
                return Ok(());
            }
            self.receive_of_handshake(deadline)?;
        }
    }

    fn receive_of_handshake(&mut self, deadline: Instant) -> Result<(), HandshakeFailure> {
        if !self.ended && self.receive(deadline)? > 0 {
            return Ok(());
        }
        let in_record = self.is_amid_record();
        Err(if in_record { HandshakeFailure::END_OF_FILE_IN_RECORD } else { HandshakeFailure::END_OF_FILE })
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
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(&mut self, deadline: Instant) -> Result<Progress, Error> {
        self.step(deadline, &mut Destination::Unread)
    }

    /// One step: plain text to the end of `body` while it is shorter than `length`, the rest to [`Transport::unread`].
    ///
    /// # Errors
    /// [`Error`].
    pub fn read_body(&mut self, body: &mut Vec<u8>, length: usize, deadline: Instant) -> Result<Progress, Error> {
        self.step(deadline, &mut Destination::Body { body, length })
    }

    fn step(&mut self, deadline: Instant, destination: &mut Destination<'_>) -> Result<Progress, Error> {
        // Records read along with earlier ones come first.
        if self.is_amid_record() {
            let count = self.process(deadline, destination)?;
            if count > 0 {
                return Ok(Progress::Data(count));
            }
        }
        if self.ended || self.receive(deadline)? == 0 {
            self.ended = true;
            return Ok(Progress::End);
        }
        match self.process(deadline, destination)? {
            0 if self.ended => Ok(Progress::End),
            count => Ok(Progress::Data(count)),
        }
    }

    /// Delivers what has come, up to the first plain text.
    fn process(&mut self, deadline: Instant, destination: &mut Destination<'_>) -> Result<usize, Error> {
        let connection = self.connection;
        if let Some(session) = &connection.session {
            return self.exchange(session, deadline, destination, None);
        }
        let received = self.incoming.get(self.start..self.end).unwrap_or_default();
        destination.deliver(received, &mut self.plain, &mut self.taken);
        let count = received.len();
        self.start = self.end;
        Ok(count)
    }

    /// Reads through a window from now on if as many as `count` bytes are still to come.
    pub fn expect(&mut self, count: usize) {
        if count > INCOMING {
            self.widen();
        }
    }

    fn widen(&mut self) {
        if self.set_aside.is_none() {
            let small = std::mem::replace(&mut self.incoming, self.windows.take());
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

    /// Gives back what only a large request or reply needs. Called once a request has arrived, and once it is answered.
    pub fn shrink(&mut self) {
        if self.end - self.start <= INCOMING
            && let Some(small) = self.set_aside.take()
        {
            let window = std::mem::replace(&mut self.incoming, small);
            self.move_unprocessed_from(&window);
            self.windows.give_back(window);
        }
        self.shrink_outgoing();
        self.plain.shrink_to(PLAIN_KEPT);
    }

    fn shrink_outgoing(&mut self) {
        if self.outgoing.len() > OUTGOING {
            self.outgoing.truncate(OUTGOING);
            self.outgoing.shrink_to_fit();
        }
    }

    /// Sends all of `data`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn send(&mut self, data: &[u8], deadline: Instant) -> Result<(), Error> {
        let connection = self.connection;
        let Some(session) = &connection.session else {
            return write_by(&connection.socket, data, deadline, &mut self.write_timeout);
        };
        for piece in data.chunks(RECORD) {
            self.exchange(session, deadline, &mut Destination::Unread, Some(Record::Data(piece)))?;
        }
        Ok(())
    }

    /// For a peer that does not speak TLS where it should: sends `reply` as it is, ends our writing side and reads on
    /// until the peer has closed or `deadline`, so that it comes to read the reply.
    pub fn end_in_plain(&mut self, reply: &[u8], deadline: Instant) {
        let socket = &self.connection.socket;
        if write_by(socket, reply, deadline, &mut self.write_timeout).is_ok() {
            let _ = socket.shutdown(Shutdown::Write);
            while self.receive(deadline).is_ok_and(|count| count > 0) {
                (self.start, self.end) = (0, 0);
            }
        }
    }

    /// Ends our writing side, after close_notify where TLS is spoken, even if part of a record of the peer's has come.
    pub fn say_goodbye(&mut self) {
        let connection = self.connection;
        if let Some(session) = &connection.session {
            let deadline = Instant::now() + SLACK;
            let _ = self.exchange(session, deadline, &mut Destination::Unread, Some(Record::CloseNotify));
        }
        let _ = connection.socket.shutdown(Shutdown::Write);
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
        let mut socket = &self.connection.socket;
        let set = |left| socket.set_read_timeout(Some(left));
        let count = self.read_timeout.bound(deadline, set, || socket.read(space))?;
        self.end += count;
        self.connection.received(count);
        Ok(count)
    }
}

impl Drop for Transport<'_> {
    fn drop(&mut self) {
        if self.set_aside.is_some() {
            self.windows.give_back(std::mem::take(&mut self.incoming));
        }
    }
}

/// Where plain text goes.
enum Destination<'b> {
    /// To [`Transport::unread`].
    Unread,
    /// To `body` until it has `length` bytes; what is left, to [`Transport::unread`].
    Body { body: &'b mut Vec<u8>, length: usize },
}

impl Destination<'_> {
    fn deliver(&mut self, mut payload: &[u8], plain: &mut Vec<u8>, taken: &mut usize) {
        if let Self::Body { body, length } = self {
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
}
