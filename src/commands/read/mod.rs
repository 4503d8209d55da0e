//! `kube-audit-rest read`: owns the way from log files to rows, lines and Events on standard output. It must not know how
//! the log is written, and takes no lock of it.
//!
//! | file | owns |
//! |---|---|
//! | options | the command line |
//! | locate | which logs are meant |
//! | log_file, pipe | bytes, through rotation |
//! | source | lines, and where they stand |
//! | filter, search | which of them are wanted |
//! | merge | the order of several logs |
//! | row, table | rows for people |
//! | summary | numbers |
//! | problems | what goes wrong, on standard error |

mod filter;
mod locate;
mod log_file;
mod merge;
mod options;
mod pipe;
mod problems;
mod row;
mod search;
mod source;
mod summary;
mod table;

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, SystemTime};

use merge::{Merge, Step};
use options::{Action, DryRuns, Format, Options};
use problems::{Problems, Reading, say};
use row::Row;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use source::{Aliens, Line, Look, Part, Selection};
use summary::Summary;
use table::{Colour, Table, Width};

use crate::cli::Exit;
use crate::commands::console;
use crate::record::entry::{self, Entry, Run};
use crate::record::event::{self, Detail};

/// How long to rest when nothing new was there.
const REST: Duration = Duration::from_millis(50);

/// A terminal's width if the shell does not export COLUMNS.
const USUAL_WIDTH: usize = 120;

/// Wider than this, rows are hard to follow.
const WIDEST: usize = 200;

/// What messages call it.
const COMMAND: &str = "kube-audit-rest read";

/// Runs `read` with the words that follow it.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = match options::parse(words, SystemTime::now()) {
        Ok(Action::Read(options)) => {
            let mut problems = Problems::default();
            let written = end_on_signals().and_then(|()| read(*options, &mut problems));
            problems.sum_up();
            exit(written, problems.reading())
        }
        Ok(Action::ShowHelp) => console::print(COMMAND, options::USAGE, Exit::Ok),
        Err(problem) => console::wrong_words(COMMAND, &problem),
    };
    exit.into()
}

fn exit(written: io::Result<()>, reading: Reading) -> Exit {
    match written {
        Ok(()) if reading == Reading::Complete => Exit::Ok,
        Ok(()) => Exit::Failed,
        // `read | head`: the reader had enough, and that is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            say(&format!("output: {error}"));
            Exit::Failed
        }
    }
}

/// Makes SIGINT and SIGTERM end the program: the kernel does not deliver them to process 1 of a container unless they are
/// asked for. They end it at any point, even in a write that blocks. The exit codes are those of a shell for these signals.
fn end_on_signals() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::new(AtomicBool::new(true)))?;
    }
    Ok(())
}

fn read(options: Options, problems: &mut Problems) -> io::Result<()> {
    let on_terminal = options.output.is_none() && io::stdout().is_terminal();
    let format = options.format.unwrap_or(if on_terminal { Format::Table } else { Format::Line });
    let sources = locate::open(&options.files, options.follow, problems);
    let judge = filter::Judge::new(options.filter);
    let as_they_are = format == Format::Line && !judge.is_choosy();
    let selection = Selection {
        look: if as_they_are && sources.len() == 1 { Look::Away } else { Look::Into },
        aliens: if as_they_are { Aliens::PassOn } else { Aliens::Name },
        judge,
    };
    let mut writer = match format {
        Format::Table => {
            let colour = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let colour = if on_terminal && colour { Colour::On } else { Colour::Off };
            let width = match options.width {
                Some(width) => Width::Cut(width),
                None if on_terminal => Width::Cut(terminal_width()),
                None => Width::Any,
            };
            Writer::Table(Table::new(width, colour))
        }
        Format::Summary => Writer::Summary(Box::new(Summary::new())),
        Format::Line => Writer::Line,
        Format::Event => Writer::Event(options.dry_runs, options.max_event_size.unwrap_or(usize::MAX)),
    };
    // Opened last: opening a FIFO blocks until somebody reads from it.
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::with_capacity(
        64 * 1024,
        match &options.output {
            Some(path) => Box::new(OpenOptions::new().append(true).open(path)?),
            None => Box::new(io::stdout().lock()),
        },
    );
    if let Writer::Table(table) = &writer
        && on_terminal
    {
        table.write_header(&mut out)?;
    }
    let mut merge = Merge::new(sources, options.follow, selection);
    loop {
        match merge.step(problems) {
            Step::Line(line) => {
                if writer.write(line, &mut out)? == Fate::Oversized {
                    problems.oversized();
                }
            }
            Step::Flush => out.flush()?,
            Step::Rest => {
                out.flush()?;
                thread::sleep(REST);
            }
            Step::End => break,
        }
    }
    if let Writer::Summary(summary) = writer {
        summary.write(&mut out)?;
    }
    out.flush()
}

fn terminal_width() -> usize {
    let columns = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.unwrap_or(USUAL_WIDTH).min(WIDEST)
}

/// What is made of a line.
enum Writer {
    Table(Table),
    Summary(Box<Summary>),
    Line,
    /// Events; the number is the most bytes that one may have.
    Event(DryRuns, usize),
}

/// What became of a line that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    Oversized,
}

impl Writer {
    fn write(&mut self, line: Line<'_>, out: &mut impl Write) -> io::Result<Fate> {
        if let Self::Line = self {
            out.write_all(line.bytes)?;
            if line.part == Part::End {
                out.write_all(b"\n")?;
            }
            return Ok(Fate::Written);
        }
        // It was read before, when it was chosen, so this does not fail.
        let Ok(entry) = entry::read(line.bytes) else { return Ok(Fate::Written) };
        match self {
            Self::Table(table) => table.write_row(&Row::of(&entry), out)?,
            Self::Summary(summary) => summary.add(&Row::of(&entry), line.bytes.len() + 1),
            Self::Event(dry_runs, most) => return write_event(&entry, line.bytes, *dry_runs, *most, out),
            Self::Line => {}
        }
        Ok(Fate::Written)
    }
}

/// Writes an Event as it is, a review as one.
fn write_event(
    entry: &Entry<'_>,
    line: &[u8],
    dry_runs: DryRuns,
    most: usize,
    out: &mut impl Write,
) -> io::Result<Fate> {
    match entry {
        Entry::Review(review) if review.run == Run::Dry && dry_runs == DryRuns::LeaveOut => {}
        Entry::Review(review) => {
            let fits = |detail: &Detail| most == usize::MAX || event::length(review, *detail) <= most;
            let Some(detail) = [Detail::Whole, Detail::Truncated].into_iter().find(fits) else {
                return Ok(Fate::Oversized);
            };
            event::write(review, detail, out)?;
        }
        Entry::Event(_) if line.len() >= most => return Ok(Fate::Oversized),
        Entry::Event(_) => {
            out.write_all(line)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(Fate::Written)
}
