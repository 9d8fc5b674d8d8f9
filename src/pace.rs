//! How fast a peer has to be while it is waited for.
//!
//! Only the time counts in which the peer is what is waited for: one that is quick, or whose other side is slow, is
//! not judged at all. In that time it may be silent for no longer than a limit, and in each window of that length it
//! has to move as much as the lowest rate asks for; the first window is its grace. Windows, and not an average from the
//! beginning as Apache's `MinRate` has it: who was quick at first wins no time to be slow in.

use std::time::Duration;

/// Looks at a peer within one window, so that it is noticed a quarter late at most.
const LOOKS: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// A peer that moves nothing for so long is given up. A window is as long.
    pub silence: Duration,
    /// Bytes a second; 0: any byte is enough.
    pub rate_min: u64,
}

impl Terms {
    /// Any byte is enough.
    pub fn of_silence(silence: Duration) -> Self {
        Self { silence, rate_min: 0 }
    }

    /// The time of waiting between two looks.
    pub fn step(&self) -> Duration {
        self.silence / LOOKS
    }
}

/// Why a peer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stalled {
    #[error("the peer moves nothing")]
    Silent,
    #[error("the peer is too slow")]
    TooSlow,
}

/// What is known of a peer from earlier looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    moved: i64,
    silent_for: Duration,
    window: Duration,
    window_began_at: i64,
}

impl Pace {
    /// Looks at a peer that was waited for `waited` since the last look. What it has `moved` in all is counted from
    /// anywhere.
    pub fn look(&mut self, moved: i64, waited: Duration, terms: &Terms) -> Result<(), Stalled> {
        self.silent_for = if moved == self.moved { self.silent_for + waited } else { Duration::ZERO };
        self.moved = moved;
        self.window += waited;
        if self.silent_for >= terms.silence {
            return Err(Stalled::Silent);
        }
        if self.window >= terms.silence {
            let came = u128::try_from(moved.saturating_sub(self.window_began_at)).unwrap_or_default();
            if came * 1000 < u128::from(terms.rate_min) * self.window.as_millis() {
                return Err(Stalled::TooSlow);
            }
            self.window = Duration::ZERO;
            self.window_began_at = moved;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms { silence: Duration::from_secs(12), rate_min: 256 };

    /// The verdict on a peer that moves so much between looks, and after how long.
    fn judged(steps: impl IntoIterator<Item = i64>, terms: &Terms) -> (Result<(), Stalled>, Duration) {
        let (mut pace, mut moved, mut waited) = (Pace::default(), 0, Duration::ZERO);
        for step in steps {
            moved += step;
            waited += terms.step();
            let verdict = pace.look(moved, terms.step(), terms);
            if verdict.is_err() {
                return (verdict, waited);
            }
        }
        (Ok(()), waited)
    }

    #[track_caller]
    fn check(steps: impl IntoIterator<Item = i64>, verdict: Result<(), Stalled>, after_s: u64) {
        assert_eq!(judged(steps, &TERMS), (verdict, Duration::from_secs(after_s)));
    }

    #[test]
    fn a_peer_is_silent_too_slow_or_neither() {
        use Stalled::*;
        check([0; 9], Err(Silent), 12);
        check([1; 9], Err(TooSlow), 12);
        check([768; 100], Ok(()), 300);
        check([767; 9], Err(TooSlow), 12);
        check([3072, 0, 0, 0, 0, 0, 0, 0], Err(Silent), 15);
        // Much at first wins no time.
        check([1 << 40, 1, 1, 1, 1, 1, 1, 1, 1], Err(TooSlow), 24);
        // Late in a window is in time.
        check([0, 0, 0, 3072].repeat(10), Ok(()), 120);
        // What is counted may begin below zero.
        check([-500, 768, 768, 768 + 768 + 500].into_iter().chain([768; 8]), Ok(()), 36);
    }

    #[test]
    fn without_a_rate_any_byte_is_enough() {
        let terms = Terms::of_silence(Duration::from_secs(12));
        assert_eq!(judged([0, 0, 0, 1].repeat(50), &terms).0, Ok(()));
        assert_eq!(judged([1, 0, 0, 0, 0], &terms), (Err(Stalled::Silent), Duration::from_secs(15)));
    }

    proptest! {
        /// Whoever brings the least in each step is never given up, and whoever brings less than that in all of them always
        /// is.
        #[test]
        fn the_rate_is_what_decides(rate_min in 1u64..100_000, silence_ms in 400u64..60_000, extra in prop::collection::vec(0i64..5000, 0..60)) {
            let terms = Terms { silence: Duration::from_millis(silence_ms / 4 * 4), rate_min };
            let least = i64::try_from((u128::from(rate_min) * terms.step().as_millis()).div_ceil(1000)).unwrap();
            prop_assert_eq!(judged(extra.iter().map(|more| least + more), &terms).0, Ok(()));
            prop_assert_ne!(judged([(least - 1).max(0); 4].map(|step| step / 2), &terms).0, Ok(()));
        }
    }
}
