//! What is missing at the ends, how much is proven, and what is printed of it.

use super::chains::{Begins, Chains, Run};
use super::options::Options;
use super::proof::Keys;
use super::{Counts, Named, Report};
use crate::audit_log::chain::format::{Id, Origin};
use crate::cli::Exit;
use crate::commands::console::count;

/// Prints the conclusion, with what is missing of what was asked for.
pub(super) fn write(
    chains: &Chains<'_>,
    options: &Options,
    keys: &Keys,
    counts: &Counts,
    report: &mut Report<'_>,
) -> Exit {
    for (flag, wanted) in [("--from", options.from), ("--expect", options.expect)] {
        if let Some((id, sequence)) = wanted.filter(|wanted| !is_there(chains, *wanted)) {
            report.fault(format_args!("{flag}: the line {}/{sequence} is missing", id.as_str()));
        }
    }
    let strangers = unmatched(chains, options, report);
    report.line(format_args!("read {} of {}", count(counts.lines, "line"), count(counts.files as u64, "file")));
    if counts.unchained > 0 {
        report.line(format_args!("{} lines have no chain and are not proven by anything", counts.unchained));
    }
    if chains.repeats > 0 {
        report.line(format_args!("{} lines came again, unchanged", chains.repeats));
    }
    for key in keys.names() {
        report.line(format_args!("key {key}"));
    }
    if !options.anchors.is_empty() {
        let matched = chains.runs.iter().map(|run| run.anchors).sum::<u64>();
        report.line(format_args!("{} heads, {matched} of them found", chains.anchors.len()));
    }
    let proven = proven(&chains.runs);
    let mut unproven = false;
    for (index, (run, proven)) in chains.runs.iter().zip(&proven).enumerate() {
        let tail = run.last.saturating_sub(*proven);
        unproven |= tail > options.max_unsigned;
        let follower = chains.runs.iter().find(|other| matches!(other.begins, Begins::Behind(run, _) if run == index));
        report.line(format_args!("{}", summary(run, *proven, follower)));
    }
    for id in &strangers {
        report.line(format_args!("heads of {} were kept, and no line of it is here", id.as_str()));
    }
    let (exit, words) = if report.faults > 0 {
        let none =
            if chains.runs.is_empty() { "; no line has a chain: was this log written with --chain?" } else { "" };
        (Exit::Failed, format!("BROKEN: {}{none}", count(report.faults, "fault")))
    } else if chains.runs.is_empty() {
        (Exit::Unproven, "NOT PROVEN: there is no chained line".to_owned())
    } else if unproven || counts.unchained > 0 {
        (Exit::Unproven, "NOT PROVEN to the end: no key and no head covers the unproven lines".to_owned())
    } else if counts.unfinished > 0 {
        (Exit::Unproven, "NOT PROVEN to the end: the end of the last line is missing".to_owned())
    } else if !options.anchors.is_empty() && chains.anchors.len() == 0 {
        (Exit::Unproven, "NOT PROVEN to be complete: what --anchors names holds no head".to_owned())
    } else if !strangers.is_empty() {
        (Exit::Unproven, "NOT PROVEN to be complete: heads were kept of IDs that are not here".to_owned())
    } else {
        (Exit::Ok, "INTACT".to_owned())
    };
    report.line(format_args!("{words}"));
    exit
}

/// IDs that begin in the middle of the log without what they follow. The first may: retention deletes what was before.
pub(super) fn gaps(chains: &Chains<'_>, report: &mut Named<'_, '_>) {
    for (index, run) in chains.runs.iter().enumerate().skip(1).filter(|(_, run)| run.begins == Begins::Alone) {
        // Of several that follow the same line, all but one are of requests that were refused: the gap is told once, or
        // the first of them is where the log begins.
        let same = |earlier: &Run| earlier.origin == run.origin;
        if matches!(run.origin, Some(Origin::After(_))) && chains.runs.iter().take(index).any(same) {
            continue;
        }
        let id = run.id.as_str();
        let why = match run.origin {
            None => format!("{id}: its lines before {} are missing", run.first),
            Some(Origin::Nothing) => format!(
                "{id}: begins anew, although there was a log before: what came between was deleted, or this is \
                 another log (--unordered)"
            ),
            Some(Origin::After(point)) => {
                format!("{id}: the lines that it follows are missing, up to {}/{}", point.id.as_str(), point.sequence)
            }
        };
        report.fault(run.place, &why);
    }
}

