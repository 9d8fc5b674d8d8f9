//! Never more than so many requests in any window of time, wherever it begins.
//!
//! A key has a log of its requests: each holds a place until it is as old as the window. The log is as fine as a
//! thousandth of the window, a tick, and requests of one tick are one entry of 4 bytes. So it is bounded by the number
//! of ticks, however many requests there are, and by the number of requests, however fine the ticks. A request counts
//! as one of the end of its tick, so that its place comes back up to one tick late and never early, and the rule holds
//! strictly. Ticks are told from the first request of an empty log on; so nobody has to wait for longer than a window.

use std::time::Duration;

use smallvec::SmallVec;

use super::count::{Count, Standing};

/// Parts of a window that are told apart.
const TICKS: u64 = 1_000;

#[derive(Debug, Clone, Copy)]
pub struct Rule {
    requests: u32,
    tick_ns: u64,
}

impl Rule {
    pub fn new(requests: u32, window: Duration) -> Self {
        Self { requests, tick_ns: nanoseconds(window).div_ceil(TICKS).max(1) }
    }

    fn ticks_ns(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(self.tick_ns)
    }
}

/// The requests of one key that hold a place.
#[derive(Debug, Default, Clone)]
pub struct Log {
    /// In the order of time. Few keys have more than the four that take no more than a pointer and a length would. They lie with
    /// their key: among a million, another place would be one more that is not at hand.
    runs: SmallVec<[Run; 4]>,
    requests: u32,
    /// The tick of the last run, and its end.
    newest: u16,
    newest_ns: u64,
}

/// Requests of one tick.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// The low bits of its number: those in a log are no further apart than a window.
    tick: u16,
    requests: u16,
}

impl Log {
    /// When the requests of a run are as old as the window.
    fn due_ns(&self, rule: &Rule, run: Run) -> u64 {
        let age = u64::from(self.newest.wrapping_sub(run.tick));
        self.newest_ns.saturating_add(rule.ticks_ns(TICKS.saturating_sub(age)))
    }

    /// Lets go of requests that are old enough.
    fn release(&mut self, rule: &Rule, now_ns: u64) {
        let due = self.runs.iter().take_while(|run| self.due_ns(rule, **run) <= now_ns).count();
        // What is behind them, 4 KiB at most, moves to their places.
        self.requests -= self.runs.drain(..due).map(|run| u32::from(run.requests)).sum::<u32>();
    }

    /// Until the oldest request gives its place back. For a moment that lies before the last one it would be more than a
    /// window, by as much.
    fn first_release(&self, rule: &Rule, now_ns: u64) -> Duration {
        let left_ns = self.runs.first().map_or(0, |oldest| self.due_ns(rule, *oldest).saturating_sub(now_ns));
        Duration::from_nanos(left_ns.min(rule.ticks_ns(TICKS)))
    }
}

impl Count for Log {
    type Rule = Rule;

    fn wait(&mut self, rule: &Rule, now: Duration) -> Option<Duration> {
        let now_ns = nanoseconds(now);
        self.release(rule, now_ns);
        (self.requests >= rule.requests).then(|| self.first_release(rule, now_ns))
    }

    fn take(&mut self, rule: &Rule, now: Duration) {
        let now_ns = nanoseconds(now);
        self.release(rule, now_ns);
        if self.runs.is_empty() {
            self.newest_ns = now_ns;
        }
        let ticks = now_ns.saturating_sub(self.newest_ns).div_ceil(rule.tick_ns);
        self.newest = self.newest.wrapping_add(ticks as u16);
        self.newest_ns = self.newest_ns.saturating_add(rule.ticks_ns(ticks));
        let tick = self.newest;
        let this_tick = self.runs.last_mut().filter(|last| last.tick == tick && last.requests < u16::MAX);
        match this_tick {
            Some(run) => run.requests += 1,
            None => self.runs.push(Run { tick, requests: 1 }),
        }
        self.requests += 1;
    }

    fn standing(&mut self, rule: &Rule, now: Duration) -> Standing {
        let now_ns = nanoseconds(now);
        self.release(rule, now_ns);
        Standing {
            capacity: rule.requests,
            remaining: rule.requests.saturating_sub(self.requests),
            more_after: self.first_release(rule, now_ns),
        }
    }
}

