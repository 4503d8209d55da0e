//! `--chain` and `kube-audit-rest verify`: what an auditor is told of logs that were changed, cut, mixed, or only had bad luck.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Server, Setup, corpus, eventually, post, program};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::Value;

/// Exit code and report.
fn verify(arguments: &[&str], files: &[PathBuf]) -> (i32, String) {
    let output = Command::new(program()).arg("verify").args(arguments).args(files).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|name| name == "log")).collect();
    files.sort();
    files
}

fn write(server: &Server, count: usize) {
    let mut client = server.connect();
    let bodies = corpus::reviews();
    for body in bodies.iter().cycle().take(count) {
        assert_eq!(client.exchange(&post("/log-request", body)).status, 200);
    }
}

/// A setup with a key, and the flag that names its public one.
fn signed() -> (Setup, String) {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let setup = Setup::new();
    let key = setup.file("chain.key", &pair.serialize_pem());
    let public = setup.file("chain.pub", &pair.public_key_pem());
    (setup.switch("chain").flag("chain-key-filename", &key), format!("--key={public}"))
}

/// Appends a line that is signed, since the last signature is some time ago, and ends the server.
fn finish(server: &mut Server) {
    std::thread::sleep(Duration::from_millis(60));
    write(server, 1);
    server.kill();
}

/// A signed log of two files and the flag with its key; the server is kept for its directory.
fn log() -> (Server, String, Vec<PathBuf>) {
    let (setup, key) = signed();
    let mut server = setup.flag("logger-max-size", "1").flag("logger-max-backups", "0").start();
    while files(server.log_path().parent().unwrap()).len() < 3 {
        write(&server, 200);
    }
    finish(&mut server);
    let files = files(server.log_path().parent().unwrap());
    (server, key, files)
}

