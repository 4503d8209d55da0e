//! A server under test: its process, and what the kernel knows of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::certificate::Certificate;

/// Core for the server, when there is more than one.
pub(crate) const SERVER_CORE: usize = 0;
/// Core for the generator.
pub(crate) const GENERATOR_CORE: usize = 1;

/// One of the programs that are put side by side.
#[derive(Debug)]
pub(crate) struct Contestant {
    /// Its name in the tables.
    pub(crate) name: &'static str,
    /// Its executable.
    pub(crate) program: PathBuf,
    /// What comes before the flags.
    pub(crate) leading: Vec<OsString>,
    /// What `--help` says: a flag that is not in there is not given.
    help: String,
}

impl Contestant {
    /// Asks the program which flags it knows.
    pub(crate) fn new(name: &'static str, program: impl Into<PathBuf>) -> io::Result<Self> {
        let program = program.into();
        let output = Command::new(&program)
            .arg("--help")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| io::Error::other(format!("{}: {error}", program.display())))?;
        let help = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok(Self { name, program, leading: Vec::new(), help })
    }

    /// This very program, as the floor.
    pub(crate) fn floor() -> io::Result<Self> {
        Ok(Self {
            name: "floor",
            program: std::env::current_exe()?,
            leading: vec!["--floor".into()],
            help: String::from("logger-sync"),
        })
    }

    /// Starts it on free ports of 127.0.0.1, on its core, with its log at `log`.
    pub(crate) fn start(&self, certificate: &Certificate, log: &Path, sync: bool) -> io::Result<Server> {
        let address = free_address()?;
        let mut command = Command::new(&self.program);
        command.args(&self.leading);
        let flags = [
            ("cert-filename", certificate.chain.display().to_string(), true),
            ("cert-key-filename", certificate.key.display().to_string(), true),
            ("logger-filename", log.display().to_string(), true),
            ("server-port", address.port().to_string(), true),
            ("metrics-port", free_address()?.port().to_string(), true),
            ("server-address", String::from("127.0.0.1"), false),
            ("metrics-address", String::from("127.0.0.1"), false),
            // Rotation would delete gigabytes in the middle of a measurement, on some contestants only.
            ("logger-max-size", String::from("1000000"), false),
            ("logger-sync", String::from(if sync { "always" } else { "never" }), false),
        ];
        for (name, value, always) in flags {
            if always || self.help.contains(name) {
                command.arg(format!("--{name}={value}"));
            }
        }
        let messages = log.with_extension("stderr");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&messages)?);
        pin(SERVER_CORE);
        let started = Instant::now();
        let child = command.spawn();
        pin(GENERATOR_CORE);
        let child = child.map_err(|error| io::Error::other(format!("{}: {error}", self.program.display())))?;
        // A policy leaves out what it wants to.
        let leaves_out = self.leading.iter().any(|flag| flag.to_string_lossy().starts_with("--policy-filename"));
        Ok(Server { child, started, address, log: log.to_owned(), leaves_out, messages })
    }
}

/// Pins the calling thread, and what it spawns from now on, to a core. Where there is but one core, or the kernel
/// refuses, all share what there is; the tables then show it as generator and server taking less than a core each.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    if std::fs::metadata(format!("/sys/devices/system/cpu/cpu{GENERATOR_CORE}")).is_ok() && set.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// CPU time that a process has used so far, its ended threads included, to the nanosecond.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let time = clock_gettime(clock_getcpuclockid(Pid::from_raw(pid))?)?;
    Ok(Duration::from(time))
}

/// Time that two cores, the server's and the generator's, were busy with anything.
pub(crate) fn busy_time() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks: u64 = [SERVER_CORE, GENERATOR_CORE]
        .iter()
        .filter_map(|core| stat.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} "))))
        .flat_map(|line| {
            // user nice system idle iowait irq softirq steal
            let fields = line.split_whitespace().filter_map(|field| field.parse::<u64>().ok()).take(8);
            fields.enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks)
        })
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A running server; ended, and its log deleted, when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Just before it was made.
    pub(crate) started: Instant,
    pub(crate) address: SocketAddr,
    pub(crate) log: PathBuf,
    /// Whether lines may be shorter than what was sent.
    pub(crate) leaves_out: bool,
    messages: PathBuf,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far.
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        cpu_time(self.pid())
    }

    /// A line of /proc/PID/status that is in kB, in bytes: `VmRSS`, `VmHWM`.
    pub(crate) fn memory(&self, what: &str) -> io::Result<u64> {
        fs::read_to_string(format!("/proc/{}/status", self.pid()))?
            .lines()
            .find_map(|line| {
                line.strip_prefix(what)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
            })
            .map(|kilobytes| kilobytes * 1024)
            .ok_or_else(|| io::Error::other(format!("no {what} in /proc")))
    }

    /// Tries until it is served, for 10 s at most.
    pub(crate) fn wait_for<T>(&mut self, mut attempt: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt(self.address) {
                Ok(done) => return Ok(done),
                Err(error) => {
                    if self.child.try_wait()?.is_some() || self.started.elapsed() > Duration::from_secs(10) {
                        let messages = fs::read_to_string(&self.messages).unwrap_or_default();
                        return Err(io::Error::other(format!("the server does not answer: {error}\n{messages}")));
                    }
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
        let _ = fs::remove_file(&self.messages);
    }
}
