//! Promises 1 to 6 broken on purpose: real faults on the program itself, under load over TLS. What was answered 200 must
//! be in a file once and whole, what was answered 503 must not be there.
//!
//! What needs root, or long, is ignored by default: `cargo test --test log_faults -- --ignored`.

mod common;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::load::{
    Body, Fate, Load, Outcome, Plan, assert_agree, assert_agree_but, assert_unavailable, count, counted, log_files,
    recorded,
};
use common::server::lines_of;
use common::{Response, Server, Setup, StopAtEnd, corpus, eventually, get, post};
use rustix::process::Signal;

const APPEND_FAILED: &str = "append failed; events are answered 503 until it works again";
const WORKS_AGAIN: &str = "append works again";
const WOULD_WORK: &str = "append would work again: a trial write did";
const MAY_WORK: &str = "append may work again";
const TORN: &str = "a torn line was cut off the audit log's end";

/// The program with its log in a directory of its own.
fn setup() -> (Setup, PathBuf) {
    let setup = Setup::new();
    let directory = setup.path("logs");
    fs::create_dir(&directory).unwrap();
    (logging_to(setup, &directory), directory)
}

fn logging_to(setup: Setup, directory: &Path) -> Setup {
    let log = directory.join("audit.log");
    setup.flag("logger-filename", log.to_str().unwrap())
}

fn plan(prefix: &str, connections: usize) -> Plan {
    Plan { prefix: prefix.to_owned(), connections, requests: None, body: mixed, retries: false }
}

/// Mostly small reviews, some larger ones, some lists.
fn mixed(worker: usize, number: usize) -> Body {
    match (worker + number) % 8 {
        2 => Body::Events(3, 500),
        5 => Body::Review(20_000),
        other => Body::Review(200 * other),
    }
}

/// One review, on a connection of its own.
fn send_one(server: &Server) -> Response {
    server.connect().exchange(&post("/log-request?timeout=1s", &corpus::review("one")))
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Those of a file that is being written: what it ends in may not be whole yet.
fn whole_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.filter_map(|line| line.strip_suffix(b"\n")).map(<[u8]>::to_vec).collect()
}

/// How many rounds a long test does.
fn from_environment(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}={value}")),
        Err(_) => default,
    }
}

// Moved, deleted, truncated.

#[test]
fn a_log_that_is_moved_away_under_load_loses_nothing() {
    let (setup, directory) = setup();
    let server = setup.start();
    let log = directory.join("audit.log");
    let load = Load::begin(&server, plan("m", 6));
    for round in 0..6 {
        load.await_acknowledged(60);
        fs::rename(&log, directory.join(format!("moved-{round}.log"))).unwrap();
        // As logrotate does it, and as an operator does.
        if round % 2 == 0 {
            server.signal(Signal::HUP);
        }
        eventually("a new file", || log.exists().then_some(()));
    }
    load.await_acknowledged(60);
    let fates = load.end();
    assert_eq!(count(&fates, Outcome::Acknowledged), fates.len());
    assert_agree(&fates, &recorded(&[&directory]));
    server.wait_for_metric("log_rotations_total", 0.0);
}

#[test]
fn a_directory_that_is_moved_away_under_load_loses_nothing() {
    let (setup, directory) = setup();
    let server = setup.start();
    let load = Load::begin(&server, plan("d", 6));
    let mut directories = vec![directory.clone()];
    for round in 0..4 {
        load.await_acknowledged(60);
        let moved = directory.with_file_name(format!("moved-{round}"));
        fs::rename(&directory, &moved).unwrap();
        directories.push(moved);
        eventually("a new file", || directory.join("audit.log").exists().then_some(()));
    }
    load.await_acknowledged(60);
    let fates = load.end();
    assert_eq!(count(&fates, Outcome::Acknowledged), fates.len());
    let directories: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
    assert_agree(&fates, &recorded(&directories));
}

