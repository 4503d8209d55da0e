//! Those who read the log while it is written and rolled: each sees every line exactly once.
//!
//! Readers follow a name. One that looks at it once a second misses a file that is rolled within that second, whoever
//! rolls it; so each file here lasts until its reader has seen its beginning, but not its end.

mod common;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use common::load::{Body, Fate, Load, Outcome, Plan, assert_agree, count, counted};
use common::{Server, Setup, eventually};

/// A program that reads the log and writes what it reads to a file.
struct Reader {
    name: &'static str,
    received: PathBuf,
    /// How many bytes of that have been looked at, and how many lines they hold.
    seen: (u64, usize),
    process: Child,
    output: PathBuf,
}

impl Reader {
    fn start(name: &'static str, directory: &Path, mut command: Command) -> Self {
        let output = directory.join("output");
        let file = || File::options().create(true).append(true).open(&output).unwrap();
        let process = command
            .current_dir(directory)
            .stderr(file())
            .stdout(file())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name, received: directory.join("received"), seen: (0, 0), process, output }
    }

    fn lines(&mut self) -> usize {
        let mut new = Vec::new();
        if let Ok(mut file) = File::open(&self.received) {
            file.seek(SeekFrom::Start(self.seen.0)).unwrap();
            file.read_to_end(&mut new).unwrap();
        }
        self.seen.0 += new.len() as u64;
        self.seen.1 += new.iter().filter(|byte| **byte == b'\n').count();
        self.seen.1
    }

    /// Waits until it has read so many lines in all. More are an error, and found in the end.
    fn await_lines(&mut self, lines: usize) {
        let what = format!("{} to read {lines} lines", self.name);
        eventually(&what, || {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "{}: {ended:?}", self.name);
            (self.lines() >= lines).then_some(())
        });
    }

    fn found(&self) -> HashMap<String, usize> {
        counted(common::server::lines_of(&self.received))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let said = fs::read_to_string(&self.output).unwrap_or_default();
            eprintln!("{}: {} lines; it said:\n{said}", self.name, self.seen.1);
        }
    }
}

/// 68 of these are about 900 KB, so that there is one rotation at most among them, and where differs.
fn burst(worker: usize, number: usize) -> Body {
    match (worker + number) % 16 {
        7 => Body::Review(120_000),
        3 => Body::Events(3, 5000),
        other => Body::Review(700 * other),
    }
}

/// Larger than a file may be.
fn long(_: usize, _: usize) -> Body {
    Body::Review(3_000_000)
}

fn send(server: &Server, prefix: &str, requests: usize, body: fn(usize, usize) -> Body) -> Vec<Fate> {
    let connections = if requests == 1 { 1 } else { 4 };
    let plan = Plan { prefix: prefix.to_owned(), connections, requests: Some(requests), body, retries: false };
    let fates = Load::begin(server, plan).join();
    assert_eq!(count(&fates, Outcome::Acknowledged), fates.len());
    fates
}

/// Has the log rolled so many times before the readers' eyes.
fn rolled_before(readers: impl FnOnce(&Path, &Path) -> Vec<Reader>, rotations: f64) {
    let setup = Setup::new();
    let directory = setup.path("logs");
    fs::create_dir(&directory).unwrap();
    let log = directory.join("kube-audit-rest.log");
    let server = setup
        .flag("logger-filename", log.to_str().unwrap())
        .flag("logger-max-size", "1")
        .flag("logger-max-backups", "2")
        .start();
    let place = tempfile::tempdir().unwrap();
    let mut readers = readers(&log, place.path());
    let mut fates = Vec::new();
    let (mut lines, mut rolled) = (0, 0.0);
    let mut round = 0;
    while rolled < rotations {
        let sent = match round % 9 {
            8 => send(&server, &round.to_string(), 1, long),
            _ => send(&server, &round.to_string(), 17, burst),
        };
        lines += sent.iter().map(|fate| fate.ids.len()).sum::<usize>();
        fates.extend(sent);
        for reader in &mut readers {
            reader.await_lines(lines);
        }
        rolled = server.metrics()["kube_audit_rest_log_rotations_total"];
        round += 1;
    }
    // What comes too often would come behind this.
    fates.extend(send(&server, "last", 1, |_, _| Body::Review(1)));
    for reader in &mut readers {
        reader.await_lines(lines + 1);
        assert_agree(&fates, &reader.found());
        eprintln!("{}: {} lines through {rolled} rotations", reader.name, lines + 1);
    }
}

fn in_own_directory(place: &Path, name: &str) -> PathBuf {
    let directory = place.join(name);
    fs::create_dir(&directory).unwrap();
    directory
}

fn tail(log: &Path, place: &Path) -> Reader {
    let directory = in_own_directory(place, "tail");
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec tail --lines=+1 -F "$1" >received"#, "sh"]);
    command.arg(log);
    Reader::start("tail -F", &directory, command)
}

#[test]
fn tail_sees_every_line_once_through_fifty_rotations() {
    rolled_before(|log, place| vec![tail(log, place)], 50.0);
}

/// The part of a configuration under k8s/shippers that begins with this line's beginning and ends with this line.
fn part_of(configuration: &str, begin: &str, end: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/shippers").join(configuration);
    let text = fs::read_to_string(&path).unwrap();
    let mut part = String::new();
    for line in text.lines().skip_while(|line| !line.starts_with(begin)) {
        part.push_str(line);
        part.push('\n');
        if line == end {
            return part;
        }
    }
    panic!("{}: no {begin} up to {end}", path.display());
}

