//! How much went well and how much failed in the last while, counted by all workers without a lock.
//!
//! The window is cut into slots, and the oldest one is forgotten when a new one begins. Numbers read here are
//! for shares; who needs to know when each failure happened keeps the times.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SLOTS: usize = 12;

/// Which slot of time it holds, what went well and what failed, in one word, so that they change together.
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const FAILED: u64 = 1;
const ANSWERED: u64 = 1 << COUNT_BITS;
const TICK_SHIFT: u32 = 2 * COUNT_BITS;
const TICK_MAX: u64 = u64::MAX >> TICK_SHIFT;

#[derive(Debug, Default)]
pub struct Tally {
    /// The time from which slots are counted: that of the first count.
    start: OnceLock<Instant>,
    slots: [AtomicU64; SLOTS],
}

/// What a tally holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub answered: u64,
    pub failed: u64,
}

impl Counts {
    pub fn all(self) -> u64 {
        self.answered + self.failed
    }

    pub fn failed_percent(self) -> u64 {
        self.failed * 100 / self.all().max(1)
    }

    pub fn and(self, other: Self) -> Self {
        Self { answered: self.answered + other.answered, failed: self.failed + other.failed }
    }
}

impl Tally {
    pub fn count(&self, failed: bool, window: Duration, now: Instant) {
        let tick = self.tick(window, now);
        let (one, shift) = if failed { (FAILED, 0) } else { (ANSWERED, COUNT_BITS) };
        let Some(slot) = self.slots.get(tick as usize % SLOTS) else { return };
        let held = slot.load(Ordering::Relaxed);
        if held >> TICK_SHIFT != tick & TICK_MAX {
            // Whoever comes second finds the slot begun, and counts in it.
            let begun = (tick & TICK_MAX) << TICK_SHIFT;
            let _begun = slot.compare_exchange(held, begun, Ordering::Relaxed, Ordering::Relaxed);
        } else if (held >> shift) & COUNT_MAX > COUNT_MAX / 2 {
            // So many of a kind say all that there is to say, and the next bits are another number's.
            return;
        }
        slot.fetch_add(one, Ordering::Relaxed);
    }

    /// What was counted in the last `window`, up to a slot less.
    pub fn counts(&self, window: Duration, now: Instant) -> Counts {
        let tick = self.tick(window, now);
        let mut counts = Counts::default();
        for slot in &self.slots {
            let held = slot.load(Ordering::Relaxed);
            let age = tick.wrapping_sub(held >> TICK_SHIFT) & TICK_MAX;
            if age < SLOTS as u64 {
                counts.answered += (held >> COUNT_BITS) & COUNT_MAX;
                counts.failed += held & COUNT_MAX;
            }
        }
        counts
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
    }

    fn tick(&self, window: Duration, now: Instant) -> u64 {
        let start = *self.start.get_or_init(|| now);
        // Centuries of nanoseconds don't come about, and 64 bits are divided at once.
        let slot_ns = (window.as_nanos() as u64 / SLOTS as u64).max(1);
        now.saturating_duration_since(start).as_nanos() as u64 / slot_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(12);

    fn counts(answered: u64, failed: u64) -> Counts {
        Counts { answered, failed }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (tally, start) = (Tally::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        tally.count(true, WINDOW, at(0));
        tally.count(false, WINDOW, at(0));
        tally.count(false, WINDOW, at(5));
        assert_eq!(tally.counts(WINDOW, at(5)), counts(2, 1));
        assert_eq!(tally.counts(WINDOW, at(11)), counts(2, 1));
        assert_eq!(tally.counts(WINDOW, at(12)), counts(1, 0));
        tally.count(true, WINDOW, at(12));
        assert_eq!(tally.counts(WINDOW, at(16)), counts(1, 1));
        assert_eq!(tally.counts(WINDOW, at(17)), counts(0, 1));
        tally.clear();
        assert_eq!(tally.counts(WINDOW, at(17)), counts(0, 0));
    }

    #[test]
    fn a_full_slot_does_not_spill_into_its_neighbour() {
        let (tally, now) = (Tally::default(), Instant::now());
        tally.slots[0].store(COUNT_MAX << COUNT_BITS | COUNT_MAX, Ordering::Relaxed);
        tally.count(true, WINDOW, now);
        tally.count(false, WINDOW, now);
        assert_eq!(tally.counts(WINDOW, now), counts(COUNT_MAX, COUNT_MAX));
    }

    #[test]
    fn what_many_threads_count_is_summed_up() {
        let (tally, now) = (Tally::default(), Instant::now());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let tally = &tally;
                scope.spawn(move || (0..1000).for_each(|_| tally.count(thread == 0, WINDOW, now)));
            }
        });
        assert_eq!(tally.counts(WINDOW, now), counts(3000, 1000));
    }

    proptest! {
        /// Against a list of all that happened: never more than the window holds, never less than a slot less.
        #[test]
        fn the_counts_are_those_of_the_window(events in prop::collection::vec((any::<bool>(), 0u64..4_000), 1..200)) {
            let (tally, mut now) = (Tally::default(), Instant::now());
            let mut all = Vec::new();
            for (failed, pause_ms) in events {
                now += Duration::from_millis(pause_ms);
                tally.count(failed, WINDOW, now);
                all.push((now, failed));
                let within = |span: Duration| all.iter().filter(|(at, _)| now - *at < span).count() as u64;
                let found = tally.counts(WINDOW, now).all();
                prop_assert!(found <= within(WINDOW), "{found}");
                prop_assert!(found >= within(WINDOW - WINDOW / SLOTS as u32), "{found}");
            }
        }
    }
}
