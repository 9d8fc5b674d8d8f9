//! When a request is due, and for which key it asks. Pure.

use std::time::Duration;

/// Requests at a constant rate, or each as soon as there is room for it.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    pub rate: Option<f64>,
    pub seconds: f64,
    pub requests: Option<u64>,
}

impl Schedule {
    /// After the start; nothing if the request waits for nothing but room.
    pub fn due(&self, number: u64) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(number as f64 / rate))
    }

    /// Whether there is no request of this number any more, so long after the start.
    pub fn is_over(&self, number: u64, now: Duration) -> bool {
        let begins = self.due(number).unwrap_or(now);
        begins.as_secs_f64() >= self.seconds || self.requests.is_some_and(|most| number >= most)
    }
}

/// Of which of so many keys a request is.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    pub count: u64,
    pub in_order: bool,
}

impl Keys {
    pub fn of(&self, number: u64) -> u64 {
        let spread = if self.in_order { number } else { scattered(number) };
        spread % self.count.max(1)
    }
}

/// The output of splitmix64, which visits keys as if at random and the same at each run.
fn scattered(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_says_when_each_request_is_due() {
        let schedule = Schedule { rate: Some(100.0), seconds: 1.0, requests: None };
        assert_eq!(schedule.due(50), Some(Duration::from_millis(500)));
        assert!(!schedule.is_over(99, Duration::from_secs(9)), "what was due is still asked for");
        assert!(schedule.is_over(100, Duration::ZERO));
    }

    #[test]
    fn without_a_rate_time_and_count_end_it() {
        let schedule = Schedule { rate: None, seconds: 1.0, requests: Some(10) };
        assert_eq!(schedule.due(5), None);
        assert!(!schedule.is_over(9, Duration::from_millis(999)));
        assert!(schedule.is_over(9, Duration::from_secs(1)));
        assert!(schedule.is_over(10, Duration::ZERO));
    }

    #[test]
    fn keys_come_in_order_or_all_over() {
        let in_order = Keys { count: 3, in_order: true };
        assert_eq!([0, 1, 2, 3].map(|number| in_order.of(number)), [0, 1, 2, 0]);
        let scattered = Keys { count: 1000, in_order: false };
        let seen: std::collections::BTreeSet<u64> = (0..10_000).map(|number| scattered.of(number)).collect();
        assert!(seen.len() > 990 && seen.iter().all(|key| *key < 1000));
    }
}
