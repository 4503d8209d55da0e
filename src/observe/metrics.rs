//! Every metric of the program, and the page that shows them.
//!
//! A new metric is one line in the table below; it needs nothing else. Label values are enums
//! ([`labels`](super::labels)) or the names of the sources, so no request can make a series.

use std::fmt::Write as _;

use super::instruments::{Counter, CounterBy, CounterBySource, Elapsed, Gauge, GaugeBy, Histogram, Instrument};
use super::labels::{
    AppendFault, Evicted, HandshakeFault, LineKind, Mended, PolicyLevel, Port, Reload, Status, TokenFault,
};

const PREFIX: &str = "kube_audit_rest_";

/// `field: Instrument = "name on the page", "help";`
macro_rules! metrics {
    ($($field:ident: $instrument:ty = $name:literal, $help:literal;)+) => {
        /// Everything the program counts. One is made at the start and shared by reference.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: $instrument,)+
        }

        impl Metrics {
            /// The whole page but for the `process_*` families (Prometheus text exposition format 0.0.4).
            pub fn render(&self, version: &str) -> String {
                let mut page = String::new();
                let _ = writeln!(
                    page,
                    "# HELP {PREFIX}build_info The version that is running; always 1.\n\
                     # TYPE {PREFIX}build_info gauge\n\
                     {PREFIX}build_info{{version=\"{version}\"}} 1"
                );
                $(render(&mut page, $name, $help, &self.$field);)+
                page
            }
        }
    };
}

metrics! {
    http_requests: Counter = "http_requests_total", "Requests to the audit ports of kube-audit-rest.";
    valid_requests: Counter = "valid_requests_processed_total", "Requests that were valid, appended and answered 200.";
    http_responses: CounterBy<Status> = "http_responses_total", "Final responses by status code.";
    listener_requests: CounterBy<Port> = "listener_requests_total", "Requests by listener.";
    request_duration: Histogram =
        "request_duration_seconds", "From a request's head to its reply handed to the kernel.";
    request_body_bytes: Counter = "request_body_bytes_total", "Bytes of request bodies read.";
    source_rejections: CounterBy<TokenFault> =
        "source_rejections_total", "Requests refused for a missing or unknown source token.";
    source_requests: CounterBySource =
        "source_requests_total", "Valid requests by source (--sources-filename).";
    audit_lines: CounterBy<LineKind> = "audit_lines_total", "Lines appended to the audit log.";
    events_mended: CounterBy<Mended> =
        "events_mended_total", "Events recorded with U+FFFD in place of bytes that are not UTF-8.";
    audit_line_bytes_max: Gauge = "audit_line_bytes_max", "Longest line appended since the start, with its newline, without its chain.";
    append_errors: CounterBy<AppendFault> =
        "append_errors_total", "Appends that failed and were answered 503: one for each request, not for each write.";
    log_bytes_written: Counter = "log_bytes_written_total", "Bytes appended to the audit log.";
    log_file_bytes: Gauge = "log_file_bytes", "Size of the file being appended to.";
    log_rotations: Counter = "log_rotations_total", "Rotations of the audit log.";
    log_rotation_errors: Counter = "log_rotation_errors_total", "Rotations that failed; the old file stays in use.";
    log_reopens: Counter =
        "log_reopens_total", "Times the file was opened anew: moved, deleted, or asked for by SIGHUP.";
    log_backups: Gauge = "log_backups", "Rolled files present.";
    log_oldest_timestamp: Gauge =
        "log_oldest_timestamp_seconds", "When the oldest line still there was received, Unix time; 0 before the first.";
    log_retention_errors: Counter =
        "log_retention_errors_total", "Rolled files that could not be listed or deleted.";
    append_groups: Counter = "append_groups_total", "Writes to the audit log, each of one or more appends.";
    append_group_lines: Counter = "append_group_lines_total", "Appends carried by those writes.";
    sync_duration: Histogram = "log_sync_duration_seconds", "fdatasync of the audit log (--logger-sync=always).";
    last_append: Elapsed =
        "seconds_since_last_append", "Since the last append that succeeded, or the start.";
    tls_handshakes: Counter = "tls_handshakes_total", "TLS handshakes completed.";
    tls_handshake_failures: CounterBy<HandshakeFault> = "tls_handshake_failures_total", "TLS handshakes that failed.";
    certificate_expiry: Gauge =
        "certificate_expiry_timestamp_seconds", "notAfter of the certificate in use, Unix time.";
    certificate_reloads: CounterBy<Reload> =
        "certificate_reloads_total", "Reloads of certificate, client CA, sources and chain key after a change.";
    policy_decisions: CounterBy<PolicyLevel> =
        "policy_decisions_total", "Reviews and Events by the level that the policy recorded them at.";
    policy_reloads: CounterBy<Reload> =
        "policy_reloads_total", "Loads of the policy, at the start and after each change.";
    policy_hash: Gauge =
        "policy_hash", "First 12 hexadecimal digits of the SHA-256 of the policy in use, as a number; 0 without one.";
    chain_sequence: Gauge =
        "chain_sequence", "Number of the last line of the chain under its ID (--chain); 0 before the first.";
    connections: GaugeBy<Port> = "connections", "Connections open.";
    connections_evicted: CounterBy<Evicted> =
        "connections_evicted_total", "Connections closed to make room for others, by what they were.";
    inflight_body_bytes: Gauge = "inflight_body_bytes", "Large request bodies in memory.";
    messages_dropped: Counter =
        "messages_dropped_total", "Messages of the program's own that standard error did not take in time.";
}

