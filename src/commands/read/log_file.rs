//! The bytes of one log: its rolled files, the oldest first, and the live one, through rotation.
//!
//! The next file is opened before the end of this one is looked for: a file that has a successor is written no more, so the
//! end that is found then is its last, and nothing is missed. Files are told apart by device and inode, which no other file
//! can have while one is open, so nothing is read twice.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::options::Follow;
use crate::audit_log::{Names, Stamp, directory_of};
use crate::commands::lines::refuse_compressed;

/// Files held open ahead, so that retention cannot take them away unread.
const AHEAD: usize = 16;

/// A log, from its oldest rolled file on.
#[derive(Debug)]
pub(super) struct LogFile {
    place: Place,
    /// The file being read; none as long as there is none at all.
    current: Option<Opened>,
    /// How much of it was read.
    position: u64,
    /// What comes after it.
    next: VecDeque<Opened>,
}

/// Where a log and its rolled files are.
#[derive(Debug)]
struct Place {
    /// The live file.
    path: PathBuf,
    directory: PathBuf,
    names: Names,
    /// What could not be opened; each is said once.
    refused: Vec<PathBuf>,
    unsaid: Vec<Refusal>,
}

/// A file or directory that cannot be read.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

#[derive(Debug)]
struct Opened {
    file: File,
    id: Id,
    path: PathBuf,
    /// When it was rolled; none for the live file. Every older rolled file was read before, or is open.
    stamp: Option<Stamp>,
    /// The newest rolled file that was there when the live one was opened.
    after: Option<Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id {
    device: u64,
    inode: u64,
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// So many bytes.
    Bytes(usize),
    /// The end of this file; the next one has been begun.
    NextFile,
    /// The file was cut and is read from its beginning.
    Truncated,
    /// The end of the live file, for now; or a pipe with nothing in it.
    Nothing,
    /// The end of a pipe.
    End,
}

impl LogFile {
    /// Opens the oldest file of the log at `path`. Where there is none, that is an error, unless it is waited for.
    ///
    /// # Errors
    /// There is none, or none that can be read.
    pub(super) fn open(path: &Path, follow: Follow) -> Result<Self, Refusal> {
        let nothing = || {
            let error = io::Error::new(io::ErrorKind::NotFound, "no such file, and no rolled file of it");
            Refusal { path: path.to_owned(), error }
        };
        let name = path.file_name().ok_or_else(nothing)?;
        let directory = directory_of(path).to_owned();
        let names = Names::of_log(name);
        let mut place = Place { path: path.to_owned(), directory, names, refused: Vec::new(), unsaid: Vec::new() };
        let current = place.successor(None);
        if current.is_none() {
            match (place.unsaid.pop(), follow) {
                (Some(refusal), _) => return Err(refusal),
                (None, Follow::End) => return Err(nothing()),
                (None, Follow::Wait) => {}
            }
        }
        Ok(Self { place, current, position: 0, next: VecDeque::new() })
    }

    /// The file being read, as it was called when it was opened.
    pub(super) fn path(&self) -> &Path {
        self.current.as_ref().map_or(&self.place.path, |current| &current.path)
    }

    /// Whether there is no file of it yet.
    pub(super) fn is_missing(&self) -> bool {
        self.current.is_none()
    }

    /// What was passed over since this was asked last, because it cannot be read.
    pub(super) fn refusals(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.place.unsaid)
    }

    /// Reads on.
    ///
    /// # Errors
    /// Those of reading the file that is open.
    pub(super) fn read(&mut self, space: &mut [u8]) -> io::Result<Found> {
        // Before the read: if that finds the end, it is the end for good, for a successor is there.
        while self.next.len() < AHEAD {
            let newest = self.next.back().or(self.current.as_ref());
            match self.place.successor(newest) {
                Some(opened) => self.next.push_back(opened),
                None => break,
            }
        }
        if let Some(Opened { file, .. }) = &mut self.current {
            let count = file.read(space)?;
            self.position += count as u64;
            if count > 0 {
                return Ok(Found::Bytes(count));
            }
            if file.metadata()?.len() < self.position {
                file.rewind()?;
                self.position = 0;
                return Ok(Found::Truncated);
            }
        }
        match self.next.pop_front() {
            Some(opened) => {
                self.current = Some(opened);
                self.position = 0;
                Ok(Found::NextFile)
            }
            None => Ok(Found::Nothing),
        }
    }
}

