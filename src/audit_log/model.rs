//! The log against a model of it: threads append, files are moved and deleted, the program is restarted, and every
//! system call in turn fails. Whatever happens, what was acknowledged is there once and whole, what was not is there at
//! most once and whole, and every file ends with a line.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::faults::Plan;
use super::fs::Call;
use super::names::Names;
use super::tests::Place;
use super::{AuditLog, SyncMode};

const THREADS: u32 = 3;
const APPENDS: u32 = 6;
const MAX_SIZE: u64 = 400;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What became of an append, by what is known to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    Failed,
}

/// What somebody does to the files while threads append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meddling {
    None,
    Move,
    MoveAndMake,
    Delete,
    MoveDirectory,
    Sighup,
}

const MEDDLING: [Meddling; 6] = [
    Meddling::None,
    Meddling::Move,
    Meddling::MoveAndMake,
    Meddling::Delete,
    Meddling::MoveDirectory,
    Meddling::Sighup,
];

struct World {
    place: Place,
    dice: Dice,
    /// Every line that was ever given to the log, without its newline.
    fates: HashMap<String, Fate>,
    /// Files moved away.
    moved: Vec<PathBuf>,
    /// Files deleted, still open.
    deleted: Vec<File>,
    life: u32,
    /// From some call on, nothing worked until the next life.
    crashed: bool,
}

impl World {
    fn new(seed: u64, synced: bool) -> Self {
        let mut place = Place::in_memory();
        place.settings.max_size = MAX_SIZE;
        place.settings.sync = if synced { SyncMode::Always } else { SyncMode::Never };
        Self {
            place,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            fates: HashMap::new(),
            moved: Vec::new(),
            deleted: Vec::new(),
            life: 0,
            crashed: false,
        }
    }

    /// Opens the log, lets threads append while `meddling` goes on, and closes it. The opening may fail.
    fn live(&mut self, meddling: Meddling) {
        self.life += 1;
        let Ok(log) = self.place.try_open() else {
            return;
        };
        let life = self.life;
        let seeds: Vec<u64> = (0..THREADS).map(|_| self.dice.roll(1 << 60) | 1).collect();
        let fates: Vec<(String, Fate)> = std::thread::scope(|scope| {
            let threads: Vec<_> = seeds
                .into_iter()
                .zip(0..)
                .map(|(seed, thread)| {
                    let log = &log;
                    scope.spawn(move || append_some(log, &format!("{life}.{thread}"), Dice(seed)))
                })
                .collect();
            self.meddle(meddling, &log);
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        self.fates.extend(fates);
    }

    fn meddle(&mut self, meddling: Meddling, log: &AuditLog) {
        let path = self.place.log();
        let number = self.moved.len();
        let away = self.place.root().join(format!("moved-{number}"));
        match meddling {
            Meddling::None => {}
            Meddling::Move | Meddling::MoveAndMake => {
                if fs::rename(&path, &away).is_ok() {
                    self.moved.push(away);
                    if meddling == Meddling::MoveAndMake {
                        let _ = File::options().append(true).create(true).open(&path);
                    }
                    log.reopen();
                }
            }
            Meddling::Delete => {
                // By another name first, so that it is this very file that is kept open.
                if fs::rename(&path, &away).is_ok() {
                    self.deleted.push(File::open(&away).unwrap());
                    fs::remove_file(&away).unwrap();
                }
                log.reopen();
            }
            Meddling::MoveDirectory => {
                if fs::rename(self.place.directory(), &away).is_ok() {
                    self.moved.push(away);
                }
                log.reopen();
            }
            Meddling::Sighup => log.reopen(),
        }
    }

    /// One append that must work, now that nothing fails any more.
    fn must_work(&mut self) {
        self.life += 1;
        let line = format!("{{\"{} works\":1}}", self.life);
        let log = self.place.open();
        log.append(format!("{line}\n").as_bytes()).unwrap();
        assert_eq!(log.failing(), None);
        self.fates.insert(line, Fate::Acknowledged);
    }

    fn check(&mut self, case: &str) {
        let said = self.place.messages.text();
        let context = || format!("{case}\n{said}");
        let mut visible: HashMap<String, usize> = HashMap::new();
        let mut gone: HashMap<String, usize> = HashMap::new();
        for path in self.files() {
            let text = fs::read_to_string(&path).unwrap();
            let is_log = path == self.place.log();
            self.check_file(&text, is_log, &path.display().to_string(), &context());
            for line in text.lines() {
                *visible.entry(line.to_owned()).or_default() += 1;
            }
        }
        for file in &mut self.deleted {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            for line in text.lines() {
                *gone.entry(line.to_owned()).or_default() += 1;
            }
        }
        for (line, fate) in &self.fates {
            let seen = visible.get(line).copied().unwrap_or(0);
            assert!(seen <= 1, "{line:?} {fate:?} is there {seen} times: {}", context());
            if *fate == Fate::Acknowledged {
                let known = seen + gone.get(line).copied().unwrap_or(0);
                assert!(known > 0, "{line:?} was acknowledged and is lost: {}", context());
            }
        }
    }

    fn check_file(&self, text: &str, is_log: bool, name: &str, context: &str) {
        let uncut = self.crashed || context.contains("is in doubt");
        if uncut && name.contains("moved-") {
            // It was gone before it could be mended.
            return;
        }
        let whole = text.is_empty() || text.ends_with('\n');
        let torn_and_said = !is_log && context.contains("is in doubt");
        assert!(whole || torn_and_said, "{name} is torn: {context}");
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        for line in lines.clone() {
            let known = self.fates.contains_key(line.trim_end_matches('\n'));
            assert!(known, "{name} has {line:?}: {context}");
        }
        if self.place.metrics.log_rotation_errors.value() == 0 && text.len() as u64 > MAX_SIZE {
            // `{"LIFE.THREAD.NUMBER.PART":...`
            let appends: HashSet<_> =
                lines.filter_map(|line| Some(line.split_once("\":")?.0.rsplit_once('.')?.0)).collect();
            assert_eq!(appends.len(), 1, "{name} is too large: {context}");
        }
    }

    /// The log, its rolled files, and those moved away. Nothing else may be there.
    fn files(&self) -> Vec<PathBuf> {
        let names = Names::of_log("audit.log".as_ref());
        let mut files = Vec::new();
        let directories = self.moved.iter().filter(|path| path.is_dir());
        for directory in directories.chain([&self.place.directory()]) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap();
                if name == "audit.log" || names.parse(name).is_some() {
                    files.push(path);
                } else {
                    assert_eq!(name, ".audit.log.lock");
                }
            }
        }
        files.extend(self.moved.iter().filter(|path| path.is_file()).cloned());
        files
    }
}

