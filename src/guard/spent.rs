//! Budgets that fill again with time.

use std::time::{Duration, Instant};

/// After so long every budget here is whole again.
const PASSED_MS_MAX: u128 = 60_000;

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
        let passed_ms = now.saturating_duration_since(self.since).as_millis().min(PASSED_MS_MAX) as u64;
        let rate = u64::from(back_per_s);
        let back = passed_ms * rate / 1000;
        if back > 0 {
            self.give_back(back as u32);
            // The time of a part that is not whole yet goes on.
            let left_ms = (passed_ms * rate % 1000) / rate;
            self.since = now - Duration::from_millis(left_ms);
        }
        self.count += cost;
        self.count
    }

    pub fn give_back(&mut self, count: u32) {
        self.count = self.count.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spends 1 after each pause, while 10 come back a second; what is spent in the end.
    fn check(pauses_ms: &[u64], expected: u32) {
        let mut now = Instant::now();
        let mut spent = Spent::nothing(now);
        for pause_ms in pauses_ms {
            now += Duration::from_millis(*pause_ms);
            spent.spend(1, 10, now);
        }
        assert_eq!(spent.count, expected, "{pauses_ms:?}");
    }

    #[test]
    fn a_budget_fills_at_its_rate_however_it_is_looked_at() {
        check(&[0; 50], 50);
        check(&[100; 50], 1);
        // Nearly half of the time would be lost if each look began it anew.
        check(&[99; 100], 1);
        check(&[60; 100], 40);
        check(&[0, 0, 0, 0, 3_600_000], 1);
    }
}