/// Removes what `remove` removes under load again and again. All that was acknowledged afterwards must be there. Gives
/// the number of those that were refused.
fn removed_under_load(name: &str, remove: impl Fn(&Path)) -> usize {
    let (setup, directory) = setup();
    let server = setup.start();
    let load = Load::begin(&server, plan(name, 6));
    for _ in 0..6 {
        load.await_acknowledged(60);
        remove(&directory);
        let removed = Instant::now();
        eventually("a new file", || directory.join("audit.log").exists().then_some(()));
        eprintln!("{name}: a new file after {:?}", removed.elapsed());
    }
    load.await_acknowledged(60);
    remove(&directory);
    let removed = Instant::now();
    load.await_acknowledged(60);
    let fates = load.end();
    assert_eq!(count(&fates, Outcome::Unanswered), 0);
    let log = directory.join("audit.log");
    eventually("the lines that were written to the removed file", || {
        let text = fs::read(&log).ok()?;
        let found = counted(whole_lines(&text));
        let new = fates.iter().filter(|fate| fate.began > removed && fate.outcome == Outcome::Acknowledged);
        let all = new.clone().flat_map(|fate| &fate.ids);
        (new.count() > 0 && all.clone().all(|id| found.contains_key(id))).then_some(())
    });
    assert_agree_but(&fates, &recorded(&[&directory]), |fate| fate.began <= removed);
    count(&fates, Outcome::Refused)
}

#[test]
fn what_is_sent_after_the_log_was_deleted_under_load_is_recorded() {
    let refused = removed_under_load("f", |directory| {
        fs::remove_file(directory.join("audit.log")).unwrap();
    });
    assert_eq!(refused, 0);
}

#[test]
fn what_is_sent_after_the_directory_was_removed_under_load_is_recorded() {
    // The directory may go while a new log is being made in it, and a request is answered 503 then.
    let refused = removed_under_load("r", |directory| {
        // New files may come while it is being emptied.
        eventually("the directory to be gone", || fs::remove_dir_all(directory).ok());
    });
    eprintln!("{refused} refused");
}

#[test]
fn copytruncate_under_load_leaves_no_hole_and_loses_only_what_came_between_its_two_steps() {
    let (setup, directory) = setup();
    let server = setup.start();
    let log = directory.join("audit.log");
    let load = Load::begin(&server, plan("c", 6));
    let mut copies = Vec::new();
    let mut between = Vec::new();
    for _ in 0..6 {
        load.await_acknowledged(60);
        let copying = Instant::now();
        copies.push(fs::read(&log).unwrap());
        run("truncate", &["--size=0", log.to_str().unwrap()]);
        between.push((copying, Instant::now()));
    }
    load.await_acknowledged(60);
    let fates = load.end();
    assert_eq!(count(&fates, Outcome::Acknowledged), fates.len());
    let mut lines = lines_of(&log);
    for copy in &copies {
        // Copied amid a write, it may end in a torn line.
        lines.extend(whole_lines(copy));
    }
    assert_agree_but(&fates, &counted(lines), |fate| {
        between.iter().any(|(copying, truncated)| fate.ended >= *copying && fate.began <= *truncated)
    });
}

#[test]
fn a_log_that_goes_away_is_noticed_within_a_second_without_traffic_and_on_sighup_at_once() {
    type Fault<'a> = (&'a str, &'a dyn Fn(&Path));
    let (setup, directory) = setup();
    let server = setup.start();
    let log = directory.join("audit.log");
    let faults: [Fault; 4] = [
        ("moved", &|log| {
            fs::rename(log, log.with_file_name("moved.log")).unwrap();
        }),
        ("deleted", &|log| fs::remove_file(log).unwrap()),
        ("directory moved", &|log| {
            let directory = log.parent().unwrap();
            fs::rename(directory, directory.with_file_name("moved")).unwrap();
        }),
        ("directory removed", &|log| {
            // A log that is opened anew amid the removal keeps the directory from being empty.
            while let Err(error) = fs::remove_dir_all(log.parent().unwrap()) {
                assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
            }
        }),
    ];
    // It is said a little after the new file can be seen.
    let said = || server.said("audit log opened anew");
    for (number, (name, fault)) in faults.into_iter().enumerate() {
        fault(&log);
        let began = Instant::now();
        eventually("a new file", || log.exists().then_some(()));
        let took = began.elapsed();
        eprintln!("{name}: noticed after {took:?}");
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
        eventually("that to be said", || (said() > number).then_some(()));
    }
    // Nothing is wrong with the path, so nothing but the signal can have it opened anew.
    for _ in 0..5 {
        let before = said();
        let began = Instant::now();
        server.signal(Signal::HUP);
        eventually("the log to be opened anew", || (said() > before).then_some(()));
        eprintln!("SIGHUP: opened anew after {:?}", began.elapsed());
    }
    assert_eq!(send_one(&server).status, 200);
    assert_eq!(lines_of(&log).len(), 1);
}

