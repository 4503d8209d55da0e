//! Who did what, where and when, in numbers. Memory is bounded, whatever names come: what does not fit any more is
//! counted as the rest.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use super::row::Row;
use super::table::{cell, or_dash, resource, seconds, verb};
use crate::record::timestamp;

/// Rows of each list.
const SHOWN: usize = 10;

/// Bytes that one list may take up.
const ROOM: usize = 1024 * 1024;

/// What an entry of a list is reckoned to take up beside its name, in bytes.
const COST: usize = 96;

/// Most bars in the row of bars.
const BARS: u64 = 60;

#[derive(Debug)]
pub(super) struct Summary {
    total: Count,
    lists: [List; 4],
    times: Times,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    lines: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.lines += 1;
        self.bytes += bytes;
    }
}

#[derive(Debug)]
struct List {
    title: &'static str,
    counts: HashMap<String, Count>,
    /// Lines with names for which there was no room any more.
    rest: Count,
    used: usize,
}

impl List {
    fn new(title: &'static str) -> Self {
        Self { title, counts: HashMap::new(), rest: Count::default(), used: 0 }
    }

    fn add(&mut self, name: String, bytes: u64) {
        if let Some(count) = self.counts.get_mut(&name) {
            return count.add(bytes);
        }
        let cost = name.len() + COST;
        if self.used + cost > ROOM {
            return self.rest.add(bytes);
        }
        self.used += cost;
        self.counts.entry(name).or_default().add(bytes);
    }

    fn write(&self, total: Count, out: &mut impl Write) -> io::Result<()> {
        let mut counts: Vec<(&str, Count)> = self.counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        counts.sort_unstable_by_key(|(name, count)| (std::cmp::Reverse(count.lines), *name));
        let mut rest = self.rest;
        for (_, count) in counts.iter().skip(SHOWN) {
            rest.lines += count.lines;
            rest.bytes += count.bytes;
        }
        writeln!(out, "\n{:<9} {:>6} {:>6}  {}", "lines", "%", "bytes%", self.title)?;
        for (name, count) in counts.into_iter().take(SHOWN) {
            write_count(count, total, name, out)?;
        }
        if rest.lines > 0 {
            write_count(rest, total, "(the rest)", out)?;
        }
        Ok(())
    }
}

fn write_count(count: Count, total: Count, name: &str, out: &mut impl Write) -> io::Result<()> {
    let share = |part: u64, whole: u64| part as f64 * 100.0 / (whole.max(1)) as f64;
    let (lines, bytes) = (share(count.lines, total.lines), share(count.bytes, total.bytes));
    writeln!(out, "{:<9} {lines:>6.1} {bytes:>6.1}  {name}", count.lines)
}

/// Lines over time. Their times need not be in order.
#[derive(Debug)]
struct Times {
    /// Seconds that a bar stands for; doubled when there are too many bars.
    width: u64,
    /// Lines by the number of the bar, counted from 1970.
    bars: BTreeMap<u64, u64>,
    /// Seconds since 1970.
    first: u64,
    last: u64,
}

impl Times {
    fn add(&mut self, time: SystemTime) {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.first = self.first.min(seconds);
        self.last = self.last.max(seconds);
        *self.bars.entry(seconds / self.width).or_default() += 1;
        while self.last / self.width - self.first / self.width >= BARS {
            self.width *= 2;
            let mut wider = BTreeMap::new();
            for (bar, lines) in std::mem::take(&mut self.bars) {
                *wider.entry(bar / 2).or_default() += lines;
            }
            self.bars = wider;
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(most) = self.bars.values().max() else { return Ok(()) };
        let (from, to) = (self.first / self.width, self.last / self.width);
        let row: String =
            (from..=to).map(|bar| height(self.bars.get(&bar).copied().unwrap_or_default(), *most)).collect();
        let time = |time: u64| {
            let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time));
            seconds(time.unwrap_or(SystemTime::UNIX_EPOCH))
        };
        let (first, last) = (time(self.first), time(self.last));
        writeln!(out, "\nfrom {first} to {last}, each bar {} s, the highest {most} lines", self.width)?;
        writeln!(out, "{row}")
    }
}

