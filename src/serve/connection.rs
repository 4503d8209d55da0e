//! One connection's life: handshake, then requests one after the other, each read top to bottom in
//! `Connection::one_request`: head -> body -> line -> append -> reply.
//!
//! "Allowed" is written only after `AuditLog::append` returned `Ok`.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::request::Request;
use crate::files::policy_file::PolicyFile;
use crate::files::sources::SourcesFile;
use crate::http::{self, Refusal, Response, Status};
use crate::net::roster::{LINGER, Slot};
use crate::net::transport::{Error, Progress, Transport};
use crate::observe::labels::{LineKind, PolicyLevel, TokenFault};
use crate::observe::process;
use crate::record::event_list::{self, Events};
use crate::record::policy::{Decision, Level};
use crate::record::review;
use crate::serve::routes::{self, Port, Refused, Route};
use crate::serve::service::Service;
use crate::tls::handshake_failure::HandshakeFailure;

/// A handshake takes milliseconds; a peer that needs longer holds a thread.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// For the first request and between requests: longer than the 90 s after which the API server's pool closes an idle
/// connection, so that it is never us who close one that is about to be used.
const IDLE: Duration = Duration::from_secs(120);

/// A head, from its first byte.
const HEAD: Duration = Duration::from_secs(5);

/// A body in all; and, before it, its turn at the memory for large bodies. The API server waits 30 s at most.
pub(super) const BODY: Duration = Duration::from_secs(30);

/// A reply in all.
pub(super) const REPLY: Duration = Duration::from_secs(10);

/// What a client may still send after a reply that refuses its body, so that it comes to read that reply.
const DRAIN: Duration = Duration::from_secs(10);
const DRAIN_BYTES: usize = 256 * 1024 * 1024;

/// Kept of the reply buffers between requests.
const REPLY_KEPT: usize = 4 * 1024;

/// Serves a connection until it ends.
pub fn serve(service: &Service, port: Port, slot: &Slot) {
    let mut connection = Connection {
        service,
        port,
        slot,
        transport: Transport::new(&slot.wire, &service.bodies),
        reply: Vec::new(),
        response: Vec::with_capacity(512),
        muted_until: None,
    };
    if port == Port::Https && !connection.handshake() {
        return;
    }
    slot.mark_open();
    while connection.one_request() {}
}

pub(super) struct Connection<'s> {
    pub(super) service: &'s Service,
    port: Port,
    slot: &'s Slot,
    pub(super) transport: Transport<'s>,
    /// The body of a reply.
    reply: Vec<u8>,
    /// A reply's head and body.
    response: Vec<u8>,
    /// Our writing side is closed; what was on its way is recorded until then, and not answered.
    pub(super) muted_until: Option<Instant>,
}

/// Why a request comes to nothing.
pub(super) enum Stop {
    /// The peer is gone.
    Gone,
    /// The peer is told why, and the connection closed.
    Refuse(Refusal),
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Prometheus text exposition format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Connection<'_> {
    fn handshake(&mut self) -> bool {
        let failure = match self.transport.handshake(Instant::now() + HANDSHAKE) {
            Ok(Progress::End) => HandshakeFailure::end_of_file(self.transport.is_amid_record()),
            Ok(_) => {
                self.service.metrics.tls_handshakes.increment();
                return true;
            }
            Err(Error::NotTls(http)) => {
                if http {
                    let why = "this port speaks HTTPS, the request came in plain HTTP";
                    let refusal = Refusal { status: Status::BadRequest, why };
                    self.compose(&Request::unreadable(), refusal.status, TEXT, Some(refusal.why), None, true);
                    self.transport.end_in_plain(&self.response, Instant::now() + LINGER);
                }
                if http { HandshakeFailure::plain_http() } else { HandshakeFailure::not_tls() }
            }
            Err(Error::TimedOut) => HandshakeFailure::timeout(),
            Err(Error::Io(error)) => HandshakeFailure::from_io(&error),
            Err(Error::Tls(error)) => HandshakeFailure::from_tls(&error),
        };
        self.service.metrics.tls_handshake_failures.increment(failure.reason);
        if let Some(left_out) = self.service.handshake_messages.admit(Instant::now()) {
            let msg = format!("http: TLS handshake error from {}: {}", self.slot.peer, failure.words);
            self.service.diagnostics.warn(&msg, &[("reason", failure.reason.into()), ("left_out", left_out.into())]);
        }
        false
    }

    /// Reads, records and answers one request. False when the connection has ended.
    fn one_request(&mut self) -> bool {
        let length = match self.await_head() {
            Ok(length) => length,
            Err(stop) => {
                if let Stop::Refuse(_) = stop {
                    self.count_request();
                }
                return self.stop(stop);
            }
        };
        let (arrived, received) = (Instant::now(), SystemTime::now());
        if !self.slot.begin_request() {
            self.mute();
        }
        self.count_request();
        let head = match http::parse_head(self.transport.unread().get(..length).unwrap_or_default()) {
            Ok(head) => head,
            Err(refusal) => return self.stop(Stop::Refuse(refusal)),
        };
        let request = Request::new(&head, arrived, received);
        let sources = self.service.sources.as_ref().map(SourcesFile::current);
        let judged = routes::route(self.port, &head, sources.as_deref());
        self.transport.consume(length);
        let outcome = match judged {
            Ok((route @ (Route::LogRequest | Route::AuditEvents), source)) => self.record(&request, route, source),
            Ok((route, _)) => self.report(&request, route),
            Err(refused) => self.refuse(&request, refused),
        };
        match outcome {
            Ok(false) => {
                // Once our writing side is closed it stays so.
                if self.muted_until.is_none() {
                    self.slot.end_request();
                }
                self.transport.shrink();
                true
            }
            Ok(true) => self.close(LINGER),
            Err(stop) => self.stop(stop),
        }
    }