// Killed.

/// 1 KB and 200 KB.
fn small_or_large(worker: usize, number: usize) -> Body {
    match (worker + number) % 6 {
        1 | 4 => Body::Review(200_000),
        2 => Body::Events(4, 1000),
        _ => Body::Review(1000),
    }
}

fn random(below: u64) -> u64 {
    RandomState::new().build_hasher().finish() % below
}

fn killed_and_started_again(rounds: usize) {
    let (setup, directory) = setup();
    let setup = setup.flag("logger-max-size", "1").flag("logger-max-backups", "0");
    let mut server = setup.start();
    let log = directory.join("audit.log");
    let (mut sent, mut unanswered, mut torn_tails, mut longest) = (0, 0, 0, 0);
    // In the log from the rounds before.
    let mut carried: HashMap<String, usize> = HashMap::new();
    for round in 0..rounds {
        let load = Load::begin(&server, Plan { body: small_or_large, ..plan(&round.to_string(), 8) });
        load.await_acknowledged(usize::try_from(10 + random(60)).unwrap());
        // The moment is to be any, not just behind an answer.
        thread::sleep(Duration::from_micros(random(10_000)));
        server.kill();
        let fates = load.end();
        // It may have been killed between the rename and the new file.
        let text = fs::read(&log).unwrap_or_default();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = text.len() - whole;
        server = server.restart();
        if torn > 0 {
            let said = server.wait_for_message("the torn tail", |message| message["msg"] == TORN);
            assert_eq!(said["bytes"], torn, "{said}");
            torn_tails += 1;
            longest = longest.max(torn);
        } else {
            assert_eq!(server.said(TORN), 0);
        }
        let mut found = recorded(&[&directory]);
        for (id, _) in carried.drain() {
            assert_eq!(found.remove(&id), Some(1), "{id}, before round {round}");
        }
        // Of a list that got no answer whole lines may have been written before the kill.
        assert_agree_but(&fates, &found, |fate| fate.outcome == Outcome::Unanswered);
        sent += fates.len();
        unanswered += count(&fates, Outcome::Unanswered);
        assert_eq!(count(&fates, Outcome::Refused), 0);
        for rolled in log_files(&directory).iter().filter(|path| **path != log) {
            fs::remove_file(rolled).unwrap();
        }
        carried = counted(lines_of(&log));
    }
    assert_eq!(send_one(&server).status, 200);
    eprintln!(
        "{rounds} times killed: {sent} requests, {unanswered} of them without an answer, {torn_tails} torn tails, the \
         longest of {longest} bytes"
    );
}

#[test]
fn killed_under_load_and_started_again_it_has_every_acknowledged_line_once() {
    killed_and_started_again(3);
}

#[test]
#[ignore = "takes long; .ci/run runs it"]
fn killed_under_load_and_started_again_fifty_times_it_has_every_acknowledged_line_once() {
    killed_and_started_again(from_environment("KUBE_AUDIT_REST_ROUNDS", 50));
}

#[test]
fn a_torn_tail_is_cut_off_and_its_length_said_wherever_the_line_was_torn() {
    let last = r#"{"kind":"AdmissionReview","request":{"uid":"ü","object":"a\nb"}}"#;
    for (before, left) in [
        ("{\"a\":1}\n", 1),
        ("{\"a\":1}\n", last.find('ü').unwrap() + 1),
        ("{\"a\":1}\n{\"b\":2}\n", last.len() - 1),
        ("{\"a\":1}\n", last.len()),
        ("", 20),
    ] {
        let (setup, directory) = setup();
        let log = directory.join("audit.log");
        fs::write(&log, [before.as_bytes(), &last.as_bytes()[..left]].concat()).unwrap();
        let server = setup.start();
        let said = server.wait_for_message("the torn tail", |message| message["msg"] == TORN);
        assert_eq!(said["bytes"], left, "{said}");
        assert_eq!(fs::read_to_string(&log).unwrap(), before);
        assert_eq!(send_one(&server).status, 200);
        assert_eq!(lines_of(&log).len(), before.lines().count() + 1);
    }
}

