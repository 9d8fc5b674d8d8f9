//! Decides how long something that has failed is left alone, so that not everybody who needs it waits for it in vain. It is
//! told the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clones know of each other's failures.
#[derive(Debug, Clone)]
pub struct LeftAlone {
    pause: Duration,
    begin: Instant,
    /// In milliseconds since `begin`.
    until_ms: Arc<AtomicU64>,
}

impl LeftAlone {
    /// Something that was not seen to fail, and is to be left alone for `pause` when it does.
    pub fn new(pause: Duration, now: Instant) -> Self {
        Self { pause, begin: now, until_ms: Arc::default() }
    }

    pub fn failed(&self, now: Instant) {
        self.until_ms.store(self.since_begin_ms(now + self.pause), Ordering::Relaxed);
    }

    pub fn is_left_alone(&self, now: Instant) -> bool {
        self.since_begin_ms(now) < self.until_ms.load(Ordering::Relaxed)
    }

    fn since_begin_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.begin).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_failed_is_left_alone_for_a_while() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let replica = LeftAlone::new(Duration::from_millis(500), begin);
        assert!(!replica.is_left_alone(begin));
        replica.clone().failed(at(100));
        for (ms, expected) in [(100, true), (599, true), (600, false), (1000, false)] {
            assert_eq!(replica.is_left_alone(at(ms)), expected, "{ms}");
        }
    }
}
