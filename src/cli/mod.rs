//! The command line: argv becomes a [`Config`].
//!
//! Owns the flags, their defaults, the usage text and the exit codes. Must not know files or sockets: a path is only
//! carried, and whether a port is free is found out by whoever binds it.
//!
//! Flags that the Go original has keep their names, defaults and meaning. As there, a flag given twice has the value of
//! the last one. Unlike there, arguments that are not flags are refused instead of ignored, and a switch may be written
//! `--name=true` or `--name=false`.

use std::ffi::OsString;
use std::process::ExitCode;

use lexopt::Arg;

mod config;
mod kinds;
mod meant;
mod usage;

pub use config::Config;
use config::{FLAGS, Flag};
use meant::did_you_mean;
pub(crate) use meant::no_such_flag;
pub use usage::usage;

use crate::observe::visible::{printable, visible};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one, at start")]
pub enum Action {
    /// Run with these settings.
    Run(Config),
    /// `--help`, `-h`: [`usage()`] on standard output, exit 0.
    ShowHelp,
    /// `--version`: the name and [`VERSION`](crate::VERSION) on standard output, exit 0.
    ShowVersion,
}

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was told to, and nothing is wrong. `verify`: intact, proven to the end, as complete as was asked.
    Ok = 0,
    /// The server cannot start; `read` could not read something; `policy`: the policy is invalid; `verify`: something was
    /// changed or is missing. It was said what.
    Failed = 1,
    /// The command line cannot be run.
    Usage = 2,
    /// `verify`: intact, but some of it is covered by no key and no head.
    Unproven = 3,
    /// `policy` and `verify`: a log cannot be read, or the report not be written. Also where `--help` cannot be
    /// printed.
    Unreadable = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Reads a command line; its first item is the program's name, as [`std::env::args_os`] gives it. `--help` and
/// `--version` win over everything after them.
///
/// # Errors
/// An unknown flag, a missing or malformed value, or an argument that is not a flag: one line that names it and what is
/// wrong with it.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, String> {
    let names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).chain(["help", "version"]).collect();
    let mut config = Config::default();
    let mut parser = lexopt::Parser::from_iter(args);
    while let Some(argument) = parser.next().map_err(takes_no_value)? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Action::ShowHelp),
            Arg::Long("version") => return Ok(Action::ShowVersion),
            Arg::Short('v') => config.verbosity = true,
            Arg::Short(letter) => {
                let mut word = OsString::from(format!("-{letter}"));
                word.push(parser.optional_value().unwrap_or_default());
                let hint = did_you_mean(word.to_string_lossy().trim_start_matches('-'), &names);
                let hint = hint.unwrap_or_else(|| " (long flags begin with two dashes)".to_owned());
                return Err(format!("{}: no such flag{hint}", printable(&word)));
            }
            Arg::Long(name) => {
                let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
                    return Err(no_such_flag(&argument, &names));
                };
                set(&mut config, flag, &mut parser).map_err(|problem| format!("--{}: {problem}", flag.name))?;
            }
            Arg::Value(word) => {
                let name = word.to_string_lossy();
                let hint = if name.starts_with('-') { None } else { did_you_mean(&name, &names) };
                let hint = hint.unwrap_or_default();
                return Err(format!("{}: not a flag, and no argument is expected{hint}", printable(&word)));
            }
        }
    }
    Ok(Action::Run(config))
}

/// The only error that the parser's `next` returns is that of a value for a flag that takes none.
fn takes_no_value(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => format!("{}: takes no value", visible(&option)),
        other => visible(&other.to_string()),
    }
}

fn set(config: &mut Config, flag: &Flag, parser: &mut lexopt::Parser) -> Result<(), String> {
    let attached = parser.optional_value();
    let value = match (flag.placeholder.is_empty(), attached) {
        (_, Some(value)) => value,
        (true, None) => "true".into(),
        (false, None) => detached(parser)?,
    };
    if value.is_empty() {
        return Err("a value is missing".to_owned());
    }
    (flag.set)(config, &value)
}

/// The value in the next argument. If that begins with a dash, and is no number, the value has probably been forgotten.
fn detached(parser: &mut lexopt::Parser) -> Result<OsString, String> {
    let value = parser.value().map_err(|_| "a value is missing")?;
    if matches!(value.as_encoded_bytes(), [b'-', next, ..] if !next.is_ascii_digit()) {
        let next = printable(&value);
        return Err(format!("a value is missing before {next} (if that is the value, join them with =)"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
