use std::io::Read;

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::observe::diagnostics::{Diagnostics, Format};

fn stream_to(file: OwnedFd) -> Stream {
    let diagnostics = Diagnostics::to_sink(Format::Json, Box::new(io::sink()));
    let status = Arc::new(LogStatus::new(Arc::default(), Arc::new(diagnostics)));
    let (fs, file, name) = (Fs::default(), Some(File::from(file)), "a pipe".to_owned());
    Stream { fs, file, name, fifo: None, status, rest: Vec::new() }
}

/// What comes through, up to its end.
fn read_all(reader: OwnedFd) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        File::from(reader).read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// More than any pipe holds.
fn long_line() -> Vec<u8> {
    let mut line = vec![b'x'; 3 << 20];
    line.push(b'\n');
    line
}

#[test]
fn the_end_of_a_torn_line_is_what_is_left_of_it_and_of_no_other() {
    let lines = b"one\ntwo\n";
    let ends: Vec<&[u8]> = (0..=8).map(|written| end_of_torn_line(lines, written)).collect();
    let none: &[u8] = b"";
    let expected: [&[u8]; 9] = [none, b"ne\n", b"e\n", b"\n", none, b"wo\n", b"o\n", b"\n", none];
    assert_eq!(ends, expected);
}

#[test]
fn a_pipe_that_stays_full_fails_the_append_and_its_torn_line_is_completed_before_the_next() {
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
    let mut stream = stream_to(writer);
    let error = stream.append(Lines::Plain(&long_line()), None).unwrap_err();
    assert_eq!(error.reason(), AppendFault::PipeFull);
    assert!(!stream.rest.is_empty());
    // Still full: nothing of this line may go out.
    assert_eq!(stream.append(Lines::Plain(b"never\n"), None).unwrap_err().reason(), AppendFault::PipeFull);
    rustix::io::ioctl_fionbio(&reader, false).unwrap();
    let read = read_all(reader);
    stream.append(Lines::Plain(b"next\n"), None).unwrap();
    drop(stream);
    assert_eq!(read.join().unwrap(), [&long_line()[..], b"next\n"].concat());
}

#[test]
fn a_slow_reader_holds_the_append_up_and_loses_nothing() {
    let (reader, writer) = pipe_with(PipeFlags::empty()).unwrap();
    let mut stream = stream_to(writer);
    let read = read_all(reader);
    stream.append(Lines::Plain(&long_line()), None).unwrap();
    stream.append(Lines::Plain(b"next\n"), None).unwrap();
    drop(stream);
    assert_eq!(read.join().unwrap(), [&long_line()[..], b"next\n"].concat());
}

#[test]
fn a_reader_that_comes_and_goes_at_any_moment_holds_no_opening_up() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (told, tells) = std::sync::mpsc::sync_channel(0);
    let path = fifo.clone();
    std::thread::spawn(move || (0..10_000).try_for_each(|_| told.send(open_if_read(&Fs::default(), &path).unwrap())));
    for _ in 0..10_000 {
        let _reader = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(&fifo).unwrap();
        tells.recv_timeout(Duration::from_secs(10)).expect("an answer");
    }
}

#[test]
fn a_closed_pipe_is_a_failed_append_and_stays_one() {
    let (reader, writer) = pipe_with(PipeFlags::empty()).unwrap();
    drop(reader);
    let mut stream = stream_to(writer);
    for _ in 0..2 {
        assert_eq!(stream.append(Lines::Plain(b"line\n"), None).unwrap_err().reason(), AppendFault::BrokenPipe);
    }
    assert!(!stream.may_work(AppendFault::BrokenPipe));
}
