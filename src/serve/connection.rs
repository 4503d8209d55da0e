//! One connection's life: the handshake, then one request after the other. `Handler::one_request` is a request from top
//! to bottom: head -> body -> line -> append -> reply.
//!
//! "Allowed" is written only after `AuditLog::append` returned `Ok`.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::reply::{Next, Reply, add_head};
use super::request::Request;
use super::routes::{self, Port, Record, Refused, Route};
use super::service::Service;
use crate::files::policy_file::PolicyFile;
use crate::files::sources::SourcesFile;
use crate::http::{self, Refusal, Status};
use crate::net::connection::{Connection, LINGER, Standing};
use crate::net::transport::{Error, Progress, Transport};
use crate::observe::labels::{LineKind, PolicyLevel, TokenFault};
use crate::record::event_list::{self, Events};
use crate::record::policy::{Decision, Level};
use crate::record::review;

/// How long a connection may wait for its first and for each further request: longer than the 90 s after which the API
/// server's pool closes an idle connection, so that we never close one that it is about to use.
const IDLE: Duration = Duration::from_secs(120);

/// How long a head may take, from its first byte.
const HEAD: Duration = Duration::from_secs(5);

/// A connection to the metrics port is closed after so long, in use or not. Scrapers dial again.
const METRICS_LIFE: Duration = Duration::from_secs(300);

/// With more connections than this, each thread that has answered lets the others run (sched_yield) before it looks for
/// its next request. The kernel would let it serve one connection for milliseconds while the others wait.
const CROWD: i64 = 16;

/// Serves a connection until it ends.
pub fn serve(service: &Service, port: Port, connection: &Arc<Connection>) {
    service.metrics.connections.add(port, 1);
    let mut handler = Handler {
        service,
        port,
        connection,
        transport: Transport::new(connection, &service.windows),
        reply: Vec::new(),
        response: Vec::new(),
        ends: (port == Port::Metrics).then(|| connection.accepted + METRICS_LIFE),
    };
    if let Err(stop) = handler.run() {
        handler.stop(stop);
    }
    service.metrics.connections.add(port, -1);
}

/// Serves the requests of one connection.
pub(super) struct Handler<'s> {
    pub(super) service: &'s Service,
    pub(super) port: Port,
    pub(super) connection: &'s Arc<Connection>,
    pub(super) transport: Transport<'s>,
    /// The body of a reply.
    pub(super) reply: Vec<u8>,
    /// A reply's head and body.
    pub(super) response: Vec<u8>,
    /// When the connection is closed whatever happens on it.
    pub(super) ends: Option<Instant>,
}

/// Why a connection cannot go on.
pub(super) enum Stop {
    /// The peer is gone, or its handshake has failed.
    Gone,
    /// The peer is told why, and the connection closed.
    Refuse(Refusal),
    /// The request has to give way to others: 503.
    GiveWay,
}

