//! One log or pipe as lines: those that are wanted, one at a time, each in its place in a buffer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::filter::{Judge, Verdict};
use super::log_file::{Found, LogFile};
use super::pipe::{Patience, Pipe};
use super::problems::Problems;
use super::search::find_byte;

/// A buffer's size, as long as no line is longer.
pub(super) const BUFFER: usize = 256 * 1024;

/// By how much a buffer grows for a longer line: not by doubling, so that it takes no more than the line.
const GROWTH: usize = 1024 * 1024;

/// The longest line that is held in memory: more than an API server sends (28 MB), and little enough for `read` to stay
/// under 64 MiB in the receiver's pod.
const LONGEST: usize = 48 * 1024 * 1024;

/// Lines of one log or pipe, in their order.
#[derive(Debug)]
pub(super) struct Source {
    feed: Feed,
    buffer: Vec<u8>,
    /// `start..end`: bytes that were read and not given out yet.
    start: usize,
    end: usize,
    /// No newline stands in `start..searched`.
    searched: usize,
    place: Position,
    head: Option<Head>,
    /// The time that the last line said.
    time: Option<SystemTime>,
    part: Part,
    has_ended: bool,
}

#[derive(Debug)]
enum Feed {
    Log(Box<LogFile>),
    Pipe(Pipe),
}

/// Where a line stands, for messages.
#[derive(Debug)]
struct Position {
    path: PathBuf,
    /// Counted from 1.
    line: u64,
}

/// A line, or a part of one.
#[derive(Debug, Clone, Copy)]
struct Head {
    start: usize,
    end: usize,
    part: Part,
}

/// Whether the line was given out in parts, being longer than [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, or the last part.
    End,
    /// More of the same line follows.
    More,
}

/// What a look for the next line found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    Line,
    /// None now; there may be one later.
    Nothing,
    End,
}

/// A line given out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// Without its newline.
    pub(super) bytes: &'a [u8],
    pub(super) part: Part,
}

/// How lines are chosen.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) judge: Judge,
    pub(super) look: Look,
    pub(super) aliens: Aliens,
}

/// Whether lines are looked into at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Into,
    /// No: all lines are wanted, and their times do not matter.
    Away,
}

/// What becomes of lines that are no audit lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aliens {
    PassOn,
    /// They are named on standard error, and counted.
    Name,
}

impl Source {
    pub(super) fn of_log(log: LogFile) -> Self {
        let path = log.path().to_owned();
        Self::of(Feed::Log(Box::new(log)), path)
    }

    pub(super) fn of_pipe(pipe: Pipe, path: &Path) -> Self {
        Self::of(Feed::Pipe(pipe), path.to_owned())
    }

    fn of(feed: Feed, path: PathBuf) -> Self {
        Self {
            feed,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            searched: 0,
            place: Position { path, line: 0 },
            head: None,
            time: None,
            part: Part::End,
            has_ended: false,
        }
    }

