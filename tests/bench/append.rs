//! What an append costs: lines a second and CPU per line with 1 to 32 threads beside a plain write(2) loop and beside a
//! mutex around write(2), lines a second with fdatasync beside plain fdatasync. With `--pauses`, nothing but the longest
//! append while files of 500 MB are rolled and deleted.
//!
//! `cargo bench --bench append [-- [--chain | --pauses] [DIRECTORY]]`; the file system of DIRECTORY (a temporary one by
//! default) is what is measured, with `--chain` only what `--chain` costs. Under `taskset -c 0` the threads share one
//! core, and what is left of the difference between their numbers is not the caches'. Runs of the variants alternate, and
//! the median of the rounds is shown.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use kube_audit_rest::audit_log::{AuditLog, ChainSetting, OpenedLog, Settings, SyncMode, Target};
use kube_audit_rest::observe::diagnostics::{Diagnostics, Format};
use kube_audit_rest::observe::metrics::Metrics;

const ROUNDS: usize = 5;
const LINES: usize = 200_000;

fn main() {
    let parent = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(parent).expect("a directory to measure in");
    let directory = directory.path();
    if std::env::args().any(|argument| argument == "--pauses") {
        return pauses(directory);
    }
    let only_chain = std::env::args().any(|argument| argument == "--chain");
    for length in [1200, 20_000, 200_000] {
        chained(directory, length);
    }
    if only_chain {
        return;
    }
    for length in [1200, 20_000, 200_000] {
        compare(directory, length);
    }
    fairness(directory);
    synced(directory);
}

fn settings(directory: &Path) -> Settings {
    Settings {
        target: Target::File(directory.join("audit.log")),
        max_size: 0,
        max_backups: 1,
        max_age: Duration::ZERO,
        max_total_size: 0,
        sync: SyncMode::Never,
        file_mode: 0o600,
        chain: ChainSetting::Off,
    }
}

fn open(settings: Settings) -> (AuditLog, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let diagnostics = Diagnostics::to_sink(Format::Json, Box::new(std::io::sink()));
    let opened = OpenedLog::open(settings, Arc::clone(&metrics), Arc::new(diagnostics));
    (opened.expect("the log opens").start().expect("threads"), metrics)
}

/// A line of `length` bytes with its newline.
fn line(length: usize) -> Vec<u8> {
    let mut line = vec![b'x'; length];
    line[length - 1] = b'\n';
    line
}

/// Time that this process has spent on a CPU.
fn cpu() -> Duration {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(usage.tv_sec as u64, usage.tv_nsec as u32)
}

#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn measured(lines: usize, run: impl FnOnce()) -> Cost {
    let (began, cpu_before) = (Instant::now(), cpu());
    run();
    let (wall, cpu) = (began.elapsed(), cpu() - cpu_before);
    Cost { wall: wall.as_secs_f64() / lines as f64, cpu: cpu.as_secs_f64() / lines as f64 }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What `--chain` adds to an append, beside a bare SHA-256 of the same bytes.
fn chained(directory: &Path, length: usize) {
    let lines = (LINES * 1200 / length).max(2000);
    let mut line = line(length);
    line[length - 2] = b'}';
    let append = |chain: ChainSetting| {
        let (log, _) = open(Settings { chain, ..settings(directory) });
        // With some room at its end, as the server's buffers have.
        let mut line = [&line[..], &[0; 4096]].concat();
        line.truncate(length);
        let cost = measured(lines, || (0..lines).for_each(|_| log.append_one(&mut line).expect("an append")));
        drop(log);
        fs::remove_file(directory.join("audit.log")).expect("removed");
        cost.cpu * 1e6
    };
    let hash = || {
        let digest = || std::hint::black_box(ring::digest::digest(&ring::digest::SHA256, std::hint::black_box(&line)));
        measured(lines, || {
            (0..lines).for_each(|_| {
                let _ = digest();
            })
        })
        .cpu * 1e6
    };
    let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (costs, cost) in rounds.iter_mut().zip([append(ChainSetting::Off), append(ChainSetting::Unsigned), hash()])
        {
            costs.push(cost);
        }
    }
    let [off, on, hash] = rounds.map(median);
    let added = on - off;
    println!(
        "{length:7} bytes: append {off:7.2} us, with --chain {on:7.2} us; it adds {added:.2} us, {:.2} of a SHA-256 ({hash:.2} us)",
        added / hash
    );
}

