//! The counters and their text form (Prometheus text exposition format 0.0.4).
//!
//! One [`Metrics`] is made at start and shared by reference. Label values come from the fixed sets below, never from a
//! request, so the number of series is known before the first request comes.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use super::instruments::{Counter, CounterBy, Gauge, GaugeBy, Histogram};

/// Everything the program counts. Field names are the metric names without the `kube_audit_rest_` prefix and unit
/// suffixes; [`Metrics::render`] gives each its help text.
#[derive(Debug)]
pub struct Metrics {
    /// Requests whose head had arrived on an audit port, whatever became of them.
    pub http_requests: Counter,
    /// Requests that were valid, appended and answered 200.
    pub valid_requests: Counter,
    /// Final responses by status code.
    pub http_responses: CounterBy<16>,
    /// Requests by the listener they came to.
    pub listener_requests: CounterBy<2>,
    /// From the head's arrival to the reply handed to the kernel.
    pub request_duration: Histogram,
    /// Bytes of request bodies read.
    pub request_body_bytes: Counter,
    /// Requests refused for their source's token.
    pub source_rejections: CounterBy<2>,
    /// Lines appended, by the kind of record.
    pub audit_lines: CounterBy<2>,
    /// Length of the longest line appended, with its newline.
    pub audit_line_bytes_max: Gauge,
    /// Appends that failed, by reason: one for each call, not for each group.
    pub append_errors: CounterBy<11>,
    /// Bytes appended.
    pub log_bytes_written: Counter,
    /// Size of the file appended to.
    pub log_file_bytes: Gauge,
    /// Rotations done.
    pub log_rotations: Counter,
    /// Rotations that failed; the old file stays in use.
    pub log_rotation_errors: Counter,
    /// Times the file was opened anew because it had been moved or deleted, or SIGHUP asked for it.
    pub log_reopens: Counter,
    /// Rolled files present.
    pub log_backups: Gauge,
    /// When the oldest line was received that the log and its rolled files still hold, seconds since the Unix epoch; 0
    /// until there is one.
    pub log_oldest_timestamp: Gauge,
    /// Rolled files that could not be deleted.
    pub log_retention_errors: Counter,
    /// Groups of lines written together (one write each).
    pub append_groups: Counter,
    /// Lines in those groups.
    pub append_group_lines: Counter,
    /// fdatasync of the audit log, with `--logger-sync=always`.
    pub sync_duration: Histogram,
    /// Nanoseconds after `started` of the last append that succeeded.
    last_append_nanos: AtomicU64,
    /// Handshakes completed.
    pub tls_handshakes: Counter,
    /// Handshakes that failed, by what the peer's alert or our own error was.
    pub tls_handshake_failures: CounterBy<19>,
    /// `notAfter` of the certificate in use, seconds since the Unix epoch.
    pub certificate_expiry: Gauge,
    /// Reloads of certificate, client CA and sources, by result.
    pub certificate_reloads: CounterBy<2>,
    /// Connections open, by listener.
    pub connections: GaugeBy<3>,
    /// Connections closed to make room for a new one.
    pub connections_evicted: Counter,
    /// Large request bodies in memory together.
    pub inflight_body_bytes: Gauge,
    started: Instant,
}

/// `listener` label values, in the order of [`Metrics::connections`].
pub const LISTENERS: [&str; 3] = ["https", "http", "metrics"];

