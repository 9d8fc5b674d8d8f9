//! The circuit breaker of an upstream: whether it is asked at all.
//!
//! Closed, it lets everything through. `failures` within `window`, if they are also a share of the latest
//! requests, open it: then nothing is sent for a while. After that it is half open and lets one request
//! at a time through: an answer closes it, a failure opens it again, and one that goes on for as long as the breaker is
//! open no longer keeps the next from trying. What a single endpoint is worth is judged by
//! [`health`](super::health). This module only decides; it reads no clock, takes no lock and logs nothing.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::health::plural;
use super::tally::Counts;

/// The share of failures is looked at over this long at most: an hour of success does not hide an outage.
const SHARE_WINDOW_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At least 1.
    pub failures: u32,
    pub share_percent: u32,
    pub window: Duration,
    pub open: Duration,
}

impl Limits {
    /// How far back the latest requests go, of which a share must have failed.
    pub fn share_window(&self) -> Duration {
        self.window.min(SHARE_WINDOW_MAX)
    }
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

impl Position {
    /// The name for logs and the status page.
    pub fn label(self) -> &'static str {
        match self {
            Position::Closed => "closed",
            Position::Open { .. } => "open",
            Position::HalfOpen => "half-open",
        }
    }
}

/// A move along one of its four edges. Its text goes on after "the breaker of app".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    Opened { failures: usize, open: Duration },
    HalfOpened,
    Reopened { open: Duration },
    Closed,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Transition::Opened { failures, open } => {
                write!(f, "is open for {open:?}: {}", plural(failures))
            }
            Transition::HalfOpened => f.write_str("is half open: one request is let through at a time"),
            Transition::Reopened { open } => write!(f, "is open for {open:?} more: the request that tried it failed"),
            Transition::Closed => f.write_str("is closed again"),
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Through,
    /// Its outcome decides what becomes of all others.
    Trial,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Closed {
        /// None: from the beginning.
        since: Option<Instant>,
        /// Those of the last `window`, oldest first; never more than `failures` of the limits.
        failures: VecDeque<Instant>,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        /// When the trial that is under way began.
        trial: Option<Instant>,
    },
}

impl Default for State {
    fn default() -> Self {
        State::Closed { since: None, failures: VecDeque::new() }
    }
}

impl State {
    pub fn position(&self) -> Position {
        match *self {
            State::Closed { .. } => Position::Closed,
            State::Open { until } => Position::Open { until },
            State::HalfOpen { .. } => Position::HalfOpen,
        }
    }

    pub fn admit(&mut self, limits: &Limits, now: Instant) -> (Admission, Option<Transition>) {
        match self {
            State::Closed { .. } => (Admission::Through, None),
            State::Open { until } if now < *until => (Admission::Refused, None),
            State::Open { .. } => {
                *self = State::HalfOpen { trial: Some(now) };
                (Admission::Trial, Some(Transition::HalfOpened))
            }
            // Its client may send for as long as it likes, and is not to decide for all others.
            State::HalfOpen { trial: Some(begun) } if now.saturating_duration_since(*begun) < limits.open => {
                (Admission::Refused, None)
            }
            State::HalfOpen { trial } => {
                *trial = Some(now);
                (Admission::Trial, None)
            }
        }
    }

    /// A request that began at `begun` failed. `latest` is what became of all requests of the
    /// [share window](Limits::share_window), this one among them.
    pub fn failed(&mut self, begun: Instant, latest: Counts, limits: &Limits, now: Instant) -> Option<Transition> {
        // One that began before the breaker opened says nothing about the time since it closed.
        let State::Closed { since, failures } = self else { return None };
        if since.is_some_and(|since| begun < since) {
            return None;
        }
        failures.push_back(now);
        while failures.len() > limits.failures as usize
            || failures.front().is_some_and(|&at| now.saturating_duration_since(at) >= limits.window)
        {
            failures.pop_front();
        }
        let count = failures.len();
        if count < limits.failures as usize || latest.failed_percent() < limits.share_percent.into() {
            return None;
        }
        *self = State::Open { until: now + limits.open };
        Some(Transition::Opened { failures: count, open: limits.open })
    }

    pub fn trial_answered(&mut self, now: Instant) -> Option<Transition> {
        let State::HalfOpen { .. } = self else { return None };
        *self = State::Closed { since: Some(now), failures: VecDeque::new() };
        Some(Transition::Closed)
    }

