//! Which logs are meant.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::log_file::LogFile;
use super::options::Follow;
use super::pipe::Pipe;
use super::problems::Problems;
use super::source::Source;
use crate::audit_log::{Names, log_of};
use crate::cli::{self, Config};

/// The command line of process 1: in the image, that of the server.
const PROCESS_1: &str = "/proc/1/cmdline";

/// Standard input among paths.
const STDIN: &str = "-";

/// Opens what is named, or the default log if nothing is. What cannot be opened is reported.
pub(super) fn open(inputs: &[PathBuf], follow: Follow, problems: &mut Problems) -> Vec<Source> {
    if inputs.is_empty() {
        return open_default(follow, problems).into_iter().collect();
    }
    let mut sources = Vec::new();
    for path in inputs {
        // A shell's * names the rolled files beside their log, which is read with them anyway.
        if !inputs.iter().any(|log| is_rolled_file_of(path, log)) {
            sources.extend(open_path(path, follow, problems));
        }
    }
    sources
}

fn is_rolled_file_of(path: &Path, log: &Path) -> bool {
    let (Some(name), Some(log_name)) = (path.file_name(), log.file_name()) else { return false };
    path.parent() == log.parent() && Names::of_log(log_name).parse(name).is_some()
}

fn open_default(follow: Follow, problems: &mut Problems) -> Option<Source> {
    let config = fs::read(PROCESS_1).ok().and_then(|cmdline| config_of(&cmdline)).unwrap_or_default();
    let path = config.logger_filename.as_path();
    if config.audit_to_std_log {
        problems.fail(path, &"not written: process 1 writes to its standard output (--audit-to-std-log)");
        return None;
    }
    // What is read from a pipe here does not reach the reader that it is meant for.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        problems.fail(path, &"no regular file; name it to read from it all the same, and take what others wait for");
        return None;
    }
    open_log(path, follow, problems)
}

/// What the command line of a process says, if it is this program and serves.
fn config_of(cmdline: &[u8]) -> Option<Config> {
    let words: Vec<OsString> =
        cmdline.strip_suffix(b"\0")?.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    let program = Path::new(words.first()?).file_name()?;
    if program != "kube-audit-rest" {
        return None;
    }
    match cli::parse(words) {
        Ok(cli::Action::Run(config)) => Some(config),
        _ => None,
    }
}

fn open_path(path: &Path, follow: Follow, problems: &mut Problems) -> Vec<Source> {
    match fs::metadata(path) {
        _ if path.as_os_str() == STDIN => open_pipe(path, problems).into_iter().collect(),
        Ok(metadata) if metadata.is_dir() => open_directory(path, follow, problems),
        Ok(metadata) if !metadata.is_file() => open_pipe(path, problems).into_iter().collect(),
        // A regular file, or none: then its rolled files may still be there.
        _ => open_log(path, follow, problems).into_iter().collect(),
    }
}

fn open_log(path: &Path, follow: Follow, problems: &mut Problems) -> Option<Source> {
    match LogFile::open(path, follow) {
        Ok(log) => {
            if log.is_missing() {
                problems.say(path, "is not there yet");
            }
            Some(Source::of_log(log))
        }
        Err(refusal) => {
            problems.fail(&refusal.path, &refusal.error);
            None
        }
    }
}

fn open_pipe(path: &Path, problems: &mut Problems) -> Option<Source> {
    let pipe = if path.as_os_str() == STDIN {
        Pipe::start(|| Ok(io::stdin()))
    } else {
        let path = path.to_owned();
        Pipe::start(move || File::open(path))
    };
    match pipe {
        Ok(pipe) => Some(Source::of_pipe(pipe, path)),
        Err(error) => {
            problems.fail(path, &error);
            None
        }
    }
}

fn open_directory(directory: &Path, follow: Follow, problems: &mut Problems) -> Vec<Source> {
    match logs_in(directory) {
        Ok(logs) if logs.is_empty() => {
            problems.fail(directory, &"no audit log in this directory");
            Vec::new()
        }
        Ok(logs) => logs.iter().filter_map(|log| open_log(log, follow, problems)).collect(),
        Err(error) => {
            problems.fail(directory, &error);
            Vec::new()
        }
    }
}

/// The logs in a directory, by the names of their live files. A rolled file stands for its live file, be that gone or not.
fn logs_in(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut logs = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_file = fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file());
        if !is_file || name.as_bytes().starts_with(b".") {
            continue;
        }
        match log_of(&name) {
            Some(log) => drop(logs.insert(directory.join(log))),
            None if looks_like_a_log(&entry.path(), &name) => drop(logs.insert(entry.path())),
            None => {}
        }
    }
    Ok(logs)
}

/// Whether a file's name ends in `.log` or its first byte is a `{`.
fn looks_like_a_log(path: &Path, name: &OsStr) -> bool {
    let begins_as_one = || {
        let mut first = [0];
        File::open(path).and_then(|mut file| file.read(&mut first)).is_ok() && first == *b"{"
    };
    name.as_bytes().ends_with(b".log") || begins_as_one()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_the_one_that_process_1_was_told_to_write() {
        let log = |words: &str| config_of(words.replace(' ', "\0").as_bytes()).map(|config| config.logger_filename);
        assert_eq!(log("/kube-audit-rest --logger-filename=/var/log/a.log "), Some("/var/log/a.log".into()));
        assert_eq!(log("kube-audit-rest --server-port 1 --logger-filename b.log "), Some("b.log".into()));
        assert_eq!(log("/kube-audit-rest "), Some("/tmp/kube-audit-rest.log".into()));
        assert_eq!(log("/sbin/init --logger-filename=/x "), None);
        assert_eq!(log("/kube-audit-rest --no-such-flag "), None);
        assert_eq!(log(""), None);
    }
}