/// What appends, and from how many threads.
#[derive(Clone, Copy)]
enum Variant {
    /// Nothing but write(2), from one thread.
    Write,
    /// A mutex around write(2): what turns and groups have to be better than.
    Mutex(usize),
    Log(usize),
}

fn compare(directory: &Path, length: usize) {
    use Variant::{Log, Mutex, Write};
    let lines = (LINES * 1200 / length).max(2000);
    let line = line(length);
    // Threads begin together, and take lines from one store, so that none is left over at the end.
    let append_all = |threads: usize, append: &(dyn Fn() + Sync)| {
        let (start, taken) = (Barrier::new(threads), AtomicUsize::new(0));
        measured(lines, || {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        start.wait();
                        while taken.fetch_add(1, Relaxed) < lines {
                            append();
                        }
                    });
                }
            });
        })
    };
    let plain = |variant| {
        let path = directory.join("plain");
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.expect("a file");
        let cost = if let Mutex(threads) = variant {
            let file = std::sync::Mutex::new(file);
            append_all(threads, &|| {
                let mut file = file.lock().expect("no panic");
                file.write_all(&line).expect("a write");
            })
        } else {
            append_all(1, &|| (&file).write_all(&line).expect("a write"))
        };
        fs::remove_file(path).expect("removed");
        (cost, 1.0)
    };
    let log = |threads| {
        let (log, metrics) = open(settings(directory));
        let cost = append_all(threads, &|| log.append(&line).expect("an append"));
        let group = metrics.append_group_lines.value() as f64 / metrics.append_groups.value() as f64;
        drop(log);
        fs::remove_file(directory.join("audit.log")).expect("removed");
        (cost, group)
    };
    let variants = [Write, Log(1), Log(2), Mutex(8), Log(8), Mutex(32), Log(32)];
    let mut costs: Vec<Vec<(Cost, f64)>> = vec![Vec::new(); variants.len()];
    for _ in 0..ROUNDS {
        for (variant, costs) in variants.iter().zip(&mut costs) {
            costs.push(match *variant {
                Log(threads) => log(threads),
                _ => plain(*variant),
            });
        }
    }
    println!("lines of {length} bytes   lines/s   of write(2)   CPU us/line   of 1 thread   lines/group");
    let figure = |index: usize, of: fn(&(Cost, f64)) -> f64| median(costs[index].iter().map(of).collect());
    for (index, variant) in variants.iter().enumerate() {
        let name = match variant {
            Write => "write(2)".to_owned(),
            Mutex(threads) => format!("mutex, {threads} threads"),
            Log(threads) => format!("{threads} threads"),
        };
        let wall = figure(index, |(cost, _)| cost.wall);
        let cpu = figure(index, |(cost, _)| cost.cpu);
        println!(
            "{name:20} {:>10.0} {:>13.2} {:>13.3} {:>13.2} {:>13.1}",
            1.0 / wall,
            figure(0, |(cost, _)| cost.wall) / wall,
            cpu * 1e6,
            cpu / figure(1, |(cost, _)| cost.cpu),
            figure(index, |(_, group)| *group),
        );
    }
}

/// One thread with small lines beside seven with large ones that never pause.
fn fairness(directory: &Path) {
    let (log, _) = open(settings(directory));
    let stop = AtomicBool::new(false);
    let (small, large) = (line(1200), line(200_000));
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        for _ in 0..7 {
            scope.spawn(|| {
                for _ in 0..4000 {
                    if stop.load(Relaxed) {
                        return;
                    }
                    log.append(&large).expect("an append");
                }
            });
        }
        let mut waits = Vec::new();
        for _ in 0..500 {
            let began = Instant::now();
            log.append(&small).expect("an append");
            waits.push(began.elapsed());
            std::thread::sleep(Duration::from_micros(200));
        }
        stop.store(true, Relaxed);
        waits
    });
    drop(log);
    fs::remove_file(directory.join("audit.log")).expect("removed");
    println!("a line of 1200 bytes beside 7 threads of 200,000 without a pause: {}", quantiles(&mut waits));
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}, p99 {:?}, longest {:?}", at(0.5), at(0.99), at(1.0))
}

