//! What is counted for one key, whatever the algorithm. The time is an argument: since when is the store's affair.

use std::time::Duration;

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The most that can be let through at once.
    pub capacity: u32,
    /// Requests that would be let through now.
    pub remaining: u32,
    /// Until there is one more; nothing if none is missing.
    pub more_after: Duration,
}

impl Standing {
    /// It says no more than a key that was never seen.
    pub fn is_spent(&self) -> bool {
        self.remaining >= self.capacity
    }

    /// More than half is used, and to forget it would be a gift.
    pub fn is_worth_keeping(&self) -> bool {
        u64::from(self.remaining) * 2 < u64::from(self.capacity)
    }
}

/// The count of one key. Workers read their clocks before they come to the lock, so a moment may lie a little before the
/// last one. That must not let more through.
pub trait Count: Default {
    type Rule;

    /// How long a request has to wait; nothing if it may pass. It is not counted yet.
    fn wait(&mut self, rule: &Self::Rule, now: Duration) -> Option<Duration>;

    /// Counts a request that passes.
    fn take(&mut self, rule: &Self::Rule, now: Duration);

    fn standing(&mut self, rule: &Self::Rule, now: Duration) -> Standing;
}