/// The files of Debian's rsyslog and syslog-ng.
struct Daemons(PathBuf);

impl Daemons {
    fn find() -> Self {
        let root = std::env::var_os("KUBE_AUDIT_REST_SYSLOG_DAEMONS");
        Self(PathBuf::from(root.expect(
            "a directory with the files of rsyslog and syslog-ng: .ci/syslog-daemons makes it, name it in \
             KUBE_AUDIT_REST_SYSLOG_DAEMONS",
        )))
    }

    /// The directories that `found` accepts among those one below `directory`.
    fn below(&self, directory: &str, found: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.join(directory)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).filter(|path| found(path)).collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut libraries = vec![self.0.join("usr/lib/syslog-ng")];
        for directory in ["usr/lib", "lib"] {
            libraries.extend(self.below(directory, |path| path.to_string_lossy().ends_with("-linux-gnu")));
        }
        let mut command = Command::new(self.0.join("usr/sbin").join(program));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
        command
    }

    fn rsyslog(&self, log: &Path, place: &Path) -> Reader {
        let directory = in_own_directory(place, "rsyslog");
        let work = directory.to_str().unwrap();
        let global = part_of("rsyslog/rsyslog.conf", "global(", ")").replace("/var/spool/rsyslog", work);
        let module =
            part_of("rsyslog/rsyslog.conf", "module(load=\"imfile\"", "module(load=\"imfile\" mode=\"inotify\")");
        let input = part_of("rsyslog/rsyslog.conf", "input(", ")")
            .replace("/var/log/kube-audit-rest", log.parent().unwrap().to_str().unwrap());
        let configuration = format!(
            r#"{global}{module}{input}
template(name="line" type="string" string="%msg%\n")
ruleset(name="audit") {{
    action(type="omfile" file="{work}/received" template="line" flushOnTXEnd="on")
}}
"#
        );
        fs::write(directory.join("configuration"), configuration).unwrap();
        let modules = self.below("usr/lib", |path| path.join("rsyslog").is_dir());
        let mut command = self.command("rsyslogd");
        command.args(["-n", "-f", "configuration", "-i"]);
        command.arg(directory.join("pid"));
        command.arg("-M").arg(modules[0].join("rsyslog"));
        Reader::start("rsyslog", &directory, command)
    }

    fn syslog_ng(&self, name: &'static str, source: &str, place: &Path) -> Reader {
        let directory = in_own_directory(place, name);
        let options = part_of("syslog-ng/syslog-ng.conf", "options {", "};");
        let configuration = format!(
            r#"@version: 3.38
{options}{source}
destination lines {{ file("{}/received" template("$MESSAGE\n")); }};
log {{ source(audit); destination(lines); flags(flow-control); }};
"#,
            directory.display()
        );
        fs::write(directory.join("configuration"), configuration).unwrap();
        let modules = self.below("usr/lib/syslog-ng", |path| path.join("libaffile.so").exists());
        let mut command = self.command("syslog-ng");
        command.args(["-F", "--no-caps", "--module-path"]).arg(&modules[0]);
        for (flag, file) in
            [("-f", "configuration"), ("--persist-file", "persist"), ("--control", "control"), ("--pidfile", "pid")]
        {
            command.arg(flag).arg(directory.join(file));
        }
        Reader::start(name, &directory, command)
    }

    fn syslog_ng_file(&self, log: &Path, place: &Path) -> Reader {
        let source = part_of("syslog-ng/syslog-ng.conf", "source audit {", "};")
            .replace("/var/log/kube-audit-rest", log.parent().unwrap().to_str().unwrap())
            // More often than once a second, for the sake of the test's duration.
            .replace("follow-freq(1)", "follow-freq(0.2)");
        self.syslog_ng("syslog-ng file", &source, place)
    }

    /// With a pattern that fits the log only: one that fits rolled files would have them read as new ones. And polling:
    /// with inotify it leaves a renamed file before it has read it to its end.
    fn syslog_ng_wildcard_file(&self, log: &Path, place: &Path) -> Reader {
        let source = format!(
            r#"source audit {{
    wildcard-file(
        base-dir("{}") filename-pattern("kube-audit-rest.log") recursive(no) flags(no-parse)
        monitor-method("poll") follow-freq(0.2) max-files(1) log-iw-size(1000) log-fetch-limit(100)
    );
}};"#,
            log.parent().unwrap().display()
        );
        self.syslog_ng("syslog-ng wildcard-file", &source, place)
    }
}

#[test]
#[ignore = "needs the files of rsyslog and syslog-ng; .ci/run runs it"]
fn two_shippers_see_every_line_once_through_fifty_rotations_long_lines_included() {
    let daemons = Daemons::find();
    let readers = |log: &Path, place: &Path| {
        vec![
            tail(log, place),
            daemons.rsyslog(log, place),
            daemons.syslog_ng_file(log, place),
            daemons.syslog_ng_wildcard_file(log, place),
        ]
    };
    let rotations = std::env::var("KUBE_AUDIT_REST_ROTATIONS");
    let rotations = rotations.map_or(50.0, |value| value.parse().expect("a number"));
    rolled_before(readers, rotations);
}
