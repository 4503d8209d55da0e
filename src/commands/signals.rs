//! Signals, as events that the main thread waits for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals as Caught};

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

/// The signals that come. Dropped, it ends its thread; the signals are then caught and ignored.
#[derive(Debug)]
pub struct Signals {
    received: Receiver<Signal>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// From now on signals come here. SIGXFSZ is ignored: a write past RLIMIT_FSIZE then fails with EFBIG, which is a
    /// failed append, where it would have ended the process.
    pub fn catch() -> io::Result<Self> {
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut caught = Caught::new([SIGHUP, SIGINT, SIGTERM])?;
        let handle = caught.handle();
        let (sender, received) = mpsc::channel();
        let thread = thread::Builder::new().name("signals".to_owned()).stack_size(128 * 1024).spawn(move || {
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
        Ok(Self { received, handle, thread: Some(thread) })
    }

    /// Waits for a signal, at most for `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Signal> {
        match self.received.recv_timeout(patience) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            // The sender lives as long as its thread, which lives as long as this; so this does not happen.
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(patience);
                None
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
