//! A request's body, off the wire into memory or thrown away.

use std::time::Instant;

use super::connection::{BODY, Connection, REPLY, Stop};
use super::request::Request;
use crate::http::{self, Framing, Refusal, Status};
use crate::net::transport::{Error, Progress};
use crate::record::review;
use crate::serve::memory::{self, Body};
use crate::serve::routes::Route;

/// Where a body's bytes go.
enum Sink<'s> {
    /// Into memory, until it holds so many bytes.
    Keep(Body<'s>),
    /// Nowhere.
    Discard,
}

impl<'s> Connection<'s> {
    /// Reads the whole body; where it is large, after its turn at the memory for large bodies.
    pub(super) fn read_body(&mut self, request: &Request, route: Route) -> Result<Body<'s>, Stop> {
        let length = match request.framing {
            Framing::Length(length) => self.within_limit(length)?,
            // Grows to the limit if it must.
            Framing::Chunked => 0,
        };
        let body = self.reserve(length, route)?;
        if request.awaits_continue && self.transport.unread().is_empty() && self.muted_until.is_none() {
            self.transport.send(http::CONTINUE, Instant::now() + REPLY).map_err(|_| Stop::Gone)?;
        }
        let deadline = self.bounded(Instant::now() + BODY);
        match self.pump(request.framing, route, Sink::Keep(body), deadline)? {
            Sink::Keep(body) => Ok(body),
            Sink::Discard => Err(Stop::Gone),
        }
    }

    /// Reads over the body of a request that is refused, so that the connection can carry the next one.
    pub(super) fn discard_body(&mut self, request: &Request) -> Result<(), Stop> {
        if let Framing::Length(length) = request.framing {
            self.within_limit(length)?;
        }
        let deadline = self.bounded(Instant::now() + BODY);
        self.pump(request.framing, Route::LogRequest, Sink::Discard, deadline).map(|_| ())
    }

    fn within_limit(&self, length: u64) -> Result<usize, Stop> {
        let too_large = Stop::Refuse(Refusal {
            status: Status::ContentTooLarge,
            why: "the body is larger than --max-request-size",
        });
        usize::try_from(length).ok().filter(|length| *length <= self.service.max_request).ok_or(too_large)
    }

    fn reserve(&self, length: usize, route: Route) -> Result<Body<'s>, Stop> {
        let lines = if route == Route::AuditEvents { crate::record::event_list::most_lines(length) } else { 0 };
        let no_room = Stop::Refuse(Refusal {
            status: Status::Unavailable,
            why: "not recorded: the memory for large bodies (--max-inflight-size) did not become free in time",
        });
        self.service.bodies.take(length, lines, self.bounded(Instant::now() + BODY)).ok_or(no_room)
    }

    /// Moves the whole body from the wire into `sink`.
    fn pump(
        &mut self,
        framing: Framing,
        route: Route,
        mut sink: Sink<'s>,
        deadline: Instant,
    ) -> Result<Sink<'s>, Stop> {
        let Framing::Length(length) = framing else {
            return self.pump_chunks(route, sink, deadline);
        };
        self.pump_bytes(usize::try_from(length).unwrap_or(usize::MAX), &mut sink, deadline)?;
        Ok(sink)
    }

    /// RFC 9112, section 7.1.
    fn pump_chunks(&mut self, route: Route, mut sink: Sink<'s>, deadline: Instant) -> Result<Sink<'s>, Stop> {
        let mut total = 0_u64;
        loop {
            let size = self.framed(http::chunk_line, deadline)?;
            if size == 0 {
                break;
            }
            total = total.saturating_add(size);
            let needed = self.within_limit(total)?;
            if let Sink::Keep(body) = &mut sink
                && needed > memory::SMALL
                && body.bytes.len() <= memory::SMALL
                && !body.is_large()
            {
                // How long it will be is unknown, so it gets room for the longest: it must not wait a second time
                // while it holds memory that others wait for.
                let mut large = self.reserve(self.service.max_request, route)?;
                large.bytes.extend_from_slice(&body.bytes);
                *body = large;
            }
            self.pump_bytes(usize::try_from(size).unwrap_or(usize::MAX), &mut sink, deadline)?;
            self.framed(crlf, deadline)?;
        }
        self.framed(|bytes| Ok(http::trailer_length(bytes)?.map(|length| (length, ()))), deadline)?;
        Ok(sink)
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
            arrived(progress)?;
        }
    }

    fn pump_bytes(&mut self, count: usize, sink: &mut Sink<'s>, deadline: Instant) -> Result<(), Stop> {
        let mut left = count;
        let there = self.transport.unread();
        let part = there.get(..left.min(there.len())).unwrap_or_default();
        if let Sink::Keep(body) = sink {
            body.bytes.extend_from_slice(part);
        }
        left -= part.len();
        let part = part.len();
        self.transport.consume(part);
        self.transport.expect(left);
        match sink {
            Sink::Keep(body) => {
                body.bytes.reserve(left.saturating_add(review::ROOM));
                let whole = body.bytes.len().saturating_add(left);
                while body.bytes.len() < whole {
                    let progress = self.transport.read_body(&mut body.bytes, whole, deadline);
                    arrived(progress)?;
                }
            }
            Sink::Discard => {
                while left > 0 {
                    let progress = self.transport.read(deadline);
                    arrived(progress)?;
                    let part = left.min(self.transport.unread().len());
                    left -= part;
                    self.transport.consume(part);
                }
            }
        }
        Ok(())
    }
}

fn arrived(progress: Result<Progress, Error>) -> Result<(), Stop> {
    match progress {
        Ok(Progress::Data(_) | Progress::Partial) => Ok(()),
        Err(Error::TimedOut) => Err(Stop::Refuse(Refusal {
            status: Status::RequestTimeout,
            why: "the request's body did not arrive in time",
        })),
        Ok(Progress::End) | Err(_) => Err(Stop::Gone),
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
