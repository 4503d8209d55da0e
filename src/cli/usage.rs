//! The usage text, 80 columns wide.

use super::Config;
use super::config::{FLAGS, Flag};

const WIDTH: usize = 80;
const HELP_COLUMN: usize = 30;

const HEAD: &str = "\
kube-audit-rest writes what a Kubernetes API server sends to webhooks into an
audit log: one line of JSON for each AdmissionReview or audit event.

Usage: kube-audit-rest [--flag=value | --flag value]...
       kube-audit-rest policy ...   tries an audit Policy; see policy --help
       kube-audit-rest read ...     shows an audit log; see read --help
       kube-audit-rest verify ...   checks a chained log; see verify --help

Sizes are whole megabytes (1024 x 1024 bytes), times whole seconds unless said
otherwise. Defaults stand in brackets. The last of several equal flags counts.
";

const FOOT: &str = "
Endpoints
  HTTPS port     POST /log-request    AdmissionReview (admission webhook)
                 POST /audit-events   EventList (audit webhook)
  HTTP port      POST /audit-events, POST /   EventList
  metrics port   GET /metrics, /healthz, /readyz

Signals: SIGTERM ends it in order, SIGINT without the delay, a second one at
once; SIGHUP opens the audit log anew and reads certificates, sources and the
policy again.
Messages go to standard error as JSON lines.
Exit codes: 0 ended as asked, 1 cannot start, 2 wrong flags, 4 cannot print.
";

/// The usage text, with every flag and its default.
pub fn usage() -> String {
    let defaults = Config::default();
    let mut text = HEAD.to_owned();
    for flags in FLAGS.chunk_by(|a, b| a.group == b.group) {
        for (number, flag) in flags.iter().enumerate() {
            if number == 0 {
                text.push_str(&format!("\n{}\n", flag.group));
            }
            let default = match flag.placeholder {
                "" => String::new(),
                _ => format!(" [{}]", (flag.show)(&defaults)),
            };
            push_row(&mut text, &spelling(flag), &format!("{}{default}", flag.help));
        }
    }
    text.push_str("\nThe program itself\n");
    push_row(&mut text, "--version", "print the version and exit");
    push_row(&mut text, "-h, --help", "print this and exit");
    text.push_str(FOOT);
    text
}

fn spelling(flag: &Flag) -> String {
    match (flag.name, flag.placeholder) {
        ("verbosity", _) => "-v, --verbosity".to_owned(),
        (name, "") => format!("--{name}"),
        (name, placeholder) => format!("--{name}={placeholder}"),
    }
}

fn push_row(text: &mut String, spelling: &str, help: &str) {
    let mut line = format!("  {spelling:width$}", width = HELP_COLUMN - 2);
    for (number, word) in help.split(' ').enumerate() {
        if number > 0 && line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = " ".repeat(HELP_COLUMN);
        } else if number > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
