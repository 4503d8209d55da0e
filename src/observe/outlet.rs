//! How messages get to standard error: a queue of bounded size, and the one thread that empties it.
//!
//! Whoever has something to say only puts it into the queue, so nothing ever waits for whoever reads the messages. What
//! does not fit is dropped and counted, and the number is said once messages go out again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::message::{self, Format, Level};
use super::metrics::Metrics;

/// Bytes of messages that may wait; as many again may be in the hands of the thread. More than a thousand messages: a
/// start has twenty, a storm of faults ten in ten seconds for each kind, and only `-v` has one for each request.
const QUEUE: usize = 256 * 1024;

/// Between two attempts on a standard error that is set not to block and takes nothing now.
const RETRY: Duration = Duration::from_millis(20);

/// Takes messages for standard error. Clones put them into the same queue.
#[derive(Debug, Clone)]
pub struct Outlet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    format: Format,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Something was put into the queue, or all of it was written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole messages, each with its newline.
    queue: Vec<u8>,
    /// Messages dropped since that was last said.
    dropped: u64,
    /// Whether the thread is writing what it took out of the queue.
    writing: bool,
}

impl Outlet {
    /// Writes to standard error by a descriptor of its own, so that a write that hangs does not hold the lock of
    /// [`io::stderr`].
    ///
    /// # Errors
    /// No descriptor or no thread can be had.
    pub fn to_stderr(format: Format, metrics: Arc<Metrics>) -> io::Result<Self> {
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Self::to(Box::new(stderr), format, metrics)
    }

    fn to(sink: Box<dyn Write + Send>, format: Format, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(Shared { format, metrics, state: Mutex::default(), changed: Condvar::new() });
        let outlet = Self { shared: Arc::clone(&shared) };
        // A write may hang for ever, so nobody waits for this thread to end; it ends with the process.
        thread::Builder::new().name("messages".to_owned()).stack_size(128 * 1024).spawn(move || shared.work(sink))?;
        Ok(outlet)
    }

    /// Waits until all messages are written, `patience` at most.
    pub fn flush_for(&self, patience: Duration) {
        let unwritten = |state: &mut State| state.writing || !state.queue.is_empty();
        let _ = self.shared.changed.wait_timeout_while(self.shared.lock(), patience, unwritten);
    }
}

