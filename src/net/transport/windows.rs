//! The large receive buffers, lent to a connection while a large request arrives.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a window: four of the largest TLS records (RFC 8446, section 5.2). Less costs more reads, more gains nothing.
pub const WINDOW: usize = 4 * (5 + 16_384 + 256);

/// Windows kept for the next request: more than two cores keep busy.
const SPARES: usize = 16;

/// Windows that are used again, so that a warm server neither allocates nor faults pages in.
#[derive(Debug, Default)]
pub struct Windows(Mutex<Spares>);

#[derive(Debug, Default)]
struct Spares {
    windows: Vec<Vec<u8>>,
    /// Windows taken since the last [`Windows::trim`].
    taken: usize,
}

impl Windows {
    /// A buffer to read through: its length is its size, its content whatever was read through it last.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut spares = self.lock();
        spares.taken += 1;
        let spare = spares.windows.pop();
        drop(spares);
        spare.unwrap_or_else(|| vec![0; WINDOW])
    }

    /// Takes a window back.
    pub(super) fn give_back(&self, window: Vec<u8>) {
        let mut spares = self.lock();
        if spares.windows.len() < SPARES {
            spares.windows.push(window);
        }
    }

    /// Gives the windows to the system if none was taken since the last call. Called every few seconds.
    pub fn trim(&self) {
        let mut spares = self.lock();
        if std::mem::take(&mut spares.taken) == 0 {
            spares.windows = Vec::new();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
