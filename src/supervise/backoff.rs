//! How long a replica that has ended waits for its next start. This module only decides.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(10);
/// A replica that served this long has shown that it can run.
const PROVEN: Duration = Duration::from_secs(10);

/// The pauses of one replica: each is twice the one before, until it has served for a while.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    pub fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// The pause after a life in which the replica was ready for `served`.
    pub fn after(&mut self, served: Duration) -> Duration {
        if served >= PROVEN {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(served_s: &[u64], expected_ms: &[u128]) {
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> =
            served_s.iter().map(|&served| backoff.after(Duration::from_secs(served)).as_millis()).collect();
        assert_eq!(pauses, expected_ms, "after {served_s:?} s");
    }

    #[test]
    fn pauses_double_until_a_replica_has_served() {
        check(&[0; 9], &[100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        check(&[60, 60, 60], &[100, 100, 100]);
        check(&[0, 9, 10, 0], &[100, 200, 100, 200]);
    }
}
