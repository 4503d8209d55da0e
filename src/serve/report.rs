//! The pages of the metrics port.

use std::io::Write as _;

use super::connection::{Handler, Stop};
use super::reply::{Next, Reply};
use super::request::Request;
use super::routes::Page;
use crate::http::{Framing, Status};
use crate::observe::process;

impl Handler<'_> {
    /// Answers metrics and probes. If the head announces a body, that is not read, and the connection is closed.
    pub(super) fn report(&mut self, request: &Request, page: Page) -> Result<Next, Stop> {
        let next = without_body(request);
        self.reply.clear();
        match page {
            Page::Metrics => {
                let _ = write!(self.reply, "{}{}", self.service.metrics.render(crate::VERSION), process::render());
                self.answer(request, Reply::exposition().then(next))
            }
            Page::Readyz => {
                let reasons = self.service.not_ready();
                if !reasons.is_empty() {
                    let why = reasons.join("\n");
                    return self.answer(request, Reply::refusal(Status::Unavailable, &why).then(next));
                }
                self.reply.extend_from_slice(b"ready\n");
                self.answer(request, Reply::text().then(next))
            }
            Page::Healthz => {
                self.reply.extend_from_slice(b"ok\n");
                self.answer(request, Reply::text().then(next))
            }
        }
    }
}

/// What becomes of a connection whose request's body, if there is one, is not read.
pub(super) fn without_body(request: &Request) -> Next {
    if request.framing == Framing::Length(0) { Next::KeepOpen } else { Next::Close }
}
