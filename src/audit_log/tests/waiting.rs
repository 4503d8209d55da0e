//! Appends that come while another one writes, and a log that is a FIFO.

use std::collections::BTreeMap;
use std::io::Read;

use super::*;
use crate::audit_log::open::O_NONBLOCK;

#[test]
fn threads_that_append_at_once_lose_and_mix_nothing() {
    const THREADS: usize = 16;
    const LINES: usize = 500;
    let mut place = Place::new();
    place.settings.max_size = 20_000;
    let log = place.open();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for number in 0..LINES {
                    let filling = "x".repeat(number % 100);
                    log.append(format!("{thread} {number} {filling}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    let mut all = place.rolled();
    all.push(place.read_log());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for text in &all {
        assert!(text.len() <= 20_000 && text.ends_with('\n'));
        for line in text.lines() {
            let id: Vec<&str> = line.splitn(3, ' ').collect();
            *seen.entry(id[..2].join(" ")).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), THREADS * LINES);
    assert!(seen.values().all(|count| *count == 1));
    assert_eq!(place.metrics.append_group_lines.value(), (THREADS * LINES) as u64);
}

/// A FIFO whose reader has not read yet, and a log that writes to it.
fn log_to_fifo(place: &mut Place) -> (AuditLog, fs::File) {
    let fifo = place.root().join("fifo");
    make_fifo(&fifo);
    place.settings.target = Target::File(fifo.clone());
    let reader = open_to_read(&fifo);
    (place.open(), reader)
}

/// Opens a FIFO for reading without waiting for a writer.
fn open_to_read(fifo: &Path) -> fs::File {
    let reader = fs::File::options().read(true).custom_flags(O_NONBLOCK).open(fifo).unwrap();
    rustix::io::ioctl_fionbio(&reader, false).unwrap();
    reader
}

fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// Runs `then` while one append is stuck in a full FIFO and `MEMBERS` others have made a group behind it.
fn with_a_group_waiting(then: impl FnOnce(fs::File)) -> (Vec<bool>, Arc<Metrics>) {
    let mut place = Place::new();
    let (log, reader) = log_to_fifo(&mut place);
    let outcomes = std::thread::scope(|scope| {
        let log = &log;
        let mut threads = vec![scope.spawn(|| {
            let mut line = vec![b'x'; 3 << 20];
            line.push(b'\n');
            log.append(&line).is_ok()
        })];
        eventually("the first append writes", || log.commit.waiting() == (true, 0));
        threads.extend((0..MEMBERS).map(|_| scope.spawn(|| log.append(b"line\n").is_ok())));
        eventually("the others wait", || log.commit.waiting() == (true, MEMBERS));
        then(reader);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (outcomes, Arc::clone(&place.metrics))
}

const MEMBERS: usize = 20;

#[test]
fn appends_that_wait_while_one_writes_are_written_together() {
    let (outcomes, metrics) = with_a_group_waiting(|mut reader| {
        let mut bytes = vec![0; (3 << 20) + 1 + 5 * MEMBERS];
        reader.read_exact(&mut bytes).unwrap();
        assert!(bytes.ends_with(b"\nline\nline\n"));
    });
    assert!(outcomes.iter().all(|ok| *ok));
    assert_eq!(metrics.append_groups.value(), 2);
    assert_eq!(metrics.append_group_lines.value(), 1 + MEMBERS as u64);
}

#[test]
fn a_failed_group_fails_each_of_its_members_and_is_counted_for_each() {
    let (outcomes, metrics) = with_a_group_waiting(drop);
    assert_eq!(outcomes, [false; 1 + MEMBERS]);
    let page = metrics.render("1");
    assert!(page.contains("append_errors_total{reason=\"broken_pipe\"} 21"));
}

#[test]
fn a_log_whose_pipe_nobody_reads_is_dropped_all_the_same() {
    let mut place = Place::new();
    let (log, reader) = log_to_fifo(&mut place);
    log.append(b"line\n").unwrap();
    log.reopen();
    drop(log);
    drop(reader);
}

#[test]
fn a_fifo_fails_appends_and_says_so_until_it_has_a_reader_at_the_start_and_later() {
    let mut place = Place::new();
    let fifo = place.root().join("fifo");
    make_fifo(&fifo);
    place.settings.target = Target::File(fifo.clone());
    let log = place.open();
    assert_eq!(place.messages.count("nobody reads from this FIFO"), 1);
    for line in [b"one\n", b"two\n"] {
        assert!(log.failing().is_some());
        assert_eq!(log.append(b"nobody\n").unwrap_err().reason(), AppendFault::BrokenPipe);
        let mut reader = open_to_read(&fifo);
        eventually("the reader is noticed", || log.failing().is_none());
        log.append(line).unwrap();
        let mut read = [0; 4];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, line);
        drop(reader);
        assert_eq!(log.append(b"nobody\n").unwrap_err().reason(), AppendFault::BrokenPipe);
    }
    // It was the same FIFO all the time.
    assert_eq!(place.metrics.log_reopens.value(), 0);
    drop(log);
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 1);
}
