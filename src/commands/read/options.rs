//! The command line of `read`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lexopt::Arg;

use super::filter::{Filter, Kind, Pattern, Wanted};
use crate::cli::no_such_flag;
use crate::commands::console::one_line;
use crate::observe::visible::printable;
use crate::record::timestamp;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Options {
    /// None: a table on a terminal, else lines.
    pub(super) format: Option<Format>,
    pub(super) follow: Follow,
    pub(super) filter: Filter,
    pub(super) dry_runs: DryRuns,
    /// Most bytes of an Event.
    pub(super) max_event_size: Option<usize>,
    /// The FIFO or file to write to; none: standard output.
    pub(super) output: Option<PathBuf>,
    /// The table's width in characters; none: the terminal's.
    pub(super) width: Option<usize>,
    /// `-` is standard input. Empty: the log of the server that runs here, or the default one.
    pub(super) files: Vec<PathBuf>,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Table,
    Summary,
    Line,
    Event,
}

/// What comes after the last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    Wait,
    End,
}

/// Whether dry runs become Events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DryRuns {
    Keep,
    LeaveOut,
}

#[derive(Debug)]
pub(super) enum Action {
    Read(Box<Options>),
    ShowHelp,
}

/// Reads the words behind `read`. An error is one line.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>, now: SystemTime) -> Result<Action, String> {
    let mut options = Options {
        format: None,
        follow: Follow::End,
        filter: Filter::default(),
        dry_runs: DryRuns::LeaveOut,
        max_event_size: None,
        output: None,
        width: None,
        files: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(argument) = parser.next().map_err(one_line)? {
        let name = match &argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Action::ShowHelp),
            Arg::Short('f') | Arg::Long("follow") => {
                options.follow = Follow::Wait;
                continue;
            }
            Arg::Long("dry-run") => {
                options.dry_runs = DryRuns::Keep;
                continue;
            }
            Arg::Value(path) => {
                options.files.push(path.into());
                continue;
            }
            Arg::Long(name) if WITH_VALUE.contains(name) => (*name).to_owned(),
            unknown => return Err(no_such_flag(unknown, &[&WITH_VALUE[..], &SWITCHES].concat())),
        };
        let value = parser.value().map_err(one_line)?;
        let shown = printable(&value);
        let value = value.to_str().filter(|value| !value.is_empty());
        let set =
            value.map_or(Err("a text in UTF-8 with something in it"), |value| set(&mut options, &name, value, now));
        set.map_err(|wanted| format!("--{name}: {shown} is not {wanted}"))?;
    }
    if options.format == Some(Format::Summary) && options.follow == Follow::Wait {
        return Err("--format=summary: with --follow there is no end to sum up at".to_owned());
    }
    Ok(Action::Read(Box::new(options)))
}

/// The flags that take a value.
const WITH_VALUE: [&str; 13] = [
    "format",
    "since",
    "until",
    "user",
    "verb",
    "resource",
    "namespace",
    "name",
    "source",
    "only",
    "width",
    "output",
    "max-event-size",
];

/// Those that take none.
const SWITCHES: [&str; 3] = ["follow", "dry-run", "help"];

/// Sets a flag; the error says what the value should have been.
fn set(options: &mut Options, name: &str, value: &str, now: SystemTime) -> Result<(), &'static str> {
    let filter = &mut options.filter;
    match name {
        "format" => {
            options.format = Some(match value {
                "table" => Format::Table,
                "summary" => Format::Summary,
                "line" => Format::Line,
                "event" => Format::Event,
                _ => return Err("table, summary, line or event"),
            });
        }
        "since" => filter.since = Some(time(value, now)?),
        "until" => filter.until = Some(time(value, now)?),
        "user" => filter.user = Some(Pattern::new(value)),
        "verb" => filter.verb = Some(Pattern::new(value)),
        "resource" => match value.split_once('/') {
            Some((resource, subresource)) => {
                filter.resource = Some(Pattern::new(resource));
                filter.subresource = Wanted::This(Pattern::new(subresource));
            }
            None => {
                filter.resource = Some(Pattern::new(value));
                filter.subresource = if value.ends_with('*') { Wanted::Any } else { Wanted::None };
            }
        },
        "namespace" => filter.namespace = Some(Pattern::new(value)),
        "name" => filter.name = Some(Pattern::new(value)),
        "source" => filter.source = Some(Pattern::new(value)),
        "only" => {
            filter.only = Some(match value {
                "reviews" => Kind::Review,
                "events" => Kind::Event,
                _ => return Err("reviews or events"),
            });
        }
        "output" => options.output = Some(value.into()),
        "max-event-size" => {
            let size = value.parse().ok().filter(|size| *size >= SMALLEST_EVENT);
            options.max_event_size = Some(size.ok_or("a number of bytes, at least 4096")?);
        }
        _ => {
            let width = value.parse().ok().filter(|width| *width >= NARROWEST);
            options.width = Some(width.ok_or("a number of characters, at least 80")?);
        }
    }
    Ok(())
}

/// Least value of `--max-event-size`: a truncated Event with the usual names fits.
const SMALLEST_EVENT: usize = 4096;

/// Least width of a table.
pub(super) const NARROWEST: usize = 80;

