//! Budgets that fill again with time.

use std::time::{Duration, Instant};

/// What was spent of one.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    pub count: u32,
    since: Instant,
}

impl Spent {
    pub fn nothing(now: Instant) -> Self {
        Self { count: 0, since: now }
    }

    /// All that is spent now.
    pub fn spend(&mut self, cost: u32, back_per_s: u32, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.since).min(Duration::from_secs(60));
        let back = passed.as_millis() as u32 * back_per_s / 1000;
        if back > 0 {
            self.give_back(back);
            self.since = now;
        }
        self.count += cost;
        self.count
    }

    pub fn give_back(&mut self, count: u32) {
        self.count = self.count.saturating_sub(count);
    }
}
