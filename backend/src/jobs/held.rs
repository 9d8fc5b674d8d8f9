//! The leases that this replica holds, so that it can give them back when it stops. Who has the jobs, the database decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// With each lease, how many jobs are worked on under it. The taking of it counts as one, until it is known what was taken.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<Mutex<BTreeMap<String, usize>>>);

impl Held {
    /// Something begins under a lease.
    pub fn begin(&self, lease: &str) {
        *self.leases().entry(lease.to_owned()).or_default() += 1;
    }

    /// Something under a lease has come to its end. What is dropped in the middle never says so.
    pub fn end(&self, lease: &str) {
        let mut leases = self.leases();
        if let Some(count) = leases.get_mut(lease) {
            *count = count.saturating_sub(1);
        }
        leases.retain(|_lease, count| *count > 0);
    }

    pub fn all(&self) -> Vec<String> {
        self.leases().keys().cloned().collect()
    }

    fn leases(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        // No code between a lock and its end can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_held_until_everything_under_it_has_ended() {
        let held = Held::default();
        held.begin("a");
        held.begin("a");
        held.begin("b");
        held.end("a");
        assert_eq!(held.all(), ["a", "b"]);
        held.end("a");
        held.end("a");
        assert_eq!(held.all(), ["b"]);
    }
}