fn append_some(log: &AuditLog, name: &str, mut dice: Dice) -> Vec<(String, Fate)> {
    let mut fates = Vec::new();
    for number in 0..APPENDS {
        let count = 1 + dice.roll(3);
        let lines: Vec<String> = (0..count)
            .map(|part| {
                let longest = if dice.roll(10) == 0 { 600 } else { 90 };
                let filling = "x".repeat(usize::try_from(dice.roll(longest)).unwrap());
                format!("{{\"{name}.{number}.{part}\":\"{filling}\"}}")
            })
            .collect();
        let bytes = lines.join("\n") + "\n";
        let fate = match log.append(bytes.as_bytes()) {
            Ok(()) => Fate::Acknowledged,
            Err(_) => Fate::Failed,
        };
        fates.extend(lines.into_iter().map(|line| (line, fate)));
    }
    fates
}

/// Runs `case` with the first, second, ... call failing until none is left to fail.
fn for_each_call(mut plan: Plan, mut case: impl FnMut(Plan) -> ControlFlow<()>) {
    for nth in 1..10_000 {
        plan.nth = nth;
        if case(plan).is_break() {
            return;
        }
    }
    panic!("{plan:?} always finds one more call");
}

fn with_failures(call: Call, short: bool, times: u32) {
    let plan = Plan { call: Some(call), nth: 1, times, errno: if call == Call::Sync { EIO } else { ENOSPC }, short };
    for_each_call(plan, |plan| {
        let mut world = World::new(u64::from(plan.nth), call == Call::Sync || plan.nth.is_multiple_of(2));
        let meddling = MEDDLING[plan.nth as usize % MEDDLING.len()];
        world.place.fs.faults.set(Some(plan));
        world.live(meddling);
        world.live(Meddling::None);
        let fired = world.place.fs.faults.fired();
        world.place.fs.faults.set(None);
        world.must_work();
        world.check(&format!("{plan:?} {meddling:?}"));
        if fired { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
}

const CALLS: [Call; 8] =
    [Call::Open, Call::Sync, Call::SetLen, Call::Rename, Call::Unlink, Call::Stat, Call::Read, Call::MakeDirectory];

#[test]
fn no_single_failure_of_any_call_loses_or_tears_a_line() {
    for call in CALLS {
        with_failures(call, false, 1);
    }
}

#[test]
fn no_failed_or_short_write_loses_or_tears_a_line() {
    for (short, times) in [(false, 1), (true, 1), (true, 2), (false, 3), (true, 3)] {
        with_failures(Call::Write, short, times);
    }
}

#[test]
fn no_failure_that_lasts_loses_or_tears_a_line() {
    for call in CALLS {
        with_failures(call, false, 4);
        with_failures(call, false, u32::MAX);
    }
    with_failures(Call::Write, true, u32::MAX);
}

#[test]
fn a_failed_write_that_cannot_be_cut_off_either_loses_no_line() {
    // From a short write on, every call fails for a while.
    for times in [2, 3, 5, 8] {
        for_each_call(Plan { call: None, nth: 1, times, errno: EIO, short: true }, all_calls_case);
    }
}

#[test]
fn a_crash_at_any_call_loses_and_tears_nothing_that_the_next_start_does_not_mend() {
    for short in [false, true] {
        for_each_call(Plan { call: None, nth: 1, times: u32::MAX, errno: EIO, short }, all_calls_case);
    }
}

fn all_calls_case(plan: Plan) -> ControlFlow<()> {
    let mut world = World::new(u64::from(plan.nth), plan.nth.is_multiple_of(2));
    let meddling = MEDDLING[plan.nth as usize % MEDDLING.len()];
    world.crashed = plan.times == u32::MAX;
    world.place.fs.faults.set(Some(plan));
    world.live(meddling);
    let fired = world.place.fs.faults.fired();
    world.place.fs.faults.set(None);
    world.must_work();
    world.check(&format!("{plan:?} {meddling:?}"));
    if fired { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

#[test]
fn random_lives_without_failures_keep_every_line_exactly_once() {
    for seed in 1..60 {
        let mut world = World::new(seed, seed.is_multiple_of(2));
        let mut directory_moved = false;
        for _ in 0..3 {
            let meddling = MEDDLING[usize::try_from(world.dice.roll(6)).unwrap()];
            directory_moved |= meddling == Meddling::MoveDirectory;
            world.live(meddling);
        }
        world.must_work();
        world.check(&format!("seed {seed}"));
        let said = world.place.messages.text();
        let all = world.fates.values().all(|fate| *fate == Fate::Acknowledged);
        // A directory that goes while it is being synced fails the append.
        assert!(all || directory_moved, "seed {seed}: {said}");
    }
}
