//! Whether an endpoint may be used, decided from what was seen of it.
//!
//! Three judges work side by side. *Passive*: `fails_max` failures within `fail_timeout`, or a share of bad
//! answers that the others don't have, take the endpoint out for `fail_timeout`; then one request tries it, as in
//! nginx. One that fails again soon after it came back stays out twice as long. The last endpoint that is left
//! stays in: a wrong guess costs an attempt, an empty pool every request. *Active*: probe results in a row.
//! *By hand*: drain. This module only decides; it reads no clock, takes no lock and logs nothing.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::outlier::{Others, Outlier};
use super::tally::Counts;

/// The thresholds of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// 0 switches the passive judge off.
    pub fails_max: u32,
    pub fail_timeout: Duration,
    /// What the pause of an endpoint that fails again and again grows to.
    pub fail_timeout_max: Duration,
    pub healthy_after: u32,
    pub unhealthy_after: u32,
    /// None: answers are not looked at.
    pub outlier: Option<Outlier>,
}

/// What holds for an endpoint now; the strongest reason against it wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Usable,
    /// It fails, and stays because it is the last.
    Failing,
    /// Out after failures of requests. From `until` on, one request tries it.
    Ejected {
        until: Instant,
    },
    /// Out after failures of probes, until probes pass.
    Unhealthy,
    /// Out by hand.
    Drained,
}

impl Verdict {
    /// Whether requests go to it as they come, and not only one that tries it.
    pub fn is_given_requests(self) -> bool {
        matches!(self, Verdict::Usable | Verdict::Failing)
    }

    /// The name for logs, metrics and the status page.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Usable => "usable",
            Verdict::Failing => "failing",
            Verdict::Ejected { .. } => "ejected",
            Verdict::Unhealthy => "unhealthy",
            Verdict::Drained => "drained",
        }
    }
}

/// A change that is worth a line in the log. Its text goes on after the endpoint's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Taken out by failures of requests.
    Ejected {
        failures: usize,
        pause: Duration,
    },
    /// Taken out by an outstanding share of bad answers.
    StoodOut {
        percent: u64,
        pause: Duration,
    },
    /// It would be taken out, were it not the last.
    Failing {
        failures: usize,
    },
    /// The last one, which was failing, answers.
    Recovered,
    /// The trial after an ejection failed.
    TrialFailed {
        pause: Duration,
    },
    /// A trial, or enough probes, ended an ejection.
    Returned,
    /// The first probe of an endpoint that was not known yet has passed.
    Confirmed,
    /// Taken out by failures of probes.
    Unhealthy {
        failures: u32,
    },
    /// Brought back by probes.
    Healthy,
    Drained,
    Undrained,
}

impl Transition {
    /// Whether requests that wait for this endpoint had better go elsewhere.
    pub fn is_ejection(self) -> bool {
        use Transition::{Ejected, StoodOut, TrialFailed, Unhealthy};
        matches!(self, Ejected { .. } | StoodOut { .. } | TrialFailed { .. } | Unhealthy { .. })
    }

    /// Whether an endpoint that was out is given requests again.
    pub fn is_return(self) -> bool {
        matches!(self, Transition::Returned | Transition::Healthy | Transition::Undrained)
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Transition::Ejected { failures, pause } => write!(f, "is out for {pause:?}: {}", plural(failures)),
            Transition::StoodOut { percent, pause } => {
                write!(f, "is out for {pause:?}: {percent} % of its answers are failures, and fewer of the others'")
            }
            Transition::Failing { failures } => {
                write!(f, "is failing, and stays because it is the last: {}", plural(failures))
            }
            Transition::Recovered => f.write_str("answers again"),
            Transition::TrialFailed { pause } => write!(f, "is out for {pause:?} more: its trial failed"),
            Transition::Returned => f.write_str("is back"),
            Transition::Confirmed => f.write_str("passed its first probe"),
            Transition::Unhealthy { failures } => write!(f, "is unhealthy: {failures} probes in a row failed"),
            Transition::Healthy => f.write_str("is healthy again"),
            Transition::Drained => f.write_str("is drained by hand"),
            Transition::Undrained => f.write_str("is no longer drained by hand"),
        }
    }
}

