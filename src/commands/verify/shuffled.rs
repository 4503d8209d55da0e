//! Lines in any order, some of them twice: sorted by ID and number before they are judged.

use std::collections::{HashMap, HashSet};

use super::Named;
use super::chains::Chains;
use super::files::{Place, Seen};
use crate::audit_log::chain::format::{Digest, Id, Link, Mark, Origin, Point};

/// Lines that were read.
#[derive(Debug, Default)]
pub(super) struct Shuffled {
    lines: Vec<Line>,
    ids: Vec<Id>,
    by_id: HashMap<Id, u32>,
    /// What marked lines say beside their places.
    marks: Vec<(Mark, Option<Origin>)>,
}

/// 88 bytes.
#[derive(Debug)]
struct Line {
    content: Digest,
    hash: Digest,
    sequence: u64,
    id: u32,
    file: u32,
    line: u32,
    /// From 1; 0 for a line that is not marked.
    mark: u32,
}

fn small(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

impl Shuffled {
    pub(super) fn add(&mut self, place: Place, seen: &Seen) {
        let Link { point, mark, origin } = &seen.link;
        let id = *self.by_id.entry(point.id).or_insert_with(|| {
            self.ids.push(point.id);
            small(self.ids.len() - 1)
        });
        let plain = *mark == Mark::Plain && origin.is_none();
        if !plain {
            self.marks.push((*mark, *origin));
        }
        self.lines.push(Line {
            content: seen.content,
            hash: point.hash,
            sequence: point.sequence,
            id,
            file: small(place.file),
            line: small(place.line),
            mark: if plain { 0 } else { small(self.marks.len()) },
        });
    }

    fn seen(&self, line: &Line) -> Option<Seen> {
        let id = *self.ids.get(line.id as usize)?;
        let mark = (line.mark as usize).checked_sub(1).and_then(|mark| self.marks.get(mark).copied());
        let (mark, origin) = mark.unwrap_or((Mark::Plain, None));
        let point = Point { id, sequence: line.sequence, hash: line.hash };
        Some(Seen { content: line.content, link: Link { point, mark, origin } })
    }

    /// Hands the lines over, the IDs in an order in which each comes after what it follows.
    pub(super) fn play(mut self, chains: &mut Chains<'_>, report: &mut Named<'_, '_>) {
        self.lines.sort_unstable_by_key(|line| (line.id, line.sequence, line.file, line.line));
        let mut follows = HashMap::new();
        let firsts = self.lines.iter().filter(|line| line.sequence == 1).filter_map(|line| self.seen(line));
        for seen in firsts {
            if let Some(Origin::After(after)) = &seen.link.origin {
                chains.expect_follower(after);
                follows.insert(seen.link.point.id, after.id);
            }
        }
        let mut played = HashSet::new();
        for id in &self.ids {
            // From this ID back to one that follows nothing, and then forward. A circle ends where it began.
            let mut row = vec![*id];
            while let Some(before) = row.last().and_then(|id| follows.get(id)).filter(|before| !row.contains(before)) {
                row.push(*before);
            }
            for id in row.into_iter().rev() {
                if let Some(number) = self.by_id.get(&id).filter(|_| played.insert(id)) {
                    self.play_id(*number, chains, report);
                }
            }
        }
    }

    fn play_id(&self, id: u32, chains: &mut Chains<'_>, report: &mut Named<'_, '_>) {
        let from = self.lines.partition_point(|line| line.id < id);
        let to = self.lines.partition_point(|line| line.id <= id);
        let mut last: Option<Seen> = None;
        for line in self.lines.get(from..to).unwrap_or_default() {
            let Some(seen) = self.seen(line) else { continue };
            if last == Some(seen) {
                chains.repeats += 1;
                continue;
            }
            let place = Place { file: line.file as usize, line: u64::from(line.line) };
            chains.line(place, &seen, report);
            last = Some(seen);
        }
    }
}
