//! Signals, as events that the main thread waits for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals as Caught;

/// What an operator or the kubelet wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: open the log anew, and read again now what is read again while the program runs.
    Reload,
    /// SIGTERM: end, after the delay and the drain.
    Terminate,
    /// SIGINT: end, after the drain.
    Interrupt,
}

/// The signals that come. The thread that catches them ends with the process.
#[derive(Debug)]
pub struct Signals(Receiver<Signal>);

impl Signals {
    /// From now on signals come here. SIGXFSZ is ignored: a write past RLIMIT_FSIZE then fails with EFBIG, which is a
    /// failed append, where it would have ended the process.
    pub fn catch() -> io::Result<Self> {
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut caught = Caught::new([SIGHUP, SIGINT, SIGTERM])?;
        let (sender, received) = mpsc::channel();
        thread::Builder::new().name("signals".to_owned()).stack_size(128 * 1024).spawn(move || {
            for signal in caught.forever() {
                let signal = match signal {
                    SIGHUP => Signal::Reload,
                    SIGINT => Signal::Interrupt,
                    _ => Signal::Terminate,
                };
                if sender.send(signal).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self(received))
    }

    /// Waits for a signal, at most for `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Signal> {
        // The sender lives as long as its thread, so only the time can run out.
        self.0.recv_timeout(patience).ok()
    }
}
