//! Whose files the log writes, locks, rolls and deletes, on the program itself: one writer, no foreign file, links,
//! retention, and streams that lead nowhere or stand still.
//!
//! What needs root or strace is ignored by default: `cargo test --test log_custody -- --ignored`.

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::load::assert_unavailable;
use common::server::lines_of;
use common::{Response, Server, Setup, corpus, eventually, post};
use rustix::process::Signal;

fn send(server: &Server, padding: usize) -> Response {
    let body = corpus::large_review("one", padding);
    server.connect().exchange(&post("/log-request?timeout=1s", &body))
}

fn send_one(server: &Server) -> Response {
    send(server, 100)
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {arguments:?}");
}

/// The program refuses to start, with one line that holds `why`.
fn refuses_to_start(setup: &Setup, why: &str) {
    assert_refusal(&setup.command().output().unwrap(), why);
}

fn assert_refusal(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let error = said.lines().last().unwrap_or_default();
    assert!(error.contains("cannot start") && error.contains(why), "{why}: {said}");
}

fn logging_to(path: &Path) -> Setup {
    Setup::new().flag("logger-filename", path.to_str().unwrap())
}

fn rolled(directory: &Path) -> Vec<PathBuf> {
    let mut rolled: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("audit-20"))
        .collect();
    rolled.sort();
    rolled
}

// One writer.

#[test]
fn a_second_process_on_a_hard_link_to_the_log_does_not_start() {
    let server = Server::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("other.log");
    fs::hard_link(server.log_path(), &link).unwrap();
    refuses_to_start(&logging_to(&link), "in use by another process");
    assert_eq!(send_one(&server).status, 200);
}

#[test]
fn a_second_process_does_not_start_although_the_lock_file_was_deleted() {
    let server = Server::start();
    let lock = server.log_path().with_file_name(".audit.log.lock");
    for _ in 0..5 {
        let _ = fs::remove_file(&lock);
        refuses_to_start(&logging_to(&server.log_path()), "in use by another process");
    }
    eventually("the lock to be taken again", || lock.exists().then_some(()));
    eventually("appends", || (send_one(&server).status == 200).then_some(()));
    server.wait_for_readiness(200);
}

#[test]
fn whoever_loses_the_lock_refuses_appends_says_why_and_goes_on_when_it_is_free_again() {
    let server = Server::start();
    assert_eq!(send_one(&server).status, 200);
    let lock = server.log_path().with_file_name(".audit.log.lock");
    let other = server.log_path().with_file_name("other");
    let file = File::create(&other).unwrap();
    file.lock().unwrap();
    fs::rename(&other, &lock).unwrap();
    let said = server.wait_for_readiness(503);
    assert!(said.contains("the lock is lost"), "{said}");
    assert_unavailable(&send_one(&server));
    assert_eq!(server.counts("append_errors_total").get("reason=\"lock\""), Some(&1.0));
    drop(file);
    server.wait_for_readiness(200);
    assert_eq!(send_one(&server).status, 200);
    assert_eq!(lines_of(&server.log_path()).len(), 2);
}

