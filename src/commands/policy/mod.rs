//! `kube-audit-rest policy`: owns trying a policy before it is used, on lines that were recorded already. It must not
//! know how a policy is read or applied: it runs the very code that the server runs, and changes nothing.

mod report;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use lexopt::Arg;

use crate::cli::{Exit, no_such_flag};
use crate::commands::console::{count, one_line, print, say, wrong_words};
use crate::commands::lines::{self, Line, TOO_LONG};
use crate::files::policy_file;
use crate::observe::visible::printable;
use crate::record::invalid::Invalid;
use crate::record::policy::{Decision, Level, Policy};
use crate::record::{Chained, entry, event_list, review};
use report::Report;

/// How many of the lines that are no audit lines are named.
const NAMED: u64 = 5;

const USAGE: &str = "\
kube-audit-rest policy checks an audit Policy, and tells what it would have made
of lines that were recorded already. It changes nothing.

Usage: kube-audit-rest policy FILE [LOG]...

FILE   an audit Policy (audit.k8s.io/v1), YAML or JSON
LOG    an audit log, rolled or not; - is standard input. Its lines are
       AdmissionReviews or Events, best of all recorded without a policy: what was
       left out of a line does not come back.

For each rule it shows its level, how many lines it decided, and their bytes
before and after. Of a review's request the verb is not known exactly: the rule
that says most for a possible one decides, as when it is recorded.

Exit codes: 0 the policy is valid, 1 it is not, 2 wrong words, 4 a log cannot be
read.
";

/// What messages call it.
const COMMAND: &str = "kube-audit-rest policy";

/// Runs the command with the words that follow it.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match parse(words) {
        Ok(Action::ShowHelp) => print(COMMAND, USAGE, Exit::Ok),
        Ok(Action::Try { policy, logs }) => try_out(&policy, &logs),
        Err(problem) => wrong_words(COMMAND, &problem),
    };
    exit.into()
}

enum Action {
    ShowHelp,
    Try { policy: PathBuf, logs: Vec<PathBuf> },
}

fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Action, String> {
    let mut paths = Vec::new();
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(argument) = parser.next().map_err(one_line)? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Action::ShowHelp),
            Arg::Value(path) => paths.push(PathBuf::from(path)),
            other => return Err(no_such_flag(&other, &["help"])),
        }
    }
    let mut paths = paths.into_iter();
    let policy = paths.next().ok_or("a policy's file is missing")?;
    Ok(Action::Try { policy, logs: paths.collect() })
}

fn try_out(policy_path: &Path, logs: &[PathBuf]) -> Exit {
    let loaded = match policy_file::read(policy_path) {
        Ok(loaded) => loaded,
        Err(error) => {
            say(COMMAND, &error.to_string());
            return Exit::Failed;
        }
    };
    let mut report = Report::new(&loaded.policy);
    let mut exit = Exit::Ok;
    let mut aliens = Aliens::default();
    let mut made = Vec::new();
    for path in logs {
        let each = |number, line: Line<'_>| match line {
            Line::TooLong => aliens.add(path, number, TOO_LONG),
            Line::Whole(line) => match apply(&loaded.policy, line, &mut made) {
                Ok((decision, after)) => report.count(&decision, line.len(), after),
                Err(why) => aliens.add(path, number, &reason(line, &why)),
            },
        };
        if let Err(error) = lines::open(path).and_then(|log| lines::each(log, each)) {
            say(COMMAND, &format!("{}: {error}", printable(path.as_os_str())));
            exit = Exit::Unreadable;
        }
    }
    let rules = count(loaded.policy.rules.len() as u64, "rule");
    let mut text = format!("{}: valid, {rules}, SHA-256 {}\n", printable(policy_path.as_os_str()), loaded.sha256);
    if !logs.is_empty() {
        text.push('\n');
        report.write(&mut text);
    }
    if aliens.count > 0 {
        let lines = count(aliens.count, "line");
        say(
            COMMAND,
            &format!("{lines} left out of this: no audit {}", if aliens.count == 1 { "line" } else { "lines" }),
        );
    }
    print(COMMAND, &text, exit)
}

/// Lines that are no audit lines.
#[derive(Debug, Default)]
struct Aliens {
    count: u64,
}

impl Aliens {
    fn add(&mut self, path: &Path, number: u64, why: &str) {
        self.count += 1;
        if self.count <= NAMED {
            say(COMMAND, &format!("{}:{number}: no audit line: {why}", printable(path.as_os_str())));
        }
    }
}

/// Why a line is none of the audit log's, in the words of `read` if it knows.
fn reason(line: &[u8], why: &Invalid) -> String {
    entry::read(line).err().map_or_else(|| why.to_string(), |no_entry| no_entry.to_string())
}

/// What the policy says of a line, and the length of the line that it would have become.
fn apply(policy: &Policy, line: &[u8], made: &mut Vec<u8>) -> Result<(Decision, usize), Invalid> {
    made.clear();
    made.extend_from_slice(line);
    let time = SystemTime::UNIX_EPOCH;
    match review::audit_line(made, time, None, Some(policy), Chained::Yes, &mut Vec::new()) {
        Ok(decision) => {
            let decision = decision.unwrap_or(Decision::COMPLETE);
            Ok((decision, if decision.level == Level::None { 0 } else { made.len() }))
        }
        Err(Invalid::EventListForReview | Invalid::NotAReview) => {
            let mut event = line.to_vec();
            made.clear();
            let events = event_list::audit_lines(&mut event, None, Some(policy), Chained::Yes, made)?;
            Ok((events.last.unwrap_or(Decision::COMPLETE), made.len()))
        }
        Err(invalid) => Err(invalid),
    }
}