/// How many failures, in words.
pub fn plural(failures: usize) -> String {
    if failures == 1 { "1 failure".to_owned() } else { format!("{failures} failures") }
}

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub struct State {
    passive: Passive,
    active: Active,
    drained: bool,
    /// The last ejection.
    last: Option<Pause>,
}

/// How long an ejection was meant to be, and when its pause was over.
#[derive(Debug, Clone, Copy)]
struct Pause {
    length: Duration,
    end: Instant,
}

#[derive(Debug)]
enum Passive {
    /// When the failures of the last `fail_timeout` happened, oldest first; never more than `fails_max`.
    In {
        failures: VecDeque<Instant>,
    },
    /// Over its limit, and the last.
    Kept,
    Out {
        until: Instant,
        pause: Duration,
        trial: Trial,
        passed_probes: u32,
    },
}

/// Whether a request was let through to an endpoint that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    None,
    /// After the pause; the result decides. A trial without a result (its client left) is followed by
    /// another one at `until`.
    Due,
    /// During the pause, since every endpoint of the upstream was out. An answer counts, a failure is
    /// what was expected: the pause stays as it is and nobody is told, or each request of an outage
    /// would be a transition.
    Early,
}

impl Default for Passive {
    fn default() -> Self {
        Passive::In { failures: VecDeque::new() }
    }
}

#[derive(Debug)]
enum Active {
    /// Never passed a probe and not yet found unhealthy: counts as usable.
    Unknown {
        failed: u32,
    },
    Healthy {
        failed: u32,
    },
    Unhealthy {
        passed: u32,
    },
}

impl Default for Active {
    fn default() -> Self {
        Active::Unknown { failed: 0 }
    }
}

impl State {
    pub fn verdict(&self) -> Verdict {
        match (self.drained, &self.active, &self.passive) {
            (true, _, _) => Verdict::Drained,
            (_, Active::Unhealthy { .. }, _) => Verdict::Unhealthy,
            (_, _, Passive::Out { until, .. }) => Verdict::Ejected { until: *until },
            (_, _, Passive::Kept) => Verdict::Failing,
            _ => Verdict::Usable,
        }
    }

    /// Whether probes have not come to a verdict yet.
    pub fn is_unknown(&self) -> bool {
        matches!(self.active, Active::Unknown { .. })
    }

    /// Lets a request through unless the endpoint is out. The first one after a pause becomes the trial.
    pub fn admit(&mut self, now: Instant) -> bool {
        match self.verdict() {
            Verdict::Usable | Verdict::Failing => true,
            Verdict::Ejected { until } if until <= now => {
                if let Passive::Out { until, pause, trial, .. } = &mut self.passive {
                    (*until, *trial) = (now + *pause, Trial::Due);
                }
                true
            }
            Verdict::Ejected { .. } | Verdict::Unhealthy | Verdict::Drained => false,
        }
    }

    /// A request is let through although the endpoint is out.
    pub fn try_early(&mut self) {
        if let Passive::Out { trial: trial @ Trial::None, .. } = &mut self.passive {
            *trial = Trial::Early;
        }
    }

    /// A request was answered. Only a trial takes note: an answer to a request from before the ejection
    /// says nothing new.
    pub fn answered(&mut self) -> Option<Transition> {
        let transition = match self.passive {
            Passive::Out { trial: Trial::Due | Trial::Early, .. } => Transition::Returned,
            Passive::Kept => Transition::Recovered,
            Passive::In { .. } | Passive::Out { .. } => return None,
        };
        self.passive = Passive::default();
        Some(transition)
    }

