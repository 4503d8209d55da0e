//! The table of rules: what each decided, and how many bytes it left.

use std::fmt::Write as _;

use crate::observe::visible::beginning;
use crate::record::policy::{Decision, Level, Policy, Rule};

/// Most characters in which a rule's conditions are shown.
const WIDEST: usize = 70;

/// What was counted so far.
pub(super) struct Report<'p> {
    policy: &'p Policy,
    rules: Vec<Counts>,
    /// Lines that no rule matched.
    unmatched: Counts,
    /// Lines that the policy cannot judge, and which are recorded completely.
    unjudged: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    lines: u64,
    before: u64,
    after: u64,
}

impl Counts {
    fn add(&mut self, before: usize, after: usize) {
        self.lines += 1;
        self.before += u64::try_from(before).unwrap_or(u64::MAX);
        self.after += u64::try_from(after).unwrap_or(u64::MAX);
    }
}

impl<'p> Report<'p> {
    pub(super) fn new(policy: &'p Policy) -> Self {
        let rules = vec![Counts::default(); policy.rules.len()];
        Self { policy, rules, unmatched: Counts::default(), unjudged: Counts::default() }
    }

    /// Counts a line of this length, and what became of it.
    pub(super) fn count(&mut self, decision: &Decision, before: usize, after: usize) {
        let counts = match decision.rule {
            Some(rule) => self.rules.get_mut(rule),
            None if decision.level == Level::None => Some(&mut self.unmatched),
            None => Some(&mut self.unjudged),
        };
        if let Some(counts) = counts {
            counts.add(before, after);
        }
    }

    /// Writes the table, and the rules that matched nothing.
    pub(super) fn write(&self, text: &mut String) {
        let mut rows = vec![["rule", "level", "lines", "before", "after", "of"].map(str::to_owned)];
        let mut total = Counts::default();
        let mut never = Vec::new();
        for (number, (rule, counts)) in self.policy.rules.iter().zip(&self.rules).enumerate() {
            if counts.lines == 0 {
                never.push(number);
            }
            rows.push(row(&format!("rules[{number}]"), rule.level.name(), counts, &asked_for(rule)));
        }
        rows.push(row("no rule", Level::None.name(), &self.unmatched, "what no rule matches"));
        if self.unjudged.lines > 0 {
            let of = "what can be read in two ways";
            rows.push(row("unclear", Level::RequestResponse.name(), &self.unjudged, of));
        }
        for counts in self.rules.iter().chain([&self.unmatched, &self.unjudged]) {
            total.lines += counts.lines;
            total.before += counts.before;
            total.after += counts.after;
        }
        let share = match total.before {
            0 => String::new(),
            before => {
                let thousandths = total.after.saturating_mul(1000) / before;
                format!("{}.{} % of the bytes stay", thousandths / 10, thousandths % 10)
            }
        };
        rows.push(row("all", "", &total, &share));
        write_table(text, &rows);
        match never.as_slice() {
            [] => text.push_str("\nEach rule matched something.\n"),
            never => {
                let _ = writeln!(text, "\nMatched nothing: {}", ranges(never));
            }
        }
    }
}

fn row(name: &str, level: &str, counts: &Counts, of: &str) -> [String; 6] {
    let Counts { lines, before, after } = counts;
    [name.to_owned(), level.to_owned(), grouped(*lines), grouped(*before), grouped(*after), of.to_owned()]
}

/// Columns as wide as what stands in them; numbers to the right.
fn write_table(text: &mut String, rows: &[[String; 6]]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let [name_width, level_width, lines_width, before_width, after_width] = [0, 1, 2, 3, 4].map(width);
    for [name, level, lines, before, after, of] in rows {
        let line = format!(
            "{name:name_width$}  {level:level_width$}  {lines:>lines_width$}  {before:>before_width$}  \
             {after:>after_width$}  {of}"
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Rules by their numbers, which rise; those in a row in one word.
fn ranges(numbers: &[usize]) -> String {
    let rows = numbers.chunk_by(|one, next| one + 1 == *next).filter_map(|row| Some((row.first()?, row.last()?)));
    let words = rows.map(|(first, last)| match last - first {
        0 => format!("rules[{first}]"),
        _ => format!("rules[{first}] to rules[{last}]"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// A number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rule's conditions in a few words.
fn asked_for(rule: &Rule) -> String {
    let resources = rule.resources.iter().map(|entry| {
        let resources = if entry.resources.is_empty() { "*".to_owned() } else { entry.resources.join(" ") };
        let names = if entry.resource_names.is_empty() {
            String::new()
        } else {
            format!(" named {}", entry.resource_names.join(" "))
        };
        match entry.group.as_str() {
            "" => format!("{resources}{names}"),
            group => format!("{resources} ({group}){names}"),
        }
    });
    let namespaces = rule.namespaces.iter().map(|name| if name.is_empty() { "\"\"" } else { name });
    let parts = [
        ("users", rule.users.join(" ")),
        ("groups", rule.user_groups.join(" ")),
        ("verbs", rule.verbs.join(" ")),
        ("namespaces", namespaces.collect::<Vec<_>>().join(" ")),
        ("resources", resources.collect::<Vec<_>>().join(", ")),
        ("paths", rule.non_resource_urls.join(" ")),
    ];
    let parts: Vec<_> =
        parts.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| format!("{name} {list}")).collect();
    if parts.is_empty() {
        return "everything else".to_owned();
    }
    beginning(parts.join("; ").chars(), WIDEST)
}