/// Reads a time: RFC 3339, or a duration back from now (`30s`, `10m`, `2h`, `7d`).
fn time(value: &str, now: SystemTime) -> Result<SystemTime, &'static str> {
    let ago = || {
        let unit = match value.chars().last()? {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            _ => return None,
        };
        let number: u64 = value.get(..value.len() - 1)?.parse().ok()?;
        now.checked_sub(Duration::from_secs(number.checked_mul(unit)?))
    };
    timestamp::parse(value.as_bytes())
        .or_else(ago)
        .ok_or("a time such as 2026-11-20T21:34:38Z, or one back from now such as 30s, 10m, 2h, 7d")
}

pub(super) const USAGE: &str = "\
kube-audit-rest read shows an audit log: as a table for people, as lines, or as
the Events that detection tools know. It only reads, and takes no lock.

Usage: kube-audit-rest read [FLAGS] [FILE|DIRECTORY|-]...

A FILE is a log, read with its rolled files, the oldest first; or a pipe. Of a
DIRECTORY all logs are read. Several logs (replicas) are merged by time. Without
any, it is the log of the server that is process 1 here, as in the image, or
else /tmp/kube-audit-rest.log. Times are UTC.

  --format=table         a row for each line, the default on a terminal: time,
                         source, user, verb, resource, namespace/name
  --format=line          the lines as they are, the default elsewhere; whole
                         lines hold Secrets
  --format=event         audit.k8s.io/v1 Events; what an AdmissionReview does
                         not tell is inferred, and marked so in annotations
  --format=summary       who did what, where and when, in numbers
  -f, --follow           go on with what is written, through rotation; of
                         several logs, a silent one is waited for one second
  --since=T, --until=T   RFC 3339, or a time back from now: 30s, 10m, 2h, 7d
  --user=U               the user in effect, or who impersonated it
  --verb=V               create, update, delete, connect; an Event's own verb
  --resource=R[/SUB]     pods, pods/exec, pods/*; pods is not pods/exec
  --namespace=N, --name=N, --source=S
                         all of these compare exactly; * at the end: a prefix
  --only=reviews|events  where a log has both
  --dry-run              dry runs become Events, too
  --max-event-size=BYTES larger Events lose their requestObject and query, as an
                         API server truncates them, or else are left out
  --output=FILE          write to this FIFO or file instead of standard output;
                         it must be there
  --width=COLUMNS        of a table, at least 80 [of a terminal COLUMNS or 120;
                         elsewhere nothing is cut]
  -h, --help             print this and exit

A line that is no audit line is passed on by --format=line; otherwise it is
named and counted on standard error. Lines over 48 MB count as such.
Exit codes: 0 read to the end, 1 something could not be read, 2 wrong flags.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Action, String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        parse(words.iter().map(OsString::from), now)
    }

    fn options(words: &[&str]) -> Options {
        match parsed(words) {
            Ok(Action::Read(options)) => *options,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn a_time_is_rfc_3339_or_a_duration_back_from_now() {
        let since = |value: &str| {
            let since = options(&["--since", value]).filter.since.unwrap();
            since.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!(since("30s"), 999_970);
        assert_eq!(since("10m"), 999_400);
        assert_eq!(since("2h"), 992_800);
        assert_eq!(since("7d"), 395_200);
        assert_eq!(since("2026-11-20T21:34:38Z"), 1_795_210_478);
    }

    #[test]
    fn files_and_flags_stand_in_any_order_and_a_dash_is_standard_input() {
        let options = options(&["a.log", "--follow", "-", "--format=event", "--", "--dry-run"]);
        assert_eq!(options.files, ["a.log", "-", "--dry-run"].map(PathBuf::from));
        assert_eq!((options.follow, options.format), (Follow::Wait, Some(Format::Event)));
        assert_eq!(options.dry_runs, DryRuns::LeaveOut);
    }

    #[test]
    fn a_wrong_word_is_one_line_that_names_it() {
        for (words, wanted) in [
            (&["--fromat=table"][..], "--fromat: no such flag (did you mean --format?)"),
            (&["--folow"], "--folow: no such flag (did you mean --follow?)"),
            (&["-x"], "-x: no such flag"),
            (&["--format=json"], "--format: json is not table, summary, line or event"),
            (&["--only", "all"], "--only: all is not reviews or events"),
            (&["--user="], "--user:  is not a text in UTF-8 with something in it"),
            (&["--width=79"], "--width: 79 is not a number of characters, at least 80"),
            (&["--since=yes\nterday"], "--since: yes\\nterday is not a time such as"),
            (&["--since=99999999999999999999d"], "--since: 99999999999999999999d is not a time such as"),
            (&["--user"], "missing argument for option '--user'"),
            (&["--follow=yes"], "unexpected argument for option '--follow': \"yes\""),
            (&["--follow", "--format=summary"], "--format=summary: with --follow there is no end to sum up at"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.starts_with(wanted) && !error.contains('\n'), "{words:?}: {error}");
        }
    }

    #[test]
    fn the_usage_fits_80_columns_and_names_every_flag() {
        assert!(USAGE.lines().all(|line| line.chars().count() <= 80));
        for name in WITH_VALUE.iter().chain(&SWITCHES) {
            assert!(USAGE.contains(&format!("--{name}")), "{name}");
        }
    }
}
