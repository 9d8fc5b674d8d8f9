//! Decides whether a statement is sent again, and after what pause. It is told the time, and never waits itself.

use std::time::{Duration, Instant};

/// A fault that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The database cannot be reached.
    Away,
    /// Others are in the way.
    Busy,
}

/// Whether a transaction may run a second time after a commit whose outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// A second run after a successful first changes nothing more, and gives the same result.
    Safe,
    /// A second run could do it twice.
    UnlessCommitted,
}

const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Short against the recovery that is to be noticed, long against a try of a connection.
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// The attempts of one statement or transaction.
#[derive(Debug)]
pub struct Retry {
    until: Instant,
    next: Duration,
}

impl Retry {
    pub fn new(patience: Duration, now: Instant) -> Self {
        Self { until: now + patience, next: PAUSE_MIN }
    }

    /// How long to wait before the next attempt; none if there is to be no other.
    pub fn pause(&mut self, fault: Option<Fault>, now: Instant) -> Option<Duration> {
        let _may_pass = fault?;
        let left = self.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let pause = self.next.min(left);
        self.next = (2 * self.next).min(PAUSE_MAX);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_patience() {
        let begin = Instant::now();
        let mut now = begin;
        let mut retry = Retry::new(Duration::from_millis(1000), begin);
        let mut pauses = Vec::new();
        while let Some(pause) = retry.pause(Some(Fault::Away), now) {
            now += pause;
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 320, 50]);
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        let now = Instant::now();
        assert_eq!(Retry::new(Duration::from_secs(1), now).pause(None, now), None);
    }
}
