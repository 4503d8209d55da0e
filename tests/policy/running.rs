//! The program with a policy: what it writes, answers, counts and says, while the file changes and breaks under it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::common::{Server, Setup, StopAtEnd, corpus, eventually, get, post, program};
use crate::text;

const METADATA: &str = "- level: Metadata\n";
const COMPLETE: &str = "- level: RequestResponse\n";

/// Puts the file into `volume` as the kubelet does with a ConfigMap: `..data` is pointed to a new directory.
fn publish(volume: &Path, policy: &str) {
    let version = format!("..{}", fs::read_dir(volume).map_or(0, Iterator::count));
    fs::create_dir_all(volume.join(&version)).unwrap();
    fs::write(volume.join(&version).join("policy.yaml"), policy).unwrap();
    if !volume.join("policy.yaml").is_symlink() {
        symlink("..data/policy.yaml", volume.join("policy.yaml")).unwrap();
    }
    symlink(&version, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

fn setup(rules: &str) -> Setup {
    let setup = Setup::new();
    let volume = setup.path("policy");
    publish(&volume, &text(rules));
    setup.flag("policy-filename", volume.join("policy.yaml").to_str().unwrap())
}

fn decisions(server: &Server) -> Vec<(String, f64)> {
    server.counts("policy_decisions_total").into_iter().collect()
}

fn level(line: &[u8]) -> String {
    let line: Value = serde_json::from_slice(line).unwrap();
    line["level"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn recorded_requests_are_written_at_the_policys_level_and_counted() {
    let server = setup(METADATA).start();
    let mut client = server.connect();
    let bodies = corpus::reviews();
    for body in &bodies {
        let answer = client.exchange(&post("/log-request", body));
        assert_eq!(answer.status, 200);
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["response"]["allowed"], true);
    }
    let lines = server.lines();
    assert_eq!(lines.len(), bodies.len());
    for line in &lines {
        assert_eq!(level(line), "Metadata");
        let line: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(line["request"]["object"].get("spec").filter(|_| line["request"]["operation"] != "CONNECT"), None);
    }
    let count = lines.len() as f64;
    server.wait_for_metric("audit_lines_total{kind=\"AdmissionReview\"}", count);
    assert_eq!(decisions(&server), [("level=\"Metadata\"".to_owned(), count)]);
    let said = server.wait_for_message("the policy", |message| message["msg"] == "policy loaded");
    assert_eq!(said["rules"], 1);
    let sha256 = said["sha256"].as_str().unwrap();
    assert_eq!(sha256.len(), 64);
    server.wait_for_metric("policy_reloads_total{result=\"success\"}", 1.0);
    server.wait_for_metric("policy_hash", u64::from_str_radix(&sha256[..12], 16).unwrap() as f64);
}

#[test]
fn a_policy_that_leaves_out_everything_answers_as_ever_and_writes_nothing() {
    let server = setup("- level: None\n").start();
    let mut client = server.connect();
    for body in corpus::reviews().iter().take(20) {
        let answer = client.exchange(&post("/log-request", body));
        assert_eq!((answer.status, answer.closes()), (200, false));
        let (asked, answer): (Value, Value) =
            (serde_json::from_slice(body).unwrap(), serde_json::from_slice(&answer.body).unwrap());
        assert_eq!(answer["response"]["uid"], asked["request"]["uid"]);
    }
    for list in corpus::event_lists().iter().take(3) {
        let answer = client.exchange(&post("/audit-events", list));
        assert_eq!(answer.status, 200);
        let asked: Value = serde_json::from_slice(list).unwrap();
        let count = asked["items"].as_array().unwrap().len();
        assert_eq!(answer.body, format!("processed {count} lines").into_bytes());
    }
    // A body that is refused is refused all the same.
    assert_eq!(client.exchange(&post("/log-request", b"{\"kind\":1}")).status, 400);
    server.wait_for_metric("valid_requests_processed_total", 23.0);
    assert_eq!(server.lines().len(), 0);
    assert_eq!(fs::metadata(server.log_path()).unwrap().len(), 0);
    let page = server.metrics();
    assert_eq!(page["kube_audit_rest_audit_lines_total{kind=\"AdmissionReview\"}"], 0.0);
    assert_eq!(page["kube_audit_rest_audit_line_bytes_max"], 0.0);
    assert!(decisions(&server).iter().all(|(level, _)| level == "level=\"None\""));
    assert_eq!(server.wait_for_readiness(200), "ready\n");
}

#[test]
fn events_are_written_at_the_lower_of_the_two_levels() {
    let server = setup(METADATA).start();
    let mut client = server.connect();
    let mut count = 0;
    for list in corpus::event_lists() {
        assert_eq!(client.exchange(&post("/audit-events", &list)).status, 200);
        let list: Value = serde_json::from_slice(&list).unwrap();
        count += list["items"].as_array().unwrap().len();
    }
    let lines = server.lines();
    assert_eq!(lines.len(), count);
    for line in lines {
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["level"], "Metadata");
        assert_eq!((line.get("requestObject"), line.get("responseObject")), (None, None));
    }
}

#[test]
fn a_new_policy_is_used_under_load_without_a_line_in_between() {
    let server = setup(METADATA).flag("logger-max-size", "0").start();
    let volume = server.setup().path("policy");
    let body = corpus::reviews().into_iter().find(|body| String::from_utf8_lossy(body).contains("\"spec\":")).unwrap();
    let request = post("/log-request", &body);
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let mut client = server.connect();
                let (request, stop) = (&request, &stop);
                scope.spawn(move || {
                    let mut sent = 0;
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(client.exchange(request).status, 200);
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        let end = StopAtEnd(&stop);
        // Not the file's lines: what is being written may be seen in part.
        let recorded = || server.metrics()[r#"kube_audit_rest_audit_lines_total{kind="AdmissionReview"}"#];
        let rules = [COMPLETE, "- level: Request\n", METADATA, COMPLETE];
        for (number, rules) in rules.iter().enumerate() {
            publish(&volume, &text(rules));
            server.signal(rustix::process::Signal::HUP);
            server.wait_for_metric("policy_reloads_total{result=\"success\"}", number as f64 + 2.0);
            // Some requests with it, before the next.
            let before = recorded();
            eventually("requests with the new policy", || (recorded() > before + 50.0).then_some(()));
        }
        drop(end);
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    let lines = server.lines();
    assert_eq!(lines.len(), sent);
    // Each line is whole, and just as one of the policies has it.
    let mut kinds: Vec<_> = lines
        .iter()
        .map(|line| {
            let mut line: Value = serde_json::from_slice(line).unwrap();
            line["requestReceivedTimestamp"] = Value::Null;
            line.to_string()
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let levels: Vec<_> = kinds.iter().map(|line| level(line.as_bytes())).collect();
    assert_eq!(levels.len(), 3, "{levels:?}");
    assert_eq!(server.said("policy reloaded"), 4);
}

#[test]
fn a_broken_update_is_said_and_the_old_policy_stays_in_use_and_ready() {
    let server = setup(METADATA).start();
    let volume = server.setup().path("policy");
    publish(&volume, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: metadata\n");
    // What is broken for one look only is not spoken of, so look twice; it looks by itself every five seconds too.
    eventually("the complaint", || {
        server.signal(rustix::process::Signal::HUP);
        server.counts("policy_reloads_total").contains_key("result=\"failure\"").then_some(())
    });
    let said = server.wait_for_message("the complaint", |message| {
        message["msg"] == "policy: reload failed, the old one stays in use"
    });
    let error = said["error"].as_str().unwrap();
    assert!(error.ends_with("policy.yaml: line 4: rules[0].level: \"metadata\" is written Metadata"), "{error}");
    assert!(error.starts_with("--policy-filename "), "{error}");
    assert_eq!(server.wait_for_readiness(200), "ready\n");
    let mut client = server.connect();
    assert_eq!(client.exchange(&post("/log-request", &corpus::reviews()[0])).status, 200);
    assert_eq!(level(&server.lines()[0]), "Metadata");
    // Mended, it is used.
    publish(&volume, &text(COMPLETE));
    server.signal(rustix::process::Signal::HUP);
    server.wait_for_metric("policy_reloads_total{result=\"success\"}", 2.0);
    assert_eq!(client.exchange(&post("/log-request", &corpus::reviews()[0])).status, 200);
    assert_eq!(level(&server.lines()[1]), "RequestResponse");
}

#[test]
fn a_policy_that_cannot_be_used_is_one_line_and_exit_1_before_anything_listens() {
    for (policy, wanted) in [
        ("rules: [", "line 1: not YAML: "),
        ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- verbs: [get]\n", "line 4: rules[0].level: missing"),
    ] {
        let setup = Setup::new();
        let path = setup.file("policy.yaml", policy);
        let output = setup.flag("policy-filename", &path).command().output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        let last = text.lines().last().unwrap();
        assert!(
            last.contains("cannot start") && last.contains(&format!("--policy-filename {path}: {wanted}")),
            "{last}"
        );
        assert!(!text.contains("listening"), "{text}");
    }
}

#[test]
fn without_the_flag_lines_are_what_came_and_nothing_is_counted() {
    let server = Server::start();
    let body = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","level":"x","request":{"uid":"u","operation":"CREATE","object":{"metadata":{"managedFields":[]},"data":{"a":"b"}}}}"#;
    assert_eq!(server.connect().exchange(&post("/log-request", body)).status, 200);
    let line = server.lines().remove(0);
    crate::common::json::assert_line_of(&line, body);
    assert_eq!(decisions(&server), []);
    assert_eq!(server.connect_metrics().exchange(&get("/readyz")).status, 200);
}

fn policy_command(words: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let mut child = Command::new(program())
        .arg("policy")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = thread::spawn(move || {
        use std::io::Write as _;
        // It may end without having read all.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_policy_command_tells_for_recorded_lines_what_the_server_would_have_written() {
    let rules = "- level: None\n  resources: [{group: coordination.k8s.io}]\n- level: Metadata\n  resources: [{resources: [secrets]}]\n- level: None\n  users: [nobody]\n- level: RequestResponse\n  omitManagedFields: true\n";
    let setup = Setup::new();
    let policy = setup.file("policy.yaml", &text(rules));
    let bodies = corpus::reviews();
    let lists = corpus::event_lists();

    // Recorded by one server without the policy, and by another with it.
    let (without, with) = (Server::start(), setup.flag("policy-filename", &policy).start());
    for server in [&without, &with] {
        let mut client = server.connect();
        for body in &bodies {
            assert_eq!(client.exchange(&post("/log-request", body)).status, 200);
        }
        for list in &lists {
            assert_eq!(client.exchange(&post("/audit-events", list)).status, 200);
        }
    }
    let log = without.log_path();
    let before = fs::metadata(&log).unwrap().len();
    let after = fs::metadata(with.log_path()).unwrap().len();
    let count = without.lines().len();

    let (code, report, complaints) = policy_command(&[&policy, log.to_str().unwrap()], b"");
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{report}");
    assert!(report.starts_with(&format!("{policy}: valid, 4 rules, SHA-256 ")), "{report}");
    assert!(report.contains("\nMatched nothing: rules[2]\n"), "{report}");
    let number = |text: &str| text.replace(',', "").parse::<u64>().unwrap();
    let all = report.lines().find(|line| line.starts_with("all ")).unwrap();
    let all: Vec<u64> = all.split_whitespace().skip(1).take(3).map(number).collect();
    assert_eq!(all, [count as u64, before, after]);
    let lines_at = |level: &str| -> u64 {
        let rows = report.lines().filter(|line| line.starts_with("rules["));
        rows.map(|row| row.split_whitespace().collect::<Vec<_>>())
            .filter(|row| row[1] == level)
            .map(|row| number(row[2]))
            .sum()
    };
    // Events stand at the rule's level here, and at the lower of the two in the counter.
    assert_eq!(lines_at("None") as f64, with.counts("policy_decisions_total")["level=\"None\""]);

    // The same by a pipe; a line that is none is named, and costs nothing else.
    let mut input = fs::read(&log).unwrap();
    input.extend_from_slice(b"no audit line\n");
    let (code, piped, complaints) = policy_command(&[&policy, "-"], &input);
    assert_eq!((code, piped), (Some(0), report));
    let complaint = format!("-:{}: no audit line: not JSON", count + 1);
    assert!(
        complaints.contains(&complaint) && complaints.contains("1 line left out of this: no audit line"),
        "{complaints}"
    );
}

#[test]
fn the_policy_commands_exit_codes_are_fit_for_a_pipeline() {
    let setup = Setup::new();
    let good = setup.file("good.yaml", &text(METADATA));
    let bad = setup.file("bad.yaml", &text("- level: Metadata\n  verb: [get]\n"));
    let missing = setup.path("missing").to_str().unwrap().to_owned();
    let (code, report, complaints) = policy_command(&[&good], b"");
    assert_eq!((code, report.lines().count(), complaints.as_str()), (Some(0), 1, ""));
    for (words, wanted, complaint) in [
        (vec![bad.as_str()], 1, "line 5: rules[0]: unknown field \"verb\""),
        (vec![missing.as_str()], 1, "No such file or directory"),
        (vec![], 2, "a policy's file is missing"),
        (vec!["--frobnicate"], 2, "--frobnicate: no such flag"),
        (vec!["-x"], 2, "-x: no such flag"),
        (vec![good.as_str(), missing.as_str()], 4, "No such file or directory"),
    ] {
        let (code, _, complaints) = policy_command(&words, b"");
        assert_eq!(code, Some(wanted), "{words:?}: {complaints}");
        assert_eq!(complaints.lines().count(), 1, "{complaints}");
        assert!(complaints.contains(complaint), "{complaints}");
    }
    let (code, usage, _) = policy_command(&["--help"], b"");
    assert_eq!(code, Some(0));
    assert!(usage.contains("Usage: kube-audit-rest policy FILE [LOG]..."));
}