// No room.

/// How many outages were said, and how many ends of them.
fn outages_said(server: &Server) -> (usize, usize) {
    (server.said(APPEND_FAILED), server.said(WORKS_AGAIN) + server.said(WOULD_WORK) + server.said(MAY_WORK))
}

/// Waits until the last outage's end was said, and returns how many there were.
fn ended_outages(server: &Server) -> usize {
    eventually("the end of the outage to be said", || {
        let (failed, recovered) = outages_said(server);
        (failed == recovered).then_some(failed)
    })
}

/// What was refused at first and recorded in the end.
fn recorded_on_a_later_attempt(fates: &[Fate]) -> impl Iterator<Item = &Fate> {
    fates.iter().filter(|fate| fate.outcome == Outcome::Acknowledged && fate.refusals > 0)
}

#[test]
fn a_line_larger_than_the_file_size_limit_is_refused_until_that_is_lifted_and_all_others_are_recorded() {
    let (setup, directory) = setup();
    let setup = setup.flag("logger-max-size", "0").flag("logger-max-backups", "0");
    let mut command = Command::new("prlimit");
    command.arg("--fsize=400000:unlimited").arg(common::program());
    command.args(setup.arguments());
    let mut server = setup.start_as(command);
    let load = Load::begin(&server, plan("l", 4));
    let persistent = Load::begin(&server, Plan { retries: true, body: |_, _| Body::Review(500_000), ..plan("p", 2) });
    load.await_acknowledged(300);
    persistent.await_refusals(20);
    let mut fates = load.end();
    assert_eq!(count(&fates, Outcome::Acknowledged), fates.len());
    persistent.await_refusals(4);
    let said = server.wait_for_readiness(503);
    assert!(said.contains("File too large"), "{said}");
    let reasons = server.counts("append_errors_total");
    assert!(reasons.keys().eq(["reason=\"file_too_large\""]), "{reasons:?}");
    let process = server.process_id().to_string();
    run("prlimit", &["--fsize=unlimited:unlimited", "--pid", &process]);
    persistent.await_acknowledged(20);
    let persistent = persistent.end();
    assert!(recorded_on_a_later_attempt(&persistent).count() >= 2);
    let refusals: usize = persistent.iter().map(|fate| fate.refusals).sum();
    fates.extend(persistent);
    assert_eq!(count(&fates, Outcome::Unanswered), 0);
    server.wait_for_readiness(200);
    let errors: f64 = server.counts("append_errors_total").values().sum();
    assert_eq!(errors, refusals as f64);
    // Between the large lines small ones are recorded, so there may have been some outages.
    assert!(ended_outages(&server) >= 1);
    assert_agree(&fates, &recorded(&[&directory]));
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn one_outage_is_said_once_and_its_end_once_without_traffic() {
    let (setup, directory) = setup();
    let setup = setup.flag("logger-max-size", "0");
    let mut command = Command::new("prlimit");
    command.arg("--fsize=300000:unlimited").arg(common::program());
    command.args(setup.arguments());
    let server = setup.start_as(command);
    let uniform = Plan { body: |_, _| Body::Review(400_000), ..plan("u", 1) };
    let load = Load::begin(&server, uniform);
    load.await_refusals(100);
    let fates = load.end();
    eventually("the outage to be said", || (outages_said(&server) == (1, 0)).then_some(()));
    server.wait_for_readiness(503);
    // The limit is lifted, and nobody sends anything.
    run("prlimit", &["--fsize=unlimited:unlimited", "--pid", &server.process_id().to_string()]);
    server.wait_for_readiness(200);
    assert_eq!(ended_outages(&server), 1);
    assert_agree(&fates, &recorded(&[&directory]));
    let hidden: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".log"))
        .collect();
    assert_eq!(hidden, [".audit.log.lock"]);
}