#[test]
fn a_group_writable_log_has_a_group_writable_lock() {
    let server = Setup::new().flag("logger-file-mode", "0660").start();
    for name in ["audit.log", ".audit.log.lock"] {
        let mode = fs::metadata(server.log_path().with_file_name(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o660, "{name}");
    }
}

// Files that are not ours.

#[test]
fn what_is_no_log_of_ours_is_refused_with_what_was_found_and_stays_as_it_is() {
    for (content, why) in [
        (&b"key=1\nlast line without newline"[..], "begins with"),
        (b"{\"a\":1}\nexport PATH=/bin", "ends, without a newline, with"),
        (b"\x7fELF\x02\x01\0\0\0\0", "begins with"),
    ] {
        let setup = Setup::new();
        let log = setup.path("audit.log");
        fs::write(&log, content).unwrap();
        refuses_to_start(&setup, why);
        assert_eq!(fs::read(&log).unwrap(), content);
    }
}

#[test]
fn what_a_power_cut_has_left_is_mended_at_the_start_in_rolled_files_too() {
    let setup = Setup::new();
    let log = setup.path("audit.log");
    let backup = setup.path("audit-2026-01-01T00-00-00.000.log");
    let hole = [b"{\"a\":1}\n{\"b", &[0; 4096][..], b"x\"}\n{\"c\":3}\n{\"d\":\0\0"].concat();
    fs::write(&log, &hole).unwrap();
    fs::write(&backup, &hole).unwrap();
    let server = setup.start();
    for file in [&log, &backup] {
        let lines = lines_of(file);
        assert_eq!(lines.len(), 3);
        for line in &lines {
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
        assert_eq!((&lines[0][..], &lines[2][..]), (&b"{\"a\":1}"[..], &b"{\"c\":3}"[..]));
    }
    assert_eq!(server.said("a torn line was cut off the audit log's end"), 2);
    assert_eq!(server.said("lines of the audit log that a power cut had damaged were blanked"), 2);
}

#[test]
fn a_log_that_anybody_may_write_to_is_refused() {
    let setup = Setup::new();
    let log = setup.path("audit.log");
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    refuses_to_start(&setup, "anybody may write to it (mode 0666)");
    assert_eq!(setup.flag("logger-file-mode", "0666").start().said("listening"), 2);
}

#[test]
#[ignore = "needs root to give a file away; .ci/run runs it"]
fn another_users_log_is_refused_unless_our_group_may_write_to_it() {
    for (mode, group) in [(0o600, 0), (0o644, 0), (0o660, 4321)] {
        let setup = Setup::new();
        let log = setup.path("audit.log");
        fs::write(&log, "").unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&log, Some(4321), Some(group)).unwrap();
        refuses_to_start(&setup, "belongs to user 4321");
    }
    let setup = Setup::new();
    let log = setup.path("audit.log");
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o660)).unwrap();
    std::os::unix::fs::chown(&log, Some(4321), Some(0)).unwrap();
    let server = setup.start();
    assert_eq!(server.said("the audit log is another user's"), 1);
    assert_eq!(send_one(&server).status, 200);
}

#[test]
fn the_probe_follows_no_link_and_leaves_its_target_alone() {
    let setup = Setup::new().flag("logger-max-size", "0");
    let victim = setup.path("victim");
    fs::write(&victim, "precious\n").unwrap();
    symlink(&victim, setup.path(".audit.log.probe")).unwrap();
    let mut command = Command::new("prlimit");
    command.arg("--fsize=200000:unlimited").arg(common::program()).args(setup.arguments());
    let server = setup.start_as(command);
    assert_unavailable(&send(&server, 300_000));
    run("prlimit", &["--fsize=unlimited:unlimited", "--pid", &server.process_id().to_string()]);
    server.wait_for_readiness(200);
    assert_eq!(fs::read_to_string(victim).unwrap(), "precious\n");
}

// Links, and files taken away.

#[test]
fn a_link_at_the_start_is_followed_once_and_all_that_is_rolled_and_deleted_is_beside_its_target() {
    let place = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        fs::create_dir(place.path().join(name)).unwrap();
    }
    let (first, second) = (place.path().join("first"), place.path().join("second"));
    let link = place.path().join("link.log");
    symlink(first.join("audit.log"), &link).unwrap();
    let server = logging_to(&link).flag("logger-max-size", "1").flag("logger-max-backups", "1").start();
    for _ in 0..8 {
        assert_eq!(send(&server, 400_000).status, 200);
    }
    eventually("one rolled file", || (rolled(&first).len() == 1).then_some(()));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    // Another target is that of the next start.
    fs::remove_file(&link).unwrap();
    symlink(second.join("audit.log"), &link).unwrap();
    let opened = server.said("audit log opened anew");
    server.signal(Signal::HUP);
    eventually("the log to be opened anew", || (server.said("audit log opened anew") > opened).then_some(()));
    let before = lines_of(&first.join("audit.log")).len();
    assert_eq!(send_one(&server).status, 200);
    assert_eq!(lines_of(&first.join("audit.log")).len(), before + 1);
    let server = server.restart();
    assert_eq!(send_one(&server).status, 200);
    assert_eq!(lines_of(&second.join("audit.log")).len(), 1);
}

