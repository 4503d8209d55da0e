//! Who waits for memory, for tests that wait for that.

use super::State;

impl State {
    /// How many wait.
    pub(in super::super) fn waiting(&self) -> usize {
        self.claims.iter().filter(|claim| claim.waits_for.is_some()).count()
    }
}
