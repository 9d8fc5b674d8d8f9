//! One call of an upstream with a breaker: let through, and told how it ended.
//!
//! The breaker is shared by all workers and generations; what it decides stands in [`breaker`](super::breaker).

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::breaker::{Admission, Limits, Position, State, Transition};
use super::tally::{Counts, Tally};
use crate::lock::lock;
use crate::telemetry::metrics::PerThread;

/// The state behind a lock, and what a call reads and counts while it is closed.
#[derive(Debug)]
pub struct Breaker {
    upstream: Box<str>,
    limits: Limits,
    is_closed: AtomicBool,
    state: Mutex<State>,
    /// By each worker for itself, since every answer is counted.
    latest: PerThread<Tally>,
    refused: AtomicU64,
    opened: AtomicU64,
}

/// Nothing is sent to this upstream for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl Breaker {
    pub(super) fn new(upstream: &str, limits: Limits) -> Self {
        Breaker {
            upstream: upstream.into(),
            limits,
            is_closed: AtomicBool::new(true),
            state: Mutex::default(),
            latest: PerThread::default(),
            refused: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets a call through or refuses it. A closed breaker costs one load.
    pub fn begin(&self, now: Instant) -> Result<Call<'_>, Refused> {
        let admission = match self.is_closed.load(Ordering::Acquire) {
            true => Admission::Through,
            false => self.change(|state| state.admit(&self.limits, now)),
        };
        match admission {
            Admission::Refused => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Refused)
            }
            Admission::Through => Ok(Call { breaker: self, begun: now, is_trial: false }),
            Admission::Trial => Ok(Call { breaker: self, begun: now, is_trial: true }),
        }
    }

    /// When it may be worth to ask again; at least a second, for `Retry-After`.
    pub fn retry_after(&self, now: Instant) -> Duration {
        let rest = match lock(&self.state).position() {
            Position::Open { until } => until.saturating_duration_since(now),
            Position::Closed | Position::HalfOpen => Duration::ZERO,
        };
        Duration::from_secs(rest.as_millis().div_ceil(1000).max(1) as u64)
    }

    pub(super) fn status(&self, now: Instant) -> BreakerStatus {
        let position = lock(&self.state).position();
        let open_for_s = match position {
            Position::Open { until } => Some(until.saturating_duration_since(now).as_secs_f64()),
            Position::Closed | Position::HalfOpen => None,
        };
        BreakerStatus {
            state: position.label(),
            open_for_s,
            opened: self.opened.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn failed(&self, begun: Instant, now: Instant) {
        let window = self.limits.share_window();
        self.latest.local().count(true, window, now);
        // Summed up behind the lock: who comes last of those that fail at the same time sees all of them.
        let latest = || self.latest.iter().map(|tally| tally.counts(window, now)).fold(Counts::default(), Counts::and);
        self.change(|state| ((), state.failed(begun, latest(), &self.limits, now)));
    }

    /// Changes the state and what is read of it, while no one else does.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> (T, Option<Transition>)) -> T {
        let mut state = lock(&self.state);
        let (result, transition) = change(&mut state);
        if let Some(transition) = transition {
            self.is_closed.store(state.position() == Position::Closed, Ordering::Release);
            self.note(transition);
        }
        result
    }

    fn note(&self, transition: Transition) {
        let upstream = &self.upstream;
        match transition {
            Transition::Opened { .. } | Transition::Reopened { .. } => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("the breaker of {upstream} {transition}");
            }
            Transition::HalfOpened => tracing::info!("the breaker of {upstream} {transition}"),
            Transition::Closed => {
                // What failed before is settled.
                self.latest.iter().for_each(Tally::clear);
                tracing::info!("the breaker of {upstream} {transition}");
            }
        }
    }
}

/// A request that was let through. One that is dropped had no outcome, since its client left.
#[derive(Debug)]
#[must_use]
pub struct Call<'a> {
    breaker: &'a Breaker,
    begun: Instant,
    /// Until it has ended.
    is_trial: bool,
}