    /// A request was answered with a status that counts against the endpoint. `counts` are the answers of the
    /// window: its own, and those of the others in sum.
    pub fn answered_badly(
        &mut self,
        limits: &Limits,
        counts: (Counts, Counts),
        others: Others,
        now: Instant,
    ) -> Option<Transition> {
        let outlier = limits.outlier?;
        match &self.passive {
            Passive::In { .. } if outlier.stands_out(counts.0, counts.1) && outlier.may_eject(others) => {
                let pause = self.eject(limits, now);
                Some(Transition::StoodOut { percent: counts.0.failed_percent(), pause })
            }
            Passive::In { .. } => None,
            Passive::Kept => self.answered(),
            Passive::Out { .. } => self.fail_trial(now),
        }
    }

    /// A request failed by the endpoint's fault.
    pub fn failed(&mut self, limits: &Limits, others: Others, now: Instant) -> Option<Transition> {
        match &mut self.passive {
            Passive::In { .. } if limits.fails_max == 0 => None,
            Passive::In { failures } => {
                while failures.front().is_some_and(|&at| now.saturating_duration_since(at) >= limits.fail_timeout) {
                    failures.pop_front();
                }
                failures.push_back(now);
                let failures = failures.len();
                if failures < limits.fails_max as usize {
                    return None;
                }
                if others.usable == 0 {
                    self.passive = Passive::Kept;
                    return Some(Transition::Failing { failures });
                }
                let pause = self.eject(limits, now);
                Some(Transition::Ejected { failures, pause })
            }
            Passive::Kept if others.usable == 0 => None,
            Passive::Kept => {
                let pause = self.eject(limits, now);
                Some(Transition::Ejected { failures: 1, pause })
            }
            Passive::Out { .. } => self.fail_trial(now),
        }
    }

    /// Takes it out; one that came back not long ago for twice as long as the last time.
    fn eject(&mut self, limits: &Limits, now: Instant) -> Duration {
        let longest = limits.fail_timeout_max.max(limits.fail_timeout);
        let again = self.last.filter(|last| now < last.end + last.length);
        let pause = again.map_or(limits.fail_timeout, |last| (last.length * 2).clamp(limits.fail_timeout, longest));
        self.last = Some(Pause { length: pause, end: now + pause });
        self.passive = Passive::Out { until: now + pause, pause, trial: Trial::None, passed_probes: 0 };
        pause
    }

    /// A failed trial says that the endpoint has not come back: the pause is the same, or a replica that was away for
    /// long would be missed for long.
    fn fail_trial(&mut self, now: Instant) -> Option<Transition> {
        let Passive::Out { until, pause, trial, passed_probes } = &mut self.passive else { return None };
        if std::mem::replace(trial, Trial::None) != Trial::Due {
            return None;
        }
        (*until, *passed_probes) = (now + *pause, 0);
        self.last = Some(Pause { length: *pause, end: *until });
        Some(Transition::TrialFailed { pause: *pause })
    }

    pub fn probe_passed(&mut self, limits: &Limits) -> Option<Transition> {
        match &mut self.active {
            Active::Unknown { .. } => {
                self.active = Active::Healthy { failed: 0 };
                Some(Transition::Confirmed)
            }
            Active::Healthy { failed } => {
                *failed = 0;
                self.count_probe_while_ejected(limits)
            }
            Active::Unhealthy { passed } => {
                *passed += 1;
                if *passed < limits.healthy_after {
                    return None;
                }
                // The endpoint was seen coming back, so what failed before says nothing about it.
                self.active = Active::Healthy { failed: 0 };
                self.passive = Passive::default();
                Some(Transition::Healthy)
            }
        }
    }

    /// Probes that pass after an ejection end it before its time: a replica that was restarted is used
    /// again after `healthy_after` probes instead of a whole `fail_timeout`.
    fn count_probe_while_ejected(&mut self, limits: &Limits) -> Option<Transition> {
        let Passive::Out { passed_probes, .. } = &mut self.passive else { return None };
        *passed_probes += 1;
        if *passed_probes < limits.healthy_after {
            return None;
        }
        self.passive = Passive::default();
        Some(Transition::Returned)
    }