    /// The line that [`Self::pull`] found last, until [`Self::take`].
    pub(super) fn head(&self) -> Option<Line<'_>> {
        let head = self.head?;
        let bytes = self.buffer.get(head.start..head.end).unwrap_or_default();
        Some(Line { bytes, part: head.part })
    }

    /// The time that the head says, or the line before it.
    pub(super) fn time(&self) -> Option<SystemTime> {
        self.time
    }

    pub(super) fn is_log(&self) -> bool {
        matches!(self.feed, Feed::Log(_))
    }

    /// Done with the head.
    pub(super) fn take(&mut self) {
        self.head = None;
    }

    /// Looks for the next line that is wanted. What cannot be read is reported, and ends the source.
    pub(super) fn pull(&mut self, selection: &Selection, patience: Patience, problems: &mut Problems) -> Pulled {
        loop {
            if self.head.is_some() {
                return Pulled::Line;
            }
            if self.has_ended {
                return Pulled::End;
            }
            let unsearched = self.buffer.get(self.searched..self.end).unwrap_or_default();
            if let Some(length) = find_byte(unsearched, b'\n') {
                let end = self.searched + length;
                self.found_line(end, selection, problems);
                self.start = end + 1;
                self.searched = self.start;
                continue;
            }
            self.searched = self.end;
            if self.end - self.start >= LONGEST {
                self.found_part(selection, problems);
                continue;
            }
            match self.fill(patience, problems) {
                Ok(Found::Bytes(length)) => self.end += length,
                Ok(Found::Nothing) => return Pulled::Nothing,
                Ok(Found::End) => self.finish(selection, problems),
                Ok(Found::NextFile) => {
                    self.found_rest(selection, problems);
                    if let Feed::Log(log) = &self.feed {
                        self.place = Position { path: log.path().to_owned(), line: 0 };
                    }
                }
                Ok(Found::Truncated) => {
                    problems.say(&self.place.path, "was cut, and is read from its beginning");
                    (self.start, self.end, self.searched) = (0, 0, 0);
                    // The end of a line that was given out in parts is gone: what comes is another line.
                    self.found_rest(selection, problems);
                    self.place.line = 0;
                }
                Err(error) => {
                    problems.fail(&self.place.path, &error);
                    self.finish(selection, problems);
                }
            }
        }
    }

    /// There is no more: what is left is the last line.
    pub(super) fn finish(&mut self, selection: &Selection, problems: &mut Problems) {
        self.found_rest(selection, problems);
        self.has_ended = true;
    }

    /// A line ends at `end`.
    fn found_line(&mut self, end: usize, selection: &Selection, problems: &mut Problems) {
        let head = Head { start: self.start, end, part: Part::End };
        if std::mem::replace(&mut self.part, Part::End) == Part::More {
            self.head = (selection.aliens == Aliens::PassOn).then_some(head);
            return;
        }
        self.place.line += 1;
        if selection.look == Look::Away {
            self.head = Some(head);
            return;
        }
        let line = self.buffer.get(self.start..end).unwrap_or_default();
        match selection.judge.judge(line) {
            Verdict::Take(time) => {
                self.time = time.or(self.time);
                self.head = Some(head);
            }
            Verdict::Skip => {}
            Verdict::Alien(_) if selection.aliens == Aliens::PassOn => {
                self.head = Some(head);
            }
            Verdict::Alien(reason) => problems.alien(&self.place.path, self.place.line, &reason),
        }
    }

    /// The buffer is full of one line.
    fn found_part(&mut self, selection: &Selection, problems: &mut Problems) {
        if std::mem::replace(&mut self.part, Part::More) == Part::End {
            self.place.line += 1;
            if selection.aliens == Aliens::Name {
                problems.alien(&self.place.path, self.place.line, &"longer than 48 MB");
            }
        }
        let head = Head { start: self.start, end: self.end, part: Part::More };
        self.head = (selection.aliens == Aliens::PassOn).then_some(head);
        self.start = self.end;
    }

    /// A file ends without a newline.
    fn found_rest(&mut self, selection: &Selection, problems: &mut Problems) {
        if self.start < self.end || self.part == Part::More {
            self.found_line(self.end, selection, problems);
        }
        self.start = self.end;
        self.searched = self.end;
    }

    /// Reads more behind what is there.
    fn fill(&mut self, patience: Patience, problems: &mut Problems) -> io::Result<Found> {
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.searched -= self.start;
                self.start = 0;
            } else {
                self.buffer.reserve_exact(GROWTH);
                self.buffer.resize(self.buffer.len() + GROWTH, 0);
            }
        }
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        match &mut self.feed {
            Feed::Log(log) => {
                let found = loop {
                    match log.read(space) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        other => break other,
                    }
                };
                for refusal in log.refusals() {
                    problems.fail(&refusal.path, &refusal.error);
                }
                found
            }
            Feed::Pipe(pipe) => pipe.read(space, patience),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::filter::Filter;
    use super::super::options::Follow;
    use super::*;

    #[test]
    fn what_follows_a_long_line_that_was_cut_away_is_a_line_of_its_own() {
        for (aliens, wanted) in [(Aliens::PassOn, &["", "{}"][..]), (Aliens::Name, &["{}"])] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.log");
            fs::write(&path, vec![b'x'; LONGEST]).unwrap();
            let mut source = Source::of_log(LogFile::open(&path, Follow::Wait).unwrap());
            let selection = Selection { judge: Judge::new(Filter::default()), look: Look::Away, aliens };
            let mut problems = Problems::default();
            let mut lines = Vec::new();
            for text in [None, Some("{}\n")] {
                if let Some(text) = text {
                    // Cut in place, as a writer takes back what it could not write whole.
                    fs::write(&path, text).unwrap();
                }
                while source.pull(&selection, Patience::Poll, &mut problems) == Pulled::Line {
                    let line = source.head().unwrap();
                    if line.part == Part::End {
                        lines.push(String::from_utf8(line.bytes.to_vec()).unwrap());
                    }
                    source.take();
                }
            }
            assert_eq!(lines, wanted);
        }
    }
}