/// A file system, unmounted at the end. It must not be in a directory of a [`Setup`], which is emptied first.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        let status = Command::new("mount").args(arguments).arg(at).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot mount: run this test as root, with CAP_SYS_ADMIN");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn fill_and_free(max_size: &str) {
    let place = tempfile::tempdir().unwrap();
    let (directory, saved) = (place.path().join("logs"), place.path().join("saved"));
    fs::create_dir(&saved).unwrap();
    let _mounted = Mounted::new(&directory, &["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"]);
    let ballast = directory.join("ballast");
    fs::write(&ballast, vec![0; 700 << 10]).unwrap();
    let server =
        logging_to(Setup::new(), &directory).flag("logger-max-size", max_size).flag("logger-max-backups", "0").start();
    let load = Load::begin(&server, plan("l", 6));
    let persistent = Load::begin(
        &server,
        Plan {
            retries: true,
            // Whatever there is room for, both kinds are refused at first.
            body: |worker, _| match worker % 2 {
                0 => Body::Events(3, 2000),
                _ => Body::Review(6000),
            },
            ..plan("p", 6)
        },
    );
    load.await_refusals(100);
    persistent.await_refusals(30);
    let said = server.wait_for_readiness(503);
    assert!(said.contains("No space left"), "{said}");
    let mut fates = load.end();
    let before = persistent.acknowledged();
    fs::remove_file(&ballast).unwrap();
    eventually("what was refused to be recorded", || (persistent.acknowledged() >= before + 20).then_some(()));
    // 700 KB do not last.
    let load = Load::begin(&server, plan("m", 6));
    load.await_refusals(100);
    persistent.await_refusals(30);
    fates.extend(load.end());
    let persistent = persistent.end();
    let later: Vec<&Fate> = recorded_on_a_later_attempt(&persistent).collect();
    assert!(later.iter().any(|fate| fate.ids.len() == 1), "no review");
    assert!(later.iter().any(|fate| fate.ids.len() > 1), "no list");
    fates.extend(persistent);
    let refusals: usize = fates.iter().map(|fate| fate.refusals).sum();
    let errors = server.counts("append_errors_total");
    assert_eq!(errors.get("reason=\"no_space\""), Some(&(refusals as f64)), "{errors:?}");
    assert_eq!(errors.len(), 1, "{errors:?}");
    server.wait_for_readiness(503);
    // The operator saves the files elsewhere and removes them; it works again without a request.
    for file in log_files(&directory) {
        fs::copy(&file, saved.join(file.file_name().unwrap())).unwrap();
        fs::remove_file(&file).unwrap();
    }
    let freed = Instant::now();
    server.wait_for_readiness(200);
    let ready = freed.elapsed();
    let load = Load::begin(&server, plan("n", 6));
    load.await_acknowledged(50);
    fates.extend(load.end());
    assert_eq!(count(&fates, Outcome::Unanswered), 0);
    assert_agree(&fates, &recorded(&[&directory, &saved]));
    let outages = ended_outages(&server);
    assert!((1..=30).contains(&outages), "{outages}");
    eprintln!(
        "full disk, --logger-max-size={max_size}: {} recorded, {refusals} refusals, {outages} outages said, ready {ready:?} \
         after there was room",
        count(&fates, Outcome::Acknowledged)
    );
}

#[test]
#[ignore = "needs root to mount a tmpfs; .ci/run runs it"]
fn a_disk_filled_and_freed_under_load_loses_no_acknowledged_event_and_keeps_each_once() {
    fill_and_free("0");
    fill_and_free("1");
}

