//! `kube-audit-rest read` as its users run it: what it shows of recorded requests, of several logs, through rotation, and
//! of files that are damaged.

mod common;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::{PATIENCE, Server, Setup, corpus, post, program};
use serde_json::{Value, json};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("kube-audit-rest-read-").tempdir().unwrap()
}

fn command(words: &[&str], files: &[&Path]) -> Command {
    let mut command = Command::new(program());
    command.arg("read").args(words).args(files).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn read(words: &[&str], files: &[&Path]) -> Output {
    command(words, files).output().unwrap()
}

/// What it writes, where nothing is amiss.
fn shown(words: &[&str], files: &[&Path]) -> String {
    let output = read(words, files);
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && messages.is_empty(), "{words:?}: {:?} {messages}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn messages(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A second of a day, as a timestamp of ours.
fn time(second: usize) -> String {
    format!("2026-11-20T{:02}:{:02}:{:02}.123456789Z", second / 3600, second / 60 % 60, second % 60)
}

/// The line of a review: the recorded bytes and a time.
fn recorded(body: &[u8], second: usize) -> String {
    let body = str::from_utf8(body).unwrap().trim_end();
    format!("{},\"requestReceivedTimestamp\":\"{}\"}}", body.strip_suffix('}').unwrap(), time(second))
}

/// A short line that can be told from others.
fn line(uid: &str, second: usize) -> String {
    recorded(&corpus::review(uid), second)
}

fn write(path: &Path, lines: &[String]) -> PathBuf {
    fs::write(path, lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>()).unwrap();
    path.to_owned()
}

/// The lines of every recorded review and Event.
fn all_recorded() -> Vec<String> {
    let reviews = corpus::reviews();
    let reviews = reviews.iter().enumerate().map(|(second, body)| recorded(body, second));
    let mut lines: Vec<String> = reviews.collect();
    for list in corpus::event_lists() {
        let list: Value = serde_json::from_slice(&list).unwrap();
        for item in list["items"].as_array().unwrap() {
            let mut event = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1"});
            event.as_object_mut().unwrap().extend(item.as_object().unwrap().clone());
            lines.push(event.to_string());
        }
    }
    lines
}

/// The cells of a row, by an independent reading of the line.
fn expected_row(line: &str) -> Vec<String> {
    let line: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let time = line["requestReceivedTimestamp"].as_str().unwrap();
    let time = format!("{}Z", &time[..19]);
    let (user, verb, resource, subresource, namespace, name, dry) = if line["kind"] == "Event" {
        let of = &line["objectRef"];
        let user = text(&line["user"]["username"]).unwrap();
        let user = match text(&line["impersonatedUser"]["username"]) {
            Some(impersonated) => format!("{user} (as {impersonated})"),
            None => user,
        };
        let dry = line["requestURI"].as_str().unwrap().contains("dryRun=All");
        let parts = [&of["resource"], &of["subresource"], &of["namespace"], &of["name"]].map(text);
        let [resource, subresource, namespace, name] = parts;
        (user, text(&line["verb"]).unwrap(), resource, subresource, namespace, name, dry)
    } else {
        let request = &line["request"];
        let name = text(&request["name"])
            .or(text(&request["object"]["metadata"]["name"]))
            .or(text(&request["oldObject"]["metadata"]["name"]));
        (
            text(&request["userInfo"]["username"]).unwrap(),
            request["operation"].as_str().unwrap().to_lowercase(),
            text(&request["requestResource"]["resource"]),
            text(&request["requestSubResource"]),
            text(&request["namespace"]),
            name,
            request["dryRun"] == true,
        )
    };
    let mut resource = resource.unwrap_or_else(|| "-".to_owned());
    if let Some(subresource) = subresource {
        resource = format!("{resource}/{subresource}");
    }
    let mut object = name.unwrap_or_default();
    if let Some(namespace) = namespace {
        object = format!("{namespace}/{object}");
    }
    if dry {
        object.push_str(" (dry run)");
    }
    if line["kind"] == "Event" && line["stage"] != "ResponseComplete" {
        object.push_str(&format!(" ({})", line["stage"].as_str().unwrap()));
    }
    if let Some(code) = line["responseStatus"]["code"].as_u64().filter(|code| *code >= 400) {
        object.push_str(&format!(" ({code})"));
    }
    let object = object.trim().to_owned();
    [time, user, verb, resource, object].into_iter().filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn the_rows_of_all_recorded_lines_say_what_another_reading_of_the_json_says() {
    let directory = directory();
    let lines = all_recorded();
    let log = write(&directory.path().join("audit.log"), &lines);
    let table = shown(&["--format=table"], &[&log]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), lines.len());
    for (row, line) in rows.into_iter().zip(&lines) {
        let cells: Vec<&str> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, expected_row(line), "{line}");
    }
}

#[test]
fn elsewhere_than_on_a_terminal_the_lines_come_as_they_are() {
    let directory = directory();
    let lines = all_recorded();
    let log = write(&directory.path().join("audit.log"), &lines);
    assert_eq!(shown(&[], &[&log]), fs::read_to_string(&log).unwrap());
}

#[test]
fn filters_take_what_another_reading_of_the_json_takes() {
    let directory = directory();
    let lines = all_recorded();
    let log = write(&directory.path().join("audit.log"), &lines);
    let expect = |words: &[&str], wanted: &dyn Fn(&[String]) -> bool| {
        let expected: Vec<&String> = lines.iter().filter(|line| wanted(&expected_row(line))).collect();
        assert!(!expected.is_empty() && expected.len() < lines.len(), "{words:?}");
        assert_eq!(shown(words, &[&log]).lines().collect::<Vec<_>>(), expected, "{words:?}");
    };
    expect(&["--user=kubernetes-admin"], &|row| row[1].split(" (as ").next() == Some("kubernetes-admin"));
    expect(&["--user=system:serviceaccount:*"], &|row| row[1].starts_with("system:serviceaccount:"));
    expect(&["--verb=delete"], &|row| row[2] == "delete");
    expect(&["--resource=pods"], &|row| row[3] == "pods");
    expect(&["--resource=pods/*"], &|row| row[3].starts_with("pods/"));
    expect(&["--resource=deployments/scale"], &|row| row[3] == "deployments/scale");
    expect(&["--namespace=corp-b"], &|row| row.get(4).is_some_and(|object| object.starts_with("corp-b/")));
    expect(&["--resource=secrets", "--verb=create"], &|row| row[3] == "secrets" && row[2] == "create");
    expect(&["--since=2026-11-20T00:01:00Z", "--until=2026-11-20T00:02:00Z"], &|row| {
        // Ours have a fraction, so that 00:02:00 is past.
        ("2026-11-20T00:01:00Z".."2026-11-20T00:02:00Z").contains(&row[0].as_str())
    });
    let reviews = shown(&["--only=reviews"], &[&log]).lines().count();
    let events = shown(&["--only=events"], &[&log]).lines().count();
    assert_eq!((reviews, events), (corpus::reviews().len(), lines.len() - corpus::reviews().len()));
}

#[test]
fn a_summary_counts_every_line_and_names_who_did_what_where() {
    let directory = directory();
    let lines = all_recorded();
    let log = write(&directory.path().join("audit.log"), &lines);
    let summary = shown(&["--format=summary"], &[&log]);
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    assert!(summary.starts_with(&format!("{} lines, {bytes} bytes\n", lines.len())), "{summary}");
    let count = |verb: &str| lines.iter().filter(|line| expected_row(line)[2] == verb).count();
    for verb in ["create", "update", "patch", "delete", "connect"] {
        let row = summary.lines().find(|line| line.ends_with(&format!("  {verb}"))).unwrap();
        assert_eq!(row.split(' ').next(), Some(count(verb).to_string().as_str()), "{row}");
    }
    for title in ["user", "verb", "resource", "namespace"] {
        let rows: Vec<&str> = summary.lines().skip_while(|line| !line.ends_with(&format!("bytes%  {title}"))).collect();
        let counts = rows[1..].iter().take_while(|row| !row.is_empty()).map(|row| row.split(' ').next().unwrap());
        assert_eq!(counts.map(|count| count.parse::<usize>().unwrap()).sum::<usize>(), lines.len(), "{title}");
    }
}

#[test]
fn rolled_files_come_first_and_the_oldest_of_them_before_the_others() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    write(&at("audit-2026-11-20T21-34-38.123-10.log"), &[line("d", 4)]);
    write(&at("audit-2026-11-20T21-34-38.123-2.log"), &[line("c", 3)]);
    write(&at("audit-2026-11-20T21-34-38.123.log"), &[line("b", 2)]);
    write(&at("audit-2025-11-20T21-34-38.123.log"), &[line("a", 1)]);
    let log = write(&at("audit.log"), &[line("e", 5)]);
    write(&at("audit-old.log"), &[line("x", 6)]);
    let wanted: Vec<String> = ["a", "b", "c", "d", "e"].iter().zip(1..).map(|(uid, at)| line(uid, at)).collect();
    assert_eq!(shown(&[], &[&log]).lines().collect::<Vec<_>>(), wanted);
    // Named beside it, as by a shell's pattern, they do not come twice.
    let rolled = at("audit-2026-11-20T21-34-38.123.log");
    assert_eq!(shown(&[], &[&rolled, &log]).lines().collect::<Vec<_>>(), wanted);
    assert_eq!(shown(&[], &[&rolled]).lines().collect::<Vec<_>>(), [line("b", 2)]);
    // The live file may be on its way from one name to the other.
    fs::remove_file(&log).unwrap();
    assert_eq!(shown(&[], &[&log]).lines().collect::<Vec<_>>(), wanted[..4]);
}

