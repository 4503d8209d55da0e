//! Who waits for the writer, for tests that wait for that.

use super::{GroupCommit, lock};

impl GroupCommit {
    /// Whether somebody writes, and how many appends the gathering group has.
    pub(in super::super) fn waiting(&self) -> (bool, usize) {
        let queue = lock(&self.queue);
        let group = &queue.gathering;
        (queue.writer.is_none(), if group.lines.is_empty() { 0 } else { 1 + group.followers.len() })
    }
}
