//! Failures of system calls, for tests.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::fs::Call;

/// What is to go wrong, and what has been called so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    plan: Option<Plan>,
    /// Calls that the plan is about, so far.
    seen: u32,
    /// Which call, counted from 1 since the script was set, goes wrong, and how.
    script: Vec<(u32, Fault)>,
    /// Calls since the script was set.
    calls: u32,
    /// No call works any more.
    crashed: bool,
    /// The next write is to be cut short.
    shorten: bool,
    fired: bool,
    disk: Disk,
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// The calls counted; `None` counts all.
    pub(super) call: Option<Call>,
    /// The first one to fail, from 1.
    pub(super) nth: u32,
    /// How many fail in a row.
    pub(super) times: u32,
    /// With this error.
    pub(super) errno: i32,
    /// A write fails only after half of it was written.
    pub(super) short: bool,
}

/// What goes wrong at one call of a script.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It fails.
    Fail(i32),
    /// A write writes half; any other call fails.
    Short,
    /// Every call from here on fails.
    Crash,
    /// Somebody is faster: the log is deleted, moved away, or truncated to so many hundredths, before the call is made.
    Delete,
    Move,
    Truncate(u8),
}

/// What is known to be on the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The log's path, where a script's faults are done to it.
    pub(super) log: PathBuf,
    /// Lengths at the last sync, by inode.
    pub(super) synced: HashMap<u64, u64>,
    /// What was done to names since the directory was synced.
    pub(super) names: Vec<Name>,
    /// Lines that somebody took away in mid-call, and whether a look at a file came after that.
    pub(super) taken: Vec<String>,
    pub(super) looked_after: bool,
    pub(super) moved: u32,
    /// Calls that failed since the script was set.
    pub(super) failed: u32,
    /// Somebody has truncated the log, perhaps within a line, and the log may not know yet.
    pub(super) truncated: bool,
    /// How often somebody has truncated it since the log last wrote undisturbed.
    pub(super) truncations: u32,
    /// Inodes of the files that were truncated.
    pub(super) truncated_files: Vec<u64>,
}

#[derive(Debug)]
pub(super) enum Name {
    Made(PathBuf),
    Renamed(PathBuf, PathBuf),
}

impl Faults {
    pub(super) fn set(&self, plan: Option<Plan>) {
        let mut state = self.0.lock().unwrap();
        *state = State { plan, ..State::default() };
    }

    /// From now on these calls go wrong.
    pub(super) fn play(&self, script: Vec<(u32, Fault)>) {
        let mut state = self.0.lock().unwrap();
        (state.script, state.calls, state.crashed, state.shorten) = (script, 0, false, false);
        state.disk.failed = 0;
    }

    pub(super) fn with_disk<T>(&self, action: impl FnOnce(&mut Disk) -> T) -> T {
        action(&mut self.0.lock().unwrap().disk)
    }

    /// Whether the plan has made a call go wrong.
    pub(super) fn fired(&self) -> bool {
        self.0.lock().unwrap().fired
    }

    pub(super) fn may(&self, call: Call) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.play(call)?;
        let Some(plan) = state.plan else {
            return Ok(());
        };
        if plan.call.is_some_and(|planned| planned != call) {
            return Ok(());
        }
        state.seen += 1;
        if state.seen < plan.nth || state.seen - plan.nth >= plan.times {
            return Ok(());
        }
        state.fired = true;
        if plan.short && call == Call::Write && state.seen == plan.nth {
            state.shorten = true;
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(plan.errno))
    }

    pub(super) fn shortened<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if std::mem::take(&mut self.0.lock().unwrap().shorten) { &bytes[..bytes.len() / 2] } else { bytes }
    }

    pub(super) fn synced(&self, file: &File) {
        let Ok(metadata) = file.metadata() else { return };
        self.with_disk(|disk| match metadata.is_dir() {
            true => disk.names.clear(),
            false => drop(disk.synced.insert(metadata.ino(), metadata.len())),
        });
    }

    pub(super) fn named(&self, name: Name) {
        self.with_disk(|disk| disk.names.push(name));
    }
}

impl State {
    fn play(&mut self, call: Call) -> io::Result<()> {
        let outcome = self.play_call(call);
        self.disk.failed += u32::from(outcome.is_err());
        outcome
    }

    fn play_call(&mut self, call: Call) -> io::Result<()> {
        self.calls += 1;
        self.disk.looked_after |= call == Call::Stat;
        let now: Vec<Fault> =
            self.script.iter().filter(|(nth, _)| *nth == self.calls).map(|(_, fault)| fault.clone()).collect();
        for fault in now {
            match fault {
                // What has gone in has to be cut off, so it counts as a failure.
                Fault::Short if call == Call::Write => {
                    self.shorten = true;
                    self.disk.failed += 1;
                }
                Fault::Short => return Err(io::Error::from_raw_os_error(5)),
                Fault::Fail(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Fault::Crash => self.crashed = true,
                Fault::Delete => self.disk.take(|disk| fs::remove_file(&disk.log)),
                Fault::Truncate(share) => self.disk.truncate(share),
                Fault::Move => self.disk.move_away(),
            }
        }
        if self.crashed { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

fn one_byte_of_a_line(text: &[u8]) -> bool {
    matches!(text, [b'{'] | [.., b'\n', b'{'])
}

impl Disk {
    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read(path).unwrap_or_default();
        let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        lines.map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect()
    }

    /// Does `action`, which takes lines of the log away, and notes which.
    pub(super) fn take(&mut self, action: impl FnOnce(&Self) -> io::Result<()>) {
        let log = self.log.clone();
        let before = Self::lines(&log);
        let outcome = action(self).map(|()| before);
        self.note_taken(&log, outcome);
    }

    /// The same for any file.
    pub(super) fn take_from(&mut self, path: &Path, action: impl FnOnce() -> io::Result<()>) {
        let before = Self::lines(path);
        self.note_taken(path, action().map(|()| before));
    }

    fn note_taken(&mut self, path: &Path, before: io::Result<Vec<String>>) {
        if let Ok(before) = before {
            let after = Self::lines(path);
            self.taken.extend(before.into_iter().filter(|line| !after.contains(line)));
            self.names.clear();
            self.looked_after = false;
        }
    }

    /// Truncates the log to so many hundredths of its length, and from there back to the end of a line.
    pub(super) fn truncate_to_line(&mut self, share: u8) {
        self.truncations += 1;
        self.take(|disk| {
            let text = fs::read(&disk.log)?;
            let end = text.len() * usize::from(share) / 100;
            let end = text[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            File::options().write(true).open(&disk.log)?.set_len(end as u64)
        });
    }

    pub(super) fn truncate(&mut self, share: u8) {
        self.truncated = true;
        self.truncations += 1;
        self.truncated_files.extend(fs::metadata(&self.log).map(|metadata| metadata.ino()));
        self.take(|disk| {
            let file = File::options().write(true).open(&disk.log)?;
            let mut length = file.metadata()?.len() * u64::from(share) / 100;
            // One byte of a line, `{`, is left out: with the next line glued to it, it would begin `{{`, which no start
            // takes for ours.
            length -=
                u64::from(length > 0 && fs::read(&disk.log)?.get(..length as usize).is_some_and(one_byte_of_a_line));
            file.set_len(length)
        });
    }

    pub(super) fn move_away(&mut self) {
        self.moved += 1;
        let away = self.log.with_file_name(format!("moved-{}", self.moved));
        if fs::rename(&self.log, away).is_ok() {
            self.names.clear();
        }
    }
}
