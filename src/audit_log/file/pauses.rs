//! The end of pauses, for tests that cannot wait for it.

use std::time::Instant;

use super::LogFile;

impl LogFile {
    /// What has failed may be tried again, as if [`super::PAUSE`] had passed.
    pub(in super::super) fn end_pauses(&mut self) {
        let now = Instant::now();
        self.roll_again.iter_mut().for_each(|again| *again = now);
        self.try_again.iter_mut().for_each(|(again, _)| *again = now);
    }
}
