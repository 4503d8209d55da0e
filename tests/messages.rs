//! The program's own messages where nobody reads them, and where a person does.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Client, Setup, corpus, eventually, get, post};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process};

/// A program whose standard error is a pipe of one page that is read as far as the last port's message.
struct Stalled {
    setup: Setup,
    child: Child,
    stderr: BufReader<File>,
    http: SocketAddr,
    metrics: SocketAddr,
}

/// Both ends of a pipe of one page.
fn small_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    (reader, writer)
}

impl Stalled {
    fn start(setup: Setup) -> Self {
        let (reader, writer) = small_pipe();
        let setup = setup.flag("http-port", "0").switch("verbosity");
        let child = setup.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
        let mut stderr = BufReader::new(File::from(reader));
        let mut line = String::new();
        let mut address = |listener: &str| loop {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the program has ended");
            let wanted = format!(" listening listener=\"{listener}\" address=\"");
            if let Some((_, address)) = line.split_once(&wanted) {
                return address.split('"').next().unwrap().parse().unwrap();
            }
        };
        let (http, metrics) = (address("http"), address("metrics"));
        Self { setup, child, stderr, http, metrics }
    }

    fn metric(&self, name: &str) -> f64 {
        let page = Client::plain(self.metrics).exchange(&get("/metrics"));
        let name = format!("kube_audit_rest_{name} ");
        let value = page.text().lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
        value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends requests, each of which has a debug message, until messages are dropped.
    fn overflow(&self) -> usize {
        let mut client = Client::plain(self.http);
        let request = post("/audit-events", &corpus::event_list(&["a"]));
        let mut sent = 0;
        while sent == 0 || self.metric("messages_dropped_total") == 0.0 {
            for _ in 0..500 {
                assert_eq!(client.exchange(&request).status, 200);
            }
            sent += 500;
        }
        sent
    }

    fn lines(&self) -> usize {
        std::fs::read_to_string(self.setup.path("audit.log")).unwrap().lines().count()
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_standard_error_that_nobody_reads_holds_up_no_request_no_rotation_and_no_signal() {
    let mut program = Stalled::start(Setup::new());
    let sent = program.overflow();
    assert_eq!(program.lines(), sent);
    let reopens = program.metric("log_reopens_total");
    program.signal(Signal::HUP);
    eventually("the log to be opened anew", || (program.metric("log_reopens_total") > reopens).then_some(()));
    program.signal(Signal::TERM);
    let status = eventually("the end", || program.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(program.lines(), sent);
}

#[test]
fn what_was_dropped_is_said_once_somebody_reads_again() {
    let mut program = Stalled::start(Setup::new());
    program.overflow();
    program.signal(Signal::TERM);
    let mut rest = String::new();
    program.stderr.read_to_string(&mut rest).unwrap();
    let note =
        rest.lines().find(|line| line.contains("messages were dropped")).expect("the number of messages dropped");
    let dropped: u64 = note.rsplit_once("dropped=").unwrap().1.parse().unwrap();
    assert!(dropped > 0, "{note}");
    assert!(rest.lines().any(|line| line.contains("shutdown ended")), "the last message was lost");
}

#[test]
fn why_it_cannot_start_gets_out_even_if_it_is_read_late() {
    let (reader, writer) = small_pipe();
    let mut filler = File::from(writer.try_clone().unwrap());
    filler.write_all(&[b'\n'; 4096]).unwrap();
    drop(filler);
    let setup = Setup::new().flag("cert-filename", "/nowhere/tls.crt");
    let child = setup.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn();
    // Longer than an orderly end would wait for its last messages.
    thread::sleep(Duration::from_millis(1_500));
    let mut said = String::new();
    File::from(reader).read_to_string(&mut said).unwrap();
    assert!(said.contains("cannot start") && said.contains("/nowhere/tls.crt"), "{said}");
    assert_eq!(child.unwrap().wait().unwrap().code(), Some(1));
}

#[test]
fn on_a_terminal_a_failure_to_start_is_text_for_a_person() {
    let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&terminal).unwrap();
    rustix::pty::unlockpt(&terminal).unwrap();
    let name = rustix::pty::ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let other_end = File::options().read(true).write(true).open(Path::new(&name)).unwrap();
    let setup = Setup::new().flag("cert-filename", "/nowhere/tls.crt");
    let mut command: Command = setup.command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(other_end.as_fd().try_clone_to_owned().unwrap());
    assert_eq!(command.status().unwrap().code(), Some(1));
    // The kernel keeps what was said as long as an end is open; a line comes at a time.
    let mut said = BufReader::new(File::from(terminal));
    let expected =
        "kube-audit-rest: cannot start: --cert-filename /nowhere/tls.crt: No such file or directory (os error 2)";
    let mut line = String::new();
    while line.trim_end() != expected {
        assert!(!line.contains("\"cannot start\""), "{line}");
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0);
    }
    drop(other_end);
}
