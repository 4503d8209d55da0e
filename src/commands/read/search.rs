//! Bytes found fast: what lets most lines be passed over without being looked into.
//!
//! The compiler turns the loops over 64 bytes at a time into vector instructions, in safe Rust.

const STEP: usize = 64;

/// Where `byte` stands first.
pub(super) fn find_byte(bytes: &[u8], byte: u8) -> Option<usize> {
    let (steps, rest) = bytes.as_chunks::<STEP>();
    for (number, step) in steps.iter().enumerate() {
        let mut found = false;
        for at in step {
            found |= *at == byte;
        }
        if found {
            return step.iter().position(|at| *at == byte).map(|at| number * STEP + at);
        }
    }
    let at = rest.iter().position(|at| *at == byte)?;
    Some(bytes.len() - rest.len() + at)
}

/// A byte string to look for.
#[derive(Debug, Clone)]
pub(super) struct Needle {
    bytes: Vec<u8>,
    /// Indexes of its two rarest bytes, which are looked for together; `first` is not behind `second`.
    first: usize,
    second: usize,
}

impl Needle {
    /// `bytes` must not be empty.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let mut places: Vec<usize> = (0..bytes.len()).collect();
        places.sort_by_key(|place| bytes.get(*place).map(|byte| commonness(*byte)));
        let one = places.first().copied().unwrap_or_default();
        let other = places.get(1).copied().unwrap_or(one);
        Self { bytes, first: one.min(other), second: one.max(other) }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where it stands first, at `from` or behind it.
    pub(super) fn find(&self, bytes: &[u8], mut from: usize) -> Option<usize> {
        let pair = (*self.bytes.get(self.first)?, *self.bytes.get(self.second)?);
        loop {
            let at = from + find_pair(bytes.get(from + self.first..)?, pair, self.second - self.first)?;
            if bytes.get(at..at + self.bytes.len())? == self.bytes {
                return Some(at);
            }
            from = at + 1;
        }
    }

    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        self.find(bytes, 0).is_some()
    }
}

/// How often a byte occurs in the objects of Kubernetes, roughly.
fn commonness(byte: u8) -> u8 {
    match byte {
        b'"' => 3,
        b'a' | b'c' | b'd' | b'e' | b'i' | b'l' | b'm' | b'n' | b'o' | b'p' | b'r' | b's' | b't' | b'u' => 2,
        b'f' | b':' | b',' | b'{' | b'}' | b'0'..=b'9' => 2,
        b'a'..=b'z' | b'-' | b'.' | b'/' => 1,
        _ => 0,
    }
}

/// Where `one` stands first with `other` so many bytes behind it.
fn find_pair(bytes: &[u8], (one, other): (u8, u8), distance: usize) -> Option<usize> {
    let ahead = bytes.get(distance..)?;
    let (steps, _) = bytes.as_chunks::<STEP>();
    let (steps_ahead, _) = ahead.as_chunks::<STEP>();
    let mut looked_at = 0;
    for (step, step_ahead) in steps.iter().zip(steps_ahead) {
        let mut found = false;
        for (byte, byte_ahead) in step.iter().zip(step_ahead) {
            found |= (*byte == one) & (*byte_ahead == other);
        }
        if found {
            break;
        }
        looked_at += STEP;
    }
    let rest = bytes.iter().zip(ahead).skip(looked_at);
    rest.map(|(byte, byte_ahead)| *byte == one && *byte_ahead == other).position(|it| it).map(|at| looked_at + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_found_is_what_looking_at_each_place_finds(
            bytes in prop::collection::vec(prop::sample::select(b"ab\"\\".to_vec()), 0..400),
            needle in prop::collection::vec(prop::sample::select(b"ab\"".to_vec()), 1..5),
            from in 0..400_usize,
        ) {
            let wanted = bytes.windows(needle.len()).enumerate().skip(from).find(|(_, it)| *it == needle);
            prop_assert_eq!(Needle::new(needle).find(&bytes, from), wanted.map(|(at, _)| at));
            prop_assert_eq!(find_byte(&bytes, b'\\'), bytes.iter().position(|byte| *byte == b'\\'));
        }
    }
}
