//! Slow start: an endpoint that was added or came back gets its share little by little, so that its caches and
//! connections can fill. This module is told the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::least_connections::Load;

/// What a weight of 1 is worth: shares are whole numbers, and those of endpoints that begin are parts of a weight.
pub const WHOLE: u32 = 1024;

/// Whether an endpoint has its whole share, is to begin, or when it began, in milliseconds of its own time.
#[derive(Debug, Default)]
pub struct Warmth(AtomicU64);

const WARM: u64 = 0;
const COLD: u64 = u64::MAX;

impl Warmth {
    pub fn begin(&self) {
        self.0.store(COLD, Ordering::Relaxed);
    }

    /// How long it has been in, if that is less than `ramp`: from the first choice on in which it took part. `now`
    /// counts from anywhere.
    pub fn age(&self, now: Duration, ramp: Duration) -> Option<Duration> {
        let begun_ms = match self.0.load(Ordering::Relaxed) {
            WARM => return None,
            COLD => {
                let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).clamp(WARM + 1, COLD - 1);
                self.0.store(ms, Ordering::Relaxed);
                ms
            }
            ms => ms,
        };
        let age = now.saturating_sub(Duration::from_millis(begun_ms));
        if age < ramp {
            return Some(age);
        }
        self.0.store(WARM, Ordering::Relaxed);
        None
    }
}

impl Clone for Warmth {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

/// The share of an endpoint that has been in for `age`, of the `ramp` that it takes.
pub fn share(weight: u32, age: Duration, ramp: Duration) -> u32 {
    let full = weight.max(1).saturating_mul(WHOLE);
    if age >= ramp {
        return full;
    }
    let part = u128::from(full) * age.as_nanos() / ramp.as_nanos().max(1);
    u32::try_from(part).unwrap_or(full).max(1)
}

/// An idle endpoint that begins has the least to do of all, whatever its share is, and would get each request. So it
/// is left to its turns, which are as many as its share of the sum. Some: it is its turn. Those that are not idle are
/// compared by [`least_connections`](super::least_connections), where the share has its part.
pub fn turn_of_beginner<T: Copy>(candidates: impl Iterator<Item = (T, Load)> + Clone, turn: usize) -> Option<T> {
    let total: u64 = candidates.clone().map(|(_, load)| u64::from(load.share)).sum();
    let mut position = (turn as u64).wrapping_mul(WHOLE.into()) % total.max(1);
    for (candidate, load) in candidates {
        match position.checked_sub(load.share.into()) {
            None => return load.is_idle_beginner().then_some(candidate),
            Some(rest) => position = rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_in_a_straight_line() {
        let ramp = Duration::from_secs(10);
        let check = |weight: u32, age_ms: u64, expected: u32| {
            assert_eq!(share(weight, Duration::from_millis(age_ms), ramp), expected, "{weight} after {age_ms} ms");
        };
        check(1, 0, 1);
        check(1, 1_000, 102);
        check(1, 5_000, 512);
        check(1, 9_999, 1023);
        check(1, 10_000, 1024);
        check(1, 60_000, 1024);
        check(3, 5_000, 1536);
        check(0, 10_000, 1024);
        assert_eq!(share(2, Duration::ZERO, Duration::ZERO), 2048);
    }

    #[test]
    fn an_idle_beginner_gets_its_turns() {
        let load = |in_flight, share, begins| Load { in_flight, share, begins };
        let all = [load(5, 1024, false), load(0, 256, true), load(5, 1024, false)];
        let turns = 2304;
        let candidates = || all.into_iter().enumerate();
        let found = (0..turns).filter_map(|turn| turn_of_beginner(candidates(), turn)).collect::<Vec<_>>();
        assert_eq!((found.len(), found.iter().all(|&index| index == 1)), (256, true));
        let busy = [load(5, 1024, false), load(1, 256, true)];
        assert!((0..turns).all(|turn| turn_of_beginner(busy.into_iter().enumerate(), turn).is_none()));
        assert_eq!(turn_of_beginner(std::iter::empty::<(usize, Load)>(), 3), None);
    }
}