fn lines(file: &Path) -> Vec<Vec<u8>> {
    fs::read(file).unwrap().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn head(line: &[u8]) -> String {
    let line: Value = serde_json::from_slice(line).unwrap();
    line["chain"].as_str().unwrap().split('/').take(3).collect::<Vec<_>>().join("/")
}

#[test]
fn an_untouched_signed_log_is_proven_with_its_key_and_not_without() {
    let (_server, key, files) = log();
    let (exit, text) = verify(&[&key], &files);
    assert_eq!(exit, 0, "{text}");
    assert!(text.ends_with("INTACT\n") && text.contains("follows nothing; signed to "), "{text}");
    let (exit, text) = verify(&[], &files);
    assert_eq!(exit, 3, "{text}");
    assert!(text.contains("UNPROVEN: 1 to "), "{text}");
    // In any order of the files, each one by itself, and as one stream.
    let backwards: Vec<PathBuf> = files.iter().rev().cloned().collect();
    assert_eq!(verify(&[&key], &backwards).0, 0);
    for file in &files {
        let (exit, text) = verify(&[&key, "--max-unsigned=1000"], std::slice::from_ref(file));
        assert_eq!(exit, 0, "{text}");
    }
    let other = KeyPair::generate_for(&PKCS_ED25519).unwrap().public_key_pem();
    let path = files[0].with_file_name("other.pub");
    fs::write(&path, other).unwrap();
    let (exit, text) = verify(&[&format!("--key={}", path.display())], &files);
    assert_eq!(exit, 1);
    assert!(text.contains("its signature is of none of the keys"), "{text}");
}

#[test]
fn whatever_is_done_to_a_log_is_found() {
    let (_server, key, files) = log();
    let middle = files[1].clone();
    let good = lines(&middle);
    assert!(good.len() > 40);
    let sevenths: Vec<usize> = (0..good.len()).step_by(good.len() / 20).collect();
    let check = |name: &str, at: usize, changed: Vec<Vec<u8>>| {
        fs::write(&middle, changed.concat()).unwrap();
        let (exit, text) = verify(&[&key], &files);
        assert_eq!(exit, 1, "{name} {at}: {text}");
        assert!(
            text.contains(&format!("{}:", middle.display())) || text.contains(&format!("{}:1:", files[2].display())),
            "{text}"
        );
    };
    for &at in &sevenths {
        let mut removed = good.clone();
        removed.remove(at);
        check("removed", at, removed);
        let mut repeated = good.clone();
        repeated.insert(at, good[at].clone());
        check("repeated", at, repeated);
        let mut inserted = good.clone();
        inserted.insert(at, b"{\"kind\":\"AdmissionReview\"}\n".to_vec());
        check("inserted", at, inserted);
        if at + 1 < good.len() {
            let mut swapped = good.clone();
            swapped.swap(at, at + 1);
            check("swapped", at, swapped);
        }
        for byte in (0..good[at].len()).step_by(good[at].len() / 7) {
            let mut flipped = good.clone();
            flipped[at][byte] ^= 1;
            check("flipped", at, flipped);
        }
        let mut moved = good.clone();
        let line = moved.remove(at);
        moved.push(line);
        if at + 1 < good.len() {
            check("moved", at, moved);
        }
        // What comes after is in the last file.
        check("cut off", at, good[..at].to_vec());
        let mut torn = good[..=at].to_vec();
        torn[at].truncate(good[at].len() / 2);
        check("torn", at, torn);
        if at > 0 {
            check("front cut off", at, good[at..].to_vec());
        }
    }
    fs::remove_file(&middle).unwrap();
    let (exit, text) = verify(&[&key], &[files[0].clone(), files[2].clone()]);
    assert_eq!(exit, 1);
    assert!(text.contains("lines are missing before it"), "{text}");
}

#[test]
fn a_log_cut_at_an_end_is_found_where_that_was_asked_and_never_called_complete() {
    let (_server, key, files) = log();
    let (first, last) = (lines(&files[0]), lines(files.last().unwrap()));
    let (begin, end) = (head(&first[0]), head(last.last().unwrap()));
    let (from, expect) = (format!("--from={begin}"), format!("--expect={end}"));
    assert_eq!(verify(&[&key, &from, &expect], &files).0, 0);
    for cut in (1..last.len()).step_by((last.len() / 12).max(1)) {
        fs::write(files.last().unwrap(), last[..cut].concat()).unwrap();
        let (exit, text) = verify(&[&key, &expect], &files);
        assert_eq!(exit, 1, "{text}");
        assert!(text.contains("--expect: the line ") && text.contains(" is missing"), "{text}");
        let (exit, text) = verify(&[], &files);
        assert_eq!(exit, 3, "{text}");
        let anchors = files[0].with_file_name("anchors");
        fs::write(&anchors, format!("{{\"msg\":\"chain head\",\"log-head\":\"{end}\"}}\n")).unwrap();
        let (exit, text) = verify(&[&key, &format!("--anchors={}", anchors.display())], &files);
        assert_eq!(exit, 1, "{text}");
        assert!(text.contains("is missing: the files end earlier"), "{text}");
    }
    fs::write(files.last().unwrap(), last.concat()).unwrap();
    let (exit, text) = verify(&[&key, &from], &files[1..]);
    assert_eq!(exit, 1, "{text}");
    // Retention deletes the oldest file, and nobody is accused for it.
    assert_eq!(verify(&[&key], &files[1..]).0, 0);
    // But it never cuts within a file.
    let second = lines(&files[1]);
    let plain = second.iter().position(|line| {
        let line: Value = serde_json::from_slice(line).unwrap();
        line["chain"].as_str().unwrap().split('/').count() == 3
    });
    fs::write(&files[1], second[plain.unwrap()..].concat()).unwrap();
    let (exit, text) = verify(&[&key], &files[1..]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("what comes before it is missing"), "{text}");
}

#[test]
fn pipes_are_read_in_the_order_in_which_they_are_given() {
    let (_server, key, files) = log();
    let script = r#"program=$1 key=$2 first=$3 second=$4; shift 4
        cat "$second" | (exec 3<&0; cat "$first" | "$program" verify "$key" /dev/stdin /dev/fd/3 "$@")"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(program()).arg(&key).args(&files);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn anchors_without_a_head_do_not_make_a_log_complete() {
    let (server, key, files) = log();
    let anchors = server.log_path().with_file_name("anchors");
    fs::write(&anchors, "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"annotations\":{}}\n").unwrap();
    let (exit, text) = verify(&[&key, &format!("--anchors={}", anchors.display())], &files);
    assert_eq!(exit, 3, "{text}");
    assert!(text.contains("holds no head"), "{text}");
}

#[test]
fn a_log_that_is_copied_while_its_last_line_is_written_is_not_called_broken() {
    let (_server, key, files) = log();
    let live = files.last().unwrap();
    let whole = fs::read(live).unwrap();
    let begun = b"{\"kind\":\"AdmissionReview\",\"request\":{\"uid\":\"0\"";
    fs::write(live, [whole.as_slice(), begun].concat()).unwrap();
    for order in [&[key.as_str()][..], &[&key, "--unordered"]] {
        let (exit, text) = verify(order, &files);
        assert_eq!(exit, 3, "{text}");
        let line = lines(live).len();
        assert!(text.contains(&format!("{}:{line}: its end is missing", live.display())), "{text}");
    }
    // A rolled file has an end.
    fs::write(live, &whole).unwrap();
    fs::write(&files[0], [fs::read(&files[0]).unwrap().as_slice(), begun].concat()).unwrap();
    let (exit, text) = verify(&[&key], &files);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("the line is torn"), "{text}");
}