    pub fn probe_failed(&mut self, limits: &Limits) -> Option<Transition> {
        if let Passive::Out { passed_probes, .. } = &mut self.passive {
            *passed_probes = 0;
        }
        match &mut self.active {
            Active::Unknown { failed } | Active::Healthy { failed } => {
                *failed += 1;
                let failures = *failed;
                if failures < limits.unhealthy_after {
                    return None;
                }
                self.active = Active::Unhealthy { passed: 0 };
                Some(Transition::Unhealthy { failures })
            }
            Active::Unhealthy { passed } => {
                *passed = 0;
                None
            }
        }
    }

    /// The check was taken away or asks something else now: its old answers no longer count.
    pub fn forget_probes(&mut self) {
        self.active = Active::default();
    }

    pub fn drain(&mut self) -> Option<Transition> {
        let was = std::mem::replace(&mut self.drained, true);
        (!was).then_some(Transition::Drained)
    }

    pub fn undrain(&mut self) -> Option<Transition> {
        let was = std::mem::replace(&mut self.drained, false);
        was.then_some(Transition::Undrained)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        fails_max: 3,
        fail_timeout: Duration::from_secs(30),
        fail_timeout_max: Duration::from_secs(100),
        healthy_after: 2,
        unhealthy_after: 3,
        outlier: Some(Outlier {
            share_percent: 50,
            requests: 10,
            window: Duration::from_secs(10),
            ejected_percent_max: 50,
        }),
    };
    const TWO_OTHERS: Others = Others { usable: 2, out: 0 };

    fn counts(answered: u64, failed: u64) -> Counts {
        Counts { answered, failed }
    }

    /// Plays a script, `event@second` by `event@second`, and compares the last transition and verdict.
    /// Events: `f` failed, `a` answered, `r` a request is let in, `n` none is let in, `e` one is sent
    /// early, `p` probe passed, `x` probe failed, `d` drain, `u` undrain, `g` forget probes, `l` failed while it is the
    /// last, `b` answered badly as most of the time, `s` badly while it is the last.
    fn check(script: &str, transition: Option<Transition>, verdict: &str) {
        let start = Instant::now();
        let mut state = State::default();
        let mut last = None;
        for step in script.split_whitespace() {
            let (event, at) = step.split_once('@').unwrap_or((step, "0"));
            let now = start + Duration::from_secs(at.parse().unwrap());
            last = match event {
                "f" => state.failed(&LIMITS, TWO_OTHERS, now),
                "l" => state.failed(&LIMITS, Others { usable: 0, out: 2 }, now),
                "b" => state.answered_badly(&LIMITS, (counts(5, 5), counts(100, 1)), TWO_OTHERS, now),
                "s" => state.answered_badly(&LIMITS, (counts(5, 5), counts(100, 1)), Others::default(), now),
                "a" => state.answered(),
                "r" => {
                    assert!(state.admit(now), "{script}: not let in at {at}");
                    None
                }
                "n" => {
                    assert!(!state.admit(now), "{script}: let in at {at}");
                    None
                }
                "e" => {
                    state.try_early();
                    None
                }
                "p" => state.probe_passed(&LIMITS),
                "x" => state.probe_failed(&LIMITS),
                "d" => state.drain(),
                "u" => state.undrain(),
                "g" => {
                    state.forget_probes();
                    None
                }
                other => panic!("no event {other}"),
            };
        }
        let shown = match state.verdict() {
            Verdict::Ejected { until } => format!("ejected until {}", (until - start).as_secs()),
            other => other.label().to_owned(),
        };
        assert_eq!((last, shown.as_str()), (transition, verdict), "{script}");
    }