/// What does not fit is 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// `+` passes, `-` has to wait; before it stands the time in milliseconds.
    #[track_caller]
    fn check(requests: u32, window: Duration, rows: &[(u64, char)]) {
        let (rule, mut log) = (Rule::new(requests, window), Log::default());
        for (at, expected) in rows {
            let now = Duration::from_millis(*at);
            let found = if log.wait(&rule, now).is_none() { '+' } else { '-' };
            assert_eq!(found, *expected, "at {at} ms");
            if found == '+' {
                log.take(&rule, now);
            }
        }
    }

    #[test]
    fn places_come_back_one_by_one() {
        check(2, MINUTE, &[(0, '+'), (30_000, '+'), (59_999, '-'), (60_000, '+'), (60_001, '-'), (90_000, '+')]);
        check(1, MINUTE, &[(0, '+'), (1, '-'), (59_999, '-'), (60_000, '+')]);
        check(1, Duration::from_secs(1), &[(0, '+'), (999, '-'), (1_000, '+'), (1_999, '-'), (2_000, '+')]);
    }

    /// The known gap of counters that begin anew each minute: twice as many around the turn.
    #[test]
    fn there_is_no_turn_of_a_window_to_wait_for() {
        check(3, MINUTE, &[(59_000, '+'), (59_500, '+'), (59_900, '+'), (60_100, '-'), (118_999, '-'), (119_000, '+')]);
    }

    #[test]
    fn a_long_silence_is_the_end_of_all_that_was() {
        let ticks_that_look_alike = 65_536 * 60;
        check(1, MINUTE, &[(0, '+'), (ticks_that_look_alike, '+'), (ticks_that_look_alike + 1, '-')]);
    }

    /// Workers read their clocks before they come to the lock.
    #[test]
    fn a_moment_before_the_last_counts_as_the_last() {
        check(2, MINUTE, &[(30_000, '+'), (0, '+'), (60_060, '-'), (89_999, '-'), (90_000, '+')]);
    }

    /// A request in the middle of a tick counts as one of its end.
    #[test]
    fn a_place_comes_back_at_the_end_of_a_tick() {
        check(2, MINUTE, &[(0, '+'), (10_001, '+'), (60_000, '+'), (70_001, '-'), (70_019, '-'), (70_020, '+')]);
    }

    #[test]
    fn how_it_stands() {
        let (rule, mut log) = (Rule::new(2, MINUTE), Log::default());
        let mut at = |ms, takes: bool| {
            let now = Duration::from_millis(ms);
            if takes {
                log.take(&rule, now);
            }
            let Standing { capacity, remaining, more_after } = log.standing(&rule, now);
            (capacity, remaining, more_after.as_millis())
        };
        assert_eq!(at(0, false), (2, 2, 0));
        assert_eq!(at(0, true), (2, 1, 60_000));
        assert_eq!(at(30_000, true), (2, 0, 30_000));
        assert_eq!(at(60_000, false), (2, 1, 30_000));
        assert_eq!(at(90_000, false), (2, 2, 0));
    }

    #[test]
    fn the_log_is_bounded_by_ticks_and_by_requests() {
        let (rule, mut log) = (Rule::new(1_000_000, MINUTE), Log::default());
        for ms in 0..120_000 {
            log.take(&rule, Duration::from_millis(ms));
            log.take(&rule, Duration::from_millis(ms));
        }
        assert!(log.runs.len() as u64 <= TICKS + 1, "{}", log.runs.len());
        let (rule, mut log) = (Rule::new(200_000, MINUTE), Log::default());
        (0..200_000).for_each(|_| log.take(&rule, MINUTE));
        assert_eq!((log.runs.len(), log.wait(&rule, MINUTE).is_some()), (4, true));
        assert_eq!((size_of::<Run>(), size_of::<Log>()), (4, 40));
    }

    /// More than lie with the key; of these some are due at once, and some stay.
    #[test]
    fn many_moments_give_their_places_back() {
        let (rule, mut log) = (Rule::new(100, MINUTE), Log::default());
        (0..20).for_each(|n| log.take(&rule, Duration::from_secs(3 * n)));
        assert!(log.runs.spilled());
        assert_eq!(log.standing(&rule, MINUTE + Duration::from_secs(9)).remaining, 80 + 4);
        let standing = log.standing(&rule, MINUTE + Duration::from_secs(48));
        assert_eq!((standing.remaining, standing.more_after), (97, Duration::from_secs(3)));
        assert_eq!(log.standing(&rule, 2 * MINUTE).remaining, 100);
    }

    proptest! {
        /// Against a list of all moments: in no window too many, and nobody waits whom a tick more would let pass,
        /// and no wait is longer than a window.
        #[test]
        fn never_more_and_hardly_fewer(
            requests in 1_u32..6,
            window_s in 1_u64..100,
            steps in prop::collection::vec((0_u64..400, 0_u64..1_000_000), 1..200),
        ) {
            let window = Duration::from_secs(window_s);
            let (rule, mut log) = (Rule::new(requests, window), Log::default());
            let mut passed: Vec<Duration> = Vec::new();
            let mut now = Duration::ZERO;
            for (thousandths, rest) in steps {
                now += window * thousandths as u32 / 1_000 + Duration::from_nanos(rest);
                let within = |span: Duration| passed.iter().filter(|at| now - **at < span).count() as u32;
                match log.wait(&rule, now) {
                    None => {
                        prop_assert!(within(window) < requests);
                        log.take(&rule, now);
                        passed.push(now);
                    }
                    Some(wait) => {
                        prop_assert!(wait <= window);
                        prop_assert!(within(window + window / 1_000 + Duration::from_micros(1)) >= requests);
                        prop_assert!(!wait.is_zero());
                        prop_assert!(log.clone().wait(&rule, now + wait).is_none(), "the wait was too short");
                    }
                }
            }
        }
    }
}
