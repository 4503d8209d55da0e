//! Which flag was probably meant.

use lexopt::Arg;

use crate::observe::visible::visible;

/// What to say of a flag that a command does not have. `flags` are those that it has, without their dashes.
pub(crate) fn no_such_flag(argument: &Arg<'_>, flags: &[&str]) -> String {
    let word = match argument {
        Arg::Long(name) => format!("--{name}"),
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Value(word) => word.to_string_lossy().into_owned(),
    };
    let hint = did_you_mean(word.trim_start_matches('-'), flags).unwrap_or_default();
    format!("{}: no such flag{hint}", visible(&word))
}

/// ` (did you mean --flag?)`, for a word that is nearly one of `flags`: the only one that contains it, or one that
/// differs from it by a few letters. What follows an equals sign is a value.
pub(super) fn did_you_mean(word: &str, flags: &[&str]) -> Option<String> {
    let name = word.split('=').next().unwrap_or_default().to_lowercase().replace('_', "-");
    let mut holding = flags.iter().filter(|flag| name.len() >= 4 && flag.contains(&name));
    let meant = if let Some(flag) = holding.next() {
        // Where several hold it nobody can tell.
        holding.next().is_none().then_some(flag)
    } else {
        let (letters, flag) = flags.iter().map(|flag| (distance(&name, flag), flag)).min()?;
        (letters <= (1 + name.len() / 3).min(4)).then_some(flag)
    };
    meant.map(|flag| format!(" (did you mean --{flag}?)"))
}

/// Bytes to insert, delete or replace to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, x) in (1..).zip(a.bytes()) {
        let mut left = line;
        let mut next = vec![left];
        for (y, above) in b.bytes().zip(row.windows(2)) {
            if let [diagonal, above] = above {
                left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
                next.push(left);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
