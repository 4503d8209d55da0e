//! The last chained line that a file holds, which the first line of a new process follows.

use std::fs::File;
use std::io;

use super::super::content;
use super::super::fs::Fs;
use super::format::{self, Point};

/// How many lines without a chain are passed over at a file's end: a power cut may have blanked some.
const PASSED_OVER: usize = 100;

/// The place of the last chained line in a file of whole lines that is `length` bytes long.
pub(in super::super) fn last_point(fs: &Fs, file: &File, length: u64) -> io::Result<Option<Point>> {
    let mut end = length;
    for _ in 0..PASSED_OVER {
        let Some(newline) = end.checked_sub(1) else { break };
        let from = newline.saturating_sub(format::LONGEST as u64);
        let mut bytes = vec![0; usize::try_from(newline - from).unwrap_or_default()];
        fs.read_exact_at(file, &mut bytes, from)?;
        if let Some((_, link)) = format::split(&bytes) {
            return Ok(Some(link.point));
        }
        end = content::line_start(fs, file, newline)?;
    }
    Ok(None)
}

/// The same for a file that somebody else may be writing to.
pub(crate) fn last_point_of(file: &File) -> io::Result<Option<Point>> {
    let fs = Fs::default();
    let length = content::line_start(&fs, file, file.metadata()?.len())?;
    last_point(&fs, file, length)
}
