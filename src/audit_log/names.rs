//! What the files beside the log are called.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::record::timestamp;

/// The names of the rolled files of one log: `NAME-2026-11-20T21-34-38.123.EXT`, or
/// `NAME-2026-11-20T21-34-38.123-1.EXT` (`-2`, ...) where that name was taken. Nothing else is ever taken for a rolled
/// file.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The log's name up to its last dot.
    stem: OsString,
    /// The last dot and what follows, or nothing.
    extension: OsString,
}

/// The time and number in a rolled file's name. A later file's is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// Since the Unix epoch.
    pub(crate) milliseconds: u64,
    /// 0 for a name without a number at its end.
    pub(crate) number: u32,
}

impl Stamp {
    pub(crate) fn of(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { milliseconds: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX), number: 0 }
    }

    /// The next greater one.
    pub(crate) fn next(self) -> Self {
        match self.number.checked_add(1) {
            Some(number) => Self { number, ..self },
            None => Self { milliseconds: self.milliseconds.saturating_add(1), number: 0 },
        }
    }

    pub(crate) fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.milliseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Length of `2026-11-20T21-34-38.123`.
pub(super) const STAMP_LENGTH: usize = 23;

impl Names {
    pub(crate) fn of_log(name: &OsStr) -> Self {
        let bytes = name.as_bytes();
        let dot = bytes.iter().rposition(|byte| *byte == b'.');
        let (stem, extension) = bytes.split_at(dot.unwrap_or(bytes.len()));
        Self { stem: OsStr::from_bytes(stem).to_owned(), extension: OsStr::from_bytes(extension).to_owned() }
    }

    pub(crate) fn name(&self, stamp: Stamp) -> OsString {
        let text = timestamp::rfc3339(stamp.time());
        let mut name = self.stem.as_bytes().to_vec();
        name.push(b'-');
        name.extend(text.iter().take(STAMP_LENGTH).map(|byte| match byte {
            b':' => b'-',
            other => *other,
        }));
        if stamp.number > 0 {
            name.extend_from_slice(format!("-{}", stamp.number).as_bytes());
        }
        name.extend_from_slice(self.extension.as_bytes());
        OsString::from_vec(name)
    }

    pub(crate) fn parse(&self, name: &OsStr) -> Option<Stamp> {
        let middle = name
            .as_bytes()
            .strip_prefix(self.stem.as_bytes())?
            .strip_prefix(b"-")?
            .strip_suffix(self.extension.as_bytes())?;
        let (time, number) = middle.split_at_checked(STAMP_LENGTH)?;
        let number = match number.strip_prefix(b"-") {
            Some(digits) => str::from_utf8(digits).ok()?.parse().ok()?,
            None => 0,
        };
        let stamp = Stamp { number, ..Stamp::of(parse_time(time)?) };
        // The same time and number in another spelling is no rolled file's name.
        (self.name(stamp) == name).then_some(stamp)
    }
}

/// Reads `2026-11-20T21-34-38.123`, which is RFC 3339 but for two colons and the zone.
fn parse_time(text: &[u8]) -> Option<SystemTime> {
    let mut text = [text, b"Z"].concat();
    for colon in ["2026-11-20T21".len(), "2026-11-20T21-34".len()] {
        *text.get_mut(colon)? = b':';
    }
    timestamp::parse(&text)
}

/// The directory that a file is in.
pub(crate) fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A hidden file beside the log, `.NAME` and `ending`: a shipper's `*.log` does not match it.
pub(super) fn hidden_beside(log: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(log.file_name().unwrap_or_default());
    name.push(ending);
    log.with_file_name(name)
}

