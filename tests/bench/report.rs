//! Tables for people, JSON for programs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cases::{Outcome, Row};
use crate::footprint::Footprint;
use crate::history::Kept;
use crate::load::Figures;

/// More than this share of the cores taken by others makes a figure doubtful.
const DISTURBED: f64 = 0.05;
/// A generator that is busier than this, with a server that is not, is what limits the rate.
const SATURATED: f64 = 0.95;

/// One line on where this runs.
pub(crate) fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, name)| name);
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// The main table's head.
pub(crate) fn heading() {
    println!(
        "{:<26} {:<9} {:>8} {:>9} {:>9} {:>9} {:>10} {:>9} {:>9} {:>9} {:>8} {:>15}",
        "",
        "",
        "req/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU us/req",
        "to floor",
        "p99 to",
        "to base.",
        "peak MB",
        "srv/gen/others"
    );
}

/// One case's rows.
pub(crate) fn outcome(outcome: &Outcome) {
    for (at, Row { who, figures, to_floor, p99_to_floor, to_baseline }) in outcome.rows.iter().enumerate() {
        println!(
            "{:<26} {who:<9} {:>8.0} {:>9.3} {:>9.3} {:>9} {:>10.2} {to_floor:>9.2} {p99_to_floor:>9.2} {:>9} {:>8.1} {:>15}{}",
            if at == 0 { &outcome.name } else { "" },
            figures.rate,
            figures.p50 * 1e3,
            figures.p99 * 1e3,
            p999(figures),
            figures.cpu * 1e6,
            to_baseline.map_or(String::from("-"), |ratio| format!("{ratio:.2}")),
            figures.peak / 1e6,
            format!("{:.0}/{:.0}/{:.0} %", figures.server * 100.0, figures.generator * 100.0, figures.others * 100.0),
            if figures.others > DISTURBED { " !" } else { "" },
        );
    }
}

/// The 99.9th percentile in milliseconds, where ten requests at least were slower.
fn p999(figures: &Figures) -> String {
    if figures.samples < 10_000.0 { String::from("-") } else { format!("{:.3}", figures.p999 * 1e3) }
}

/// What a reader must know of the main table.
pub(crate) fn footnotes(outcomes: &[Outcome]) {
    let rows = || outcomes.iter().flat_map(|outcome| outcome.rows.iter().map(move |row| (outcome, row)));
    println!();
    for (outcome, row) in rows().filter(|(_, row)| row.figures.generator > SATURATED && row.figures.server < SATURATED)
    {
        println!("{}, {}: the generator was the bottleneck; the rate is not the server's.", outcome.name, row.who);
    }
    if outcomes.iter().any(disturbed) {
        println!(
            "!: other processes took more than {:.0} % of the two cores; do not trust the latency.",
            DISTURBED * 100.0
        );
    }
}

/// Whether other processes, or the hypervisor's other guests, were in the way.
pub(crate) fn disturbed(outcome: &Outcome) -> bool {
    let mut rows = outcome.rows.iter();
    rows.any(|row| row.figures.others > DISTURBED)
}

/// The table of what a server takes before any load.
pub(crate) fn footprints(footprints: &[Footprint]) {
    if footprints.is_empty() {
        return;
    }
    println!(
        "{:<12} {:>22} {:>12} {:>22} {:>12}",
        "", "start to handshake ms", "idle MB", "per idle connection kB", "binary MB"
    );
    for Footprint { who, start, idle, per_connection, binary } in footprints {
        let binary = binary.map_or(String::from("-"), |bytes| format!("{:.2}", bytes / 1e6));
        println!("{who:<12} {:>22.1} {:>12.2} {:>22.1} {binary:>12}", start * 1e3, idle / 1e6, per_connection / 1e3);
    }
    println!("The floor is tuned for time, not for memory.\n");
}

/// What the history keeps of a run: our own figures that another machine would reproduce.
pub(crate) fn kept(outcomes: &[Outcome], footprints: &[Footprint]) -> Kept {
    let quiet = outcomes.iter().filter(|outcome| !disturbed(outcome));
    let ratios = quiet.flat_map(|outcome| {
        let ours = outcome.rows.iter().filter(|row| row.who == "ours");
        ours.map(|row| (format!("{}: CPU to floor", outcome.name), row.to_floor))
    });
    let sizes = footprints.iter().filter(|print| print.who == "ours").flat_map(|print| {
        [
            (String::from("idle MB"), print.idle / 1e6),
            (String::from("per idle connection kB"), print.per_connection / 1e3),
            (String::from("binary MB"), print.binary.unwrap_or(f64::NAN) / 1e6),
        ]
    });
    ratios.chain(sizes).filter(|(_, figure)| figure.is_finite()).collect()
}

/// Writes everything to `target/bench/server.json`.
pub(crate) fn write(outcomes: &[Outcome], footprints: &[Footprint]) -> io::Result<PathBuf> {
    let cases = outcomes.iter().flat_map(|outcome| {
        outcome.rows.iter().map(|row| {
            let Row { who, figures, to_floor, p99_to_floor, to_baseline } = row;
            json!({
                "case": outcome.name, "who": who, "requests_per_second": figures.rate,
                "cpu_seconds_per_request": figures.cpu, "cpu_to_floor": to_floor, "p99_to_floor": p99_to_floor, "cpu_to_baseline": to_baseline,
                "latency_seconds": { "p50": figures.p50, "p99": figures.p99, "p99.9": figures.p999 },
                "samples_each_round": figures.samples, "peak_resident_bytes": figures.peak,
                "core_share": { "server": figures.server, "generator": figures.generator, "others": figures.others },
            })
        })
    });
    let prints = footprints.iter().map(|print| {
        json!({
            "who": print.who, "start_to_first_handshake_seconds": print.start, "idle_resident_bytes": print.idle,
            "resident_bytes_per_idle_connection": print.per_connection, "binary_bytes": print.binary,
        })
    });
    let report = json!({
        "machine": machine(), "footprints": prints.collect::<Vec<Value>>(), "cases": cases.collect::<Vec<Value>>(),
    });
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../bench");
    fs::create_dir_all(&directory)?;
    let path = directory.canonicalize()?.join("server.json");
    fs::write(&path, format!("{report:#}\n"))?;
    Ok(path)
}