    #[test]
    fn failures_within_fail_timeout_take_an_endpoint_out() {
        let pause = LIMITS.fail_timeout;
        check("", None, "usable");
        check("f@0 f@1", None, "usable");
        check("f@0 f@1 f@2", Some(Transition::Ejected { failures: 3, pause }), "ejected until 32");
        check("f@0 f@1 f@29", Some(Transition::Ejected { failures: 3, pause }), "ejected until 59");
        check("f@0 f@1 f@30", None, "usable");
        check("f@0 f@1 f@30 f@30", Some(Transition::Ejected { failures: 3, pause }), "ejected until 60");
        check("f@0 f@1 a@1 f@2", Some(Transition::Ejected { failures: 3, pause }), "ejected until 32");
        check("f@0 f@1 f@2 f@3", None, "ejected until 32");
        check("f@0 f@1 f@2 a@3", None, "ejected until 32");
    }

    #[test]
    fn after_the_pause_one_request_tries_the_endpoint() {
        let pause = LIMITS.fail_timeout;
        check("f@0 f@0 f@0 n@29", None, "ejected until 30");
        check("f@0 f@0 f@0 r@30 n@30 n@59", None, "ejected until 60");
        check("f@0 f@0 f@0 r@30 a@31", Some(Transition::Returned), "usable");
        check("f@0 f@0 f@0 r@30 a@31 r@31 r@31 f@32", None, "usable");
        check("f@0 f@0 f@0 r@30 f@31", Some(Transition::TrialFailed { pause }), "ejected until 61");
        check("f@0 f@0 f@0 r@30 f@31 n@60 r@61 a@61", Some(Transition::Returned), "usable");
        check("f@0 f@0 f@0 r@30 r@60 n@61", None, "ejected until 90");
    }

    #[test]
    fn probes_in_a_row_decide() {
        check("p", Some(Transition::Confirmed), "usable");
        check("p p", None, "usable");
        check("x x", None, "usable");
        check("x x x", Some(Transition::Unhealthy { failures: 3 }), "unhealthy");
        check("p x x p x x", None, "usable");
        check("p x x x", Some(Transition::Unhealthy { failures: 3 }), "unhealthy");
        check("x x x x p", None, "unhealthy");
        check("x x x p x p", None, "unhealthy");
        check("x x x p p", Some(Transition::Healthy), "usable");
        check("x x x g", None, "usable");
        check("x x x n", None, "unhealthy");
    }

    #[test]
    fn probes_and_failures_work_together() {
        check("p f@0 f@0 f@0 p", None, "ejected until 30");
        check("p f@0 f@0 f@0 p p", Some(Transition::Returned), "usable");
        check("p f@0 f@0 f@0 p x p", None, "ejected until 30");
        check("p f@0 f@0 f@0 x x x p p", Some(Transition::Healthy), "usable");
        check("p f@0 f@0 f@0 x x x n@31", None, "unhealthy");
    }

    #[test]
    fn draining_by_hand_wins_and_forgets_nothing() {
        check("d", Some(Transition::Drained), "drained");
        check("d d", None, "drained");
        check("d n", None, "drained");
        check("x x x d u", Some(Transition::Undrained), "unhealthy");
        check("f@0 f@0 f@0 d u", Some(Transition::Undrained), "ejected until 30");
        check("u", None, "usable");
    }

    #[test]
    fn fails_max_zero_switches_the_passive_judge_off() {
        let limits = Limits { fails_max: 0, ..LIMITS };
        let mut state = State::default();
        let now = Instant::now();
        assert!((0..100).all(|_| state.failed(&limits, TWO_OTHERS, now).is_none()));
        assert_eq!(state.verdict(), Verdict::Usable);
    }

    #[test]
    fn a_request_sent_although_all_are_out_can_only_help() {
        check("f@0 f@0 f@0 e@1 a@1", Some(Transition::Returned), "usable");
        check("f@0 f@0 f@0 e@1 f@1", None, "ejected until 30");
        check("f@0 f@0 f@0 e@1 f@1 a@2", None, "ejected until 30");
        check(
            "f@0 f@0 f@0 r@30 e@31 f@31",
            Some(Transition::TrialFailed { pause: LIMITS.fail_timeout }),
            "ejected until 61",
        );
        check("e@0 f@0 f@0", None, "usable");
    }