#[test]
fn fifty_kills_are_no_tampering() {
    let (setup, key) = signed();
    let mut server = setup.start();
    for _ in 0..50 {
        std::thread::scope(|scope| {
            let mut client = server.connect();
            scope.spawn(move || {
                for number in 0..40 {
                    client.send(&post("/log-request", &corpus::review(&number.to_string())));
                }
            });
        });
        server = server.restart();
    }
    finish(&mut server);
    let (exit, text) = verify(&[&key, "--max-unsigned=0"], &[server.log_path()]);
    assert_eq!(exit, 0, "{text}");
    assert!(text.matches("; followed by ").count() > 5, "{text}");
}

#[test]
fn the_lines_of_two_replicas_are_verified_in_any_order_and_twice() {
    let logs: Vec<_> = [log(), log()].into();
    let mut all: Vec<Vec<u8>> = logs.iter().flat_map(|(_, _, files)| files).flat_map(|file| lines(file)).collect();
    let count = all.len();
    // A shipper's order, with some lines shipped twice.
    for at in 0..count {
        all.swap(at, at * 7919 % count);
    }
    all.extend(all[..100].to_vec());
    let mixed = logs[0].2[0].with_file_name("mixed.jsonl");
    fs::write(&mixed, all.concat()).unwrap();
    let keys = [logs[0].1.as_str(), logs[1].1.as_str()];
    let (exit, text) = verify(&[keys[0], keys[1], "--unordered"], std::slice::from_ref(&mixed));
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("100 lines came again, unchanged"), "{text}");
    let one = all.iter().rposition(|line| !all[..100].contains(line)).unwrap();
    let mut fewer = all.clone();
    fewer.remove(one);
    fs::write(&mixed, fewer.concat()).unwrap();
    let (exit, text) = verify(&[keys[0], keys[1], "--unordered"], std::slice::from_ref(&mixed));
    assert_ne!(exit, 0, "{text}");
    let mut changed = all;
    changed[one][30] ^= 1;
    fs::write(&mixed, changed.concat()).unwrap();
    let (exit, text) = verify(&[keys[0], keys[1], "--unordered"], std::slice::from_ref(&mixed));
    assert_eq!(exit, 1, "{text}");
}

#[test]
fn a_reply_carries_a_head_once_a_second_and_an_api_servers_log_with_it_is_an_anchor() {
    let (setup, key) = signed();
    let mut server = setup.start();
    let mut client = server.connect();
    let mut heads = Vec::new();
    for version in ["v1", "v1beta1"] {
        let body = String::from_utf8(corpus::review("u")).unwrap().replace("/v1", &format!("/{version}"));
        heads.push(eventually("a reply with a head", || {
            let reply = client.exchange(&post("/log-request", body.as_bytes()));
            let reply: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(reply["apiVersion"], format!("admission.k8s.io/{version}"));
            assert_eq!(reply["response"]["allowed"], true);
            Some(reply["response"]["auditAnnotations"]["log-head"].as_str()?.to_owned())
        }));
    }
    assert_eq!(heads[0].split('/').count(), 4);
    // A deletecollection's reviews have no name, and an annotation of each would be complained about.
    let collection = String::from_utf8(corpus::review("u")).unwrap().replace("CREATE", "DELETE");
    std::thread::sleep(Duration::from_millis(1100));
    let reply = client.exchange(&post("/log-request", collection.as_bytes()));
    assert!(!reply.text().contains("auditAnnotations"));
    server.kill();
    let event = |head: &str| {
        format!("{{\"kind\":\"Event\",\"annotations\":{{\"kube-audit-rest.example/log-head\":\"{head}\"}}}}\n")
    };
    // Another webhook's head, or a client's, in what a request says is none.
    let text = format!(
        "{}{}{{\"requestObject\":{{\"annotations\":{{\"a/log-head\":\"{}\"}}}}}}\n",
        event(&heads[0]),
        event(&heads[1]),
        heads[0].replace("/1/", "/2/")
    );
    let anchors = server.setup().file("api.log", &text);
    let (exit, text) = verify(&[&format!("--anchors={anchors}"), &key, "--max-unsigned=1"], &[server.log_path()]);
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("2 heads, 2 of them found"), "{text}");
}

