//! Signals, as events that the main thread waits for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals as Iterator;

/// What an operator or the kubelet wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: open the log anew and read certificates and sources again, now.
    Reload,
    /// SIGTERM: end, after the delay and the drain.
    Terminate,
    /// SIGINT: end, after the drain.
    Interrupt,
}

/// The signals that come.
#[derive(Debug)]
pub struct Signals(Receiver<Signal>);

impl Signals {
    /// From now on signals come here. SIGXFSZ is made harmless: a write past RLIMIT_FSIZE then fails with EFBIG, which is
    /// a failed append, where it would have ended the process.
    pub fn catch() -> io::Result<Self> {
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut caught = Iterator::new([SIGHUP, SIGINT, SIGTERM])?;
        let (sender, receiver) = mpsc::channel();
        // Ends with the process: it waits for signals for as long as there may be any.
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
        Ok(Self(receiver))
    }

    /// Waits for a signal, at most for `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Signal> {
        match self.0.recv_timeout(patience) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            // Cannot be: the sender lives as long as its thread. Waiting is then all that is left.
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(patience);
                None
            }
        }
    }
}
