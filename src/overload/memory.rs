//! What is done as the process nears its limits of memory. It decides; who measures and who gives memory back is
//! told what to do.
//!
//! Over the soft limit the cache gives back what is too much. Over the hard one, which it takes a flood to reach, new
//! requests are refused until there is room again.

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

/// How it stands now. Each ends a sixteenth below its limit, so that it does not change with each request.
pub fn pressure(resident: u64, limits: Limits, before: Pressure) -> Pressure {
    let end = |limit: u64, is_over: bool| if is_over { limit - limit / 16 } else { limit };
    match resident {
        resident if resident >= end(limits.hard, before == Pressure::Hard) => Pressure::Hard,
        resident if resident >= end(limits.soft, before >= Pressure::Soft) => Pressure::Soft,
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
/// and takes more in steps of a sixteenth, while memory is used to less than seven eighths of the soft limit.
pub fn capacity(resident: u64, limits: Limits, stored: Stored) -> Option<u64> {
    let Stored { bytes, capacity, configured } = stored;
    if resident >= limits.soft {
        // To below the limit, so that it is not met again by the next response.
        let excess = resident - limits.soft + limits.soft / 16;
        return Some(bytes.saturating_sub(excess)).filter(|wanted| *wanted < capacity);
    }
    let room = limits.soft - limits.soft / 8;
    let more = capacity.saturating_add(configured / 16).min(configured);
    (resident < room && capacity < configured).then_some(more)
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
        check(1600, 100, 640, Some(0));
        check(1600, 0, 0, None);
        // Nearly at the limit it stays as it is.
        check(750, 200, 250, None);
        check(600, 200, 250, Some(290));
        check(600, 200, 630, Some(640));
    }

    proptest! {
        #[test]
        fn the_capacity_is_never_more_than_configured(resident in 0u64..4000, bytes in 0u64..640, now in 0u64..=640) {
            let stored = Stored { bytes, capacity: now, configured: 640 };
            if let Some(wanted) = capacity(resident, LIMITS, stored) {
                prop_assert!(wanted <= 640 && wanted != now);
                prop_assert_eq!(wanted < now, resident >= LIMITS.soft);
            }
        }
    }
}
