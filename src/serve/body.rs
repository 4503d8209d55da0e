//! A request's body, off the wire into memory or thrown away.

use std::time::{Duration, Instant};

use super::connection::{Handler, Stop};
use super::memory::{Body, Memory, Need, NoMemory, SMALL, SMALL_LIST};
use super::reply::REPLY;
use super::request::Request;
use super::routes::Record;
use crate::http::{self, Framing, Refusal, Status};
use crate::net::connection::Standing;
use crate::net::transport::{Error, Progress, WINDOW};
use crate::record::event_list;

/// How long a whole body may take, its waits for memory included. The API server waits 30 s at most.
const BODY: Duration = Duration::from_secs(30);

/// Where a body's bytes go.
enum Sink<'b, 's> {
    /// Into memory.
    Keep(&'b mut Body<'s>, &'b Need<'s>),
    /// Nowhere.
    Discard,
}

impl<'s> Handler<'s> {
    /// Reads the whole body, and finds room for the lines where they are not made in place. From its return on the
    /// request is complete, and nobody may end the connection.
    pub(super) fn read_body(&mut self, request: &Request, record: Record) -> Result<Body<'s>, Stop> {
        let announced = match request.framing {
            Framing::Length(length) => Some(self.within_limit(length)?),
            Framing::Chunked => None,
        };
        if announced.is_none_or(|length| length > self.transport.unread().len()) {
            goes_on(self.connection.begin_body())?;
        }
        let small = match record {
            Record::AdmissionReview => SMALL,
            Record::EventList => SMALL_LIST,
        };
        let most = announced.unwrap_or(self.service.max_request);
        let deadline = request.arrived + BODY;
        // A connection on its way out waits for memory no longer than until it is cut.
        let deadline = self.connection.leaves_by().map_or(deadline, |until| until.min(deadline));
        let need = Need { connection: self.connection, announced, body: most, deadline };
        let memory: &'s Memory = &self.service.memory;
        let mut body = match announced {
            Some(length) if length > small => memory.large(),
            _ => memory.small(),
        };
        if request.awaits_continue && self.transport.unread().is_empty() && !self.is_muted() {
            self.transport.send(http::CONTINUE, Instant::now() + REPLY).map_err(|_| Stop::Gone)?;
        }
        self.pump(request.framing, &mut Sink::Keep(&mut body, &need), deadline)?;
        goes_on(self.connection.complete())?;
        body.complete();
        self.transport.shrink();
        if record == Record::EventList {
            body.reserve_lines(event_list::most_lines(body.bytes.len()), &need).map_err(no_memory)?;
        }
        Ok(body)
    }

    /// Reads over the body of a request that is refused, so that the connection can carry the next one.
    pub(super) fn discard_body(&mut self, request: &Request) -> Result<(), Stop> {
        if let Framing::Length(length) = request.framing {
            self.within_limit(length)?;
        }
        self.pump(request.framing, &mut Sink::Discard, request.arrived + BODY)
    }

    fn within_limit(&self, length: u64) -> Result<usize, Stop> {
        let too_large = Stop::Refuse(Refusal {
            status: Status::ContentTooLarge,
            why: "the body is larger than --max-request-size",
        });
        usize::try_from(length).ok().filter(|length| *length <= self.service.max_request).ok_or(too_large)
    }

    /// Moves the whole body from the wire into `sink`.
    fn pump(&mut self, framing: Framing, sink: &mut Sink<'_, '_>, deadline: Instant) -> Result<(), Stop> {
        match framing {
            Framing::Length(length) => self.pump_bytes(usize::try_from(length).unwrap_or(usize::MAX), sink, deadline),
            Framing::Chunked => self.pump_chunks(sink, deadline),
        }
    }

    /// RFC 9112, section 7.1.
    fn pump_chunks(&mut self, sink: &mut Sink<'_, '_>, deadline: Instant) -> Result<(), Stop> {
        let mut total = 0_u64;
        loop {
            let size = self.framed(http::chunk_line, deadline)?;
            if size == 0 {
                break;
            }
            total = total.saturating_add(size);
            self.within_limit(total)?;
            self.pump_bytes(usize::try_from(size).unwrap_or(usize::MAX), sink, deadline)?;
            self.framed(crlf, deadline)?;
        }
        self.framed(|bytes| Ok(http::trailer_length(bytes)?.map(|length| (length, ()))), deadline)
    }

    /// Reads until `parse` finds what it looks for at the front of the unread bytes, and consumes it.
    fn framed<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(usize, T)>, Refusal>,
        deadline: Instant,
    ) -> Result<T, Stop> {
        loop {
            if let Some((length, found)) = parse(self.transport.unread()).map_err(Stop::Refuse)? {
                self.transport.consume(length);
                return Ok(found);
            }
            let progress = self.transport.read(deadline);
            self.arrived(progress)?;
        }
    }

    fn pump_bytes(&mut self, count: usize, sink: &mut Sink<'_, '_>, deadline: Instant) -> Result<(), Stop> {
        let mut left = count;
        let part = left.min(self.transport.unread().len());
        if let Sink::Keep(body, need) = sink {
            body.reserve(body.bytes.len() + part, need).map_err(no_memory)?;
            body.bytes.extend_from_slice(self.transport.unread().get(..part).unwrap_or_default());
        }
        left -= part;
        self.transport.consume(part);
        self.transport.expect(left);
        match sink {
            Sink::Keep(body, need) => {
                let whole = body.bytes.len().saturating_add(left);
                while body.bytes.len() < whole {
                    // A read brings a window at most.
                    body.reserve(whole.min(body.bytes.len() + WINDOW), need).map_err(no_memory)?;
                    let progress = self.transport.read_body(&mut body.bytes, whole, deadline);
                    self.arrived(progress)?;
                }
            }
            Sink::Discard => {
                while left > 0 {
                    let progress = self.transport.read(deadline);
                    self.arrived(progress)?;
                    let part = left.min(self.transport.unread().len());
                    left -= part;
                    self.transport.consume(part);
                }
            }
        }
        Ok(())
    }

    fn arrived(&self, progress: Result<Progress, Error>) -> Result<(), Stop> {
        match progress {
            Ok(Progress::Data(_)) => Ok(()),
            Err(Error::TimedOut) => Err(Stop::Refuse(Refusal {
                status: Status::RequestTimeout,
                why: "the request's body did not arrive in time",
            })),
            Ok(Progress::End) | Err(_) if self.connection.standing() == Standing::GivingWay => Err(Stop::GiveWay),
            Ok(Progress::End) | Err(_) => Err(Stop::Gone),
        }
    }
}

/// A request that has to give way goes no further.
fn goes_on(standing: Standing) -> Result<(), Stop> {
    match standing {
        Standing::Open | Standing::Closing => Ok(()),
        Standing::GivingWay => Err(Stop::GiveWay),
    }
}

fn no_memory(why: NoMemory) -> Stop {
    match why {
        NoMemory::NotInTime => Stop::Refuse(Refusal {
            status: Status::Unavailable,
            why: "not recorded: the memory for large bodies (--max-inflight-size) did not become free in time",
        }),
        NoMemory::Refused => Stop::Refuse(Refusal {
            status: Status::Unavailable,
            why: "not recorded: the system refused memory for the body",
        }),
        NoMemory::GivesWay => Stop::GiveWay,
    }
}

/// The end of a chunk's data.
fn crlf(bytes: &[u8]) -> Result<Option<(usize, ())>, Refusal> {
    match bytes {
        [b'\r', b'\n', ..] => Ok(Some((2, ()))),
        [] | [b'\r'] => Ok(None),
        _ => Err(Refusal { status: Status::BadRequest, why: "malformed chunk: its data is longer than its size" }),
    }
}
