//! The chain of each ID, from line to line.
//!
//! Memory does not grow with the lines, but with the IDs: a process has one, and each append whose bytes could not be
//! taken back begins another.

use std::collections::{HashMap, VecDeque};

use super::Named;
use super::anchors::Anchors;
use super::files::{Place, Seen};
use super::options::Order;
use super::proof::{Keys, Verdict};
use crate::audit_log::chain::format::{self, Digest, Id, Link, Origin, Point};

/// How many of the newest lines' hashes are remembered. The line that an ID follows need not be the newest: behind it the
/// lines of a group may stand that was refused and could not be cut off. A group has fewer lines than this.
const REMEMBERED: usize = 1 << 18;

/// What is known of all IDs.
#[derive(Debug, Clone)]
pub(super) struct Chains<'a> {
    keys: &'a Keys,
    pub(super) anchors: &'a Anchors,
    order: Order,
    /// In the order of their first lines.
    pub(super) runs: Vec<Run>,
    by_id: HashMap<Id, usize>,
    /// The newest lines.
    recent: VecDeque<Point>,
    /// For lines in any order: those that some ID follows, each with its hash once it has come.
    followed: HashMap<(Id, u64), Option<Digest>>,
    /// Heads that were found, by their number.
    pub(super) matched: Vec<bool>,
    /// Lines that came again with the same content, where they may.
    pub(super) repeats: u64,
}

/// The lines of one ID.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) id: Id,
    /// The first line that is there, and where.
    pub(super) first: u64,
    pub(super) place: Place,
    /// What it follows; none if the first line is missing.
    pub(super) origin: Option<Origin>,
    /// Whether what it follows is among the lines.
    pub(super) begins: Begins,
    /// The last line that is there.
    pub(super) last: u64,
    hash: Digest,
    pub(super) lines: u64,
    /// The last line that a key has signed, and that a head covers; 0 for none.
    pub(super) signed: u64,
    pub(super) anchored: u64,
    pub(super) anchors: u64,
    /// Signatures that no key was given for.
    pub(super) unchecked: u64,
    /// The last line that another ID follows.
    pub(super) followed: Option<u64>,
}

/// How an ID begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// It follows a line that is there.
    Behind(usize, u64),
    /// What it follows, if anything, is not there.
    Alone,
}

impl<'a> Chains<'a> {
    pub(super) fn new(keys: &'a Keys, anchors: &'a Anchors, order: Order) -> Self {
        Self {
            keys,
            anchors,
            order,
            runs: Vec::new(),
            by_id: HashMap::new(),
            recent: VecDeque::new(),
            followed: HashMap::new(),
            matched: vec![false; anchors.len()],
            repeats: 0,
        }
    }

    /// The hash of this line will be asked for.
    pub(super) fn expect_follower(&mut self, point: &Point) {
        self.followed.insert((point.id, point.sequence), None);
    }

    pub(super) fn run_of(&self, id: Id) -> Option<&Run> {
        self.runs.get(*self.by_id.get(&id)?)
    }