/// A blank for nothing at all, else one of eight heights.
fn height(lines: u64, most: u64) -> char {
    let eighths = (lines * 8).div_ceil(most.max(1));
    [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'].into_iter().nth(usize::try_from(eighths).unwrap_or(8)).unwrap_or('█')
}

impl Summary {
    pub(super) fn new() -> Self {
        let times = Times { width: 1, bars: BTreeMap::new(), first: u64::MAX, last: 0 };
        Self { total: Count::default(), lists: ["user", "verb", "resource", "namespace"].map(List::new), times }
    }

    /// `length` is the line's, with its newline.
    pub(super) fn add(&mut self, row: &Row<'_>, length: usize) {
        let bytes = length as u64;
        self.total.add(bytes);
        let names = [cell(row.user), verb(row), resource(row), or_dash(row.namespace)];
        self.lists.iter_mut().zip(names).for_each(|(list, name)| list.add(name, bytes));
        if let Some(time) = row.time.and_then(|time| timestamp::parse(time.escaped())) {
            self.times.add(time);
        }
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{} lines, {} bytes", self.total.lines, self.total.bytes)?;
        self.times.write(out)?;
        self.lists.iter().try_for_each(|list| list.write(self.total, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::entry;

    fn line(user: &str, time: &str) -> String {
        format!(
            r#"{{"kind":"AdmissionReview","request":{{"operation":"CREATE","resource":{{"resource":"pods"}},"userInfo":{{"username":"{user}"}}}},"requestReceivedTimestamp":"{time}"}}"#
        )
    }

    fn summary(lines: impl IntoIterator<Item = (String, String)>) -> Summary {
        let mut summary = Summary::new();
        for (user, time) in lines {
            let line = line(&user, &time);
            summary.add(&Row::of(&entry::read(line.as_bytes()).unwrap()), line.len() + 1);
        }
        summary
    }

    fn text(summary: &Summary) -> String {
        let mut text = Vec::new();
        summary.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_ten_largest_are_named_and_the_others_are_one_row() {
        let lines = (0..12_usize)
            .flat_map(|user| vec![(format!("user-{user:02}"), "2026-11-20T21:34:38Z".to_owned()); user + 1]);
        let text = text(&summary(lines));
        assert!(text.starts_with("78 lines, "), "{text}");
        let users: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.ends_with("user"))
            .skip(1)
            .take_while(|line| !line.is_empty())
            .collect();
        assert_eq!(users.len(), SHOWN + 1, "{text}");
        assert!(users[0].starts_with("12 ") && users[0].ends_with("user-11"), "{text}");
        assert!(users[9].starts_with("3 ") && users[9].ends_with("user-02"), "{text}");
        assert!(users[10].starts_with("3 ") && users[10].ends_with("(the rest)"), "{text}");
    }

    #[test]
    fn names_without_end_take_no_memory_without_end_and_every_line_is_counted() {
        let number = 2 * ROOM / COST;
        let lines = (0..number).map(|user| (format!("user-{user}"), "2026-11-20T21:34:38Z".to_owned()));
        let summary = summary(lines);
        let users = &summary.lists[0];
        assert!(users.used <= ROOM && users.counts.len() < number);
        assert_eq!(users.counts.len() as u64 + users.rest.lines, number as u64);
    }

    #[test]
    fn bars_become_wider_instead_of_more_and_lose_no_line() {
        let times = ["2026-11-20T21:34:38Z", "2026-11-20T21:34:37Z", "2026-11-22T00:00:00Z", "2026-11-20T00:00:00Z"];
        let summary = summary(times.map(|time| ("u".to_owned(), time.to_owned())));
        assert_eq!(summary.times.bars.values().sum::<u64>(), 4);
        assert_eq!(summary.times.width, 4096);
        let text = text(&summary);
        assert!(text.contains("from 2026-11-20T00:00:00Z to 2026-11-22T00:00:00Z, each bar 4096 s"), "{text}");
        let row = text.lines().nth(3).unwrap();
        assert!(row.chars().count() <= 60 && row.starts_with('▄') && row.contains('█'), "{row:?}");
    }

    #[test]
    fn without_a_line_there_is_nothing_to_divide_by() {
        assert!(text(&Summary::new()).starts_with("0 lines, 0 bytes\n"));
    }
}
