//! The pages of the metrics port.

use std::io::Write as _;

use super::connection::{Handler, Stop};
use super::reply::{Next, Reply};
use super::request::Request;
use super::routes::Page;
use crate::http::Status;
use crate::observe::process;

impl Handler<'_> {
    /// Answers metrics and probes.
    pub(super) fn report(&mut self, request: &Request, page: Page) -> Result<Next, Stop> {
        self.reply.clear();
        match page {
            Page::Metrics => {
                let _ = write!(self.reply, "{}{}", self.service.metrics.render(crate::VERSION), process::render());
                self.answer(request, Reply::exposition())
            }
            Page::Readyz => {
                let reasons = self.service.not_ready();
                if !reasons.is_empty() {
                    let why = reasons.join("\n");
                    return self.answer(request, Reply::refusal(Status::Unavailable, &why));
                }
                self.reply.extend_from_slice(b"ready\n");
                self.answer(request, Reply::text())
            }
            Page::Healthz => {
                self.reply.extend_from_slice(b"ok\n");
                self.answer(request, Reply::text())
            }
        }
    }
}