#[test]
fn the_logs_of_a_directory_are_merged_by_time_and_each_keeps_its_order() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    write(&at("pod-a-2026-11-20T21-34-38.123.log"), &[line("a1", 10), line("a2", 40)]);
    write(&at("pod-a.log"), &[line("a3", 30), line("a4", 60)]);
    write(&at("pod-b.log"), &[line("b1", 20), line("b2", 50), line("b3", 70)]);
    fs::write(at("notes.txt"), "not a log\n").unwrap();
    fs::write(at(".pod-a.log.lock"), "").unwrap();
    let expected = [("a1", 10), ("b1", 20), ("a2", 40), ("a3", 30), ("b2", 50), ("a4", 60), ("b3", 70)];
    let expected: Vec<String> = expected.iter().map(|(uid, at)| line(uid, *at)).collect();
    assert_eq!(shown(&[], &[directory.path()]).lines().collect::<Vec<_>>(), expected);
    assert_eq!(shown(&[], &[&at("pod-b.log"), &at("pod-a.log")]).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn standard_input_and_a_fifo_are_read_like_files() {
    let directory = directory();
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut child = command(&["-"], &[&fifo]).stdin(Stdio::piped()).spawn().unwrap();
    let lines = [line("a", 1), line("b", 2), line("c", 3)];
    let mut writer = OpenOptions::new().write(true).open(&fifo).unwrap();
    writeln!(writer, "{}\n{}", lines[0], lines[2]).unwrap();
    drop(writer);
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", lines[1]).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), lines);
}

#[test]
fn output_goes_to_a_fifo_once_somebody_reads_from_it() {
    let directory = directory();
    let log = write(&directory.path().join("audit.log"), &[line("a", 1)]);
    let fifo = directory.path().join("fifo");
    let output = format!("--output={}", fifo.display());
    let missing = read(&[&output], &[&log]);
    assert_eq!((missing.status.code(), fifo.exists()), (Some(1), false));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut follower = command(&["--follow", &output], &[&log]).spawn().unwrap();
    let mut lines = BufReader::new(File::open(&fifo).unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), line("a", 1));
    append(&log, &format!("{}\n", line("b", 2)));
    assert_eq!(lines.next().unwrap().unwrap(), line("b", 2));
    // Its reader ends, as Falco does: so does it, and whoever runs it starts it anew.
    drop(lines);
    append(&log, &format!("{}\n", line("c", 3)));
    assert!(follower.wait().unwrap().success());
}