/// Takes one whole message, and never fails nor waits.
impl Write for Outlet {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        // An empty queue takes a message of any length, so that no message is too long to be ever written.
        if !state.queue.is_empty() && state.queue.len() + message.len() > QUEUE {
            state.dropped += 1;
            self.shared.metrics.messages_dropped.increment();
        } else {
            state.queue.extend_from_slice(message);
            self.shared.changed.notify_all();
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// What the thread does: it writes what is in the queue, for ever.
    fn work(&self, mut sink: Box<dyn Write + Send>) {
        // Whether a failed write may have left half a message; a line end is then written before the next one.
        let mut torn = false;
        loop {
            let state = self.lock();
            let waited = self.changed.wait_while(state, |state| state.queue.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let batch = std::mem::take(&mut state.queue);
            let mut unsaid = std::mem::take(&mut state.dropped);
            state.writing = true;
            drop(state);
            let line_end: &[u8] = if torn { b"\n" } else { b"" };
            let mut unwritten = batch.as_slice();
            if write(&mut *sink, line_end).is_empty() {
                unwritten = write(&mut *sink, &batch);
            }
            torn = !unwritten.is_empty();
            if !torn && unsaid > 0 {
                let msg = "messages were dropped: standard error did not take them in time";
                let note = message::line(self.format, Level::Warn, msg, &[("dropped", unsaid.into())]);
                torn = !write(&mut *sink, note.as_bytes()).is_empty();
                unsaid = if torn { unsaid } else { 0 };
            }
            let lost = unwritten.iter().filter(|byte| **byte == b'\n').count();
            let lost = u64::try_from(lost).unwrap_or(u64::MAX);
            self.metrics.messages_dropped.add(lost);
            let mut state = self.lock();
            state.dropped += unsaid + lost;
            state.writing = false;
            drop(state);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all, however long that takes: a sink that is full now is tried again. Returns what another error has kept
/// from being written.
fn write<'b>(sink: &mut dyn Write, mut bytes: &'b [u8]) -> &'b [u8] {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => break,
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(_) => break,
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;
    use crate::observe::diagnostics::Diagnostics;

    /// A sink that takes what it is given once it is told how.
    struct Sink {
        orders: Receiver<io::Result<usize>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.orders.recv().map_or(Ok(usize::MAX), |order| order)?.min(bytes.len());
            self.written.send(bytes[..count].to_vec()).unwrap();
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Stage {
        orders: Sender<io::Result<usize>>,
        written: Receiver<Vec<u8>>,
        metrics: Arc<Metrics>,
        outlet: Outlet,
        diagnostics: Diagnostics,
    }

    fn stage() -> Stage {
        let (orders, received) = mpsc::channel();
        let (sent, written) = mpsc::channel();
        let metrics = Arc::new(Metrics::new());
        let sink = Box::new(Sink { orders: received, written: sent });
        let outlet = Outlet::to(sink, Format::Json, Arc::clone(&metrics)).unwrap();
        let diagnostics = Diagnostics::to_sink(Format::Json, Box::new(outlet.clone()));
        Stage { orders, written, metrics, outlet, diagnostics }
    }

    impl Stage {
        /// All that was written up to the end: from now on the sink takes everything.
        fn end(self) -> String {
            drop(self.orders);
            self.outlet.flush_for(Duration::from_secs(10));
            let written: Vec<u8> = self.written.try_iter().flatten().collect();
            String::from_utf8(written).unwrap()
        }
    }

    fn messages(text: &str) -> Vec<serde_json::Value> {
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    #[test]
    fn a_sink_that_stands_still_holds_nobody_up_and_what_is_dropped_is_counted_and_said() {
        const MESSAGES: u64 = 20_000;
        let stage = stage();
        for number in 0..MESSAGES {
            stage.diagnostics.info("a message", &[("number", number.into())]);
        }
        stage.outlet.flush_for(Duration::ZERO);
        let dropped = stage.metrics.messages_dropped.value();
        assert!(dropped > 0);
        let (said, notes): (Vec<_>, Vec<_>) =
            messages(&stage.end()).into_iter().partition(|message| message["msg"] == "a message");
        assert_eq!(said.len() as u64 + dropped, MESSAGES);
        assert!(said.is_sorted_by_key(|message| message["number"].as_u64()));
        // Two, if the thread took its first batch only when the queue had been full already.
        assert_eq!(notes.iter().map(|note| note["dropped"].as_u64().unwrap()).sum::<u64>(), dropped);
        assert!(notes.iter().all(|note| note["level"] == "warn"), "{notes:?}");
    }

    #[test]
    fn a_message_larger_than_the_queue_is_written_where_nothing_waits_before_it() {
        let stage = stage();
        let long = "x".repeat(2 * QUEUE);
        stage.diagnostics.error("long", &[("path", (&long).into())]);
        assert_eq!(messages(&stage.end())[0]["path"], long);
    }

    #[test]
    fn what_a_failing_sink_loses_is_said_when_it_works_again_and_no_line_is_glued_to_half_of_another() {
        let stage = stage();
        for order in [Ok(10), Err(io::ErrorKind::WouldBlock.into()), Err(io::ErrorKind::StorageFull.into())] {
            stage.orders.send(order).unwrap();
        }
        stage.diagnostics.info("lost", &[]);
        stage.outlet.flush_for(Duration::from_secs(10));
        assert_eq!(stage.metrics.messages_dropped.value(), 1);
        stage.diagnostics.info("kept", &[]);
        let said = stage.end();
        let (half, rest) = said.split_once('\n').unwrap();
        assert_eq!(half.len(), 10);
        let said = messages(rest);
        assert_eq!((&said[0]["msg"], &said[1]["dropped"]), (&"kept".into(), &1.into()));
        assert_eq!(said.len(), 2);
    }

    #[test]
    fn what_is_lost_in_several_faults_in_a_row_is_counted_once_and_all_of_it_is_said() {
        let stage = stage();
        let full = || Err(io::ErrorKind::StorageFull.into());
        for order in [full(), full(), Ok(1), Ok(usize::MAX), full(), full()] {
            stage.orders.send(order).unwrap();
        }
        // The note that tells of the first two is lost with the third fault, and the fourth message with the last.
        for msg in ["lost", "lost too", "kept", "lost last"] {
            stage.diagnostics.info(msg, &[]);
            stage.outlet.flush_for(Duration::from_secs(10));
        }
        assert_eq!(stage.metrics.messages_dropped.value(), 3);
        stage.diagnostics.info("kept again", &[]);
        let said = messages(&stage.end().replace("\n\n", "\n")[1..]);
        assert_eq!((&said[0]["msg"], &said[1]["msg"]), (&"kept".into(), &"kept again".into()));
        assert_eq!(said[2]["dropped"], 3);
        assert_eq!(said.len(), 3);
    }
}
