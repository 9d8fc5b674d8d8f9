//! The generic cell rate algorithm, as governor has it: places come back evenly, and up to a burst of them are kept.
//!
//! Over any window at most the burst and one window's requests pass. A key has one number, the moment at which all its
//! places would be back. governor is asked with the time as an argument: it measures from the moment of the question,
//! and what it keeps is how far ahead of that the number is. Moments that are over are all the same to the algorithm.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::count::{Count, Standing};

#[derive(Debug, Clone, Copy)]
pub struct Rule {
    quota: Quota,
    burst: u32,
    interval: Duration,
}

impl Rule {
    /// The interval is rounded up to a whole nanosecond, and so never too short.
    pub fn new(requests: u32, window: Duration, burst: u32) -> Self {
        let interval_ns = window.as_nanos().div_ceil(u128::from(requests.max(1))).max(1);
        let interval = Duration::from_nanos(u64::try_from(interval_ns).unwrap_or(u64::MAX));
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        // None for an interval of zero alone.
        let quota = Quota::with_period(interval).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
        Self { quota: quota.allow_burst(burst), burst: burst.get(), interval }
    }
}

/// The moment at which nothing is missing any more.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cells(Duration);

impl Cells {
    /// Asks governor for one place: how long to wait for it, or the count with it taken.
    fn ask(self, rule: &Rule, now: Duration) -> Result<Self, Duration> {
        let ahead = Slot(Cell::new(Some(self.0.saturating_sub(now).into())));
        let limiter = RateLimiter::<NotKeyed, _, _, NoOpMiddleware<Nanos>>::new(rule.quota, ahead, Moment);
        limiter.check().map_err(|until| until.wait_time_from(Moment.now()))?;
        let ahead = limiter.into_state_store().0.get().map_or(0, Nanos::as_u64);
        Ok(Self(now + Duration::from_nanos(ahead)))
    }
}

impl Count for Cells {
    type Rule = Rule;

    fn wait(&mut self, rule: &Rule, now: Duration) -> Option<Duration> {
        self.ask(rule, now).err()
    }

    fn take(&mut self, rule: &Rule, now: Duration) {
        if let Ok(taken) = self.ask(rule, now) {
            *self = taken;
        }
    }

    fn standing(&mut self, rule: &Rule, now: Duration) -> Standing {
        let missing = self.0.saturating_sub(now);
        let whole = missing.as_nanos().div_ceil(rule.interval.as_nanos().max(1));
        let whole = u32::try_from(whole).unwrap_or(u32::MAX);
        // The number of missing places falls by one where the last of them is back.
        let before_the_last = rule.interval.saturating_mul(whole.saturating_sub(1));
        Standing {
            capacity: rule.burst,
            remaining: rule.burst.saturating_sub(whole),
            more_after: missing.saturating_sub(before_the_last),
        }
    }
}

/// The one number, for as long as governor looks at it.
struct Slot(Cell<Option<Nanos>>);

impl StateStore for Slot {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, replaced) = decide(self.0.get())?;
        self.0.set(Some(replaced));
        Ok(outcome)
    }
}

/// The moment of the question, from which everything is measured.
#[derive(Debug, Clone, Copy)]
struct Moment;

impl Clock for Moment {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// `+` passes, `-` has to wait; before it stands the time in milliseconds.
    #[track_caller]
    fn check(requests: u32, burst: u32, rows: &[(u64, char)]) {
        let (rule, mut cells) = (Rule::new(requests, MINUTE, burst), Cells::default());
        for (at, expected) in rows {
            let now = Duration::from_millis(*at);
            let found = if cells.wait(&rule, now).is_none() { '+' } else { '-' };
            assert_eq!(found, *expected, "at {at} ms");
            cells.take(&rule, now);
        }
    }

    #[test]
    fn places_come_back_evenly() {
        check(60, 1, &[(0, '+'), (999, '-'), (1_000, '+'), (1_999, '-'), (9_000, '+'), (9_001, '-')]);
        check(60, 3, &[(0, '+'), (0, '+'), (0, '+'), (0, '-'), (999, '-'), (1_000, '+'), (1_000, '-')]);
        check(
            60,
            3,
            &[(5_000, '+'), (5_000, '+'), (5_000, '+'), (5_000, '-'), (7_000, '+'), (7_000, '+'), (7_000, '-')],
        );
    }

    #[test]
    fn how_it_stands() {
        let (rule, mut cells) = (Rule::new(60, MINUTE, 3), Cells::default());
        let mut at = |ms, takes: bool| {
            let now = Duration::from_millis(ms);
            if takes {
                cells.take(&rule, now);
            }
            let Standing { capacity, remaining, more_after } = cells.standing(&rule, now);
            (capacity, remaining, more_after.as_millis())
        };
        assert_eq!(at(0, false), (3, 3, 0));
        assert_eq!(at(0, true), (3, 2, 1_000));
        assert_eq!(at(200, true), (3, 1, 800));
        assert_eq!(at(300, true), (3, 0, 700));
        assert_eq!(at(300, true), (3, 0, 700));
        assert_eq!(at(1_000, false), (3, 1, 1_000));
        assert_eq!(at(1_500, false), (3, 1, 500));
        assert_eq!(at(3_000, false), (3, 3, 0));
    }

    proptest! {
        /// In no window more than the burst and its requests; and what stands there agrees with what is decided.
        #[test]
        fn never_more_than_burst_and_requests(
            requests in 1_u32..200,
            burst in 1_u32..20,
            steps in prop::collection::vec(0_u64..3_000, 1..300),
        ) {
            let (rule, mut cells) = (Rule::new(requests, MINUTE, burst), Cells::default());
            let mut passed: Vec<Duration> = Vec::new();
            let mut now = Duration::ZERO;
            for ms in steps {
                now += Duration::from_millis(ms);
                let standing = cells.standing(&rule, now);
                match cells.wait(&rule, now) {
                    None => {
                        prop_assert!(standing.remaining > 0);
                        cells.take(&rule, now);
                        passed.push(now);
                        let within = passed.iter().filter(|at| now - **at < MINUTE).count() as u32;
                        prop_assert!(within <= burst + requests, "{within} in one window");
                    }
                    Some(wait) => {
                        prop_assert_eq!((standing.remaining, standing.more_after), (0, wait));
                        prop_assert!(cells.wait(&rule, now + wait).is_none(), "the wait was too short");
                    }
                }
            }
        }
    }
}
