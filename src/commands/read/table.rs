//! Rows for people: time, source, user, verb, resource, namespace/name.

use std::io::{self, Write};
use std::time::SystemTime;

use super::options::NARROWEST;
use super::row::{Row, Verb};
use crate::observe::visible::beginning;
use crate::record::entry::Run;
use crate::record::json::JsonStr;
use crate::record::timestamp;

/// Most characters of a cell: a request may hold a name of any length.
const MOST: usize = 1000;

/// Between columns.
const GAP: &str = "  ";

/// `2026-11-20T21:34:38Z`
const TIME_WIDTH: usize = 20;

/// The longest operation, `connect`.
const VERB_WIDTH: usize = 7;

/// How a table looks.
#[derive(Debug)]
pub(super) struct Table {
    width: Width,
    colour: Colour,
    source: SourceColumn,
}

/// How wide it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// What does not fit in so many characters is cut.
    Cut(usize),
    /// Nothing is cut; columns begin at the same place as long as what stands before them is not too long.
    Any,
}

/// Whether verbs are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    On,
    Off,
}

/// Whether there is a column for sources: only logs with several senders have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceColumn {
    /// Some line before had a source.
    Shown,
    Hidden,
}

/// Which end of a text says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Beginning,
    End,
}

impl Table {
    pub(super) fn new(width: Width, colour: Colour) -> Self {
        Self { width, colour, source: SourceColumn::Hidden }
    }

    /// The columns' names.
    pub(super) fn write_header(&self, out: &mut impl Write) -> io::Result<()> {
        let cells = ["TIME", "USER", "VERB", "RESOURCE", "NAMESPACE/NAME"];
        self.write(out, None, cells.map(str::to_owned), "")
    }

    pub(super) fn write_row(&mut self, row: &Row<'_>, out: &mut impl Write) -> io::Result<()> {
        if row.source.is_some() {
            self.source = SourceColumn::Shown;
        }
        let mut user = cell(row.user);
        if let Some(impersonated) = row.impersonated {
            user = format!("{} (as {})", user, cell(Some(impersonated)));
        }
        let name = cell(row.name.or(row.uri));
        let mut object = match row.namespace {
            Some(namespace) => format!("{}/{name}", cell(Some(namespace))),
            None => name,
        };
        if row.run == Run::Dry {
            object.push_str(" (dry run)");
        }
        if let Some(stage) = row.unfinished {
            object.push_str(&format!(" ({})", cell(Some(stage))));
        }
        if let Some(code) = row.failed {
            object.push_str(&format!(" ({code})"));
        }
        let colour = match row.verb {
            Verb::Known("create") => "32",
            Verb::Known("update") => "33",
            Verb::Known("delete") => "31",
            Verb::Known("connect") => "35",
            _ => "",
        };
        self.write(out, Some(cell(row.source)), [time(row.time), user, verb(row), resource(row), object], colour)
    }

    fn write(
        &self,
        out: &mut impl Write,
        source: Option<String>,
        [time, user, verb, resource, object]: [String; 5],
        colour: &str,
    ) -> io::Result<()> {
        let with_source = self.source == SourceColumn::Shown;
        let widths = self.widths();
        let verb = self.fitted(&verb, VERB_WIDTH, Keep::Beginning);
        let mut cells = vec![self.fitted(&time, TIME_WIDTH, Keep::Beginning)];
        if with_source {
            cells.push(self.fitted(&source.unwrap_or_default(), widths.source, Keep::Beginning));
        }
        cells.push(self.fitted(&user, widths.user, Keep::End));
        cells.push(match self.colour {
            Colour::On if !colour.is_empty() => format!("\x1b[{colour}m{verb}\x1b[0m"),
            _ => verb,
        });
        cells.push(self.fitted(&resource, widths.resource, Keep::Beginning));
        cells.push(self.fitted(&object, widths.object, Keep::End));
        writeln!(out, "{}", cells.join(GAP).trim_end())
    }

    fn widths(&self) -> Widths {
        let total = match self.width {
            Width::Cut(total) => total.max(NARROWEST),
            Width::Any => 140,
        };
        let with_source = self.source == SourceColumn::Shown;
        let gaps = GAP.len() * if with_source { 5 } else { 4 };
        let rest = total.saturating_sub(TIME_WIDTH + VERB_WIDTH + gaps);
        let source = if with_source { rest / 6 } else { 0 };
        let rest = rest - source;
        let (user, resource) = (rest * 32 / 100, rest * 26 / 100);
        Widths { source, user, resource, object: rest - user - resource }
    }

    /// The text padded to the width, and cut to it if the table has a fixed width.
    fn fitted(&self, text: &str, width: usize, keep: Keep) -> String {
        let length = text.chars().count();
        if length <= width || self.width == Width::Any {
            return format!("{text:width$}");
        }
        match keep {
            Keep::Beginning => text.chars().take(width - 1).chain(['…']).collect(),
            Keep::End => ['…'].into_iter().chain(text.chars().skip(length - width + 1)).collect(),
        }
    }
}

struct Widths {
    source: usize,
    user: usize,
    resource: usize,
    object: usize,
}

fn time(text: Option<JsonStr<'_>>) -> String {
    text.and_then(|text| timestamp::parse(text.escaped())).map_or_else(|| cell(text), seconds)
}

/// `2026-11-20T21:34:38Z`
pub(super) fn seconds(time: SystemTime) -> String {
    let text = timestamp::rfc3339(time);
    text.iter().take(TIME_WIDTH - 1).map(|byte| char::from(*byte)).chain(['Z']).collect()
}

pub(super) fn verb(row: &Row<'_>) -> String {
    match row.verb {
        Verb::Known(verb) => verb.to_owned(),
        Verb::Said(text) => cell(Some(text)),
    }
}

/// The resource and, behind a slash, the subresource.
pub(super) fn resource(row: &Row<'_>) -> String {
    let resource = or_dash(row.resource);
    match row.subresource {
        None => resource,
        subresource => format!("{resource}/{}", cell(subresource)),
    }
}

/// What a text says, or that there is none.
pub(super) fn or_dash(text: Option<JsonStr<'_>>) -> String {
    if text.is_some() { cell(text) } else { "-".to_owned() }
}

/// What a text says, on one line.
pub(super) fn cell(text: Option<JsonStr<'_>>) -> String {
    beginning(text.unwrap_or_default().chars(), MOST)
}

#[cfg(test)]
mod tests;