impl Place {
    /// Opens the file that follows `after`, or the oldest one. None: there is none, or not yet.
    fn successor(&mut self, after: Option<&Opened>) -> Option<Opened> {
        loop {
            let live = fs::metadata(&self.path).ok().map(|metadata| Id::of(&metadata));
            if after.is_some_and(|after| live == Some(after.id)) {
                return None;
            }
            let rolled = self.rolled_files();
            let read_up_to =
                after.and_then(|after| after.stamp.or_else(|| self.stamp_of(after, &rolled)).or(after.after));
            let is_other = |opened: &Opened| after.is_none_or(|after| after.id != opened.id);
            for stamp in rolled.iter().copied().filter(|stamp| read_up_to.is_none_or(|read| *stamp > read)) {
                let path = self.directory.join(self.names.name(stamp));
                if let Some(opened) = self.open(path, Some(stamp), None).filter(is_other) {
                    return Some(opened);
                }
            }
            let opened = self.open(self.path.clone(), None, rolled.last().copied()).filter(is_other)?;
            // If the log was rolled between listing and opening, this may be the file after the next.
            if self.rolled_files().last() <= rolled.last() {
                return Some(opened);
            }
        }
    }

    /// None if the file is not there, or cannot be read, which is noted.
    fn open(&mut self, path: PathBuf, stamp: Option<Stamp>, after: Option<Stamp>) -> Option<Opened> {
        let opened = File::open(&path).and_then(|file| {
            refuse_compressed(&file)?;
            Ok((Id::of(&file.metadata()?), file))
        });
        match opened {
            Ok((id, file)) => Some(Opened { file, id, path, stamp, after }),
            Err(error) => {
                self.refuse(path, error);
                None
            }
        }
    }

    fn refuse(&mut self, path: PathBuf, error: io::Error) {
        if error.kind() != io::ErrorKind::NotFound && !self.refused.contains(&path) {
            self.refused.push(path.clone());
            self.unsaid.push(Refusal { path, error });
        }
    }

    /// The rolled files there are, the oldest first.
    fn rolled_files(&mut self) -> Vec<Stamp> {
        let mut stamps = Vec::new();
        let listed = fs::read_dir(&self.directory).and_then(|entries| {
            for entry in entries {
                stamps.extend(self.names.parse(&entry?.file_name()));
            }
            Ok(())
        });
        if let Err(error) = listed {
            self.refuse(self.directory.clone(), error);
        }
        stamps.sort_unstable();
        stamps
    }

    /// What became of the live file, if it was rolled.
    fn stamp_of(&self, live: &Opened, rolled: &[Stamp]) -> Option<Stamp> {
        let newer = rolled.iter().copied().filter(|stamp| live.after.is_none_or(|after| *stamp > after));
        newer.into_iter().find(|stamp| {
            let metadata = fs::metadata(self.directory.join(self.names.name(*stamp)));
            metadata.is_ok_and(|metadata| Id::of(&metadata) == live.id)
        })
    }
}

impl Id {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oldest_file_that_cannot_be_opened_is_reported_and_the_next_one_read() {
        let directory = tempfile::tempdir().unwrap();
        let (log, rolled) = (directory.path().join("a.log"), directory.path().join("a-2026-11-20T21-34-38.123.log"));
        fs::write(&log, "{}\n").unwrap();
        // A link to itself can be opened by nobody, root included.
        std::os::unix::fs::symlink(&rolled, &rolled).unwrap();
        let mut opened = LogFile::open(&log, Follow::End).unwrap();
        assert_eq!(opened.path(), log);
        let refused: Vec<PathBuf> = opened.refusals().into_iter().map(|refusal| refusal.path).collect();
        assert_eq!(refused, [rolled]);
    }
}