#[test]
fn a_clients_own_chain_is_dropped_and_without_the_flag_it_stays() {
    for chained in [true, false] {
        let setup = Setup::new();
        let server = if chained { setup.switch("chain") } else { setup }.start();
        let mut client = server.connect();
        let review = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","ch\u0061in":"x","request":{"uid":"u","chain":1},"chain":2}"#;
        assert_eq!(client.exchange(&post("/log-request", review.as_bytes())).status, 200);
        let event = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"1","chain":{"a":1}}"#;
        assert_eq!(client.exchange(&post("/audit-events", event.as_bytes())).status, 200);
        let lines = server.lines();
        for line in &lines {
            let text = String::from_utf8(line.clone()).unwrap();
            assert_eq!(text.contains(r#""chain":2"#) || text.contains(r#""chain":{"#), !chained, "{text}");
            assert_eq!(text.contains(r"ch\u0061in"), !chained && text.contains("uid"), "{text}");
        }
        assert!(String::from_utf8_lossy(&lines[0]).contains(r#""request":{"uid":"u","chain":1}"#));
        if chained {
            let (exit, text) = verify(&[], &[server.log_path()]);
            assert_eq!(exit, 3, "{text}");
            for words in [&["read"][..], &["policy"]] {
                let policy = server
                    .setup()
                    .file("policy.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n");
                let mut command = Command::new(program());
                command.args(words);
                if words == ["policy"] {
                    command.arg(policy);
                }
                let output = command.arg(server.log_path()).output().unwrap();
                assert!(output.status.success(), "{output:?}");
                assert!(!String::from_utf8_lossy(&output.stderr).contains("no audit line"), "{output:?}");
            }
        }
    }
}

#[test]
fn a_key_that_is_none_is_one_clear_line_and_a_new_one_is_taken_up() {
    let setup = Setup::new().switch("chain");
    let key = setup.file("chain.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let output = setup.flag("chain-key-filename", &key).command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("--chain-key-filename {key}: holds no Ed25519 key in PKCS#8 PEM")), "{text}");

    let (setup, old) = signed();
    let mut server = setup.start();
    write(&server, 3);
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let new = server.setup().file("new.pub", &pair.public_key_pem());
    server.setup().file("chain.key", &pair.serialize_pem());
    server.wait_until_said("chain key reloaded", 1);
    finish(&mut server);
    let (exit, text) = verify(&[&old, &format!("--key={new}")], &[server.log_path()]);
    assert_eq!(exit, 0, "{text}");
    assert_eq!(verify(&[&old], &[server.log_path()]).0, 1);
}

#[test]
fn wrong_words_and_files_that_cannot_be_read_have_exit_codes_of_their_own() {
    let server = Setup::new().start();
    write(&server, 1);
    let log = [server.log_path()];
    assert_eq!(verify(&[], &[]).0, 2);
    assert_eq!(verify(&["--nonsense"], &log).0, 2);
    assert_eq!(verify(&["--from=1"], &log).0, 2);
    assert_eq!(verify(&[], &["/nowhere/audit.log".into()]).0, 4);
    assert_eq!(verify(&["--key=/nowhere"], &log).0, 4);
    assert_eq!(verify(&["--help"], &[]).0, 0);
    // Lines without a chain.
    assert_eq!(verify(&[], &log).0, 1);
    assert_eq!(verify(&["--allow-unchained"], &log).0, 3);
}

#[test]
fn a_log_without_a_chain_is_told_in_a_few_lines_and_compressed_files_are_named() {
    let setup = Setup::new();
    let plain = PathBuf::from(setup.file("plain.log", "{}\n{}\n{}\n"));
    let (exit, text) = verify(&[], std::slice::from_ref(&plain));
    let wanted = format!(
        "{}:1: no chain: the line was changed, put in, or written without --chain\n    and 2 lines after it\n\
         read 3 lines of 1 file\nBROKEN: 3 faults; no line has a chain: was this log written with --chain?\n",
        plain.display()
    );
    assert_eq!((exit, text), (1, wanted));
    let compressed = setup.path("plain.log.gz");
    fs::write(&compressed, [0x1f, 0x8b, 8, 0]).unwrap();
    for words in [["verify"].as_slice(), &["policy", "k8s/base/policy.yaml"], &["read", "--format=line"]] {
        let output = Command::new(program()).args(words).arg(&compressed).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let wanted = format!("kube-audit-rest {}: {}: compressed by gzip", words[0], compressed.display());
        assert!(said.starts_with(&wanted), "{said}");
        assert_eq!(output.status.code(), Some(if words[0] == "read" { 1 } else { 4 }));
    }
}
