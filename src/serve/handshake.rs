//! The TLS handshake, and what is said when it fails.

use std::time::{Duration, Instant};

use super::connection::{Handler, Stop};
use super::reply::{Next, Reply};
use super::request::Request;
use super::routes::Port;
use crate::http::Status;
use crate::net::connection::{LINGER, Standing};
use crate::observe::labels::HandshakeFault;
use crate::tls::handshake_failure::HandshakeFailure;

/// A handshake takes milliseconds; a peer that needs longer holds a thread.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl Handler<'_> {
    /// Shakes hands where TLS is spoken.
    pub(super) fn handshake(&mut self) -> Result<(), Stop> {
        if let Err(failure) = self.transport.handshake(Instant::now() + HANDSHAKE) {
            if failure == HandshakeFailure::PLAIN_HTTP {
                let why = "this port speaks HTTPS, the request came in plain HTTP";
                self.compose(&Request::unreadable(), Reply::refusal(Status::BadRequest, why), Next::Close);
                self.transport.end_in_plain(&self.response, Instant::now() + LINGER);
            }
            self.say_failed(&failure);
            return Err(Stop::Gone);
        }
        if self.port == Port::Https {
            self.service.metrics.tls_handshakes.increment();
        }
        self.connection.await_request();
        Ok(())
    }

    fn say_failed(&self, failure: &HandshakeFailure) {
        // Then the handshake was ended from our side: by the roster, which has counted and said it, or by the drain.
        let evicted = self.connection.standing() != Standing::Open;
        let reason = if evicted { HandshakeFault::Evicted } else { failure.reason };
        self.service.metrics.tls_handshake_failures.increment(reason);
        if !evicted && let Some(left_out) = self.service.handshake_messages.admit(Instant::now()) {
            let msg = format!("http: TLS handshake error from {}: {}", self.connection.peer, failure.words);
            let fields = [("reason", reason.into()), ("left_out", left_out.into())];
            self.service.diagnostics.warn(&msg, &fields);
        }
    }
}