#[test]
#[ignore = "needs root to mount a file system; .ci/run runs it"]
fn a_file_system_that_turns_read_only_is_refused_and_reported_and_its_successor_written() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("logs");
    let setup = logging_to(Setup::new(), &directory);
    let image = setup.file("image", "");
    run("truncate", &["--size=16M", &image]);
    run("mkfs.ext4", &["-q", "-F", &image]);
    let _mounted = Mounted::new(&directory, &["-o", "loop,errors=remount-ro", &image]);
    let server = setup.start();
    let load = Load::begin(&server, plan("l", 6));
    load.await_acknowledged(100);
    // While a file is open for writing nobody can remount it read-only but the kernel, after an error.
    let source = Command::new("findmnt").args(["--noheadings", "--output=SOURCE"]).arg(&directory).output().unwrap();
    let source = String::from_utf8(source.stdout).unwrap();
    let device = source.trim().strip_prefix("/dev/").unwrap();
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "of a test").unwrap();
    load.await_refusals(100);
    let said = server.wait_for_readiness(503);
    assert!(said.contains("Read-only file system"), "{said}");
    let reasons = server.counts("append_errors_total");
    assert!(reasons.keys().eq(["reason=\"read_only\""]), "{reasons:?}");
    eventually("the outage to be said", || (outages_said(&server) == (1, 0)).then_some(()));
    // The operator gives it another volume.
    let another = Mounted::new(&directory, &["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
    load.await_acknowledged(100);
    server.wait_for_readiness(200);
    let fates = load.end();
    assert_eq!(ended_outages(&server), 1);
    drop(server);
    let mut lines: Vec<Vec<u8>> = lines_of(&directory.join("audit.log"));
    drop(another);
    lines.extend(lines_of(&directory.join("audit.log")));
    assert_eq!(count(&fates, Outcome::Unanswered), 0);
    assert_agree(&fates, &counted(lines));
}

// Pipes.

fn fifo(setup: &Setup) -> PathBuf {
    let path = setup.path("fifo");
    run("mkfifo", &[path.to_str().unwrap()]);
    path
}

fn reader(fifo: &Path) -> BufReader<File> {
    BufReader::new(common::open_to_read(fifo))
}

/// With `--audit-to-std-log`, and with standard output redirected to the FIFO.
fn to_standard_output(setup: Setup, fifo: &Path) -> Server {
    let setup = setup.without("logger-filename").switch("audit-to-std-log");
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$@" >"$0""#]).arg(fifo);
    command.arg(common::program()).args(setup.arguments());
    setup.start_as(command)
}

fn next_line(reader: &mut BufReader<File>) -> Vec<u8> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).unwrap();
    assert_eq!(line.pop(), Some(b'\n'));
    line
}

#[test]
fn standard_output_that_nobody_reads_any_more_is_a_failed_append_and_no_crash() {
    let setup = Setup::new();
    let fifo = fifo(&setup);
    let mut reader = reader(&fifo);
    let mut server = to_standard_output(setup, &fifo);
    assert_eq!(send_one(&server).status, 200);
    common::json::assert_line_of(&next_line(&mut reader), &corpus::review("one"));
    common::close_reader(reader, &fifo);
    for _ in 0..3 {
        assert_unavailable(&send_one(&server));
    }
    let said = server.wait_for_readiness(503);
    assert!(said.contains("Broken pipe"), "{said}");
    let errors = server.counts("append_errors_total");
    assert_eq!(errors.get("reason=\"broken_pipe\""), Some(&3.0), "{errors:?}");
    eventually("the outage to be said", || (outages_said(&server) == (1, 0)).then_some(()));
    let alive = server.connect_metrics().exchange(&get("/healthz"));
    assert_eq!(alive.status, 200);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_slow_reader_of_standard_output_slows_requests_down_and_gets_every_line() {
    const LINE: usize = 4000;
    // Linux's default, and what two pages too few may add.
    const PIPE: usize = 80 << 10;
    let setup = Setup::new();
    let fifo = fifo(&setup);
    let mut reader = reader(&fifo);
    let server = to_standard_output(setup, &fifo);
    let slow = Plan {
        requests: Some(60),
        body: |worker, _| match worker {
            0 => Body::Events(3, LINE / 3),
            1 => Body::Review(150_000),
            _ => Body::Review(LINE),
        },
        ..plan("s", 8)
    };
    let load = Load::begin(&server, slow);
    // Nobody reads yet: what is acknowledged is in the pipe. That may be nothing, if the first line is one that fills it.
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        let acknowledged = load.acknowledged();
        assert!(acknowledged * LINE <= PIPE, "{acknowledged} acknowledged");
        thread::sleep(Duration::from_millis(10));
    }
    let expected = 60 * (7 + 3);
    let mut lines = Vec::new();
    let mut piece = [0; 3000];
    let mut text = Vec::new();
    while lines.len() < expected {
        let length = reader.read(&mut piece).unwrap();
        assert!(length > 0, "the end after {} lines", lines.len());
        text.extend_from_slice(&piece[..length]);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            lines.push(text.drain(..=end).take(end).collect::<Vec<u8>>());
        }
    }
    let fates = load.join();
    assert_eq!(count(&fates, Outcome::Acknowledged), fates.len());
    assert!(text.is_empty());
    assert_agree(&fates, &counted(lines));
}