impl Handler<'_> {
    /// The handshake, then one request after the other until a reply has said `Connection: close`.
    fn run(&mut self) -> Result<(), Stop> {
        self.handshake()?;
        while self.one_request()? == Next::KeepOpen {
            self.connection.await_request();
            self.transport.shrink();
            if self.service.metrics.connections.value(self.port) > CROWD {
                std::thread::yield_now();
            }
        }
        self.close(LINGER);
        Ok(())
    }

    /// Reads, records and answers one request.
    fn one_request(&mut self) -> Result<Next, Stop> {
        let length = self.await_head().inspect_err(|stop| {
            if let Stop::Refuse(_) = stop {
                self.count_request();
            }
        })?;
        let (arrived, received) = (Instant::now(), SystemTime::now());
        self.count_request();
        let head = self.transport.unread().get(..length).unwrap_or_default();
        let head = http::parse_head(head).map_err(Stop::Refuse)?;
        let request = Request::new(&head, arrived, received);
        let sources = self.service.sources.as_ref().map(|sources| SourcesFile::current(sources));
        let judged = routes::route(self.port, &head, sources.as_deref());
        self.transport.consume(length);
        match judged {
            Ok((Route::Record(record), source)) => self.record(&request, record, source),
            Ok((Route::Report(page), _)) => self.report(&request, page),
            Err(refused) => self.refuse(&request, refused),
        }
    }

    /// Waits for a head to be complete, and returns its length.
    fn await_head(&mut self) -> Result<usize, Stop> {
        let now = Instant::now();
        let mut idle_until = self.ends.map_or(now + IDLE, |ends| ends.min(now + IDLE));
        let mut was_idle = false;
        let mut head_until = None;
        let mut seen = 0;
        loop {
            while self.transport.unread().starts_with(b"\r\n") {
                // RFC 9112, section 2.2: an empty line before the request line is ignored.
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
            match self.transport.read(until) {
                Ok(Progress::End) => {
                    // A client that closes in order may wait for our close_notify.
                    self.transport.say_goodbye();
                    return Err(Stop::Gone);
                }
                Ok(_) => {}
                Err(Error::TimedOut) if begun && !self.is_muted() => {
                    let why = "the request's head did not arrive in time";
                    return Err(Stop::Refuse(Refusal { status: Status::RequestTimeout, why }));
                }
                Err(Error::TimedOut) if !begun && !was_idle => {
                    // Idle for long: our writing side is closed, and what is on its way is still recorded.
                    self.connection.close_if_waiting();
                    was_idle = true;
                    idle_until = Instant::now() + LINGER;
                }
                Err(_) => return Err(Stop::Gone),
            }
        }
    }

    /// The body, the line or lines, the append, the reply.
    fn record(&mut self, request: &Request, record: Record, source: Option<&str>) -> Result<Next, Stop> {
        let mut body = self.read_body(request, record)?;
        let metrics = &self.service.metrics;
        metrics.request_body_bytes.add(body.bytes.len());
        self.reply.clear();
        let policy = self.service.policy.as_ref().map(|policy| PolicyFile::current(policy));
        let policy = policy.as_ref().map(|in_use| &in_use.policy);
        let log = &self.service.log;
        let made = match record {
            Record::EventList => {
                event_list::audit_lines(&mut body.bytes, source, policy, log.chained(), &mut body.lines)
            }
            Record::AdmissionReview => {
                review::audit_line(&mut body.bytes, request.received, source, policy, log.chained(), &mut self.reply)
                    .map(|decision| of_review(decision, body.bytes.len()))
            }
        };
        let events = match made {
            Ok(events) => events,
            Err(invalid) => {
                drop(body);
                self.connection.refuse();
                return self.answer(request, Reply::refusal(Status::BadRequest, &invalid.to_string()));
            }
        };
        let (appended, kind) = match record {
            Record::EventList => (log.append(&body.lines), LineKind::Event),
            // By the policy it has no line.
            Record::AdmissionReview if events.lines == 0 => (Ok(()), LineKind::AdmissionReview),
            Record::AdmissionReview => (log.append_one(&mut body.bytes), LineKind::AdmissionReview),
        };
        if let Err(error) = appended {
            drop(body);
            let why = format!("not recorded: {error}");
            return self.answer(request, Reply::not_appended(&why));
        }
        metrics.audit_lines.add(kind, events.lines);
        metrics.source_requests.increment(source);
        for (level, count) in events.decisions.iter() {
            metrics.policy_decisions.add(level_label(level), count);
        }
        metrics.audit_line_bytes_max.raise_to(events.longest);
        if events.mended > 0 {
            self.say_mended(events.mended, source);
        }
        self.service.recorded_requests.increment();
        if record == Record::AdmissionReview && events.lines > 0 {
            add_head(log, &body.bytes, &mut self.reply);
        }
        drop(body);
        self.connection.prove();
        let reply = match record {
            Record::EventList => {
                let _ = write!(self.reply, "processed {} lines", events.count);
                Reply::text()
            }
            Record::AdmissionReview => Reply::json(),
        };
        let muted = self.is_muted();
        let next = self.answer(request, reply)?;
        if !muted {
            metrics.valid_requests.increment();
        }
        Ok(next)
    }

    /// Answers a request that is not for us. Its connection counts as waiting meanwhile, so that it keeps nobody out. If
    /// the body comes in order, the connection stays in use.
    fn refuse(&mut self, request: &Request, refused: Refused) -> Result<Next, Stop> {
        match refused {
            Refused::TokenMissing => self.service.metrics.source_rejections.increment(TokenFault::Missing),
            Refused::TokenUnknown => self.service.metrics.source_rejections.increment(TokenFault::Unknown),
            _ => {}
        }
        self.connection.refuse();
        let (status, why, allow) = refused.reply();
        let reply = Reply::refusal(status, why).allowing(allow);
        if self.port == Port::Metrics {
            return self.answer(request, reply);
        }
        if request.awaits_continue && self.transport.unread().is_empty() {
            // The client may still send the body or not (RFC 9110, section 10.1.1): what comes next could be the body or
            // another request.
            return self.answer(request, reply.closing());
        }
        self.discard_body(request)?;
        self.answer(request, reply)
    }

    /// Whether our writing side is closed: nothing is answered, and what was on its way is recorded until the connection
    /// is cut.
    pub(super) fn is_muted(&self) -> bool {
        self.connection.standing() == Standing::Closing
    }

    fn count_request(&self) {
        if self.port != Port::Metrics {
            self.service.metrics.http_requests.increment();
        }
        self.service.metrics.listener_requests.increment(self.port);
    }
}

/// What became of a review: with the policy's decision, and the length of its line if it has one.
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