#[test]
fn a_link_put_in_the_logs_place_is_not_followed_and_the_moved_file_is_written_on() {
    let server = Server::start();
    assert_eq!(send_one(&server).status, 200);
    let moved = server.log_path().with_file_name("moved");
    let foreign = server.log_path().with_file_name("foreign.conf");
    fs::write(&foreign, "key=1\nlast line").unwrap();
    fs::rename(server.log_path(), &moved).unwrap();
    // The program may be quicker than this.
    let _ = fs::remove_file(server.log_path());
    if symlink(&foreign, server.log_path()).is_ok() {
        server.wait_for_message("that it is a link", |message| {
            message["msg"] == "cannot open the audit log anew"
                && message["error"].as_str().is_some_and(|error| error.contains("a symbolic link"))
        });
        assert_eq!(send_one(&server).status, 200);
        fs::remove_file(server.log_path()).unwrap();
    }
    eventually("a new file", || server.log_path().exists().then_some(()));
    assert_eq!(fs::read_to_string(foreign).unwrap(), "key=1\nlast line");
    assert_eq!(send_one(&server).status, 200);
    assert!(!lines_of(&server.log_path()).is_empty());
}

#[test]
fn what_is_acknowledged_after_the_log_was_truncated_and_deleted_is_there() {
    let server = Server::start();
    for round in 0..30 {
        assert_eq!(send(&server, 5000).status, 200);
        // At any time between two looks of the log's watcher.
        std::thread::sleep(Duration::from_millis(7 * round));
        let file = File::options().write(true).open(server.log_path()).unwrap();
        file.set_len(0).unwrap();
        fs::remove_file(server.log_path()).unwrap();
        assert_eq!(send_one(&server).status, 200);
        assert_eq!(send_one(&server).status, 200);
        assert_eq!(lines_of(&server.log_path()).len(), 2, "round {round}");
        fs::remove_file(server.log_path()).unwrap();
    }
}

#[test]
fn past_a_file_size_limit_the_log_is_rolled_and_refuses_nothing_that_fits_a_file() {
    let setup = Setup::new().flag("logger-max-size", "0").flag("logger-max-backups", "0");
    let mut command = Command::new("prlimit");
    command.arg("--fsize=300000:unlimited").arg(common::program()).args(setup.arguments());
    let server = setup.start_as(command);
    for _ in 0..20 {
        assert_eq!(send(&server, 70_000).status, 200);
    }
    let files = rolled(server.log_path().parent().unwrap());
    assert_eq!(files.iter().chain([&server.log_path()]).map(|file| lines_of(file).len()).sum::<usize>(), 20);
    assert!(files.len() >= 4, "{files:?}");
}

// Retention.

#[test]
fn a_rolled_file_stamped_in_the_future_does_not_keep_the_others_from_being_deleted_for_their_age() {
    let setup = Setup::new().flag("logger-max-backups", "0").flag("logger-max-age", "1");
    let old = SystemTime::now() - Duration::from_secs(3 * 86_400);
    let names = ["2099-01-01T00-00-00.000", "2099-01-01T00-00-00.000-1", "2099-01-01T00-00-00.000-2"];
    for (index, name) in names.into_iter().enumerate() {
        let file = File::create(setup.path(&format!("audit-{name}.log"))).unwrap();
        // The last is young.
        file.set_modified(if index < 2 { old } else { SystemTime::now() }).unwrap();
    }
    let server = setup.start();
    server.wait_for_metric("log_backups", 1.0);
    assert!(rolled(server.log_path().parent().unwrap())[0].ends_with("audit-2099-01-01T00-00-00.000-2.log"));
}

#[test]
fn rolled_files_together_stay_below_their_limit_and_the_oldest_line_is_told() {
    let server = Setup::new()
        .flag("logger-max-size", "1")
        .flag("logger-max-backups", "0")
        .flag("logger-max-total-size", "3")
        .start();
    let series = "kube_audit_rest_log_oldest_timestamp_seconds";
    assert_eq!(server.metrics()[series], 0.0);
    for _ in 0..20 {
        assert_eq!(send(&server, 400_000).status, 200);
    }
    let directory = server.log_path().parent().unwrap().to_owned();
    let total = || rolled(&directory).iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum::<u64>();
    server.wait_for_metric("log_rotations_total", 9.0);
    // The oldest goes a moment after the file beside it was rolled.
    eventually("no more than the limit", || (2 << 20..3 << 20).contains(&total()).then_some(()));
    server.wait_for_metric("log_backups", 3.0);
    let line = String::from_utf8(lines_of(&rolled(&directory)[0])[0].clone()).unwrap();
    let stamp = &line[line.rfind("requestReceivedTimestamp").unwrap()..][27..46];
    let output = Command::new("date").args(["--utc", "+%s", "--date", &format!("{stamp}Z")]).output().unwrap();
    let expected: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    eventually("the oldest line's time", || (server.metrics()[series] == expected).then_some(()));
}

