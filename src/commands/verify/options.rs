//! The command line of `verify`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::Arg;

use crate::audit_log::chain::format::{self, Id};
use crate::cli::no_such_flag;
use crate::commands::console::one_line;
use crate::observe::visible::printable;

pub(super) const USAGE: &str = "\
kube-audit-rest verify tells whether lines of an audit log written with --chain
were changed, removed, swapped, repeated or put in, and between which lines.
It changes nothing.

Usage: kube-audit-rest verify [--flag=value | --flag value]... FILE...

FILE   an audit log, rolled or not, in any order; - is standard input. Pipes are
       read first, in the order in which they are given

  --key=FILE        public key of --chain-key-filename, PEM; may be repeated
  --anchors=FILE    heads kept elsewhere: an API server's audit log, or the
                    messages of kube-audit-rest; may be repeated
  --from=ID/SEQ     the line that must be there at the beginning; heads of
                    earlier lines are not asked for
  --expect=ID/SEQ   a line that must be there, such as the last one known
  --max-unsigned=N  so many lines at the end of an ID may be covered by no key
                    and no head [0]
  --unordered       lines come in any order, of several replicas, some twice;
                    88 bytes of memory are taken for each line
  --allow-unchained pass over lines without a chain
  -h, --help        print this and exit

The oldest file may begin anywhere: retention deletes what was before. Give
--from, --expect or --anchors to have that found missing too. Hashes alone prove
nothing against whoever can write the files, who can write another chain: only
what a key has signed, or a head kept elsewhere covers, is proven.

Exit codes: 0 intact, proven to the end, as complete as was asked; 1 changed or
incomplete, with a line FILE:LINE: for each fault; 2 wrong words; 3 intact, but
not proven to the end; 4 a file cannot be read.
";

pub(super) enum Action {
    ShowHelp,
    Verify(Options),
}

/// What is to be verified, and against what.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) keys: Vec<PathBuf>,
    pub(super) anchors: Vec<PathBuf>,
    pub(super) from: Option<(Id, u64)>,
    pub(super) expect: Option<(Id, u64)>,
    /// Lines that may be unproven at the end of an ID.
    pub(super) max_unsigned: u64,
    pub(super) order: Order,
    pub(super) allow_unchained: bool,
    pub(super) files: Vec<PathBuf>,
}

/// In which order the lines come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As they were written.
    Written,
    /// In any.
    Any,
}

const FLAGS: [&str; 8] = ["key", "anchors", "from", "expect", "max-unsigned", "unordered", "allow-unchained", "help"];

pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Action, String> {
    let mut options = Options {
        keys: Vec::new(),
        anchors: Vec::new(),
        from: None,
        expect: None,
        max_unsigned: 0,
        order: Order::Written,
        allow_unchained: false,
        files: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(argument) = parser.next().map_err(one_line)? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Action::ShowHelp),
            Arg::Long("key") => options.keys.push(value(&mut parser)?.into()),
            Arg::Long("anchors") => options.anchors.push(value(&mut parser)?.into()),
            Arg::Long("from") => options.from = Some(place("--from", &value(&mut parser)?)?),
            Arg::Long("expect") => options.expect = Some(place("--expect", &value(&mut parser)?)?),
            Arg::Long("max-unsigned") => options.max_unsigned = number("--max-unsigned", &value(&mut parser)?)?,
            Arg::Long("unordered") => options.order = Order::Any,
            Arg::Long("allow-unchained") => options.allow_unchained = true,
            Arg::Value(path) => options.files.push(path.into()),
            other => return Err(no_such_flag(&other, &FLAGS)),
        }
    }
    if options.files.is_empty() {
        return Err("a log's file is missing".to_owned());
    }
    Ok(Action::Verify(options))
}

fn value(parser: &mut lexopt::Parser) -> Result<OsString, String> {
    parser.value().map_err(one_line)
}

fn place(flag: &str, value: &OsStr) -> Result<(Id, u64), String> {
    let wrong = || format!("{flag}: {} is not of the form ID/SEQ, as verify and heads write it", printable(value));
    // A whole head will do.
    let text = value.as_encoded_bytes();
    let head = || format::parse_head(text).map(|(point, _)| (point.id, point.sequence));
    format::parse_place(text).or_else(head).ok_or_else(wrong)
}

fn number(flag: &str, value: &OsStr) -> Result<u64, String> {
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("{flag}: {} is not a number of lines", printable(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_fits_80_columns_and_names_every_flag_and_no_other() {
        assert!(USAGE.lines().all(|line| line.chars().count() <= 80));
        let rows = USAGE.lines().filter(|line| line.starts_with("  -"));
        let named = rows.map(|row| row.split_once("--").unwrap().1.split([' ', '=']).next().unwrap());
        assert_eq!(named.collect::<Vec<_>>(), FLAGS);
    }

    #[test]
    fn every_flag_that_a_near_miss_may_name_is_taken() {
        for name in FLAGS {
            let said = parse([OsString::from(format!("--{name}"))]).err().unwrap_or_default();
            assert!(!said.contains("no such flag"), "{said}");
        }
        let said = parse(["--expects=a/1".into()]).err().unwrap();
        assert_eq!(said, "--expects: no such flag (did you mean --expect?)");
    }
}