#[test]
fn a_fifo_without_a_reader_makes_the_program_not_ready_at_the_start_and_later_until_a_reader_comes() {
    let setup = Setup::new();
    let fifo = fifo(&setup);
    let server = setup.flag("logger-filename", fifo.to_str().unwrap()).start();
    let said = server.wait_for_readiness(503);
    assert!(said.contains("nobody reads from this FIFO"), "{said}");
    assert_eq!(outages_said(&server), (1, 0));
    assert_eq!(server.connect_metrics().exchange(&get("/healthz")).status, 200);
    for outages in 1..=3 {
        let refusal = send_one(&server);
        assert_unavailable(&refusal);
        server.wait_for_readiness(503);
        // Opened as a reader opens it: this waits for the program.
        let mut reader = BufReader::new(File::open(&fifo).unwrap());
        server.wait_for_readiness(200);
        server.wait_until_said(MAY_WORK, outages);
        assert_eq!(send_one(&server).status, 200);
        common::json::assert_line_of(&next_line(&mut reader), &corpus::review("one"));
        // Nothing of what was answered 503 comes after it.
        let rest = rustix::io::ioctl_fionread(reader.get_ref()).unwrap();
        assert_eq!((rest, reader.buffer().len()), (0, 0));
        common::close_reader(reader, &fifo);
    }
    assert_eq!(server.counts("append_errors_total").get("reason=\"broken_pipe\""), Some(&3.0));
    server.wait_for_metric("log_reopens_total", 0.0);
}

#[test]
fn a_fifo_that_was_made_anew_before_it_had_a_reader_is_written() {
    let setup = Setup::new();
    let fifo = fifo(&setup);
    let server = setup.flag("logger-filename", fifo.to_str().unwrap()).start();
    server.wait_for_readiness(503);
    fs::remove_file(&fifo).unwrap();
    assert_unavailable(&send_one(&server));
    run("mkfifo", &[fifo.to_str().unwrap()]);
    let mut reader = reader(&fifo);
    server.wait_for_readiness(200);
    assert_eq!(send_one(&server).status, 200);
    common::json::assert_line_of(&next_line(&mut reader), &corpus::review("one"));
}

#[test]
fn a_fifo_whose_reader_made_it_anew_is_written_again_from_a_whole_line_on() {
    let setup = Setup::new();
    let fifo = fifo(&setup);
    let mut reader = reader(&fifo);
    let server = setup.flag("logger-filename", fifo.to_str().unwrap()).start();
    for _ in 0..2 {
        assert_eq!(send_one(&server).status, 200);
        common::json::assert_line_of(&next_line(&mut reader), &corpus::review("one"));
        // As a sidecar that is started again: it ends, rm -f, mkfifo, read.
        common::close_reader(reader, &fifo);
        fs::remove_file(&fifo).unwrap();
        run("mkfifo", &[fifo.to_str().unwrap()]);
        assert_unavailable(&send_one(&server));
        reader = self::reader(&fifo);
        server.wait_for_readiness(200);
    }
    assert_eq!(send_one(&server).status, 200);
    common::json::assert_line_of(&next_line(&mut reader), &corpus::review("one"));
    assert_eq!(ended_outages(&server), 2);
}