#[test]
fn a_log_that_cannot_be_rolled_says_so_at_the_start() {
    const MESSAGE: &str = "the audit log cannot be rolled and will grow past its limit";
    let place = tempfile::tempdir().unwrap();
    let name = format!("{}.log", "n".repeat(236));
    let server = logging_to(&place.path().join(name)).start();
    assert_eq!(server.said(MESSAGE), 1);
    assert_eq!(send_one(&server).status, 200);
    assert_eq!(Server::start().said(MESSAGE), 0);
}

#[test]
#[ignore = "needs root to mount a file; .ci/run runs it"]
fn a_file_mounted_by_itself_is_said_at_the_start_and_kept_from_a_second_process() {
    let (place, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, mounted) = (place.path().join("audit.log"), other.path().join("audit.log"));
    fs::write(&log, "").unwrap();
    fs::write(&mounted, "").unwrap();
    run("mount", &["--bind", log.to_str().unwrap(), mounted.to_str().unwrap()]);
    let server = logging_to(&mounted).start();
    let said = server.said("the audit log cannot be rolled and will grow past its limit");
    let output = logging_to(&log).command().output();
    drop(server);
    run("umount", &["--lazy", mounted.to_str().unwrap()]);
    assert_eq!(said, 1);
    assert_refusal(&output.unwrap(), "in use by another process");
}

// Syncs that fail.

#[test]
#[ignore = "needs strace; .ci/run installs it and runs this"]
fn failing_syncs_are_one_message_with_pauses_and_leave_no_empty_files() {
    let server = Setup::new().flag("logger-sync", "always").flag("logger-max-backups", "0").start();
    assert_eq!(send_one(&server).status, 200);
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=ENOSPC", "-p"])
        .arg(server.process_id().to_string())
        .spawn()
        .unwrap();
    let mut recorded = 1;
    eventually("the first refusal", || {
        let status = send_one(&server).status;
        recorded += usize::from(status == 200);
        (status == 503).then_some(())
    });
    let until = SystemTime::now() + Duration::from_secs(5);
    let mut refused = 0;
    while SystemTime::now() < until {
        refused += usize::from(send_one(&server).status == 503);
    }
    assert!(refused > 20, "{refused}");
    let said = |msg| server.said(msg);
    assert_eq!(said("append failed; events are answered 503 until it works again"), 1);
    assert_eq!(said("the audit log will not be written any more and is rolled"), 1);
    let files = rolled(server.log_path().parent().unwrap());
    assert_eq!(files.iter().map(|file| lines_of(file).len()).collect::<Vec<_>>(), [recorded]);
    rustix::process::kill_process(rustix::process::Pid::from_child(&strace), Signal::TERM).unwrap();
    strace.wait().unwrap();
    eventually("it works again", || (send_one(&server).status == 200).then_some(()));
    assert_eq!(lines_of(&server.log_path()).len(), 1);
}

/// The program under strace, which makes calls of it fail or wait as `options` say.
fn tampered(setup: Setup, options: &[&str]) -> Server {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null"]).args(options).arg("--");
    let traced = setup.command();
    command.arg(traced.get_program()).args(traced.get_args());
    setup.start_as(command)
}

// Cuts.

#[test]
#[ignore = "needs strace; .ci/run installs it and runs this"]
fn a_cut_that_cannot_be_checked_is_not_made_twice() {
    // The first read is that of the first cut: a log that is made anew is not read.
    for failing in 1..=3 {
        let setup = Setup::new().flag("logger-max-backups", "0");
        let log = setup.path("audit.log");
        let inject = format!("inject=pread64:error=EIO:when={failing}");
        let server = tampered(setup, &["-P", log.to_str().unwrap(), "-e", "trace=pread64", "-e", &inject]);
        let limit = rustix::process::Rlimit { current: Some(300_000), maximum: None };
        let process = rustix::process::Pid::from_raw(i32::try_from(server.process_id()).unwrap());
        rustix::process::prlimit(process, rustix::process::Resource::Fsize, limit).unwrap();
        let mut recorded = 0;
        for padding in [20_000; 10].into_iter().chain([400_000; 2]).chain([20_000; 10]) {
            recorded += usize::from(send(&server, padding).status == 200);
        }
        assert_eq!(recorded, 20, "{failing}");
        let mut files = rolled(log.parent().unwrap());
        files.push(log);
        let newlines = |file: &PathBuf| fs::read(file).unwrap().iter().filter(|byte| **byte == b'\n').count();
        let whole: usize = files.iter().map(newlines).sum();
        assert_eq!(whole, recorded, "{failing}");
    }
}