#[test]
fn a_torn_last_line_is_passed_on_or_named() {
    let directory = directory();
    let whole = line("a", 1);
    let log = directory.path().join("audit.log");
    fs::write(&log, format!("{whole}\n{}", &whole[..50])).unwrap();
    assert_eq!(shown(&[], &[&log]), format!("{whole}\n{}\n", &whole[..50]));
    for words in [&["--format=table"][..], &["--format=event"], &["--format=summary"], &["--verb=create"]] {
        let output = read(words, &[&log]);
        assert!(output.status.success());
        let messages = messages(&output);
        assert!(
            messages.contains("audit.log:2: no audit line: not JSON: the text ends too early at byte 50\n"),
            "{messages}"
        );
        assert!(messages.ends_with("1 line was no audit line\n"), "{messages}");
    }
}

#[test]
fn nuls_and_other_damage_are_named_by_file_and_line_and_hide_nothing_else() {
    let directory = directory();
    let log = directory.path().join("audit.log");
    let mut bytes = Vec::new();
    for part in
        [line("a", 1).as_bytes(), b"\n", &[0; 8192], b"\n\n{\"kind\":\"Pod\"}\nplain\n", line("b", 2).as_bytes(), b"\n"]
    {
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(
        &line("c", 3).into_bytes().iter().map(|byte| if *byte == b'c' { 0 } else { *byte }).collect::<Vec<_>>(),
    );
    fs::write(&log, &bytes).unwrap();
    let output = read(&["--format=event"], &[&log]);
    assert!(output.status.success());
    let events: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let uids: Vec<&str> = events.iter().map(|event| event["auditID"].as_str().unwrap()).collect();
    assert_eq!(uids, ["a", "b"]);
    let messages = messages(&output);
    for number in [2, 3, 4, 5, 7] {
        assert!(messages.contains(&format!("audit.log:{number}: no audit line: ")), "{number}: {messages}");
    }
    assert!(messages.ends_with("5 lines were no audit lines\n"), "{messages}");
    bytes.push(b'\n');
    assert_eq!(read(&[], &[&log]).stdout, bytes);
}

#[test]
fn only_the_first_of_many_damaged_lines_are_named_and_all_are_counted() {
    let directory = directory();
    let log = directory.path().join("audit.log");
    fs::write(&log, "x\n".repeat(2345)).unwrap();
    let messages = messages(&read(&["--format=table"], &[&log]));
    assert_eq!(messages.lines().count(), 10 + 2 + 1, "{messages}");
    assert!(messages.ends_with("2345 lines were no audit lines\n"), "{messages}");
}

#[test]
fn a_line_of_28_mb_is_shown_in_every_format_within_the_bound_on_memory() {
    let directory = directory();
    let size = 28 * 1024 * 1024;
    let log = write(
        &directory.path().join("audit.log"),
        &[line("a", 1), recorded(&corpus::large_review("large", size), 2), line("b", 3)],
    );
    for format in ["line", "table", "event", "summary"] {
        let (length, peak) = with_peak(&[&format!("--format={format}")], &log);
        let whole = usize::try_from(fs::metadata(&log).unwrap().len()).unwrap();
        assert_eq!(length >= size, format == "line", "{format}: {length}");
        assert!(format != "line" || length == whole + BEHIND);
        assert!(peak < (size + 10 * 1024 * 1024) as u64, "{format}: {peak}");
    }
    // An object is passed on by slices, too.
    let body = format!(
        r#"{{"kind":"AdmissionReview","request":{{"uid":"u","operation":"CREATE","object":{{"x":"{}"}}}}}}"#,
        "<".repeat(size)
    );
    let log = write(&log, &[recorded(body.as_bytes(), 1)]);
    let (length, peak) = with_peak(&["--format=event"], &log);
    assert!(length > size && peak < (size + 10 * 1024 * 1024) as u64, "{length}: {peak}");
}

#[test]
fn a_line_without_an_end_takes_no_memory_without_end() {
    let directory = directory();
    let log = directory.path().join("audit.log");
    // A hole, as an unlucky power cut leaves it.
    File::create(&log).unwrap().set_len(200 * 1024 * 1024).unwrap();
    OpenOptions::new().append(true).open(&log).unwrap().write_all(format!("\n{}\n", line("a", 1)).as_bytes()).unwrap();
    for (words, wanted) in [(&["--format=line"][..], 200 * 1024 * 1024), (&["--format=table"], 30)] {
        let (length, peak) = with_peak(words, &log);
        assert!(length > wanted, "{words:?}: {length}");
        assert!(peak < 60 * 1024 * 1024, "{words:?}: {peak}");
    }
    let output = read(&["--format=table"], &[&log]);
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert!(messages(&output).contains("audit.log:1: no audit line: longer than 48 MB\n"));
}

/// Empty lines that [`with_peak`] adds: as lines they are passed on, in other formats there is nothing of them.
const BEHIND: usize = 8 * 1024 * 1024;

/// How many bytes it writes of this file, and the most memory that it held meanwhile.
///
/// The file comes through a pipe, with empty lines behind it: once more of them went in than the pipe and the program's
/// buffers hold, everything before them has been dealt with, and the program still runs and can be asked.
fn with_peak(words: &[&str], file: &Path) -> (usize, u64) {
    let mut child = command(words, &[Path::new("-")]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let counter = thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()).unwrap());
    let mut stdin = child.stdin.take().unwrap();
    std::io::copy(&mut File::open(file).unwrap(), &mut stdin).unwrap();
    stdin.write_all(&vec![b'\n'; BEHIND]).unwrap();
    let peak = high_water(&fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap()).unwrap();
    drop(stdin);
    let length = usize::try_from(counter.join().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    (length, peak)
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_shown() {
    let directory = directory();
    let log = write(&directory.path().join("audit.log"), &[line("a", 1)]);
    let missing = directory.path().join("mis\nsing.log");
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("notes.txt"), "x").unwrap();
    let output = read(&[], &[&missing, &log, &empty]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\n", line("a", 1)));
    let messages = messages(&output);
    assert!(messages.contains("mis\\nsing.log: no such file, and no rolled file of it\n"), "{messages}");
    assert!(messages.contains("empty: no audit log in this directory\n"), "{messages}");
}

#[test]
fn a_file_without_permission_is_named_and_the_files_around_it_are_shown() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    write(&at("audit-2025-11-20T21-34-38.123.log"), &[line("a", 1)]);
    let closed = write(&at("audit-2026-11-20T21-34-38.123.log"), &[line("b", 2)]);
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    let log = write(&at("audit.log"), &[line("c", 3)]);
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    if File::open(&closed).is_ok() {
        // Root may read anything: become somebody else.
        for path in [&log, &at("audit-2025-11-20T21-34-38.123.log")] {
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }
    }
    let mut command = command(&[], &[&log]);
    if rustix::process::geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        command.uid(65534);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", messages(&output));
    let shown = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(shown.lines().collect::<Vec<_>>(), [line("a", 1), line("c", 3)]);
    let messages = messages(&output);
    assert!(messages.contains("audit-2026-11-20T21-34-38.123.log: Permission denied"), "{messages}");
}

#[test]
fn a_wrong_flag_ends_it_with_2_and_help_with_0() {
    let output = read(&["--fromat=table"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        messages(&output),
        "kube-audit-rest read: --fromat: no such flag (did you mean --format?); see kube-audit-rest read --help\n"
    );
    assert!(shown(&["--help"], &[]).starts_with("kube-audit-rest read shows an audit log"));
    let usage = Command::new(program()).arg("--help").output().unwrap();
    assert!(String::from_utf8(usage.stdout).unwrap().contains("kube-audit-rest read"));
}

#[test]
fn a_name_with_control_characters_stays_on_its_line_and_moves_no_cursor() {
    let directory = directory();
    let body = r#"{"kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","resource":{"resource":"pods"},"namespace":"n","name":"\u001b[2J\u001b]0;owned\u0007\r\nx\u202e\u009b31m","userInfo":{"username":"\u0000\u001b[1A"}}}"#;
    let log = write(&directory.path().join("audit.log"), &[recorded(body.as_bytes(), 1)]);
    for words in [&["--format=table"][..], &["--format=table", "--width=80"], &["--format=summary"]] {
        let shown = shown(words, &[&log]);
        let harmful = |it: char| it != '\n' && (it.is_control() || it == '\u{202e}');
        assert!(!shown.contains(harmful), "{shown:?}");
    }
    assert!(shown(&["--format=table"], &[&log]).contains(r"\0\u{1b}[1A"));
}

#[test]
fn whoever_stops_reading_ends_it_without_a_word() {
    let directory = directory();
    let log = write(&directory.path().join("audit.log"), &vec![line("a", 1); 100_000]);
    let mut child = command(&["--follow"], &[&log]).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(messages(&output), "");
}

/// As process 1 of a container it would live through a signal that it does not ask for.
#[test]
fn sigterm_ends_it_even_in_a_write_that_nobody_takes() {
    let directory = directory();
    let log = write(&directory.path().join("audit.log"), &vec![line("a", 1); 10_000]);
    let mut child = command(&["--follow"], &[&log]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}

/// `read --follow`, and its lines as they come.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(words: &[&str], files: &[&Path]) -> Self {
        let mut child = command(words, files).arg("--follow").stderr(Stdio::inherit()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().try_for_each(|line| sender.send(line.unwrap())));
        Self { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    fn nothing_is_left(&self) {
        assert_eq!(self.lines.try_recv().ok(), None);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn following_shows_each_line_as_it_is_written_and_waits_for_the_end_of_one() {
    let directory = directory();
    let log = write(&directory.path().join("audit.log"), &[line("a", 1)]);
    let follower = Follower::start(&[], &[&log]);
    assert_eq!(follower.next(), line("a", 1));
    let (beginning, end) = (line("b", 2)[..40].to_owned(), line("b", 2)[40..].to_owned());
    append(&log, &beginning);
    append(&log, &format!("{end}\n"));
    assert_eq!(follower.next(), line("b", 2));
}

#[test]
fn following_waits_for_a_log_that_is_not_there_yet() {
    let directory = directory();
    let log = directory.path().join("audit.log");
    let mut child = command(&["--follow"], &[&log]).spawn().unwrap();
    let mut messages = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(messages.next().unwrap().unwrap().ends_with("audit.log: is not there yet"));
    append(&log, &format!("{}\n", line("a", 1)));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), line("a", 1));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn following_goes_on_where_the_log_is_moved_deleted_or_cut() {
    let directory = directory();
    let log = write(&directory.path().join("audit.log"), &[line("a", 1)]);
    let follower = Follower::start(&[], &[&log]);
    assert_eq!(follower.next(), line("a", 1));
    // As logrotate does it, with a last line written after the move.
    let moved = directory.path().join("audit.log.1");
    fs::rename(&log, &moved).unwrap();
    append(&moved, &format!("{}\n", line("b", 2)));
    append(&log, &format!("{}\n", line("c", 3)));
    assert_eq!(follower.next(), line("b", 2));
    assert_eq!(follower.next(), line("c", 3));
    fs::remove_file(&log).unwrap();
    append(&log, &format!("{}\n{}\n", line("d", 4), line("e", 5)));
    assert_eq!(follower.next(), line("d", 4));
    assert_eq!(follower.next(), line("e", 5));
    // As copytruncate does it.
    File::create(&log).unwrap();
    append(&log, &format!("{}\n", line("f", 6)));
    assert_eq!(follower.next(), line("f", 6));
    follower.nothing_is_left();
}

#[test]
fn following_several_logs_merges_them_and_waits_for_a_silent_one_no_longer_than_a_second() {
    let directory = directory();
    let (a, b) = (directory.path().join("a.log"), directory.path().join("b.log"));
    write(&a, &[line("a1", 10), line("a2", 30)]);
    write(&b, &[line("b1", 20)]);
    let follower = Follower::start(&[], &[&a, &b]);
    for (uid, second) in [("a1", 10), ("b1", 20), ("a2", 30)] {
        assert_eq!(follower.next(), line(uid, second));
    }
    append(&b, &format!("{}\n", line("b2", 40)));
    assert_eq!(follower.next(), line("b2", 40));
}

/// What the server wrote is what a follower shows, once and in order, while files are rolled and deleted around it.
#[test]
fn following_the_real_server_through_rotations_loses_and_repeats_nothing() {
    let server = Setup::new().flag("logger-max-size", "1").flag("logger-max-backups", "3").start();
    let log = server.setup().path("audit.log");
    let follower = Follower::start(&[], &[&log]);
    let padding = 20 * 1024;
    let mut client = server.connect();
    let mut expected = Vec::new();
    for number in 0..500 {
        let uid = format!("uid-{number}");
        let answer = client.exchange(&post("/log-request", &corpus::large_review(&uid, padding)));
        assert_eq!(answer.status, 200);
        expected.push(uid);
        // The follower may be a file or two behind, not more than are kept.
        if number % 50 == 49 {
            let seen: Vec<String> = (0..50).map(|_| uid_of(&follower.next())).collect();
            assert_eq!(seen, expected.split_off(0));
        }
    }
    follower.nothing_is_left();
    assert_eq!(rolled(&server), 3, "it was rolled, and rolled files were deleted");
}

#[test]
fn reading_while_the_real_server_rolls_shows_each_line_once() {
    let server = Setup::new().flag("logger-max-size", "1").flag("logger-max-backups", "0").start();
    let log = server.setup().path("audit.log");
    let endpoint = server.endpoint();
    let writer = thread::spawn(move || {
        let mut client = common::Client::tls(endpoint.address, &endpoint.config);
        for number in 0..300 {
            let body = corpus::large_review(&format!("uid-{number}"), 20 * 1024);
            assert_eq!(client.exchange(&post("/log-request", &body)).status, 200);
        }
    });
    let mut last = 0;
    while !writer.is_finished() {
        let output = read(&[], &[&log]);
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        // A line that is being written may be seen in part.
        if lines.last().is_some_and(|line| serde_json::from_str::<Value>(line).is_err()) {
            lines.pop();
        }
        let uids: Vec<String> = lines.into_iter().map(uid_of).collect();
        assert_eq!(uids, (0..uids.len()).map(|number| format!("uid-{number}")).collect::<Vec<_>>());
        assert!(uids.len() >= last, "{} after {last}", uids.len());
        last = uids.len();
    }
    writer.join().unwrap();
    assert_eq!(shown(&[], &[&log]).lines().count(), 300);
}

fn uid_of(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    line["request"]["uid"].as_str().unwrap().to_owned()
}

fn rolled(server: &Server) -> usize {
    let directory = server.setup().path("audit.log").parent().unwrap().to_owned();
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("audit-2")).count()
}

#[test]
fn it_reads_a_log_that_the_server_has_locked_and_leaves_no_trace() {
    let server = Server::start();
    let mut client = server.connect();
    let log = server.setup().path("audit.log");
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(log.parent().unwrap()).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for uid in ["one", "two"] {
        assert_eq!(client.exchange(&post("/log-request", &corpus::review(uid))).status, 200);
        let before = (names(), fs::metadata(&log).unwrap().modified().unwrap());
        assert!(shown(&["--format=table"], &[&log]).contains("  create  "));
        assert_eq!((names(), fs::metadata(&log).unwrap().modified().unwrap()), before);
    }
    assert_eq!(shown(&[], &[log.parent().unwrap()]).lines().count(), 2);
}