impl Call<'_> {
    pub fn answered(mut self, now: Instant) {
        if std::mem::take(&mut self.is_trial) {
            self.breaker.change(|state| ((), state.trial_answered(now)));
        } else {
            self.breaker.latest.local().count(false, self.breaker.limits.share_window(), now);
        }
    }

    pub fn failed(mut self, now: Instant) {
        if std::mem::take(&mut self.is_trial) {
            self.breaker.change(|state| ((), state.trial_failed(&self.breaker.limits, now)));
        } else {
            self.breaker.failed(self.begun, now);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            self.breaker.change(|state| (state.trial_abandoned(self.begun), None));
        }
    }
}

/// A breaker as metrics and the status page show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakerStatus {
    /// `closed`, `open` or `half-open`.
    pub state: &'static str,
    /// Seconds until it lets a request through.
    pub open_for_s: Option<f64>,
    /// How often it has opened.
    pub opened: u64,
    /// Requests that it has refused.
    pub refused: u64,
}

impl BreakerStatus {
    pub fn is_closed(&self) -> bool {
        self.state == Position::Closed.label()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the breaker is open")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { failures: 2, share_percent: 50, window: Duration::from_secs(10), open: Duration::from_secs(60) };

    fn state(breaker: &Breaker, now: Instant) -> &'static str {
        breaker.status(now).state
    }

    #[test]
    fn calls_open_it_and_a_trial_closes_it() {
        let (breaker, now) = (Breaker::new("app", LIMITS), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        for _ in 0..2 {
            assert_eq!(state(&breaker, now), "closed");
            breaker.begin(now).unwrap().failed(now);
        }
        assert_eq!((state(&breaker, now), breaker.begin(later(59)).err()), ("open", Some(Refused)));
        assert_eq!(breaker.retry_after(later(2)), Duration::from_secs(58));
        let trial = breaker.begin(later(60)).unwrap();
        assert_eq!((state(&breaker, now), breaker.begin(later(60)).err()), ("half-open", Some(Refused)));
        drop(trial);
        breaker.begin(later(61)).unwrap().failed(later(61));
        assert_eq!((state(&breaker, now), breaker.begin(later(61)).err()), ("open", Some(Refused)));
        breaker.begin(later(121)).unwrap().answered(later(121));
        assert_eq!(state(&breaker, now), "closed");
        breaker.begin(later(121)).unwrap().failed(later(121));
        assert_eq!(state(&breaker, now), "closed", "it begins anew");
        let status = breaker.status(now);
        assert_eq!((status.opened, status.refused), (2, 3));
    }

    #[test]
    fn failures_among_many_answers_leave_it_closed() {
        let (breaker, now) = (Breaker::new("app", LIMITS), Instant::now());
        for _ in 0..20 {
            breaker.begin(now).unwrap().answered(now);
        }
        for _ in 0..19 {
            breaker.begin(now).unwrap().failed(now);
        }
        assert_eq!(state(&breaker, now), "closed");
        breaker.begin(now).unwrap().failed(now);
        assert_eq!(state(&breaker, now), "open");
    }

    /// Each worker counts for itself, and what they have counted is in the sum of who decides.
    #[test]
    fn failures_of_all_threads_at_once_open_it_with_the_last_of_them() {
        const THREADS: u32 = 8;
        let limits = Limits { failures: THREADS, ..LIMITS };
        for _ in 0..100 {
            let (breaker, now) = (Breaker::new("app", limits), Instant::now());
            let barrier = std::sync::Barrier::new(THREADS as usize);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        breaker.begin(now).unwrap().answered(now);
                        let call = breaker.begin(now).unwrap();
                        barrier.wait();
                        call.failed(now);
                    });
                }
            });
            // Just half of them.
            assert_eq!((state(&breaker, now), breaker.status(now).opened), ("open", 1));
        }
    }

    #[test]
    fn a_call_that_outlasts_the_outage_changes_nothing() {
        let (breaker, now) = (Breaker::new("app", LIMITS), Instant::now());
        let (straggler, other) = (breaker.begin(now).unwrap(), breaker.begin(now).unwrap());
        for _ in 0..2 {
            breaker.begin(now).unwrap().failed(now);
        }
        straggler.answered(now);
        assert_eq!(state(&breaker, now), "open");
        other.failed(now);
        assert_eq!(breaker.status(now).opened, 1);
    }
}