    /// Takes the next line.
    pub(super) fn line(&mut self, place: Place, seen: &Seen, report: &mut Named<'_, '_>) {
        let Seen { content, link } = seen;
        let Link { point, mark, origin } = link;
        let name = format!("{}/{}", point.id.as_str(), point.sequence);
        let mut fault = |why: &str| report.fault(place, &format!("{name}: {why}"));
        let sequence = point.sequence;
        match (sequence, origin) {
            (1, None) => return fault("the first line of an ID does not say what it follows"),
            (2.., Some(_)) => return fault("says what it follows, as only the first line of an ID does"),
            _ => {}
        }
        let index = self.by_id.get(&point.id).copied();
        let run = index.and_then(|index| self.runs.get_mut(index));
        let previous = match (run, origin) {
            (None, Some(origin)) => Some(format::first_hash(point.id, origin)),
            (None, None) => {
                let said = mark.previous().copied();
                if said.is_none() {
                    fault(
                        "what comes before it is missing, and it cannot be checked by itself as a file's first line can",
                    );
                }
                said
            }
            (Some(run), _) if sequence <= run.last => {
                return fault(&format!("comes after {}: it was repeated, swapped or put in", run.last));
            }
            (Some(run), _) => {
                if self.order == Order::Written && run.followed.is_some() {
                    fault("comes after the beginning of an ID that follows this one: it was moved or put in");
                }
                if sequence == run.last + 1 {
                    Some(run.hash)
                } else {
                    fault(&format!("{} lines are missing before it, from {}", sequence - run.last - 1, run.last + 1));
                    mark.previous().copied()
                }
            }
        };
        let previous = match (previous, mark.previous()) {
            (Some(known), Some(said)) if known != *said => {
                fault("the line before it is not the one that it follows");
                Some(*said)
            }
            (previous, _) => previous,
        };
        if previous.is_some_and(|hash| format::next_hash(&hash, point.id, sequence, mark, content) != point.hash) {
            fault("changed: its hash is not that of what stands there");
        }
        let verdict = match mark {
            format::Mark::Signed(_, signature) => Some(self.keys.check(point, signature)),
            _ => None,
        };
        if verdict == Some(Verdict::Wrong) {
            fault("its signature is of none of the keys");
        }
        let begins = match origin {
            Some(Origin::After(after)) if index.is_none() => self.begin_behind(after, &mut fault),
            _ => Begins::Alone,
        };
        let index = index.unwrap_or_else(|| self.begin(place, link, begins));
        let Some(run) = self.runs.get_mut(index) else { return };
        (run.last, run.hash) = (sequence, point.hash);
        run.lines += 1;
        match verdict {
            Some(Verdict::Proven) => run.signed = sequence,
            Some(Verdict::NoKey) => run.unchecked += 1,
            _ => {}
        }
        for (number, anchor) in self.anchors.at(point.id, sequence) {
            if let Some(matched) = self.matched.get_mut(number) {
                *matched = true;
            }
            if anchor.point.hash == point.hash {
                run.anchored = sequence;
                run.anchors += 1;
            } else {
                fault(&format!("the head that was kept in {} is of another line", anchor.place));
            }
        }
        self.remember(point);
    }

    fn begin(&mut self, place: Place, link: &Link, begins: Begins) -> usize {
        let index = self.runs.len();
        self.by_id.insert(link.point.id, index);
        self.runs.push(Run {
            id: link.point.id,
            first: link.point.sequence,
            place,
            origin: link.origin,
            begins,
            last: 0,
            hash: link.point.hash,
            lines: 0,
            signed: 0,
            anchored: 0,
            anchors: 0,
            unchecked: 0,
            followed: None,
        });
        index
    }

    /// An ID begins behind this line.
    fn begin_behind(&mut self, after: &Point, fault: &mut impl FnMut(&str)) -> Begins {
        let Some(index) = self.by_id.get(&after.id).copied() else { return Begins::Alone };
        let mut hash = self.hash_of(after);
        let Some(run) = self.runs.get_mut(index) else { return Begins::Alone };
        if after.sequence == 0 {
            hash = run.origin.map(|origin| format::first_hash(run.id, &origin));
        }
        run.followed = run.followed.max(Some(after.sequence));
        let follows = format!("{}/{}", after.id.as_str(), after.sequence);
        if after.sequence > run.last {
            let missing = after.sequence - run.last;
            fault(&format!(
                "{missing} lines are missing before it: it follows {follows}, and {} is the last",
                run.last
            ));
        } else if hash != Some(after.hash) {
            fault(&format!("it follows a line {follows} that is not there as it was"));
        }
        Begins::Behind(index, after.sequence)
    }

    /// The hash that a line said, if it is remembered.
    fn hash_of(&self, point: &Point) -> Option<Digest> {
        if let Some(known) = self.followed.get(&(point.id, point.sequence)) {
            return *known;
        }
        let same = |recent: &&Point| (recent.id, recent.sequence) == (point.id, point.sequence);
        self.recent.iter().rev().find(same).map(|recent| recent.hash)
    }

    fn remember(&mut self, point: &Point) {
        match self.order {
            Order::Any => {
                if let Some(slot) = self.followed.get_mut(&(point.id, point.sequence)) {
                    *slot = Some(point.hash);
                }
            }
            Order::Written => {
                if self.recent.len() == REMEMBERED {
                    self.recent.pop_front();
                }
                self.recent.push_back(*point);
            }
        }
    }
}