impl Metrics {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }
}

fn render<I: Instrument>(page: &mut String, name: &str, help: &str, instrument: &I) {
    let _ = writeln!(page, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {}", I::TYPE);
    instrument.render(&format!("{PREFIX}{name}"), page);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    /// The original has it in this HELP line, and its own end-to-end client looks for it to know whom it asked.
    #[test]
    fn the_help_of_the_request_counter_holds_the_programs_name() {
        let page = Metrics::new().render("1.2.3");
        let help = page.lines().find(|line| line.starts_with("# HELP kube_audit_rest_http_requests_total "));
        assert!(help.unwrap().contains("kube-audit-rest"), "{help:?}");
    }

    #[test]
    fn each_value_of_a_label_has_its_own_series() {
        let metrics = Metrics::new();
        metrics.append_errors.increment(AppendFault::Sync);
        metrics.append_errors.add(AppendFault::Other, 2);
        assert_eq!(metrics.append_errors.value(AppendFault::Sync), 1);
        metrics.connections.add(Port::Metrics, 3);
        let page = metrics.render("1");
        for expected in [
            "append_errors_total{reason=\"sync\"} 1",
            "append_errors_total{reason=\"open\"} 0",
            "append_errors_total{reason=\"other\"} 2",
            "connections{listener=\"metrics\"} 3",
        ] {
            assert!(page.contains(&format!("{PREFIX}{expected}\n")), "{expected} is missing");
        }
    }

    #[test]
    fn a_source_keeps_its_count_when_others_come_and_go_and_no_other_name_makes_a_series() {
        let metrics = Metrics::new();
        let series = || -> Vec<String> {
            let page = metrics.render("1");
            let ours = page.lines().filter_map(|line| line.strip_prefix("kube_audit_rest_source_requests_total"));
            ours.map(str::to_owned).collect()
        };
        metrics.source_requests.set_names(["edge-1", "edge-2", "edge-2"].into_iter());
        metrics.source_requests.increment(Some("edge-2"));
        metrics.source_requests.increment(Some("edge-3"));
        assert_eq!(series(), ["{source=\"edge-1\"} 0", "{source=\"edge-2\"} 1"]);
        metrics.source_requests.set_names(["edge-2", "edge-3"].into_iter());
        metrics.source_requests.increment(Some("edge-1"));
        assert_eq!(series(), ["{source=\"edge-2\"} 1", "{source=\"edge-3\"} 0"]);
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
            "request_duration_seconds_bucket{le=\"0.00025\"} 1",
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
