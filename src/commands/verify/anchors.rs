//! Heads that were kept where whoever can write the log's files cannot: in an API server's audit log, as annotations of
//! its Events, or among the program's own messages.
//!
//! A client can put anything into what an API server logs of its request, but not beside it: only the Event's own
//! `annotations` count, and a message's own members.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::Report;
use super::proof::{Keys, Verdict};
use crate::audit_log::chain::format::{Id, Point, parse_head};
use crate::commands::lines::{self, Line};
use crate::observe::visible::printable;
use crate::record::json::reader::Reader;
use crate::record::json::{Error, JsonStr};

/// All heads, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    all: Vec<Anchor>,
    by_place: HashMap<Id, BTreeMap<u64, Vec<usize>>>,
}

#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) point: Point,
    /// `FILE:LINE`.
    pub(super) place: String,
}

impl Anchors {
    pub(super) fn read(paths: &[PathBuf], keys: &Keys, report: &mut Report<'_>) -> Result<Self, String> {
        let mut anchors = Self::default();
        for path in paths {
            let name = printable(path.as_os_str());
            let read = lines::open(path).and_then(|file| {
                lines::each(file, |number, line| anchors.take(line, &format!("{name}:{number}"), keys, report))
            });
            read.map_err(|error| format!("--anchors {name}: {error}"))?;
        }
        Ok(anchors)
    }

    /// Takes the heads in a line. What is no JSON, or ends in the middle, holds no head that counts.
    fn take(&mut self, line: Line<'_>, place: &str, keys: &Keys, report: &mut Report<'_>) {
        let Line::Whole(line) = line else { return };
        let mut heads = Vec::new();
        if collect(line, &mut heads).is_err() {
            return;
        }
        for (point, signature) in heads.into_iter().filter_map(|head| parse_head(head.escaped())) {
            if signature.is_some_and(|signature| keys.check(&point, &signature) == Verdict::Wrong) {
                report.fault(format_args!("{place}: the head's signature is of none of the keys"));
            } else {
                self.add(Anchor { point, place: place.to_owned() });
            }
        }
    }

    fn add(&mut self, anchor: Anchor) {
        let places = self.by_place.entry(anchor.point.id).or_default();
        places.entry(anchor.point.sequence).or_default().push(self.all.len());
        self.all.push(anchor);
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Anchor> {
        self.all.iter()
    }

    /// The heads of a line, with their numbers.
    pub(super) fn at(&self, id: Id, sequence: u64) -> impl Iterator<Item = (usize, &Anchor)> {
        let numbers = self.by_place.get(&id).and_then(|places| places.get(&sequence));
        numbers.into_iter().flatten().filter_map(|number| Some((*number, self.all.get(*number)?)))
    }
}

/// The heads in a line of JSON.
fn collect<'a>(line: &'a [u8], heads: &mut Vec<JsonStr<'a>>) -> Result<(), Error> {
    let mut json = Reader::new(line);
    json.members(|json, name| {
        match name {
            b"log-head" => heads.extend(json.text_if_string()?),
            b"annotations" => json.members_if_object(|json, name| {
                match name.ends_with(b"/log-head") {
                    true => heads.extend(json.text_if_string()?),
                    false => drop(json.value()?),
                }
                Ok(())
            })?,
            _ => drop(json.value()?),
        }
        Ok(())
    })?;
    json.finish()
}