impl Metrics {
    /// All zero; the clock of [`Metrics::mark_append`] starts now.
    pub fn new() -> Self {
        Self {
            http_requests: Counter::default(),
            valid_requests: Counter::default(),
            http_responses: CounterBy::new(
                "code",
                [
                    "200", "400", "404", "405", "408", "413", "417", "431", "500", "501", "503", "505", "414", "415",
                    "429", "other",
                ],
            ),
            listener_requests: CounterBy::new("listener", ["https", "http"]),
            request_duration: Histogram::new(),
            request_body_bytes: Counter::default(),
            source_rejections: CounterBy::new("reason", ["missing", "unknown"]),
            audit_lines: CounterBy::new("kind", ["AdmissionReview", "Event"]),
            audit_line_bytes_max: Gauge::default(),
            append_errors: CounterBy::new(
                "reason",
                [
                    "no_space",
                    "quota",
                    "io",
                    "file_too_large",
                    "read_only",
                    "broken_pipe",
                    "pipe_full",
                    "sync",
                    "open",
                    "lock",
                    "other",
                ],
            ),
            log_bytes_written: Counter::default(),
            log_file_bytes: Gauge::default(),
            log_rotations: Counter::default(),
            log_rotation_errors: Counter::default(),
            log_reopens: Counter::default(),
            log_backups: Gauge::default(),
            log_oldest_timestamp: Gauge::default(),
            log_retention_errors: Counter::default(),
            append_groups: Counter::default(),
            append_group_lines: Counter::default(),
            sync_duration: Histogram::new(),
            last_append_nanos: AtomicU64::new(0),
            tls_handshakes: Counter::default(),
            tls_handshake_failures: CounterBy::new(
                "reason",
                [
                    "eof",
                    "timeout",
                    "reset",
                    "not_tls",
                    "unknown_ca",
                    "bad_certificate",
                    "certificate_expired",
                    "certificate_unknown",
                    "certificate_revoked",
                    "unsupported_certificate",
                    "certificate_required",
                    "handshake_failure",
                    "protocol_version",
                    "no_application_protocol",
                    "decode_error",
                    "decrypt_error",
                    "unexpected_message",
                    "evicted",
                    "other",
                ],
            ),
            certificate_expiry: Gauge::default(),
            certificate_reloads: CounterBy::new("result", ["success", "failure"]),
            connections: GaugeBy::new(LISTENERS),
            connections_evicted: Counter::default(),
            inflight_body_bytes: Gauge::default(),
            started: Instant::now(),
        }
    }

    /// Remembers that an append has just succeeded.
    pub fn mark_append(&self) {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last_append_nanos.store(nanos, Relaxed);
    }

    /// The whole page but for the `process_*` families, each with its HELP and TYPE line.
    pub fn render(&self, version: &str) -> String {
        let mut page = Page::default();
        page.family("build_info", "gauge", "The version that is running; always 1.");
        let _ = writeln!(page.0, "{PREFIX}build_info{{version=\"{version}\"}} 1");
        page.counter("http_requests_total", "Requests to the audit ports.", &self.http_requests);
        page.counter(
            "valid_requests_processed_total",
            "Requests that were valid, appended and answered 200.",
            &self.valid_requests,
        );
        page.counters("http_responses_total", "Final responses by status code.", &self.http_responses);
        page.counters("listener_requests_total", "Requests by listener.", &self.listener_requests);
        page.histogram(
            "request_duration_seconds",
            "From a request's head to its reply handed to the kernel.",
            &self.request_duration,
        );
        page.counter("request_body_bytes_total", "Bytes of request bodies read.", &self.request_body_bytes);
        page.counters(
            "source_rejections_total",
            "Requests refused for a missing or unknown source token.",
            &self.source_rejections,
        );
        page.counters("audit_lines_total", "Lines appended to the audit log.", &self.audit_lines);
        page.gauge("audit_line_bytes_max", "Longest line appended since the start.", &self.audit_line_bytes_max);
        page.counters("append_errors_total", "Appends that failed and were answered 503.", &self.append_errors);
        page.counter("log_bytes_written_total", "Bytes appended to the audit log.", &self.log_bytes_written);
        page.gauge("log_file_bytes", "Size of the file being appended to.", &self.log_file_bytes);
        page.counter("log_rotations_total", "Rotations of the audit log.", &self.log_rotations);
        page.counter(
            "log_rotation_errors_total",
            "Rotations that failed; the old file stays in use.",
            &self.log_rotation_errors,
        );
        page.counter(
            "log_reopens_total",
            "Times the file was opened anew: moved, deleted, or asked for by SIGHUP.",
            &self.log_reopens,
        );
        page.gauge("log_backups", "Rolled files present.", &self.log_backups);
        page.gauge(
            "log_oldest_timestamp_seconds",
            "When the oldest line still there was received, Unix time; 0 before the first.",
            &self.log_oldest_timestamp,
        );
        page.counter(
            "log_retention_errors_total",
            "Rolled files that could not be listed or deleted.",
            &self.log_retention_errors,
        );
        page.counter(
            "append_groups_total",
            "Writes to the audit log, each of one or more appends.",
            &self.append_groups,
        );
        page.counter("append_group_lines_total", "Appends carried by those writes.", &self.append_group_lines);
        page.histogram(
            "log_sync_duration_seconds",
            "fdatasync of the audit log (--logger-sync=always).",
            &self.sync_duration,
        );
        page.family("seconds_since_last_append", "gauge", "Since the last append that succeeded, or the start.");
        let idle = self.started.elapsed().saturating_sub(Duration::from_nanos(self.last_append_nanos.load(Relaxed)));
        let _ = writeln!(page.0, "{PREFIX}seconds_since_last_append {:.3}", idle.as_secs_f64());
        page.counter("tls_handshakes_total", "TLS handshakes completed.", &self.tls_handshakes);
        page.counters("tls_handshake_failures_total", "TLS handshakes that failed.", &self.tls_handshake_failures);
        page.gauge(
            "certificate_expiry_timestamp_seconds",
            "notAfter of the certificate in use, Unix time.",
            &self.certificate_expiry,
        );
        page.counters(
            "certificate_reloads_total",
            "Reloads of certificate, client CA and sources after a change.",
            &self.certificate_reloads,
        );
        page.family("connections", "gauge", "Connections open.");
        for (value, gauge) in self.connections.iter() {
            let _ = writeln!(page.0, "{PREFIX}connections{{listener=\"{value}\"}} {}", gauge.value());
        }
        page.counter(
            "connections_evicted_total",
            "Connections closed to make room for a new one.",
            &self.connections_evicted,
        );
        page.gauge("inflight_body_bytes", "Large request bodies in memory.", &self.inflight_body_bytes);
        page.0
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const PREFIX: &str = "kube_audit_rest_";

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
    }

    fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.family(name, "counter", help);
        let _ = writeln!(self.0, "{PREFIX}{name} {}", counter.value());
    }

    fn gauge(&mut self, name: &str, help: &str, gauge: &Gauge) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.0, "{PREFIX}{name} {}", gauge.value());
    }

    fn counters<const N: usize>(&mut self, name: &str, help: &str, counters: &CounterBy<N>) {
        self.family(name, "counter", help);
        for (value, count) in counters.iter() {
            let _ = writeln!(self.0, "{PREFIX}{name}{{{}=\"{value}\"}} {count}", counters.label);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let (buckets, count, sum) = histogram.cumulative();
        for (bound, up_to) in buckets {
            let _ = writeln!(self.0, "{PREFIX}{name}_bucket{{le=\"{bound}\"}} {up_to}");
        }
        let _ = writeln!(self.0, "{PREFIX}{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(self.0, "{PREFIX}{name}_sum {sum}\n{PREFIX}{name}_count {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_series_stands_on_the_page_twice() {
        let page = Metrics::new().render("1.2.3");
        let mut series: Vec<&str> = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, _)| name)
            .collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), all);
    }

    #[test]
    fn every_family_has_its_help_and_type_before_its_samples() {
        let page = Metrics::new().render("1.2.3");
        let mut family = String::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap().to_owned();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&family), "{line} stands under {family}");
            }
        }
    }

    #[test]
    fn a_label_value_outside_the_set_counts_as_the_last() {
        let counters = CounterBy::new("reason", ["known", "other"]);
        counters.increment("known");
        counters.increment("never heard of");
        assert_eq!(counters.iter().collect::<Vec<_>>(), [("known", 1), ("other", 1)]);
    }

    #[test]
    fn buckets_of_a_histogram_are_cumulative_and_end_in_infinity() {
        let metrics = Metrics::new();
        metrics.request_duration.observe(Duration::from_micros(100));
        metrics.request_duration.observe(Duration::from_millis(3));
        metrics.request_duration.observe(Duration::from_secs(60));
        let page = metrics.render("1");
        for expected in [
            "request_duration_seconds_bucket{le=\"0.0001\"} 1",
            "request_duration_seconds_bucket{le=\"0.0025\"} 1",
            "request_duration_seconds_bucket{le=\"0.005\"} 2",
            "request_duration_seconds_bucket{le=\"10\"} 2",
            "request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "request_duration_seconds_sum 60.0031",
            "request_duration_seconds_count 3",
        ] {
            assert!(page.contains(&format!("{PREFIX}{expected}\n")), "{expected} is missing");
        }
    }
}
