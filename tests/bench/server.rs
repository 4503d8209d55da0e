//! The benchmark: `cargo bench --bench server`; `-- --help` says what else it can do.
//!
//! The real binary is put beside a [floor](floor) that does everything but look at the JSON, and beside the binary that
//! `KUBE_AUDIT_REST_BASELINE` names, by turns (A B C A B C), each time in a fresh process: the server on core 0, the
//! generator on core 1. A figure is the median of the rounds, a ratio the median of the rounds' ratios.

mod cases;
mod certificate;
mod client;
mod floor;
mod footprint;
mod history;
mod hybrid;
mod load;
mod payload;
mod process;
mod report;
mod scaling;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use process::Contestant;

const HELP: &str = "\
Measures kube-audit-rest beside a floor (the same TLS and I/O, no JSON) and beside $KUBE_AUDIT_REST_BASELINE.

cargo bench --bench server [-- OPTIONS]

  --quick          one short round of few cases, in less than a minute: does it work?
  --scaling        another table: 1 to 256 connections, 1 KB to 28 MB, tmpfs and disk, with and without syncing
  --events         another table: what an event costs in an EventList and as an AdmissionReview of its own
  --with FLAG      ours with this flag; the baseline, if none is named, is ours without it
  --only TEXT      only the cases whose name has TEXT in it, such as \"200 KB\" or \"8 connections\";
                   no footprints
  --rounds N       measurements of each contestant in each case (5)
  --seconds S      length of each, after warming up (1.5)
  --disk           the audit log on disk, not on tmpfs
  --record         append the ratios to tests/bench/history.jsonl, those of cases that nothing disturbed
  --check          exit 1 when a ratio of such a case is more than 10 % worse than the last one recorded
";

/// What to do, from the command line.
#[derive(Debug)]
struct Options {
    quick: bool,
    scaling: bool,
    events: bool,
    only: String,
    /// Flags of ours alone.
    with: Vec<std::ffi::OsString>,
    rounds: usize,
    seconds: f64,
    disk: bool,
    record: bool,
    check: bool,
    /// Cargo adds it when it benchmarks, and not when `cargo test --all-targets` comes by.
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = if std::env::args().nth(1).as_deref() == Some("--floor") {
        arguments.next();
        floor::main(arguments).map(|()| ExitCode::SUCCESS)
    } else {
        run()
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run() -> io::Result<ExitCode> {
    let Some(options) = options().map_err(io::Error::other)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    if !options.bench {
        println!("A benchmark, not a test: cargo bench --bench server");
        return Ok(ExitCode::SUCCESS);
    }
    process::pin(process::GENERATOR_CORE);
    let ours = std::env::var_os("KUBE_AUDIT_REST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_kube-audit-rest").into());
    let baseline = std::env::var_os("KUBE_AUDIT_REST_BASELINE");
    let baseline = baseline.or_else(|| (!options.with.is_empty()).then(|| ours.clone()));
    let mut with_flags = Contestant::new("ours", ours)?;
    with_flags.leading = options.with;
    let mut contestants = vec![with_flags, Contestant::floor()?];
    if let Some(baseline) = baseline {
        contestants.push(Contestant::new("baseline", baseline)?);
    }
    let bench = Bench {
        contestants,
        rounds: options.rounds,
        warm: Duration::from_secs_f64(options.seconds.min(1.0) * 0.3),
        measured: Duration::from_secs_f64(options.seconds),
        only: options.only,
    };
    println!("{}", report::machine());

    if options.scaling {
        scaling::run(&bench)?;
        return Ok(ExitCode::SUCCESS);
    }
    let place = Place::new(options.disk)?;
    println!("Audit log in {}.\n", place.path.display());
    if options.events {
        cases::run_events(&bench, &place.path)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut footprints = Vec::new();
    if bench.only.is_empty() {
        footprints = footprint::measure(&bench, &place.path, if options.quick { 3 } else { 11 })?;
        report::footprints(&footprints);
    }
    let results = cases::run(&bench, &place.path, options.quick)?;
    report::footnotes(&results);
    println!("\nWritten to {}.", report::write(&results, &footprints)?.display());

    let kept = report::kept(&results, &footprints);
    let mut code = ExitCode::SUCCESS;
    let before = history::last()?;
    let worse = history::worse(&before, &kept);
    let disturbed = results.iter().filter(|case| report::disturbed(case));
    println!(
        "\n{} figures, {} of them worse than when they were recorded last; {} more cases were disturbed.",
        kept.len(),
        worse.len(),
        disturbed.count(),
    );
    for figure in &worse {
        println!("  {figure}");
    }
    if options.check && !worse.is_empty() {
        code = ExitCode::FAILURE;
    }
    if options.record {
        history::record(&kept, &report::machine())?;
    }
    Ok(code)
}

/// `None`: help is wanted.
fn options() -> Result<Option<Options>, lexopt::Error> {
    use lexopt::{Arg::Long, ValueExt};
    let mut options = Options {
        quick: false,
        scaling: false,
        events: false,
        only: String::new(),
        with: Vec::new(),
        rounds: 5,
        seconds: 1.5,
        disk: false,
        record: false,
        check: false,
        bench: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") => return Ok(None),
            Long("quick") => {
                options.quick = true;
                options.rounds = 1;
                options.seconds = 0.5;
            }
            Long("scaling") => options.scaling = true,
            Long("events") => options.events = true,
            Long("only") => options.only = parser.value()?.string()?,
            Long("with") => options.with.push(parser.value()?),
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            Long("disk") => options.disk = true,
            Long("record") => options.record = true,
            Long("check") => options.check = true,
            Long("bench") => options.bench = true,
            other => return Err(other.unexpected()),
        }
    }
    if options.record && options.quick {
        return Err("--record wants long rounds".into());
    }
    Ok(Some(options))
}

/// What every table is measured with.
#[derive(Debug)]
struct Bench {
    /// Ours, the floor, and perhaps the baseline.
    contestants: Vec<Contestant>,
    rounds: usize,
    warm: Duration,
    measured: Duration,
    only: String,
}

/// A directory for certificates and logs, deleted when dropped.
#[derive(Debug)]
struct Place {
    path: PathBuf,
}

impl Place {
    /// On tmpfs where there is one with some room, else (or when asked for) on disk.
    fn new(disk: bool) -> io::Result<Self> {
        const ROOM: u64 = 6 << 30;
        let memory = Path::new("/dev/shm");
        let parent = if disk {
            Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned()
        } else if nix::sys::statvfs::statvfs(memory).is_ok_and(|of| of.blocks_available() * of.fragment_size() > ROOM) {
            memory.to_owned()
        } else {
            eprintln!("/dev/shm has less than 6 GiB free: the log is on disk.");
            Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned()
        };
        let path = parent.join(format!("kube-audit-rest-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