fn synced(directory: &Path) {
    const SYNCS: usize = 300;
    const THREADS: usize = 32;
    let line = line(1200);
    let raw = || {
        let path = directory.join("plain");
        let mut file = File::create(&path).expect("a file");
        let began = Instant::now();
        for _ in 0..SYNCS {
            file.write_all(&line).expect("a write");
            file.sync_data().expect("a sync");
        }
        let rate = SYNCS as f64 / began.elapsed().as_secs_f64();
        fs::remove_file(path).expect("removed");
        rate
    };
    let mut rates = (Vec::new(), Vec::new(), Vec::new());
    let mut times = Vec::new();
    for _ in 0..3 {
        rates.0.push(raw());
        let mut settings = settings(directory);
        settings.sync = SyncMode::Always;
        let (log, metrics) = open(settings);
        let began = Instant::now();
        let round: Vec<Duration> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        let append = |_| {
                            let began = Instant::now();
                            log.append(&line).expect("an append");
                            began.elapsed()
                        };
                        (0..SYNCS / 2).map(append).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
        });
        rates.1.push(round.len() as f64 / began.elapsed().as_secs_f64());
        rates.2.push(round.len() as f64 / metrics.append_groups.value() as f64);
        times.extend(round);
        drop(log);
        fs::remove_file(directory.join("audit.log")).expect("removed");
    }
    let (raw, lines, share) = (median(rates.0), median(rates.1), median(rates.2));
    println!(
        "synced: plain write and fdatasync {raw:.0}/s; {THREADS} threads {lines:.0} lines/s ({:.1} of it), {share:.1} lines a sync, {}",
        lines / raw,
        quantiles(&mut times)
    );
}

/// Small appends beside 20 MB a second, while files of 500 MB are rolled and deleted. Takes two minutes.
fn pauses(directory: &Path) {
    const LARGE: usize = 1 << 20;
    const ROLLS: u64 = 4;
    /// What is within this time of a roll counts as at the roll.
    const NEAR: Duration = Duration::from_millis(500);
    let (log, metrics) = open(Settings { max_size: 500 << 20, ..settings(directory) });
    let (mut small, mut large) = (line(1200), line(LARGE));
    let began = Instant::now();
    let rolled = || metrics.log_rotations.value() >= ROLLS;
    let mut rolls = Vec::new();
    let mut appends = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let every = Duration::from_millis(50);
            for number in 0.. {
                std::thread::sleep((began + every * number).saturating_duration_since(Instant::now()));
                log.append_one(&mut large).expect("an append");
                if rolled() {
                    return;
                }
            }
        });
        while !rolled() {
            let before = Instant::now();
            log.append_one(&mut small).expect("an append");
            appends.push((before, before.elapsed()));
            if metrics.log_rotations.value() > rolls.len() as u64 {
                rolls.push(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let near = |at: Instant| rolls.iter().any(|roll| roll.max(&at).duration_since(*roll.min(&at)) < NEAR);
    let (at_rolls, between): (Vec<_>, Vec<_>) =
        appends.into_iter().partition(|(at, took)| near(*at) || near(*at + *took));
    let worst = |appends: Vec<(Instant, Duration)>| appends.into_iter().map(|(_, took)| took).max().unwrap_or_default();
    let (at_rolls, between) = (worst(at_rolls), worst(between));
    drop(log);
    let old = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let old = old.max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.len())).expect("a rolled file");
    let removing = Instant::now();
    fs::remove_file(old).expect("removed");
    println!(
        "20 MB/s into files of 500 MB, {ROLLS} rolls: the longest append at a roll {at_rolls:?}, between rolls {between:?}; a delete of 500 MB takes {:?}",
        removing.elapsed()
    );
}
