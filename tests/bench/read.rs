//! `kube-audit-rest read --user=U` beside `LC_ALL=C grep -Fc U` on the same cached file, by turns in one run: `cargo bench
//! --bench read`, with `-- --megabytes=N` for another size than 1,000. One line in a hundred is the user's.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

/// Stands in no recorded body.
const USER: &str = "grace@example.org";

fn main() -> Result<(), Box<dyn Error>> {
    // cargo bench adds --bench.
    let size = std::env::args().find_map(|word| word.strip_prefix("--megabytes=").map(str::to_owned));
    let size = size.map_or(Ok(1000), |size| size.parse::<u64>())? * 1_000_000;
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("audit.log");
    let (lines, matching) = write_log(&log, size)?;
    println!("{lines} lines, {size} bytes, {matching} of {USER}");
    println!("{:>8} {:>8} {:>8}   seconds", "grep", "read", "ratio");
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let mut grep = Command::new("grep");
        grep.args(["-Fc", USER]).env("LC_ALL", "C").arg(&log);
        let (grep, counted) = timed(&mut grep)?;
        let mut read = Command::new(env!("CARGO_BIN_EXE_kube-audit-rest"));
        read.arg("read").arg(format!("--user={USER}")).arg(&log);
        let (read, shown) = timed(&mut read)?;
        let shown = shown.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!((str::from_utf8(&counted)?.trim(), shown), (matching.to_string().as_str(), matching));
        let ratio = grep.as_secs_f64() / read.as_secs_f64();
        println!("{:8.3} {:8.3} {ratio:8.2}", grep.as_secs_f64(), read.as_secs_f64());
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("read has {:.2} of grep's speed, in the median", ratios[ROUNDS / 2]);
    Ok(())
}

/// Recorded reviews over and over. How many lines, and how many of the user's.
fn write_log(log: &Path, size: u64) -> Result<(usize, usize), Box<dyn Error>> {
    let bodies = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/admission.jsonl"))?;
    let bodies: Vec<&str> = bodies.lines().collect();
    let mut out = BufWriter::new(File::create(log)?);
    let (mut written, mut lines, mut matching) = (0, 0, 0);
    while written < size {
        // The number of bodies, 285, shares only the factor 5 with 100, so that the user gets many different ones.
        let body = bodies[lines % bodies.len()].strip_suffix('}').ok_or("no object")?;
        let start = body.find("\"username\":\"").ok_or("no user")? + "\"username\":\"".len();
        let end = start + body[start..].find('"').ok_or("no end")?;
        let user = if lines % 100 == 99 { USER } else { &body[start..end] };
        let (before, after) = (&body[..start], &body[end..]);
        let line = format!("{before}{user}{after},\"requestReceivedTimestamp\":\"2026-11-20T21:34:38.123456789Z\"}}\n");
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
        lines += 1;
        matching += usize::from(user == USER);
    }
    out.flush()?;
    Ok((lines, matching))
}

fn timed(command: &mut Command) -> Result<(Duration, Vec<u8>), Box<dyn Error>> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    Ok((start.elapsed(), output.stdout))
}
