//! What is done as the process nears its limits of memory. It decides; who measures and who gives memory back is
//! told what to do.
//!
//! Over the soft limit the cache gives back what is too much. Over the hard one, which it takes a flood to reach, new
//! requests are refused until there is room again. Memory is measured now and then, so what may happen in between is
//! decided with each look: the cache may store no more than is left to the soft limit, and the faster memory grows the
//! sooner is the next look.

use std::time::Duration;

/// Between two looks at the memory that is used, as long as it hardly grows.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same, at its fastest.
const LOOK_SOONEST: Duration = Duration::from_millis(20);

/// Resident bytes of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Pressure {
    #[default]
    None,
    /// Over the soft limit.
    Soft,
    /// Over the hard one.
    Hard,
}

impl Pressure {
    /// As `as u8` gave it.
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Soft,
            _ => Self::Hard,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

impl Limits {
    /// Where each pressure begins or, while it is there, ends: a sixteenth below its limit, so that it does not change with
    /// each request.
    pub fn in_force(self, pressure: Pressure) -> Self {
        let of = |limit: u64, is_over: bool| if is_over { limit - limit / 16 } else { limit };
        Self { soft: of(self.soft, pressure >= Pressure::Soft), hard: of(self.hard, pressure == Pressure::Hard) }
    }
}

/// How it stands now.
pub fn pressure(resident: u64, limits: Limits, before: Pressure) -> Pressure {
    let Limits { soft, hard } = limits.in_force(before);
    match resident {
        resident if resident >= hard => Pressure::Hard,
        resident if resident >= soft => Pressure::Soft,
        _ => Pressure::None,
    }
}

/// What the cache has and what it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub bytes: u64,
    pub capacity: u64,
    /// By the config.
    pub configured: u64,
}

/// The capacity that the cache is to have from now on, if it is another one. It gives back what is too much at once,
/// and has no more than is left to the soft limit, or it would be full before the next look. It takes more in steps of a
/// sixteenth, while memory is used to less than seven eighths of the soft limit. A little it always has: a cache of nothing
/// forgets what was asked for often.
pub fn capacity(resident: u64, limits: Limits, stored: Stored) -> Option<u64> {
    let Stored { bytes, capacity, configured } = stored;
    let least = configured / 64;
    if resident >= limits.soft {
        // To below the limit, so that it is not met again by the next response.
        let excess = resident - limits.soft + limits.soft / 16;
        return Some(bytes.saturating_sub(excess).max(least)).filter(|wanted| *wanted < capacity);
    }
    let most = bytes.saturating_add(limits.soft - resident).min(configured).max(least);
    // A little less is not worth going over all shards.
    if most.saturating_add(least) < capacity {
        return Some(most);
    }
    let room = limits.soft - limits.soft / 8;
    let more = capacity.saturating_add(configured / 16).min(most);
    (resident < room && more > capacity).then_some(more)
}

/// When to look again: before memory that has grown by so much since the last look, so long ago, could meet a limit that
/// it has not met yet.
pub fn next_look(resident: u64, limits: Limits, (grown, since): (u64, Duration)) -> Duration {
    let next = [limits.soft, limits.hard].into_iter().find(|limit| *limit > resident);
    let Some(left) = next.map(|limit| limit - resident) else { return LOOK_EVERY };
    let nanoseconds = since.as_nanos() * u128::from(left) / u128::from(grown.max(1)) / 2;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).clamp(LOOK_SOONEST, LOOK_EVERY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { soft: 800, hard: 1600 };

    #[test]
    fn pressure_ends_a_sixteenth_below_its_limit() {
        for (resident, before, after) in [
            (799, Pressure::None, Pressure::None),
            (800, Pressure::None, Pressure::Soft),
            (1599, Pressure::Soft, Pressure::Soft),
            (1600, Pressure::Soft, Pressure::Hard),
            (1500, Pressure::Hard, Pressure::Hard),
            (1499, Pressure::Hard, Pressure::Soft),
            (799, Pressure::Soft, Pressure::Soft),
            (749, Pressure::Soft, Pressure::None),
            (10, Pressure::Hard, Pressure::None),
        ] {
            assert_eq!(pressure(resident, LIMITS, before), after, "{resident} after {before:?}");
        }
    }

    #[track_caller]
    fn check(resident: u64, bytes: u64, capacity_now: u64, expected: Option<u64>) {
        let stored = Stored { bytes, capacity: capacity_now, configured: 640 };
        assert_eq!(capacity(resident, LIMITS, stored), expected, "{resident} resident, {bytes} of {capacity_now}");
    }

    #[test]
    fn the_cache_gives_back_what_is_too_much_and_takes_it_again_in_steps() {
        check(500, 400, 640, None);
        check(900, 400, 640, Some(250));
        // It has nothing left to give.
        check(1600, 100, 640, Some(10));
        check(1600, 10, 10, None);
        // Nearly at the limit it stays as it is.
        check(750, 200, 250, None);
        check(600, 200, 250, Some(290));
        check(300, 200, 630, Some(640));
    }

    #[test]
    fn the_cache_has_no_more_than_is_left_to_the_limit() {
        check(600, 200, 640, Some(400));
        check(600, 200, 400, None);
        check(600, 200, 390, Some(400));
        check(100, 0, 640, None);
        check(700, 0, 640, Some(100));
        // Hardly more than is left.
        check(600, 200, 405, None);
    }

    #[test]
    fn the_faster_memory_grows_the_sooner_is_the_next_look() {
        let check = |resident, grown, since_ms, expected_ms| {
            let since = Duration::from_millis(since_ms);
            let found = next_look(resident, LIMITS, (grown, since));
            assert_eq!(found.as_millis(), expected_ms, "{grown} more in {since_ms} ms, now {resident}");
        };
        check(100, 0, 500, 500);
        check(100, 100, 500, 500);
        // 400 are left, which takes 400 ms.
        check(400, 500, 500, 200);
        check(700, 500, 500, 50);
        check(700, 50, 50, 50);
        check(799, 500, 500, 20);
        // The soft limit is met, the hard one is next.
        check(900, 500, 500, 350);
        check(2000, 500, 500, 500);
    }

    proptest! {
        #[test]
        fn a_full_cache_stays_within_what_is_configured_and_left(
            resident in 0u64..4000, bytes in 0u64..640, now in 0u64..=640,
        ) {
            let stored = Stored { bytes, capacity: now, configured: 640 };
            let wanted = capacity(resident, LIMITS, stored);
            prop_assert!(wanted.is_none_or(|wanted| wanted <= 640 && wanted != now));
            let filled = resident + wanted.unwrap_or(now).saturating_sub(bytes);
            prop_assert!(filled <= LIMITS.soft.max(resident) + 640 / 64 || wanted.unwrap_or(now) == 0, "{filled}");
        }
    }
}