    /// Waits for a head to be complete, and returns its length.
    fn await_head(&mut self) -> Result<usize, Stop> {
        let idle_until = Instant::now() + IDLE;
        let mut head_until = None;
        let mut seen = 0;
        loop {
            while self.transport.unread().starts_with(b"\r\n") && seen <= 2 {
                // RFC 9112, section 2.2: an empty line before the request line is no harm.
                self.transport.consume(2);
                seen = 0;
            }
            let unread = self.transport.unread();
            match http::head_length(unread, seen) {
                Ok(Some(length)) => return Ok(length),
                Ok(None) => seen = unread.len(),
                Err(refusal) => return Err(Stop::Refuse(refusal)),
            }
            let begun = seen > 0 || self.transport.is_amid_record();
            let until = if begun { *head_until.get_or_insert_with(|| Instant::now() + HEAD) } else { idle_until };
            match self.transport.read(self.bounded(until)) {
                Ok(Progress::End) => {
                    // Whoever ends in order may wait for our close_notify.
                    self.transport.say_goodbye();
                    return Err(Stop::Gone);
                }
                Ok(_) => {}
                Err(Error::TimedOut) if begun && self.muted_until.is_none() => {
                    let why = "the request's head did not arrive in time";
                    return Err(Stop::Refuse(Refusal { status: Status::RequestTimeout, why }));
                }
                Err(Error::TimedOut) if self.muted_until.is_none() => {
                    // Idle for long: our writing side is closed, and what is on its way is still recorded.
                    self.slot.close_if_waiting();
                    self.mute();
                }
                Err(_) => return Err(Stop::Gone),
            }
        }
    }

    /// The body, the line or lines, the append, the reply. True when the connection is to be closed.
    fn record(&mut self, request: &Request, route: Route, source: Option<&str>) -> Result<bool, Stop> {
        let mut body = self.read_body(request, route)?;
        let metrics = &self.service.metrics;
        metrics.request_body_bytes.add(as_u64(body.bytes.len()));
        self.reply.clear();
        let policy = self.service.policy.as_ref().map(PolicyFile::current);
        let policy = policy.as_deref();
        let made = match route {
            Route::AuditEvents => event_list::audit_lines(&mut body.bytes, source, policy, &mut body.lines),
            _ => review::audit_line(&mut body.bytes, request.received, source, policy, &mut self.reply)
                .map(|decision| of_review(decision, body.bytes.len())),
        };
        let events = match made {
            Ok(events) => events,
            Err(invalid) => {
                drop(body);
                let why = invalid.to_string();
                return self.answer(request, Status::BadRequest, TEXT, Some(&why), None, false);
            }
        };
        let (lines, kind) = match route {
            Route::AuditEvents => (&body.lines, LineKind::Event),
            _ => (&body.bytes, LineKind::AdmissionReview),
        };
        if events.lines > 0
            && let Err(error) = self.service.log.append(lines)
        {
            drop(body);
            let why = format!("not recorded: {error}");
            return self.answer(request, Status::Unavailable, TEXT, Some(&why), None, true);
        }
        metrics.audit_lines.add(kind, as_u64(events.lines));
        for (level, count) in events.decisions.iter() {
            metrics.policy_decisions.add(level_label(level), count);
        }
        let longest = i64::try_from(events.longest).unwrap_or(i64::MAX);
        metrics.audit_line_bytes_max.raise_to(longest);
        metrics.valid_requests.increment();
        self.slot.mark_proven();
        drop(body);
        if route == Route::AuditEvents {
            let _ = write!(self.reply, "processed {} lines", events.count);
            return self.answer(request, Status::Ok, TEXT, None, None, false);
        }
        self.answer(request, Status::Ok, JSON, None, None, false)
    }

    /// Metrics and probes.
    fn report(&mut self, request: &Request, route: Route) -> Result<bool, Stop> {
        self.discard_body(request)?;
        self.reply.clear();
        match route {
            Route::Metrics => {
                let _ = write!(self.reply, "{}{}", self.service.metrics.render(crate::VERSION), process::render());
                self.answer(request, Status::Ok, EXPOSITION, None, None, false)
            }
            Route::Readyz => {
                let reasons = self.service.not_ready();
                if !reasons.is_empty() {
                    let why = reasons.join("\n");
                    return self.answer(request, Status::Unavailable, TEXT, Some(&why), None, false);
                }
                self.reply.extend_from_slice(b"ready\n");
                self.answer(request, Status::Ok, TEXT, None, None, false)
            }
            _ => {
                self.reply.extend_from_slice(b"ok\n");
                self.answer(request, Status::Ok, TEXT, None, None, false)
            }
        }
    }

