//! What a request costs on a connection in use: four system calls, and more reads where it is large. That it costs no
//! allocation is asserted beside the code that would make it.

mod common;

use std::process::Command;

use common::{Setup, corpus, post};

const WARM_UP: usize = 50;
const COUNTED: usize = 200;

/// Pages that a process has had mapped without I/O so far: a field of /proc/PID/stat (proc_pid_stat(5)).
const MINOR_FAULTS: usize = 10;

#[test]
#[ignore = "needs strace; .ci/run installs it and runs this"]
fn a_request_on_a_warm_connection_is_one_read_one_write_to_the_log_one_look_at_it_and_one_write_of_the_reply() {
    let calls = calls_of_requests(&corpus::review(&"u".repeat(1_100)));
    let expected = ["write", "fstat", "sendto", "recvfrom"];
    let odd: Vec<&String> = calls
        .iter()
        .zip(expected.iter().cycle())
        .filter(|(call, expected)| name(call) != **expected)
        .map(|(call, _)| call)
        .take(9)
        .collect();
    assert!(odd.is_empty(), "not one of the four, in turn: {odd:#?}");
    assert_eq!(calls.len(), 4 * COUNTED);
}

#[test]
#[ignore = "needs strace; .ci/run installs it and runs this"]
fn a_large_request_on_a_warm_connection_is_some_reads_the_two_writes_and_one_look_at_the_log() {
    let calls = calls_of_requests(&corpus::large_review("1", 200_000));
    let count = |wanted: &str| calls.iter().filter(|call| name(call) == wanted).count();
    assert_eq!((count("write"), count("fstat"), count("sendto")), (COUNTED, COUNTED, COUNTED));
    let odd: Vec<&String> =
        calls.iter().filter(|call| !matches!(name(call), "write" | "fstat" | "sendto" | "recvfrom")).take(9).collect();
    assert!(odd.is_empty(), "{odd:#?}");
}

/// The system calls that a connection's thread makes for requests with this body, from one write to the log to another.
fn calls_of_requests(body: &[u8]) -> Vec<String> {
    let setup = Setup::new().flag("logger-max-size", "0");
    let trace = setup.path("trace");
    // With -D the program stays the child of this test, and signals reach it.
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-y", "-s", "0", "-o"]).arg(&trace).arg("--");
    let traced = setup.command();
    command.arg(traced.get_program()).args(traced.get_args());
    let mut server = setup.start_as(command);
    let request = post("/log-request?timeout=1s", body);
    let mut client = server.connect();
    for _ in 0..WARM_UP + COUNTED {
        assert_eq!(client.exchange(&request).status, 200);
    }
    assert!(server.stop().success());
    let trace = std::fs::read_to_string(&trace).unwrap();

    // The thread that served the connection is the one that wrote to the log.
    let log = server.log_path();
    let log = log.file_name().unwrap().to_str().unwrap().to_owned();
    let appends = |line: &str| line.contains("write(") && line.contains(&format!("/{log}>"));
    let thread = trace.lines().find(|line| appends(line)).expect("a write to the log");
    let thread = thread.split_whitespace().next().unwrap().to_owned();
    let calls: Vec<&str> = trace
        .lines()
        .filter(|line| line.split_whitespace().next() == Some(&thread))
        .filter(|line| !line.contains("resumed>"))
        .collect();
    let appended: Vec<usize> = (0..calls.len()).filter(|at| appends(calls[*at])).collect();
    assert_eq!(appended.len(), WARM_UP + COUNTED);
    let warm = &calls[appended[WARM_UP - 1]..appended[WARM_UP + COUNTED - 1]];
    let calls: Vec<String> = warm
        .iter()
        .map(|call| call.split_once(' ').unwrap_or_default().1.trim_start())
        // What goes by the clock and not by the request: a wait that was interrupted for long shortens the socket's
        // time-out, once, and now and then the log's path is looked at for a file that was moved, which an append may
        // have to wait for.
        .filter(|call| !matches!(name(call), "setsockopt" | "statx" | "futex"))
        .map(str::to_owned)
        .collect();
    assert!(warm.len() - calls.len() <= COUNTED / 5, "{warm:#?}");
    calls
}

/// The standard library's fstat(2) is statx(2) of an open file.
fn name(call: &str) -> &str {
    match call.split('(').next().unwrap_or_default() {
        "statx" if !call.contains("AT_FDCWD") => "fstat",
        other => other,
    }
}

#[test]
fn a_request_of_200_kb_faults_no_page_in_once_the_connection_is_warm() {
    let server = Setup::new().flag("logger-max-size", "0").start();
    let request = post("/log-request?timeout=1s", &corpus::large_review("1", 200_000));
    let mut client = server.connect();
    let mut ask = |times: usize| {
        for _ in 0..times {
            assert_eq!(client.exchange(&request).status, 200);
        }
    };
    ask(WARM_UP);
    let before = server.stat(MINOR_FAULTS);
    ask(COUNTED);
    let faults = server.stat(MINOR_FAULTS) - before;
    // The body has 49 pages: without buffers that are used again there would be as many faults for each request. On a
    // machine that stands still for seconds they may be given back in between, once or twice.
    assert!(faults < COUNTED as u64, "{faults} faults in {COUNTED} requests");
}
