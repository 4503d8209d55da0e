//! `kube-audit-rest verify`: owns the judgement of log files whose lines are chained. It must not know how a log is
//! written; it shares the chain's format with the writer and nothing else, takes no lock and changes nothing.
//!
//! | file | owns |
//! |---|---|
//! | options | the command line |
//! | files | lines, and the order of the files |
//! | chains | the chain of each ID, from line to line |
//! | shuffled | lines in any order (`--unordered`) |
//! | anchors | heads that were kept elsewhere |
//! | proof | public keys |
//! | conclusion | what is missing, what is proven, and what is printed |

mod anchors;
mod chains;
mod conclusion;
mod files;
mod options;
mod proof;
mod shuffled;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use crate::cli::Exit;
use crate::commands::console::{self, count};
use crate::observe::visible::printable;
use anchors::Anchors;
use chains::Chains;
use files::{Input, Place, Unread};
use options::{Action, Options, Order};
use proof::Keys;
use shuffled::Shuffled;

/// What messages call it.
const COMMAND: &str = "kube-audit-rest verify";

/// Runs the command with the words that follow it.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    run(words, io::stdout().lock()).into()
}

/// The same with the report written to `out`.
pub(crate) fn run(words: impl IntoIterator<Item = OsString>, out: impl Write) -> Exit {
    match options::parse(words) {
        Ok(Action::ShowHelp) => console::print(COMMAND, options::USAGE, Exit::Ok),
        Ok(Action::Verify(options)) => verify(&options, out).unwrap_or_else(|error| {
            console::say(COMMAND, &error);
            Exit::Unreadable
        }),
        Err(problem) => console::wrong_words(COMMAND, &problem),
    }
}

fn verify(options: &Options, out: impl Write) -> Result<Exit, String> {
    let keys = Keys::read(&options.keys)?;
    let mut report = Report::new(BufWriter::new(out));
    let anchors = Anchors::read(&options.anchors, &keys, &mut report)?;
    let inputs = files::open(&options.files, options.order)?;
    let mut chains = Chains::new(&keys, &anchors, options.order);
    let mut shuffled = Shuffled::default();
    let mut counts = Counts { files: inputs.len(), ..Counts::default() };
    for (number, input) in inputs.iter().enumerate() {
        files::each_line(input, number, |place, line| {
            counts.lines += 1;
            match files::read(line) {
                Ok(seen) if options.order == Order::Any => shuffled.add(place, &seen),
                Ok(seen) => chains.line(place, &seen, &mut report.at(&inputs)),
                Err(Unread::NotChained) if options.allow_unchained => counts.unchained += 1,
                Err(Unread::NotChained) => report.at(&inputs).unchained(place),
                // A live file may be read, or copied, while its last line is written.
                Err(Unread::Torn) if options.order == Order::Any || number + 1 == inputs.len() => {
                    counts.unfinished += 1;
                    report.at(&inputs).unfinished(place);
                }
                Err(unread) => report.at(&inputs).fault(place, unread.why()),
            }
        })?;
    }
    shuffled.play(&mut chains, &mut report.at(&inputs));
    if options.order == Order::Written {
        conclusion::gaps(&chains, &mut report.at(&inputs));
    }
    let exit = conclusion::write(&chains, options, &keys, &counts, &mut report);
    report.end()?;
    Ok(exit)
}

/// What was read.
#[derive(Debug, Default)]
struct Counts {
    files: usize,
    lines: u64,
    /// Lines without a chain, where they are allowed.
    unchained: u64,
    /// Lines whose end is missing, where a log may end.
    unfinished: u64,
}

/// Where findings go. Faults are written as they are found, so that none is kept.
struct Report<'a> {
    out: Box<dyn Write + 'a>,
    faults: u64,
    /// Lines without a chain, if that was the last fault.
    row: Option<Row>,
    failed: Option<io::Error>,
}

/// Lines without a chain, one behind the other, of which the first was written.
struct Row {
    last: Place,
    more: u64,
}

/// A report in which places can be named.
struct Named<'a, 'b> {
    report: &'a mut Report<'b>,
    inputs: &'a [Input],
}

impl<'a> Report<'a> {
    fn new(out: impl Write + 'a) -> Self {
        Self { out: Box::new(out), faults: 0, row: None, failed: None }
    }

    fn at<'b>(&'b mut self, inputs: &'b [Input]) -> Named<'b, 'a> {
        Named { report: self, inputs }
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        if let Some(Row { more: more @ 1.., .. }) = self.row.take() {
            self.line(format_args!("    and {} after it", count(more, "line")));
        }
        if let Err(error) = writeln!(self.out, "{text}") {
            self.failed.get_or_insert(error);
        }
    }

    /// A fault that has no line of its own.
    fn fault(&mut self, text: fmt::Arguments<'_>) {
        self.faults += 1;
        self.line(text);
    }

    /// What could not be written is an error: nobody may take half a report for a whole one.
    fn end(mut self) -> Result<(), String> {
        if let Err(error) = self.out.flush() {
            self.failed.get_or_insert(error);
        }
        self.failed.map_or(Ok(()), |error| Err(format!("standard output: {error}")))
    }
}

impl Named<'_, '_> {
    /// A fault that a log without a chain would have in each line. Of those in a row the first is written, and how many
    /// come after it.
    fn unchained(&mut self, place: Place) {
        match &mut self.report.row {
            Some(Row { last, more }) if (last.file, last.line + 1) == (place.file, place.line) => {
                (*last, *more) = (place, *more + 1);
                self.report.faults += 1;
            }
            _ => {
                self.fault(place, Unread::NotChained.why());
                self.report.row = Some(Row { last: place, more: 0 });
            }
        }
    }

    fn fault(&mut self, place: Place, why: &str) {
        let name = self.name(place);
        self.report.fault(format_args!("{name}:{}: {why}", place.line));
    }

    /// What is no fault, but proves nothing.
    fn unfinished(&mut self, place: Place) {
        let name = self.name(place);
        self.report
            .line(format_args!("{name}:{}: its end is missing: it was being written, or was cut off", place.line));
    }

    fn name(&self, place: Place) -> String {
        self.inputs.get(place.file).map(|input| printable(input.path.as_os_str())).unwrap_or_default()
    }
}