    pub fn trial_failed(&mut self, limits: &Limits, now: Instant) -> Option<Transition> {
        let State::HalfOpen { .. } = self else { return None };
        *self = State::Open { until: now + limits.open };
        Some(Transition::Reopened { open: limits.open })
    }

    /// The trial that began at `begun` ended without an outcome, as when its client left: the next request is the trial.
    pub fn trial_abandoned(&mut self, begun: Instant) {
        if let State::HalfOpen { trial } = self {
            *trial = trial.filter(|latest| *latest != begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The breaker that the requirements ask for (P20).
    const LIMITS: Limits =
        Limits { failures: 5, share_percent: 50, window: Duration::from_secs(120), open: Duration::from_secs(60) };

    /// Plays a script of `event@second` and compares where it ends. Events: `f` a request failed, and so did the
    /// latest, `s` one failed among many that did not, `o` one failed that began at 0, `t` a trial is let through,
    /// `r` a request is refused, `l` one is let through, `A` the trial was answered, `F` it failed, `G` it left.
    fn check(script: &str, transition: Option<Transition>, position: &str) {
        let start = Instant::now();
        let (mut state, mut trial) = (State::default(), start);
        let mut last = None;
        for step in script.split_whitespace() {
            let (event, at) = step.split_once('@').unwrap();
            let now = start + Duration::from_secs(at.parse().unwrap());
            let all_failed = Counts { answered: 0, failed: 9 };
            let mut admitted = |expected| {
                let (admission, transition) = state.admit(&LIMITS, now);
                assert_eq!(admission, expected, "{script}: at {at}");
                transition
            };
            last = match event {
                "f" => state.failed(now, all_failed, &LIMITS, now),
                "s" => state.failed(now, Counts { answered: 10, failed: 9 }, &LIMITS, now),
                "o" => state.failed(start, all_failed, &LIMITS, now),
                "t" => {
                    trial = now;
                    admitted(Admission::Trial)
                }
                "r" => admitted(Admission::Refused),
                "l" => admitted(Admission::Through),
                "A" => state.trial_answered(now),
                "F" => state.trial_failed(&LIMITS, now),
                "G" => {
                    state.trial_abandoned(trial);
                    None
                }
                other => panic!("no event {other}"),
            };
        }
        let shown = match state.position() {
            Position::Open { until } => format!("open until {}", (until - start).as_secs()),
            other => other.label().to_owned(),
        };
        assert_eq!((last, shown.as_str()), (transition, position), "{script}");
    }

    #[test]
    fn failures_within_the_window_open_it() {
        let open = LIMITS.open;
        let opened = Some(Transition::Opened { failures: 5, open });
        check("l@0", None, "closed");
        check("f@0 f@1 f@2 f@3 l@3", None, "closed");
        check("f@0 f@1 f@2 f@3 f@4", opened, "open until 64");
        check("f@0 f@30 f@60 f@90 f@119", opened, "open until 179");
        check("f@0 f@30 f@60 f@90 f@120 l@120", None, "closed");
        check("f@0 f@30 f@60 f@90 f@120 f@121", opened, "open until 181");
        check("f@0 f@0 f@0 f@0 f@0 r@0 r@59", None, "open until 60");
    }

    #[test]
    fn failures_that_are_few_among_the_latest_leave_it_closed() {
        let open = LIMITS.open;
        check("s@0 s@0 s@0 s@0 s@0 s@0 s@0 l@1", None, "closed");
        check("s@0 s@0 s@0 s@0 s@0 s@0 s@0 f@1", Some(Transition::Opened { failures: 5, open }), "open until 61");
    }

    #[test]
    fn half_open_one_request_at_a_time_is_let_through() {
        let open = LIMITS.open;
        check("f@0 f@0 f@0 f@0 f@0 t@60", Some(Transition::HalfOpened), "half-open");
        check("f@0 f@0 f@0 f@0 f@0 t@60 r@60 r@119", None, "half-open");
        check("f@0 f@0 f@0 f@0 f@0 t@60 A@61", Some(Transition::Closed), "closed");
        check("f@0 f@0 f@0 f@0 f@0 t@60 F@61", Some(Transition::Reopened { open }), "open until 121");
        check("f@0 f@0 f@0 f@0 f@0 t@60 F@61 r@120 t@121", Some(Transition::HalfOpened), "half-open");
        check("f@0 f@0 f@0 f@0 f@0 t@60 G@61 t@61 r@61", None, "half-open");
    }

    #[test]
    fn a_trial_that_does_not_end_is_not_the_last() {
        let open = LIMITS.open;
        check("f@0 f@0 f@0 f@0 f@0 t@60 r@119 t@120 r@120 r@179", None, "half-open");
        check("f@0 f@0 f@0 f@0 f@0 t@60 t@120 A@121", Some(Transition::Closed), "closed");
        check("f@0 f@0 f@0 f@0 f@0 t@60 t@120 F@121", Some(Transition::Reopened { open }), "open until 181");
    }

    #[test]
    fn an_earlier_trial_that_is_abandoned_makes_no_room_beside_the_latest() {
        let (begun, latest) = (Instant::now(), Instant::now() + LIMITS.open);
        let mut state = State::HalfOpen { trial: Some(latest) };
        state.trial_abandoned(begun);
        assert_eq!(state.admit(&LIMITS, latest).0, Admission::Refused);
        state.trial_abandoned(latest);
        assert_eq!(state.admit(&LIMITS, latest).0, Admission::Trial);
    }

    #[test]
    fn what_began_before_it_closed_says_nothing() {
        check("f@0 f@0 f@0 f@0 f@0 f@1 f@2", None, "open until 60");
        check("f@0 f@0 f@0 f@0 f@0 t@60 f@61", None, "half-open");
        check("f@0 f@0 f@0 f@0 f@0 t@60 A@61 o@62 o@62 o@62 o@62 o@62 o@62", None, "closed");
        check("f@0 f@0 f@0 f@0 f@0 t@60 A@61 f@62 f@62 f@62 f@62", None, "closed");
    }

    #[test]
    fn transitions_read_as_the_rest_of_a_sentence() {
        let open = Duration::from_secs(60);
        let rows = [
            (Transition::Opened { failures: 5, open }, "is open for 60s: 5 failures"),
            (Transition::Reopened { open }, "is open for 60s more: the request that tried it failed"),
            (Transition::Closed, "is closed again"),
        ];
        for (transition, text) in rows {
            assert_eq!(transition.to_string(), text);
        }
    }

    proptest! {
        /// Whatever happens, it moves along its edges alone, tells each move, and lets one trial through at a time.
        #[test]
        fn it_moves_along_its_edges_alone(
            events in prop::collection::vec((0u8..5, 0u64..40, any::<bool>()), 0..300),
        ) {
            let (mut now, mut state) = (Instant::now(), State::default());
            let mut trial = None;
            for (event, seconds, mostly) in events {
                now += Duration::from_secs(seconds);
                let before = state.position();
                let mut admission = None;
                let told = match event {
                    0 | 1 => {
                        let latest = Counts { answered: if mostly { 0 } else { 90 }, failed: 9 };
                        state.failed(now, latest, &LIMITS, now)
                    }
                    2 if trial.is_some() => { trial = None; state.trial_answered(now) }
                    3 if trial.is_some() => { trial = None; state.trial_failed(&LIMITS, now) }
                    4 if trial.is_some() && mostly => { state.trial_abandoned(trial.take().unwrap()); None }
                    _ => {
                        let (found, told) = state.admit(&LIMITS, now);
                        admission = Some(found);
                        told
                    }
                };
                let after = state.position();
                let edge = match (before, after) {
                    (Position::Closed, Position::Closed) | (Position::HalfOpen, Position::HalfOpen) => None,
                    (Position::Open { until }, Position::Open { until: still }) if until == still => None,
                    (Position::Closed, Position::Open { .. }) => Some("opened"),
                    (Position::Open { until }, Position::HalfOpen) if until <= now => Some("half-opened"),
                    (Position::HalfOpen, Position::Open { .. }) => Some("reopened"),
                    (Position::HalfOpen, Position::Closed) => Some("closed"),
                    off => { prop_assert!(false, "no edge: {off:?}"); None }
                };
                let told = told.map(|told| match told {
                    Transition::Opened { .. } => "opened",
                    Transition::HalfOpened => "half-opened",
                    Transition::Reopened { .. } => "reopened",
                    Transition::Closed => "closed",
                });
                prop_assert_eq!(edge, told);
                match admission {
                    Some(Admission::Through) => prop_assert_eq!(before, Position::Closed),
                    Some(Admission::Trial) => {
                        prop_assert!(trial.is_none_or(|begun| now - begun >= LIMITS.open), "two trials");
                        trial = Some(now);
                    }
                    Some(Admission::Refused) => prop_assert!(before != Position::Closed),
                    None => {}
                }
                if let State::Closed { failures, .. } = &state {
                    prop_assert!(failures.len() <= LIMITS.failures as usize);
                }
            }
        }
    }
}