/// The name of the log whose rolled file this is, if it is one.
pub(crate) fn log_of(rolled: &OsStr) -> Option<OsString> {
    let name = rolled.as_bytes();
    let dot = name.iter().rposition(|byte| *byte == b'.');
    // The last dot begins the extension, or, if the log's name has none, the milliseconds. After those there may be a
    // number.
    [dot.unwrap_or(name.len()), name.len()].into_iter().find_map(|end| {
        let (stem, extension) = name.split_at_checked(end)?;
        let numbered = stem.iter().rposition(|byte| *byte == b'-').unwrap_or_default();
        [stem.len(), numbered].into_iter().find_map(|end| {
            let start = end.checked_sub(STAMP_LENGTH + 1)?;
            let log = OsString::from_vec([stem.get(..start)?, extension].concat());
            Names::of_log(&log).parse(rolled).map(|_| log)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::of_log(OsStr::new("kube-audit-rest.log"))
    }

    fn parsed(name: &str) -> Option<Stamp> {
        names().parse(OsStr::new(name))
    }

    const SOME: u64 = 1_795_210_478_123;

    #[test]
    fn a_name_is_the_logs_with_the_time_before_the_extension() {
        let stamp = Stamp { milliseconds: SOME, number: 0 };
        assert_eq!(names().name(stamp), "kube-audit-rest-2026-11-20T21-34-38.123.log");
        let again = Stamp { number: 12, ..stamp };
        assert_eq!(names().name(again), "kube-audit-rest-2026-11-20T21-34-38.123-12.log");
        let bare = Names::of_log(OsStr::new("audit"));
        assert_eq!(bare.name(stamp), "audit-2026-11-20T21-34-38.123");
        let hidden = Names::of_log(OsStr::new(".log"));
        assert_eq!(hidden.name(stamp), "-2026-11-20T21-34-38.123.log");
    }

    #[test]
    fn every_name_is_read_back_as_what_it_was_made_of() {
        for log in ["kube-audit-rest.log", "audit", ".log", "a.b.c", "x-2026-11-20T21-34-38.123.log"] {
            let names = Names::of_log(OsStr::new(log));
            for milliseconds in [0, SOME, 951_827_696_000, 253_402_300_799_999] {
                for number in [0, 1, 10, u32::MAX] {
                    let stamp = Stamp { milliseconds, number };
                    assert_eq!(names.parse(&names.name(stamp)), Some(stamp));
                }
            }
        }
    }

    #[test]
    fn only_the_exact_pattern_is_a_backup() {
        assert!(parsed("kube-audit-rest-2024-02-29T00-00-00.000.log").is_some());
        for other in [
            "kube-audit-rest.log",
            "kube-audit-rest-.log",
            "kube-audit-rest-2026-11-20T21-34-38.123.log.gz",
            "kube-audit-rest-2026-11-20T21-34-38.123.txt",
            "kube-audit-rest-2026-11-20T21-34-38.12.log",
            "kube-audit-rest-2026-11-20T21-34-38.1234.log",
            "kube-audit-rest-2026-11-20T21:34:38.123.log",
            "kube-audit-rest-2026-11-20T21-34-38.123-.log",
            "kube-audit-rest-2026-11-20T21-34-38.123-0.log",
            "kube-audit-rest-2026-11-20T21-34-38.123-01.log",
            "kube-audit-rest-2026-11-20T21-34-38.123-+1.log",
            "kube-audit-rest-2026-11-20T21-34-38.123--1.log",
            "kube-audit-rest-2026-11-20T21-34-38.123-4294967296.log",
            "kube-audit-rest-2026-13-20T21-34-38.123.log",
            "kube-audit-rest-2026-02-29T21-34-38.123.log",
            "kube-audit-rest-2026-00-20T21-34-38.123.log",
            "kube-audit-rest-2026-11-20T24-34-38.123.log",
            "kube-audit-rest-2026-11-20T21-60-38.123.log",
            "kube-audit-rest-2026-11-20T21-34-60.123.log",
            "kube-audit-rest-+026-11-20T21-34-38.123.log",
            "my-kube-audit-rest-2026-11-20T21-34-38.123.log",
            "kube-audit-rest2-2026-11-20T21-34-38.123.log",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_the_same_millisecond_are_ordered_by_number_not_as_text() {
        let second = parsed("kube-audit-rest-2026-11-20T21-34-38.123-2.log");
        let tenth = parsed("kube-audit-rest-2026-11-20T21-34-38.123-10.log");
        let next = parsed("kube-audit-rest-2026-11-20T21-34-38.124.log");
        assert!(second < tenth && tenth < next);
    }

    #[test]
    fn a_rolled_name_tells_its_log() {
        let stamp = Stamp { milliseconds: 1_795_210_478_123, number: 0 };
        for log in ["kube-audit-rest.log", "a-b.c.log", "log", ".hidden", "x-2026-11-20T21-34-38.123.log"] {
            for stamp in [stamp, stamp.next()] {
                let rolled = Names::of_log(log.as_ref()).name(stamp);
                assert_eq!(log_of(&rolled), Some(log.into()), "{rolled:?}");
            }
        }
        for other in ["kube-audit-rest.log", "a-2026-11-20.log", "", "-", "a-2026-02-29T21-34-38.123.log"] {
            assert_eq!(log_of(other.as_ref()), None, "{other}");
        }
    }
}
