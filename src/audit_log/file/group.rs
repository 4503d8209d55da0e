//! A group of lines on its way to the file, and how it is taken back if it does not get there.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::time::Duration;

use super::super::chain::{self, Chain, Lines, Marking, Renew, Residue, State as ChainState};
use super::super::content;
use super::super::error::AppendError;
use super::rotate::Place;
use super::{LogFile, Pause, State};

/// None: after a first sync that failed, a new file is tried at once.
const FIRST_SYNC_PAUSE: Duration = Duration::ZERO;
/// What a disk that fails every sync costs: one try in this time.
const LONGEST_SYNC_PAUSE: Duration = Duration::from_secs(5);

/// Lines on their way to the file, and what is needed to take them back if they do not all get there.
pub(super) struct Group<'a> {
    pub(super) lines: Cow<'a, [u8]>,
    /// How many bytes of `lines` are written: whole lines, in the open file and in those rolled since.
    pub(super) done: usize,
    /// Where in `lines` the part begins that is in the open file.
    pub(super) here: usize,
    /// The length of the open file before that part.
    pub(super) begin: u64,
    /// The parts in files rolled since.
    pub(super) earlier: Vec<Part>,
    /// Where in `lines` each write(2) began, except the first to each file.
    pub(super) writes: Vec<usize>,
    /// How often the open file's part had to be written anew.
    pub(super) attempts: u32,
    /// What `lines` are made of, with a chain.
    chaining: Option<Chaining<'a>>,
}

/// What the lines of a group are chained with.
struct Chaining<'a> {
    chain: &'a mut Chain,
    /// Before the group's first line.
    before: ChainState,
    plain: Lines<'a>,
}

/// What a group has written to a file that was rolled since.
pub(super) struct Part {
    pub(super) file: File,
    pub(super) place: Place,
    /// Which of the group's bytes it is.
    pub(super) lines: Range<usize>,
    /// The file's length before it.
    pub(super) begin: u64,
}

/// What has become of a group's part in the open file.
#[derive(PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there, in a file with a name.
    Stands,
    /// It is gone, and has to be written again.
    Gone,
}

impl<'a> Group<'a> {
    /// `lines` on their way to a file that is `begin` bytes long.
    pub(super) fn new(lines: Lines<'a>, begin: u64, marking: Marking, chain: Option<&'a mut Chain>) -> Self {
        let chaining = chain.map(|chain| Chaining { before: chain.state, chain, plain: lines });
        let mut group = Self {
            lines: Cow::Borrowed(lines.bytes),
            done: 0,
            here: 0,
            begin,
            earlier: Vec::new(),
            writes: Vec::new(),
            attempts: 0,
            chaining,
        };
        if let Some(Chaining { chain, plain, .. }) = &mut group.chaining {
            group.lines = Cow::Owned(chain.chained(*plain, marking));
        }
        group
    }

    /// Whether the next line is to be the first in a file that can be checked by itself, and is not.
    pub(super) fn lacks_mark(&self) -> bool {
        self.chaining.is_some() && !chain::is_marked(self.lines.get(self.done..).unwrap_or_default())
    }

    /// Chains what is not written yet anew, as the first in a file. Without a chain there is nothing to do.
    pub(super) fn rechain(&mut self, renew: Renew) {
        if let Some(Chaining { chain, before, plain }) = &mut self.chaining {
            chain.rechain(self.lines.to_mut(), self.done, *plain, *before, renew);
            self.writes.retain(|at| *at < self.done);
        }
    }

    /// The group's fate is known.
    pub(super) fn end(self, residue: Option<Residue>) {
        let Some(Chaining { chain, before, .. }) = self.chaining else { return };
        match residue {
            None => chain.publish(),
            // Numbers that were given up already do not come back.
            Some(_) if !chain.is_of_same_id(&before) => chain.take_back(before, Residue::Possible),
            Some(residue) => chain.take_back(before, residue),
        }
        chain.give_back(self.lines.into_owned());
    }

    /// What a file may end with after these bytes were written to it by one or more write(2) calls: all of them, or, if
    /// it was truncated between two calls, those from a later call on.
    pub(super) fn endings(&self, bytes: Range<usize>) -> Vec<&[u8]> {
        let starts = self.writes.iter().copied().filter(|at| bytes.contains(at));
        [bytes.start].into_iter().chain(starts).filter_map(|start| self.lines.get(start..bytes.end)).collect()
    }

    /// The open file's part is gone and is to be written again, to a file that has this length. Somebody may have read it.
    pub(super) fn begin_again(&mut self, length: u64) {
        self.done = self.here;
        self.begin = length;
        self.attempts += 1;
        self.rechain(Renew::NewId);
    }
}

impl LogFile {
    /// Takes back what a failed group has written. Says whether anything of it may be left, or come back.
    pub(super) fn take_back(&mut self, group: &Group<'_>, error: &AppendError) -> Residue {
        let here = group.here..group.here.saturating_add(self.written_since(group.begin)).min(group.lines.len());
        let written = group.endings(here);
        // A file whose end is in doubt after an earlier cut is not cut again.
        let cut = matches!(self.state, State::Writable) && self.cut_back(group.begin, &written).is_ok();
        if cut && error.is_sync() {
            self.after_failed_sync(error);
        }
        for part in group.earlier.iter().rev() {
            let written = group.endings(part.lines.clone());
            match (content::cut_back(&self.fs, &part.file, part.begin, &written), &part.place) {
                // Nothing but the group was in it.
                (Ok(0), Place::Rolled(rolled)) => drop(self.fs.remove(rolled)),
                (Ok(_), _) => {}
                (Err(error), _) => {
                    let error = error.to_string();
                    self.status.warn("a failed append has left lines in a rolled file", &self.name, &error);
                }
            }
        }
        let gone = cut && !error.is_sync() && group.earlier.is_empty();
        if gone { Residue::None } else { Residue::Possible }
    }

    /// Cuts off what was written to the open file since it was `begin` bytes long, see [`content::cut_back`]. If it is
    /// in doubt whether that worked, the file is not written any more.
    pub(super) fn cut_back(&mut self, begin: u64, written: &[&[u8]]) -> Result<(), AppendError> {
        match content::cut_back(&self.fs, &self.open.file, begin, written) {
            Ok(length) => {
                self.open.length = length;
                Ok(())
            }
            Err(error) => {
                let error = AppendError::doubtful(&self.name, &error);
                self.spend(&error);
                Err(error)
            }
        }
    }

    /// The kernel may have dropped what it could not write, and a second sync would succeed all the same: the file must
    /// not be used any more. An empty one has nothing to lose, and stays in use.
    fn after_failed_sync(&mut self, error: &AppendError) {
        let last = self.sync_pause.as_ref().map(|(pause, _)| *pause);
        let pause = Pause::after(last, FIRST_SYNC_PAUSE, LONGEST_SYNC_PAUSE);
        self.sync_pause = Some((pause, error.clone()));
        if self.open.length > 0 {
            self.spend(error);
        }
    }

    /// Ends the use of the open file.
    fn spend(&mut self, error: &AppendError) {
        self.state = State::Spent(error.clone());
        if self.said_spent.fault(()) {
            self.status.diagnostics.error(
                "the audit log will not be written any more and is rolled",
                &[("path", (&self.name).into()), ("error", (&error.to_string()).into())],
            );
        }
    }
}