    /// A request that is complete and not for us; the connection stays in use.
    fn refuse(&mut self, request: &Request, refused: Refused) -> Result<bool, Stop> {
        match refused {
            Refused::TokenMissing => self.service.metrics.source_rejections.increment(TokenFault::Missing),
            Refused::TokenUnknown => self.service.metrics.source_rejections.increment(TokenFault::Unknown),
            _ => {}
        }
        let (status, why, allow) = refused.reply();
        if request.awaits_continue && self.transport.unread().is_empty() {
            // Whether the body still comes is open (RFC 9110, section 10.1.1), so no next request could be told from it.
            return self.answer(request, status, TEXT, Some(why), allow, true);
        }
        self.discard_body(request)?;
        self.answer(request, status, TEXT, Some(why), allow, false)
    }

    /// Composes a reply and sends it. True when the connection is to be closed after it. The body is what `self.reply`
    /// holds, or the one line `error`, which then stands in a header too.
    fn answer(
        &mut self,
        request: &Request,
        status: Status,
        content_type: &'static str,
        error: Option<&str>,
        allow: Option<&'static str>,
        close: bool,
    ) -> Result<bool, Stop> {
        if self.muted_until.is_some() {
            return Ok(false);
        }
        let close =
            close || request.close || (self.service.draining.load(Ordering::Relaxed) && self.port != Port::Metrics);
        self.compose(request, status, content_type, error, allow, close);
        let sent = self.transport.send(&self.response, Instant::now() + REPLY);
        if self.port != Port::Metrics {
            let took = request.arrived.elapsed();
            self.service.metrics.http_responses.increment(status);
            self.service.metrics.request_duration.observe(took);
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let fields = [("status", status.into()), ("error", error.unwrap_or("").into()), ("micros", micros.into())];
            self.service.diagnostics.debug("request answered", &fields);
        }
        if self.reply.capacity() > REPLY_KEPT {
            (self.reply, self.response) = (Vec::new(), Vec::with_capacity(512));
        }
        sent.map(|()| close).map_err(|_| Stop::Gone)
    }

    fn compose(
        &mut self,
        request: &Request,
        status: Status,
        content_type: &'static str,
        error: Option<&str>,
        allow: Option<&'static str>,
        close: bool,
    ) {
        if let Some(why) = error {
            self.reply.clear();
            let _ = writeln!(self.reply, "{why}");
        }
        self.response.clear();
        let response = Response {
            status,
            content_type,
            body: &self.reply,
            allow,
            error,
            close,
            http10: request.http10,
            head_only: request.head_only,
        };
        response.write(request.received, &mut self.response);
    }

    /// Ends a connection that cannot go on. Always false, for the caller's caller.
    fn stop(&mut self, stop: Stop) -> bool {
        if let Stop::Refuse(refusal) = stop
            && self.answer(&Request::unreadable(), refusal.status, TEXT, Some(refusal.why), None, true).is_ok()
        {
            return self.close(DRAIN);
        }
        false
    }

    /// Ends a connection after a reply that said so. What the client still sends is thrown away for a while, so that it
    /// comes to read the reply and not a reset; meanwhile the connection may make room for another. Always false, for
    /// the caller's caller.
    fn close(&mut self, patience: Duration) -> bool {
        if self.muted_until.is_some() {
            return false;
        }
        self.slot.end_request();
        self.transport.say_goodbye();
        let deadline = Instant::now() + patience;
        let mut left = DRAIN_BYTES;
        loop {
            self.transport.consume(usize::MAX);
            match self.transport.read(deadline) {
                Ok(Progress::Data(count)) if count < left => left -= count,
                Ok(Progress::Partial) => {}
                _ => return false,
            }
        }
    }

    /// From now on nothing can be answered; what was on its way is recorded for a little while.
    fn mute(&mut self) {
        self.muted_until.get_or_insert_with(|| Instant::now() + LINGER);
    }

    pub(super) fn bounded(&self, deadline: Instant) -> Instant {
        self.muted_until.map_or(deadline, |until| until.min(deadline))
    }

    fn count_request(&self) {
        if self.port != Port::Metrics {
            self.service.metrics.http_requests.increment();
        }
        self.service.metrics.listener_requests.increment(self.port);
    }
}

/// What became of a review, whose line has this length if it has one.
fn of_review(decision: Option<Decision>, length: usize) -> Events {
    let mut events = Events { count: 1, ..Events::default() };
    if let Some(decision) = decision {
        events.decisions.count(decision.level);
    }
    if decision.is_none_or(|decision| decision.level > Level::None) {
        (events.lines, events.longest) = (1, length);
    }
    events
}

fn level_label(level: Level) -> PolicyLevel {
    match level {
        Level::None => PolicyLevel::None,
        Level::Metadata => PolicyLevel::Metadata,
        Level::Request => PolicyLevel::Request,
        Level::RequestResponse => PolicyLevel::RequestResponse,
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