#[test]
fn sighup_goes_over_to_a_new_fifo_although_the_old_ones_reader_lives() {
    let setup = Setup::new();
    let fifo = fifo(&setup);
    let mut first = reader(&fifo);
    let server = setup.flag("logger-filename", fifo.to_str().unwrap()).start();
    assert_eq!(send_one(&server).status, 200);
    common::json::assert_line_of(&next_line(&mut first), &corpus::review("one"));
    fs::remove_file(&fifo).unwrap();
    run("mkfifo", &[fifo.to_str().unwrap()]);
    // Open for reading before the signal.
    let mut second = reader(&fifo);
    server.signal(Signal::HUP);
    server.wait_until_said("\"reloading\"", 1);
    assert_eq!(send_one(&server).status, 200);
    server.wait_until_said("audit log opened anew", 1);
    common::json::assert_line_of(&next_line(&mut second), &corpus::review("one"));
    // The old one is closed.
    assert_eq!(first.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn an_order_to_end_is_followed_at_once_while_nobody_reads_from_the_fifo() {
    for signal in [Signal::TERM, Signal::INT] {
        let setup = Setup::new();
        let fifo = fifo(&setup);
        let mut server = setup.flag("logger-filename", fifo.to_str().unwrap()).start();
        server.wait_for_readiness(503);
        let began = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        // A drain may take 25 s.
        assert!(began.elapsed() < Duration::from_secs(10));
        server.wait_until_said("shutdown ended", 1);
    }
}

// The sixteen.

/// Keeps every log file by a hard link, so that those can be read that retention deletes.
fn save_links(directory: &Path, saved: &Path, stop: &AtomicBool) {
    let mut known = HashSet::new();
    loop {
        let last = stop.load(Relaxed);
        for file in log_files(directory) {
            let number = known.len();
            let link = saved.join(format!("{number}.log"));
            // It may be renamed between the listing and here: then the next pass finds it.
            let is_known = file.metadata().is_ok_and(|metadata| known.contains(&metadata.ino()));
            if is_known || fs::hard_link(&file, &link).is_err() {
                continue;
            }
            let metadata = link.metadata().unwrap();
            // An empty one is a name that is being reserved, or the new log before its first line.
            if metadata.len() == 0 || !known.insert(metadata.ino()) {
                fs::remove_file(link).unwrap();
            }
        }
        if last {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn sixteen_connections(requests: usize, backups: usize) {
    let (setup, directory) = setup();
    let saved = setup.path("saved");
    fs::create_dir(&saved).unwrap();
    let server = setup.flag("logger-max-size", "1").flag("logger-max-backups", &backups.to_string()).start();
    let began = Instant::now();
    let stop = AtomicBool::new(false);
    let fates = thread::scope(|scope| {
        scope.spawn(|| save_links(&directory, &saved, &stop));
        let _end = StopAtEnd(&stop);
        let load = Load::begin(
            &server,
            Plan {
                requests: Some(requests.div_ceil(16)),
                body: |worker, number| match (worker + number) % 4 {
                    0 => Body::Events(3, 150),
                    other => Body::Review(150 * other),
                },
                ..plan("s", 16)
            },
        );
        load.join()
    });
    let took = began.elapsed();
    assert_eq!(count(&fates, Outcome::Acknowledged), fates.len());
    let found = recorded(&[&saved]);
    assert_agree(&fates, &found);
    let rotations = log_files(&saved).len() - 1;
    assert!(rotations > 4, "{rotations} rotations");
    server.wait_for_metric("log_rotations_total", rotations as f64);
    server.wait_for_metric("log_rotation_errors_total", 0.0);
    assert!(server.counts("append_errors_total").is_empty());
    let kept = match backups {
        0 => rotations,
        most => rotations.min(most),
    };
    server.wait_for_metric("log_backups", kept as f64);
    let files = log_files(&directory);
    assert_eq!(files.len(), kept + 1, "{files:?}");
    // The newest: of no connection is a line there and a later one not.
    for file in &files {
        assert!(file.metadata().unwrap().len() <= 1 << 20);
    }
    let newest = recorded(&[&directory]);
    for worker in 0..16 {
        let of_worker = fates.iter().filter(|fate| {
            let id = &fate.ids[0];
            id.split('-').nth(1) == Some(worker.to_string().as_str())
        });
        let there: Vec<bool> = of_worker.flat_map(|fate| &fate.ids).map(|id| newest.contains_key(id)).collect();
        assert!(there.is_sorted(), "worker {worker}");
    }
    eprintln!(
        "16 connections, {} requests, {} lines, {} backups: {rotations} rotations, {:.0} requests a second",
        fates.len(),
        found.len(),
        backups,
        fates.len() as f64 / took.as_secs_f64()
    );
}

#[test]
fn sixteen_connections_of_both_kinds_while_files_are_rolled_lose_tear_and_repeat_nothing() {
    for backups in [0, 1, 3] {
        sixteen_connections(10_000, backups);
    }
}

#[test]
#[ignore = "takes long; .ci/run runs it"]
fn sixteen_connections_and_a_hundred_thousand_requests_lose_tear_and_repeat_nothing() {
    let requests = from_environment("KUBE_AUDIT_REST_REQUESTS", 100_000);
    for backups in [0, 1, 3] {
        sixteen_connections(requests, backups);
    }
}