    #[test]
    fn the_last_endpoint_stays_in() {
        let pause = LIMITS.fail_timeout;
        check("l@0 l@0 l@0", Some(Transition::Failing { failures: 3 }), "failing");
        check("l@0 l@0 l@0 l@1 r@1 r@1", None, "failing");
        check("l@0 l@0 l@0 a@1", Some(Transition::Recovered), "usable");
        check("l@0 l@0 l@0 a@1 l@2 l@2", None, "usable");
        check("l@0 l@0 l@0 f@5", Some(Transition::Ejected { failures: 1, pause }), "ejected until 35");
        check("s@0", None, "usable");
        check("l@0 l@0 l@0 s@1", Some(Transition::Recovered), "usable");
    }

    #[test]
    fn bad_answers_that_stand_out_take_an_endpoint_out() {
        let pause = LIMITS.fail_timeout;
        check("b@0", Some(Transition::StoodOut { percent: 50, pause }), "ejected until 30");
        check("b@0 b@1 n@29", None, "ejected until 30");
        check("b@0 r@30 a@30", Some(Transition::Returned), "usable");
        check("b@0 r@30 b@30", Some(Transition::TrialFailed { pause }), "ejected until 60");
    }

    #[test]
    fn who_fails_again_soon_after_coming_back_stays_out_longer() {
        let ejected = |pause| Some(Transition::Ejected { failures: 3, pause: Duration::from_secs(pause) });
        let once = "f@0 f@0 f@0 r@30 a@30";
        check(&format!("{once} f@40 f@40 f@40"), ejected(60), "ejected until 100");
        check(&format!("{once} f@59 f@59 f@59"), ejected(60), "ejected until 119");
        check(&format!("{once} f@60 f@60 f@60"), ejected(30), "ejected until 90");
        let twice = format!("{once} f@40 f@40 f@40 r@100 a@100");
        check(&format!("{twice} f@101 f@101 f@101"), ejected(100), "ejected until 201");
        let dead = "f@0 f@0 f@0 r@30 f@30 r@60 f@60 r@90 f@90";
        let pause = LIMITS.fail_timeout;
        check(dead, Some(Transition::TrialFailed { pause }), "ejected until 120");
    }

    #[test]
    fn transitions_read_as_the_rest_of_a_sentence() {
        let pause = Duration::from_secs(30);
        let rows = [
            (Transition::Ejected { failures: 3, pause }, "is out for 30s: 3 failures"),
            (Transition::Ejected { failures: 1, pause }, "is out for 30s: 1 failure"),
            (Transition::TrialFailed { pause }, "is out for 30s more: its trial failed"),
            (Transition::Unhealthy { failures: 3 }, "is unhealthy: 3 probes in a row failed"),
        ];
        for (transition, text) in rows {
            assert_eq!(transition.to_string(), text);
        }
    }

    proptest! {
        /// Whatever happened, an endpoint that answers once it is tried comes back, at the latest after a
        /// pause and the probes that it needs.
        #[test]
        fn a_sound_endpoint_always_comes_back(events in prop::collection::vec((0u8..6, 0u64..100), 0..200)) {
            let mut now = Instant::now();
            let mut state = State::default();
            for (event, seconds) in events {
                now += Duration::from_secs(seconds);
                match event {
                    0 => { state.failed(&LIMITS, Others { usable: usize::from(seconds % 2 == 0), out: 0 }, now); }
                    1 => { state.answered(); }
                    2 => { state.admit(now); }
                    3 => { state.probe_passed(&LIMITS); }
                    4 => { state.probe_failed(&LIMITS); }
                    _ => state.try_early(),
                }
                if let Passive::In { failures } = &state.passive {
                    prop_assert!(failures.len() < LIMITS.fails_max as usize);
                }
            }
            for _ in 0..LIMITS.healthy_after {
                state.probe_passed(&LIMITS);
            }
            now += LIMITS.fail_timeout;
            prop_assert!(state.admit(now));
            state.answered();
            prop_assert_eq!(state.verdict(), Verdict::Usable);
        }
    }
}
