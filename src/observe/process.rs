//! The standard `process_*` metrics of this process, from Linux's /proc (proc_pid_stat(5)).

use std::fmt::Write as _;
use std::fs;

/// Clock ticks a second in /proc: USER_HZ, 100 on every architecture that Kubernetes runs on.
const TICKS: f64 = 100.0;

/// The metrics page's `process_*` families, each with HELP and TYPE. What /proc does not tell is left out.
pub fn render() -> String {
    let mut page = String::new();
    let mut family = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ =
                writeln!(page, "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}");
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let field = |number| stat_field(&stat, number);
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS);
    family("cpu_seconds_total", "counter", "User and system CPU time.", cpu);
    let resident = fs::read_to_string("/proc/self/status").ok().and_then(|status| kilobytes(&status, "VmRSS:"));
    family("resident_memory_bytes", "gauge", "Resident memory.", resident);
    family("virtual_memory_bytes", "gauge", "Virtual memory.", field(23));
    // One less: reading the directory takes a descriptor of its own.
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64);
    family("open_fds", "gauge", "Open file descriptors.", open);
    family("max_fds", "gauge", "Most file descriptors.", descriptor_limit().map(|limit| limit as f64));
    let booted = fs::read_to_string("/proc/stat").ok().and_then(|stat| boot_time(&stat));
    let started = booted.zip(field(22)).map(|(booted, ticks)| booted + ticks / TICKS);
    family("start_time_seconds", "gauge", "When the process started, Unix time.", started);
    page
}

/// File descriptors that the process may have open at once, where that is limited.
pub fn descriptor_limit() -> Option<usize> {
    soft_limit(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// Field `number` (from 1) of /proc/PID/stat. The second, the program's name, may hold anything but ends at the last
/// parenthesis.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_with_blanks_and_parentheses_shifts_no_field() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 0 0 0 0 7 5 0 0 20 0 9 0 12345 8192000 300";
        assert_eq!(stat_field(stat, 14), Some(7.0));
        assert_eq!(stat_field(stat, 15), Some(5.0));
        assert_eq!(stat_field(stat, 22), Some(12345.0));
        assert_eq!(stat_field("", 14), None);
    }

    #[test]
    fn all_six_families_are_there_on_this_system() {
        let page = render();
        for name in [
            "cpu_seconds_total",
            "resident_memory_bytes",
            "virtual_memory_bytes",
            "open_fds",
            "max_fds",
            "start_time_seconds",
        ] {
            let sample = format!("\nprocess_{name} ");
            let value = page.split_once(&sample).unwrap().1.lines().next().unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{name} {value}");
        }
    }

    #[test]
    fn an_unlimited_limit_is_left_out() {
        assert_eq!(soft_limit("Max open files  unlimited  unlimited files"), None);
        assert_eq!(soft_limit("Max open files  1024  4096 files"), Some(1024));
    }
}
