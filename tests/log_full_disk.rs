//! The audit log on file systems that fill up and go away. Needs root, to mount them:
//! `cargo test --test log_full_disk -- --ignored`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use kube_audit_rest::audit_log::{AuditLog, ChainSetting, OpenedLog, Settings, SyncMode, Target};
use kube_audit_rest::observe::diagnostics::{Diagnostics, Format};
use kube_audit_rest::observe::metrics::Metrics;

mod common;

use common::StopAtEnd;

/// A tmpfs, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot mount a tmpfs: run this test as root, with CAP_SYS_ADMIN"
        );
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn open(path: &Path, max_size: u64, sync: SyncMode, chain: ChainSetting) -> AuditLog {
    let settings = Settings {
        target: Target::File(path.to_owned()),
        max_size,
        max_backups: 0,
        max_age: Duration::ZERO,
        max_total_size: 0,
        sync,
        file_mode: 0o600,
        chain,
    };
    let diagnostics = Diagnostics::to_sink(Format::Json, Box::new(std::io::sink()));
    let opened = OpenedLog::open(settings, Arc::new(Metrics::new()), Arc::new(diagnostics));
    opened.unwrap().start().unwrap()
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lines of all `.log` files in a directory, without their chain. Panics where a file does not end with a line.
fn lines(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{} is torn", path.display());
            lines.extend(text.lines().map(|line| match line.split_once(",\"chain\":") {
                Some((content, _)) => format!("{content}}}"),
                None => line.to_owned(),
            }));
        }
    }
    lines
}

/// `verify` finds the logs in this directory intact.
fn not_accused(directory: &Path) {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let program = env!("CARGO_BIN_EXE_kube-audit-rest");
    let output = Command::new(program).args(["verify", "--max-unsigned=1000000000"]).args(files).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.ends_with("INTACT\n"), "{text}");
}

fn fill_and_free(max_size: u64, sync: SyncMode, chain: ChainSetting) {
    const THREADS: usize = 8;
    let directory = tempfile::tempdir().unwrap();
    let mounted = Mounted::tmpfs(&directory.path().join("small"), "2m");
    let ballast = mounted.0.join("ballast");
    fs::write(&ballast, vec![0; 700 << 10]).unwrap();
    let chained = !matches!(chain, ChainSetting::Off);
    let log = open(&mounted.0.join("audit.log"), max_size, sync, chain);
    let stop = AtomicBool::new(false);
    let (successes, failures) = (AtomicU64::new(0), AtomicU64::new(0));
    let (acknowledged, refused): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (log, stop, successes, failures) = (&log, &stop, &successes, &failures);
                scope.spawn(move || {
                    let mut fates = Vec::new();
                    for number in 0.. {
                        if stop.load(Relaxed) {
                            break;
                        }
                        let length = if number % 50 == 0 { 20_000 } else { 100 + number % 400 };
                        let line = format!("{{\"id\":\"{thread}.{number}\",\"x\":\"{}\"}}", "x".repeat(length));
                        let outcome = log.append(format!("{line}\n").as_bytes());
                        let count = if outcome.is_ok() { successes } else { failures };
                        count.fetch_add(1, Relaxed);
                        fates.push((line, outcome.is_ok()));
                    }
                    fates
                })
            })
            .collect();
        let _stop = StopAtEnd(&stop);
        eventually("the disk is full", || failures.load(Relaxed) > 200);
        eventually("it is said", || log.failing().is_some_and(|why| why.contains("No space left")));
        let before = successes.load(Relaxed);
        fs::remove_file(&ballast).unwrap();
        eventually("there is room again", || successes.load(Relaxed) > before + 500);
        let before = failures.load(Relaxed);
        eventually("and it is full again", || failures.load(Relaxed) > before + 200);
        stop.store(true, Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).partition(|(_, ok)| *ok)
    });
    drop(log);
    if chained {
        not_accused(&mounted.0);
    }
    let found = lines(&mounted.0);
    let distinct: HashSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found.len(), distinct.len(), "a line is there twice");
    let lost = acknowledged.iter().filter(|(line, _)| !distinct.contains(line.as_str()));
    assert_eq!(lost.count(), 0, "of {} acknowledged lines", acknowledged.len());
    let left = refused.iter().filter(|(line, _)| distinct.contains(line.as_str()));
    assert_eq!(left.count(), 0, "of {} refused lines", refused.len());
    assert_eq!(found.len(), acknowledged.len(), "a torn line is there");
}

#[test]
#[ignore = "needs root to mount a tmpfs; .ci/run runs it"]
fn a_disk_that_fills_up_and_is_freed_loses_no_acknowledged_line_and_keeps_no_refused_one() {
    fill_and_free(0, SyncMode::Never, ChainSetting::Off);
    fill_and_free(0, SyncMode::Always, ChainSetting::Off);
}

#[test]
#[ignore = "needs root to mount a tmpfs; .ci/run runs it"]
fn a_disk_that_fills_up_while_files_are_rolled_loses_no_acknowledged_line_either() {
    fill_and_free(100_000, SyncMode::Never, ChainSetting::Off);
    fill_and_free(100_000, SyncMode::Always, ChainSetting::Off);
}

#[test]
#[ignore = "needs root to mount a tmpfs; .ci/run runs it"]
fn a_disk_that_fills_up_under_a_chain_is_no_tampering() {
    for max_size in [0, 100_000] {
        fill_and_free(max_size, SyncMode::Never, ChainSetting::Unsigned);
        fill_and_free(max_size, SyncMode::Always, ChainSetting::Unsigned);
    }
}

#[test]
#[ignore = "needs root to mount a tmpfs; .ci/run runs it"]
fn a_probe_tells_without_traffic_that_a_full_disk_has_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let mounted = Mounted::tmpfs(&directory.path().join("small"), "1m");
    let ballast = mounted.0.join("ballast");
    let log = open(&mounted.0.join("audit.log"), 0, SyncMode::Never, ChainSetting::Off);
    log.append(b"first\n").unwrap();
    let _ = fs::write(&ballast, vec![0; 2 << 20]);
    let long = ["x".repeat(9000), "\n".to_owned()].concat();
    assert_eq!(log.append(long.as_bytes()).unwrap_err().reason().name(), "no_space");
    let failing = Instant::now();
    while failing.elapsed() < Duration::from_millis(2500) {
        assert!(log.failing().is_some(), "the disk is still full");
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::remove_file(&ballast).unwrap();
    eventually("the probe", || log.failing().is_none());
    assert_eq!(lines(&mounted.0), ["first"]);
    let names = fs::read_dir(&mounted.0).unwrap().count();
    assert_eq!(names, 2, "the log and its lock");
}

#[test]
#[ignore = "needs root to mount a tmpfs; .ci/run runs it"]
fn a_volume_mounted_over_the_logs_directory_is_written_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    let log = open(&logs.join("audit.log"), 0, SyncMode::Never, ChainSetting::Off);
    log.append(b"before\n").unwrap();
    let mounted = Mounted::tmpfs(&logs, "1m");
    let began = Instant::now();
    eventually("a new file", || logs.join("audit.log").exists());
    assert!(began.elapsed() < Duration::from_secs(1));
    log.append(b"after\n").unwrap();
    assert_eq!(lines(&logs), ["after"]);
    drop(log);
    drop(mounted);
    assert_eq!(lines(&logs), ["before"]);
}