fn is_there(chains: &Chains<'_>, (id, sequence): (Id, u64)) -> bool {
    chains.run_of(id).is_some_and(|run| (run.first..=run.last).contains(&sequence))
}

/// Reports the heads whose lines are missing. Returns the IDs of those that may be of another log.
fn unmatched(chains: &Chains<'_>, options: &Options, report: &mut Report<'_>) -> Vec<Id> {
    let mut strangers: Vec<Id> = Vec::new();
    let first_match = chains.matched.iter().position(|matched| *matched).unwrap_or_default();
    let all = chains.anchors.iter().enumerate();
    for (number, anchor) in all.filter(|(number, _)| chains.matched.get(*number) == Some(&false)) {
        let (id, sequence) = (anchor.point.id, anchor.point.sequence);
        let (name, place) = (id.as_str(), &anchor.place);
        let before_from = options.from.is_some_and(|(from, first)| from == id && sequence < first);
        let Some(run) = chains.run_of(id) else {
            let follows = |run: &Run| matches!(run.origin, Some(Origin::After(point)) if point.id == id);
            if options.from.is_some() && (number < first_match || chains.runs.iter().any(follows)) {
                continue;
            }
            if chains.runs.first().is_some_and(follows) {
                report.fault(format_args!("{place}: {name}/{sequence} is missing: the files begin later"));
            } else if !strangers.contains(&id) {
                strangers.push(id);
            }
            continue;
        };
        if before_from {
            continue;
        }
        let why = if sequence < run.first {
            "the files begin later"
        } else if sequence <= run.last {
            "it is gone from the middle"
        } else if run.followed.is_some() {
            "it was lost before a restart (a power cut, or files put back to an earlier state)"
        } else {
            "the files end earlier"
        };
        report.fault(format_args!("{place}: {name}/{sequence} is missing: {why}"));
    }
    strangers
}

/// For each ID, up to which line it is covered by a signature or a head, of its own or of an ID that follows it.
fn proven(runs: &[Run]) -> Vec<u64> {
    let mut proven: Vec<u64> = runs.iter().map(|run| run.signed.max(run.anchored)).collect();
    // What follows comes later.
    for (index, run) in runs.iter().enumerate().rev() {
        if let Begins::Behind(before, sequence) = run.begins
            && proven.get(index).is_some_and(|proven| *proven > 0)
            && let Some(slot) = proven.get_mut(before)
        {
            *slot = sequence.max(*slot);
        }
    }
    proven
}

fn summary(run: &Run, proven: u64, follower: Option<&Run>) -> String {
    let follows = match (run.origin, run.begins) {
        (None, _) => format!("begins at {}", run.first),
        (Some(Origin::Nothing), _) => "follows nothing".to_owned(),
        (Some(Origin::After(point)), begins) => {
            let there = if begins == Begins::Alone { ", which is not here" } else { "" };
            format!("follows {}/{}{there}", point.id.as_str(), point.sequence)
        }
    };
    let mut text = format!(
        "{}: {} to {}, {}, {follows}; signed to {}, head kept of {} ({})",
        run.id.as_str(),
        run.first,
        run.last,
        count(run.lines, "line"),
        or_none(run.signed),
        or_none(run.anchored),
        count(run.anchors, "head"),
    );
    if run.unchecked > 0 {
        text.push_str(&format!("; {} signatures not checked for want of a --key", run.unchecked));
    }
    if proven < run.last {
        let from = (proven + 1).max(run.first);
        text.push_str(&format!("; UNPROVEN: {from} to {}", run.last));
    }
    if let Some(after) = run.followed.filter(|after| *after < run.last) {
        text.push_str(&format!("; left behind: {} to {} (refused, and not cut off)", after + 1, run.last));
    }
    if let Some(follower) = follower {
        text.push_str(&format!("; followed by {}", follower.id.as_str()));
    }
    text
}

fn or_none(sequence: u64) -> String {
    if sequence == 0 { "none".to_owned() } else { sequence.to_string() }
}
