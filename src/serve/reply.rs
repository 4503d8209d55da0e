//! Replies: composed, sent, counted.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::connection::{Handler, Stop};
use super::request::Request;
use super::routes::Port;
use crate::audit_log::AuditLog;
use crate::http::{Framing, Response, Status};
use crate::observe::labels::Mended;
use crate::record::review;

/// How long a reply may take to be sent.
pub(super) const REPLY: Duration = Duration::from_secs(10);

/// Bytes of the reply buffers that are kept between requests.
const REPLY_KEPT: usize = 4 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Prometheus text exposition format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It carries the next request.
    KeepOpen,
    /// It does not: the reply said `Connection: close`.
    Close,
}

/// A reply. Its body is what [`Handler::reply`] holds, or the response's `error` as a line.
#[derive(Clone, Copy)]
pub(super) struct Reply<'a> {
    response: Response<'a>,
    refusal_is_said: Said,
}

/// Who tells the operator that a request was refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Whoever sends the reply.
    Here,
    /// The audit log, once for an outage and not for each request.
    ByTheLog,
}

impl<'a> Reply<'a> {
    pub(super) fn json() -> Self {
        Self::new(Status::Ok, JSON, None)
    }

    pub(super) fn text() -> Self {
        Self::new(Status::Ok, TEXT, None)
    }

    pub(super) fn exposition() -> Self {
        Self::new(Status::Ok, EXPOSITION, None)
    }

    /// `why`: one line that says why not, for the body and the `error` header.
    pub(super) fn refusal(status: Status, why: &'a str) -> Self {
        Self::new(status, TEXT, Some(why))
    }

    /// The line could not be appended.
    pub(super) fn not_appended(why: &'a str) -> Self {
        Self { refusal_is_said: Said::ByTheLog, ..Self::refusal(Status::Unavailable, why).closing() }
    }

    fn new(status: Status, content_type: &'static str, error: Option<&'a str>) -> Self {
        let response =
            Response { status, content_type, allow: None, error, close: false, http10: false, head_only: false };
        Self { response, refusal_is_said: Said::Here }
    }

    /// With `Allow`, for a 405.
    pub(super) fn allowing(mut self, allow: Option<&'static str>) -> Self {
        self.response.allow = allow;
        self
    }

    /// The connection's last one.
    pub(super) fn closing(mut self) -> Self {
        self.response.close = true;
        self
    }
}

/// Puts the newest head of the log's chain, if one is due, into the reply to the review that became `line`.
pub(super) fn add_head(log: &AuditLog, line: &[u8], reply: &mut Vec<u8>) {
    if let Some(head) = log.head_due(|| !review::is_of_collection(line)) {
        review::annotate(reply, "log-head", &head);
    }
}

impl Handler<'_> {
    /// Composes a reply and sends it, unless our writing side is closed. Returns what becomes of the connection.
    pub(super) fn answer(&mut self, request: &Request, reply: Reply<'_>) -> Result<Next, Stop> {
        if self.is_muted() {
            // What is on its way is still recorded; on the metrics port there is nothing to record.
            return if self.port == Port::Metrics { Err(Stop::Gone) } else { Ok(Next::KeepOpen) };
        }
        let draining = self.port != Port::Metrics && self.service.draining.load(Ordering::Relaxed);
        // No body is read on the metrics port: a request that announces one is the connection's last.
        let body_left = self.port == Port::Metrics && request.framing != Framing::Length(0);
        let keep_open = !reply.response.close
            && request.next == Next::KeepOpen
            && !body_left
            && !draining
            && self.ends.is_none_or(|ends| Instant::now() < ends);
        let next = if keep_open { Next::KeepOpen } else { Next::Close };
        self.compose(request, reply, next);
        let sent = self.transport.send(&self.response, Instant::now() + REPLY);
        if self.port != Port::Metrics {
            let took = request.arrived.elapsed();
            let status = reply.response.status;
            self.service.metrics.http_responses.increment(status);
            self.service.metrics.request_duration.observe(took);
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let why = reply.response.error.unwrap_or("");
            let fields = [("status", status.into()), ("error", why.into()), ("micros", micros.into())];
            self.service.diagnostics.debug("request answered", &fields);
            self.say_if_refused(&reply);
        }
        if self.reply.capacity() > REPLY_KEPT {
            (self.reply, self.response) = (Vec::new(), Vec::new());
        }
        sent.map(|()| next).map_err(|_| Stop::Gone)
    }

    /// Says at the default verbosity, rate-limited, that a request was refused: events may be getting lost.
    fn say_if_refused(&self, reply: &Reply<'_>) {
        if let Some(why) = reply.response.error
            && reply.refusal_is_said == Said::Here
            && let Some(left_out) = self.service.refused_messages.admit(Instant::now())
        {
            let peer = self.connection.peer.to_string();
            let fields = [
                ("status", reply.response.status.into()),
                ("reason", why.into()),
                ("peer", (&peer).into()),
                ("left_out", left_out.into()),
            ];
            self.service.diagnostics.warn("request refused", &fields);
        }
    }

    /// Counts and says that events of a list were recorded with U+FFFD in place of bytes that are not UTF-8.
    pub(super) fn say_mended(&self, events: usize, source: Option<&str>) {
        self.service.metrics.events_mended.add(Mended::NotUtf8, events);
        if let Some(left_out) = self.service.mended_messages.admit(Instant::now()) {
            let peer = self.connection.peer.to_string();
            let fields = [
                ("events", events.into()),
                ("reason", "not UTF-8".into()),
                ("peer", (&peer).into()),
                ("source", source.unwrap_or("").into()),
                ("left_out", left_out.into()),
            ];
            self.service.diagnostics.warn("events mended", &fields);
        }
    }

    /// Puts a reply's head and body into `self.response`.
    pub(super) fn compose(&mut self, request: &Request, reply: Reply<'_>, next: Next) {
        if let Some(why) = reply.response.error {
            self.reply.clear();
            let _ = writeln!(self.reply, "{why}");
        }
        let close = next == Next::Close;
        let response = Response { close, http10: request.http10, head_only: request.head_only, ..reply.response };
        self.response.clear();
        response.write(&self.reply, request.received, &mut self.response);
    }
}
