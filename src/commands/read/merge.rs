//! Several logs as one: by time, each log's own order kept.

use std::time::{Duration, Instant};

use super::options::Follow;
use super::pipe::Patience;
use super::problems::Problems;
use super::source::{Line, Part, Pulled, Selection, Source};

/// How long a line is held back for a log without a next line yet, which may turn out to be older.
const SILENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Merge {
    sources: Vec<Waiting>,
    follow: Follow,
    selection: Selection,
    /// The source whose head was given out last, until the next step.
    given: Option<usize>,
    /// Whether something was written since the last flush.
    output: Output,
}

#[derive(Debug)]
struct Waiting {
    source: Source,
    /// When its head was found.
    since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Flushed,
    Written,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// Write this line.
    Line(Line<'a>),
    /// Flush, for it may take a while until the next line.
    Flush,
    /// Flush and look again a little later.
    Rest,
    End,
}

impl Merge {
    pub(super) fn new(sources: Vec<Source>, follow: Follow, selection: Selection) -> Self {
        let sources = sources.into_iter().map(|source| Waiting { source, since: None }).collect();
        Self { sources, follow, selection, given: None, output: Output::Flushed }
    }

    /// Looks for the next line. What cannot be read is reported, and passed over.
    pub(super) fn step(&mut self, problems: &mut Problems) -> Step<'_> {
        let unfinished = self.take_given();
        let mut silent = false;
        for place in 0..self.sources.len() {
            // The parts of a line stay together.
            if unfinished.is_some_and(|unfinished| unfinished != place) {
                continue;
            }
            match self.pull(place, problems) {
                Some(Pulled::Line | Pulled::End) => {}
                Some(Pulled::Nothing) => silent = true,
                None => return self.flush(),
            }
        }
        let heads = self.sources.iter().enumerate().filter(|(_, waiting)| waiting.since.is_some());
        let oldest = match unfinished.filter(|place| self.sources.get(*place).is_some_and(|it| it.since.is_some())) {
            Some(place) => Some(place),
            None => heads.min_by_key(|(_, waiting)| waiting.source.time()).map(|(place, _)| place),
        };
        let next = oldest.and_then(|place| Some((place, self.sources.get(place)?)));
        let Some((place, waiting)) = next else {
            return if silent { self.rest() } else { Step::End };
        };
        if silent && waiting.since.is_some_and(|since| since.elapsed() < SILENCE) {
            return self.rest();
        }
        self.given = Some(place);
        self.output = Output::Written;
        match self.sources.get(place).and_then(|waiting| waiting.source.head()) {
            Some(line) => Step::Line(line),
            None => Step::End,
        }
    }

    /// Forgets the line that was given out last. If that was a part of a line of which more follows, returns its source.
    fn take_given(&mut self) -> Option<usize> {
        let place = self.given.take()?;
        let waiting = self.sources.get_mut(place)?;
        let part = waiting.source.head().map(|line| line.part);
        waiting.source.take();
        waiting.since = None;
        Some(place).filter(|_| part == Some(Part::More))
    }

    /// Makes a source find its next line. None: that may have to wait, and the output has to be flushed before.
    fn pull(&mut self, place: usize, problems: &mut Problems) -> Option<Pulled> {
        let may_block = self.follow == Follow::End || self.sources.len() == 1;
        let waiting = self.sources.get_mut(place)?;
        let mut pulled = waiting.source.pull(&self.selection, Patience::Poll, problems);
        if pulled == Pulled::Nothing && self.follow == Follow::End && waiting.source.is_log() {
            waiting.source.finish(&self.selection, problems);
            pulled = waiting.source.pull(&self.selection, Patience::Poll, problems);
        } else if pulled == Pulled::Nothing && may_block && !waiting.source.is_log() {
            if self.output == Output::Written {
                return None;
            }
            pulled = waiting.source.pull(&self.selection, Patience::Block, problems);
        }
        if pulled == Pulled::Line {
            waiting.since.get_or_insert_with(Instant::now);
        }
        Some(pulled)
    }

    fn flush(&mut self) -> Step<'_> {
        self.output = Output::Flushed;
        Step::Flush
    }

    fn rest(&mut self) -> Step<'_> {
        self.output = Output::Flushed;
        Step::Rest
    }
}
