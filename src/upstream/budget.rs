//! How many retries an upstream allows: a share of its latest requests, and a floor below which nobody counts.
//!
//! Who fails under its load must not be sent more of it. A request is counted on its own thread, and only a
//! retry adds the counts up, under a lock that requests never take. The time is an argument.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::lock::lock;
use crate::telemetry::metrics::PerThread;

/// Requests and retries count for so many seconds, the one that runs included.
const WINDOW_S: u64 = 10;
/// One retry is allowed beside the share so often,
const FLOOR_INTERVAL: Duration = Duration::from_millis(100);
/// and so many of them at once.
const FLOOR_BURST: u32 = 100;

/// The budget of one upstream. It outlives reloads.
#[derive(Debug)]
pub struct Budget {
    start: Instant,
    requests: PerThread<Window>,
    spent: Mutex<Spent>,
}

/// What retries have taken.
#[derive(Debug, Default)]
struct Spent {
    of_share: Window,
    /// When the floor will be whole again, counted from the start.
    floor_whole_at: Duration,
}

impl Budget {
    pub fn new(now: Instant) -> Self {
        Self { start: now, requests: PerThread::default(), spent: Mutex::default() }
    }

    /// Counts a request; its retries are not counted.
    pub fn count_request(&self, now: Instant) {
        self.requests.local().add(self.since_start(now).as_secs());
    }

    /// Takes one retry, of `percent` of the requests or of the floor. False: none is left.
    pub fn spend(&self, percent: u32, now: Instant) -> bool {
        let since_start = self.since_start(now);
        let second = since_start.as_secs();
        let requests = self.requests.iter().map(|window| window.sum(second)).sum();
        lock(&self.spent).spend(since_start, share(requests, percent))
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}

fn share(requests: u64, percent: u32) -> u64 {
    requests.saturating_mul(percent.into()) / 100
}

impl Spent {
    fn spend(&mut self, since_start: Duration, share: u64) -> bool {
        let second = since_start.as_secs();
        if self.of_share.sum(second) < share {
            self.of_share.add(second);
            return true;
        }
        let whole_at = self.floor_whole_at.max(since_start) + FLOOR_INTERVAL;
        let is_left = whole_at - since_start <= FLOOR_INTERVAL * FLOOR_BURST;
        if is_left {
            self.floor_whole_at = whole_at;
        }
        is_left
    }
}

/// Counts by the second, of which those within the window are summed up. Each is one number, the second in its upper
/// half, so that a count of long ago is told from one of now.
#[derive(Debug, Default)]
struct Window([AtomicU64; SECONDS]);

/// More than the window, and a divisor that costs nothing.
const SECONDS: usize = 16;

impl Window {
    fn add(&self, second: u64) {
        let Some(cell) = self.0.get(second as usize % SECONDS) else { return };
        if cell.load(Ordering::Relaxed) >> 32 == second {
            cell.fetch_add(1, Ordering::Relaxed);
        } else {
            // A thread that shares this cell may do the same; the count of one is lost then.
            cell.store(second << 32 | 1, Ordering::Relaxed);
        }
    }

    fn sum(&self, second: u64) -> u64 {
        let counts = self.0.iter().map(|cell| cell.load(Ordering::Relaxed));
        let latest = counts.filter(|count| (count >> 32) + WINDOW_S > second && count >> 32 <= second);
        latest.map(|count| count & u64::from(u32::MAX)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget() -> (Budget, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Budget::new(start), move |ms| start + Duration::from_millis(ms))
    }

    fn spend_all(budget: &Budget, percent: u32, now: Instant) -> usize {
        (0..1_000_000).take_while(|_| budget.spend(percent, now)).count()
    }

    #[test]
    fn the_floor_is_a_hundred_at_once_and_ten_a_second() {
        let (budget, at) = budget();
        assert_eq!(spend_all(&budget, 20, at(0)), 100);
        assert_eq!(spend_all(&budget, 20, at(99)), 0);
        assert_eq!(spend_all(&budget, 20, at(100)), 1);
        assert_eq!(spend_all(&budget, 20, at(1_100)), 10);
        assert_eq!(spend_all(&budget, 20, at(3_600_000)), 100);
    }

    #[test]
    fn a_share_of_the_requests_of_ten_seconds_is_allowed() {
        let check = |percent, share: usize| {
            let (budget, at) = budget();
            for ms in 0..1000 {
                budget.count_request(at(ms));
            }
            assert_eq!(spend_all(&budget, percent, at(5_000)), share + 100, "{percent} %");
            assert_eq!(spend_all(&budget, percent, at(5_000)), 0, "{percent} %");
        };
        check(20, 200);
        check(0, 0);
        check(100, 1000);
        let (budget, at) = budget();
        budget.count_request(at(0));
        (0..100).for_each(|_| budget.count_request(at(900)));
        assert_eq!(spend_all(&budget, 20, at(9_999)), 120);
        // Ten seconds later neither those requests nor the retries that they allowed count.
        assert_eq!(spend_all(&budget, 20, at(20_000)), 100);
    }

    #[test]
    fn all_threads_count_and_share_what_they_have() {
        let (budget, at) = budget();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..250).for_each(|ms| budget.count_request(at(ms))));
            }
        });
        assert_eq!(spend_all(&budget, 20, at(250)), 300);
    }

    proptest! {
        /// Over any time from the start: at most the share of all requests, and what the floor has brought.
        #[test]
        fn retries_stay_within_the_budget(
            steps in prop::collection::vec((0u64..3_000, 0u32..200, 0u32..200), 1..60),
            percent in 0u32..=100,
        ) {
            let (budget, at) = budget();
            let (mut ms, mut requests, mut retries) = (0, 0, 0);
            for (pause_ms, count, wanted) in steps {
                ms += pause_ms;
                (0..count).for_each(|_| budget.count_request(at(ms)));
                requests += u64::from(count);
                retries += (0..wanted).filter(|_| budget.spend(percent, at(ms))).count() as u64;
                prop_assert!(retries <= share(requests, percent) + 100 + ms / 100);
            }
        }

        /// And nobody is refused who asks for less than the floor alone.
        #[test]
        fn the_floor_is_always_there(steps in prop::collection::vec(100u64..3_000, 1..200)) {
            let (budget, at) = budget();
            let mut ms = 0;
            for pause_ms in steps {
                ms += pause_ms;
                prop_assert!(budget.spend(0, at(ms)));
            }
        }
    }
}