// Deletions.

#[test]
#[ignore = "needs strace; .ci/run installs it and runs this"]
fn slow_deletions_hold_up_neither_appends_nor_the_look_out_nor_the_end() {
    let setup = Setup::new();
    for day in 10..30 {
        fs::write(setup.path(&format!("audit-2026-01-{day}T00-00-00.000.log")), "{}\n").unwrap();
    }
    let server = tampered(setup, &["-e", "trace=unlink,unlinkat", "-e", "inject=unlink,unlinkat:delay_enter=2s"]);
    assert_eq!(send_one(&server).status, 200);
    let began = Instant::now();
    fs::rename(server.log_path(), server.log_path().with_file_name("moved")).unwrap();
    eventually("a new file", || server.log_path().exists().then_some(()));
    assert_eq!(send_one(&server).status, 200);
    server.signal(Signal::TERM);
    server.wait_for_message("the end", |message| message["msg"] == "shutdown ended");
    // All of them take 38 s.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(rolled(server.log_path().parent().unwrap()).len() > 5);
}

// Streams.

#[test]
fn standard_output_that_leads_nowhere_is_refused_at_the_start() {
    let setup = Setup::new().without("logger-filename").switch("audit-to-std-log");
    let output = setup.command().stdout(Stdio::null()).output().unwrap();
    assert_refusal(&output, "standard output is closed or /dev/null");
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@" >&-"#]).arg(common::program()).args(setup.arguments());
    assert_refusal(&command.output().unwrap(), "standard output is closed or /dev/null");
}

#[test]
fn standard_output_redirected_to_a_file_has_no_hole_after_that_was_truncated() {
    let setup = Setup::new().without("logger-filename").switch("audit-to-std-log");
    let file = setup.path("output");
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$@" >"$0""#]).arg(&file).arg(common::program()).args(setup.arguments());
    let server = setup.start_as(command);
    assert_eq!(send_one(&server).status, 200);
    File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    assert_eq!(send_one(&server).status, 200);
    let lines = lines_of(&file);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with(b"{"));
}

#[test]
fn standard_output_and_standard_error_in_one_file_that_is_not_appended_to_are_refused() {
    let setup = Setup::new().without("logger-filename").switch("audit-to-std-log");
    let file = setup.path("both");
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$@" >"$0" 2>&1"#]).arg(&file).arg(common::program()).args(setup.arguments());
    assert_eq!(command.status().unwrap().code(), Some(1));
    let said = fs::read_to_string(file).unwrap();
    assert!(said.contains("is the same file as standard error: redirect with >> instead of >"), "{said}");
}

#[test]
fn one_pipe_for_standard_output_and_standard_error_is_warned_of_at_the_start() {
    let setup = Setup::new().without("logger-filename").switch("audit-to-std-log");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = setup.command();
    let mut program = command.stderr(writer.try_clone().unwrap()).stdout(writer).spawn().unwrap();
    // It has the writing end still.
    drop(command);
    let warns = |line: &str| line.contains("standard output is also standard error");
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    // Both are said at the start, the warning first.
    let found = lines.find(|line| warns(line) || line.contains("\"listening\"")).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(warns(&found), "{found}");
}

#[test]
fn a_fifo_whose_reader_stands_still_makes_the_program_not_ready_until_it_reads_on() {
    let setup = Setup::new();
    let fifo = setup.path("fifo");
    run("mkfifo", &[fifo.to_str().unwrap()]);
    let setup = setup.flag("logger-filename", fifo.to_str().unwrap());
    let mut reader = common::open_to_read(&fifo);
    let server = setup.start();
    let request = post("/log-request?timeout=1s", &corpus::large_review("one", 300_000));
    let mut client = server.connect();
    client.send(&request);
    let said = server.wait_for_readiness(503);
    assert!(said.contains("the reader of the audit log stands still"), "{said}");
    let reading = std::thread::spawn(move || {
        let mut byte = [0; 1];
        let mut length = 0;
        while reader.read(&mut byte).unwrap() == 1 {
            length += 1;
            if byte == *b"\n" {
                break;
            }
        }
        (reader, length)
    });
    assert_eq!(client.response().status, 200);
    server.wait_for_readiness(200);
    let (_reader, length) = reading.join().unwrap();
    assert!(length > 300_000);
}
