//! Which flag was probably meant.

use super::config::FLAGS;

/// The flag (without its dashes) that was probably meant by `name`, which is no flag: the only one that contains it, or
/// one that differs from it by a few letters.
pub(super) fn meant(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase().replace('_', "-");
    let flags = || FLAGS.iter().map(|flag| flag.name).chain(["help", "version"]);
    let mut holding = flags().filter(|flag| name.len() >= 4 && flag.contains(&name));
    if let Some(flag) = holding.next() {
        // Where several hold it nobody can tell.
        return holding.next().is_none().then_some(flag);
    }
    let (letters, flag) = flags().map(|flag| (distance(&name, flag), flag)).min()?;
    (letters <= (1 + name.len() / 3).min(4)).then_some(flag)
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
