//! Lines from files, and in which order the files were written.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

use super::options::Order;
use crate::audit_log::chain::format::{self, Digest, Link, Origin, Point};
use crate::audit_log::chain::origin::last_point_of;
use crate::audit_log::{Names, Stamp, log_of};
use crate::commands::lines::{self, Line};
use crate::observe::visible::printable;

/// A file to be read.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// None for standard input.
    file: Option<File>,
}

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Which of the inputs.
    pub(super) file: usize,
    /// From 1.
    pub(super) line: u64,
}

/// A line as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) content: Digest,
    pub(super) link: Link,
}

/// Why a line is not in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    TooLong,
    /// Its end is missing.
    Torn,
    NotChained,
}

impl Unread {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::TooLong => lines::TOO_LONG,
            Self::Torn => "the line is torn: its end is missing",
            Self::NotChained => "no chain: the line was changed, put in, or written without --chain",
        }
    }
}

/// Reads a line.
pub(super) fn read(line: Line<'_>) -> Result<Seen, Unread> {
    let Line::Whole(line) = line else { return Err(Unread::TooLong) };
    let whole = line.strip_suffix(b"\n").ok_or(Unread::Torn)?;
    let (content, link) = format::split(whole).ok_or(Unread::NotChained)?;
    Ok(Seen { content: format::digest_of(content), link })
}

/// Opens the files, in the order in which they were written, by what their chains say.
pub(super) fn open(paths: &[PathBuf], order: Order) -> Result<Vec<Input>, String> {
    let mut paths = paths.to_vec();
    // What the chains do not tell, names do. Of a pipe neither is known before it is read (a shell numbers them from the
    // highest down), so they come first, as they were given.
    paths.sort_by_key(|path| (!is_pipe(path)).then(|| by_name(path)));
    let mut inputs = Vec::new();
    for (index, path) in paths.into_iter().enumerate() {
        let file = if path.as_os_str() == "-" {
            None
        } else {
            Some(File::open(&path).map_err(|error| format!("{}: {error}", printable(path.as_os_str())))?)
        };
        inputs.push((index, Input { path, file }));
    }
    if order == Order::Written {
        let ends = inputs.iter().map(|(_, input)| input.ends()).collect::<Result<Vec<_>, _>>()?;
        let ranks = ranks(&ends);
        inputs.sort_by_key(|(index, _)| ranks.get(*index).copied());
    }
    Ok(inputs.into_iter().map(|(_, input)| input).collect())
}

fn is_pipe(path: &Path) -> bool {
    path.as_os_str() == "-" || path.metadata().is_ok_and(|metadata| !metadata.is_file())
}

/// A log's rolled files come before it, the older ones first.
fn by_name(path: &Path) -> (PathBuf, Stamp) {
    const LIVE: Stamp = Stamp { milliseconds: u64::MAX, number: u32::MAX };
    let rolled = path.file_name().and_then(|name| {
        let log = log_of(name)?;
        Some((path.with_file_name(&log), Names::of_log(&log).parse(name)?))
    });
    rolled.unwrap_or_else(|| (path.to_owned(), LIVE))
}

/// The first chained line of a file, and the last one.
type Ends = Option<(Link, Point)>;

impl Input {
    fn failed(&self, error: &io::Error) -> String {
        format!("{}: {error}", printable(self.path.as_os_str()))
    }

    fn ends(&self) -> Result<Ends, String> {
        // A pipe can be read only once.
        match &self.file {
            Some(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => {
                ends(file).map_err(|error| self.failed(&error))
            }
            _ => Ok(None),
        }
    }
}

fn ends(mut file: &File) -> io::Result<Ends> {
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    let first = loop {
        line.clear();
        if lines.by_ref().take(lines::LONGEST).read_until(b'\n', &mut line)? == 0 {
            break None;
        }
        if let Some((_, link)) = line.strip_suffix(b"\n").and_then(format::split) {
            break Some(link);
        }
    };
    let last = last_point_of(file)?;
    file.rewind()?;
    Ok(first.map(|first| (first, last.unwrap_or(first.point))))
}

/// For each file, where it comes in the order of writing.
fn ranks(ends: &[Ends]) -> Vec<usize> {
    let mut ranks = vec![usize::MAX; ends.len()];
    let mut next = 0;
    for file in 0..ends.len() {
        // What comes before it comes first; a circle, which nobody's log has, ends where it began.
        let mut row = vec![file];
        while let Some(before) = row.last().and_then(|file| before(*file, ends)).filter(|before| !row.contains(before))
        {
            row.push(before);
        }
        for file in row.into_iter().rev() {
            if let Some(rank) = ranks.get_mut(file).filter(|rank| **rank == usize::MAX) {
                *rank = next;
                next += 1;
            }
        }
    }
    ranks
}

/// The file that was written before this one, if it is there.
fn before(file: usize, ends: &[Ends]) -> Option<usize> {
    let (first, _) = (*ends.get(file)?)?;
    let others = || {
        let known = ends.iter().enumerate().filter(|(other, _)| *other != file);
        known.filter_map(|(other, ends)| ends.map(|(begin, end)| (other, begin.point, end)))
    };
    let same_id = others()
        .filter(|(_, begin, _)| begin.id == first.point.id && begin.sequence < first.point.sequence)
        .max_by_key(|(_, begin, _)| begin.sequence);
    let began_in = || others().find(|(_, begin, end)| end.id == first.point.id && begin.id != first.point.id);
    // Behind the line that it follows others may stand, of a request that was refused.
    let followed = || match first.origin {
        Some(Origin::After(point)) => others()
            .filter(|(_, begin, end)| begin.id == point.id || end.id == point.id)
            .max_by_key(|(_, begin, _)| if begin.id == point.id { begin.sequence } else { 0 }),
        _ => None,
    };
    same_id.or_else(began_in).or_else(followed).map(|(other, ..)| other)
}

/// Calls `each` for each line of the input, which has that number.
pub(super) fn each_line(input: &Input, file: usize, mut each: impl FnMut(Place, Line<'_>)) -> Result<(), String> {
    let source: Box<dyn Read + '_> = match &input.file {
        Some(file) => Box::new(file),
        None => Box::new(io::stdin().lock()),
    };
    lines::each(source, |line, bytes| each(Place { file, line }, bytes)).map_err(|error| input.failed(&error))
}
