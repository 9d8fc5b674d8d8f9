//! What the cache did, by route.
//!
//! Lookups are counted by each thread for itself. The rest changes only when something is stored or goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::telemetry::metrics::PerThread;

/// The counts of one route. Clones are the same; a reload hands those of a route to its successor.
#[derive(Debug, Clone, Default)]
pub struct RouteStatistics(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    lookups: PerThread<Lookups>,
    entries: AtomicU64,
    bytes: AtomicU64,
    evictions: AtomicU64,
    purged: AtomicU64,
}

#[derive(Debug, Default)]
struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
    /// Those that were timed.
    timed: AtomicU64,
    timed_ns: AtomicU64,
}

/// Of so many lookups of a thread one is timed: the clock is read twice for it, which takes about as long as looking.
const TIMED_OF: u64 = 64;

/// What was counted up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Stored now.
    pub entries: u64,
    /// Of memory that they hold.
    pub bytes: u64,
    pub hits: u64,
    pub misses: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// Entries that a hard purge took out.
    pub purged: u64,
    /// Lookups that were timed, and how long they took in all.
    pub timed: u64,
    pub timed_for: Duration,
}

impl Statistics {
    /// How long a lookup takes, if any was timed.
    pub fn lookup_time(&self) -> Option<Duration> {
        let nanoseconds = self.timed_for.as_nanos().checked_div(u128::from(self.timed))?;
        Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }
}

/// Why an entry is stored no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    Evicted,
    Purged,
    /// Another one took its place, or its owner took it back.
    Replaced,
}

impl RouteStatistics {
    pub fn hit(&self) {
        self.0.lookups.local().hits.fetch_add(1, Ordering::Relaxed);
    }

    pub fn miss(&self) {
        self.0.lookups.local().misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks, and takes the time of it now and then.
    pub fn look<T>(&self, now: fn() -> Instant, look: impl FnOnce() -> T) -> T {
        let lookups = self.0.lookups.local();
        let before = lookups.hits.load(Ordering::Relaxed) + lookups.misses.load(Ordering::Relaxed);
        if !before.is_multiple_of(TIMED_OF) {
            return look();
        }
        let begun = now();
        let looked = look();
        let took = u64::try_from(now().saturating_duration_since(begun).as_nanos()).unwrap_or(u64::MAX);
        lookups.timed.fetch_add(1, Ordering::Relaxed);
        lookups.timed_ns.fetch_add(took, Ordering::Relaxed);
        looked
    }

    pub fn read(&self) -> Statistics {
        let sum = |of: fn(&Lookups) -> &AtomicU64| {
            self.0.lookups.iter().map(|lookups| of(lookups).load(Ordering::Relaxed)).sum()
        };
        Statistics {
            entries: self.0.entries.load(Ordering::Relaxed),
            bytes: self.0.bytes.load(Ordering::Relaxed),
            hits: sum(|lookups| &lookups.hits),
            misses: sum(|lookups| &lookups.misses),
            evictions: self.0.evictions.load(Ordering::Relaxed),
            purged: self.0.purged.load(Ordering::Relaxed),
            timed: sum(|lookups| &lookups.timed),
            timed_for: Duration::from_nanos(sum(|lookups| &lookups.timed_ns)),
        }
    }

    /// Hits and misses.
    pub(super) fn lookups(&self) -> (u64, u64) {
        let counts = self.0.lookups.iter().map(|cell| (&cell.hits, &cell.misses));
        counts.fold((0, 0), |(hits, misses), (more_hits, more_misses)| {
            (hits + more_hits.load(Ordering::Relaxed), misses + more_misses.load(Ordering::Relaxed))
        })
    }

    /// Whether only the one who asks holds them: no route, and nothing that is stored.
    pub(super) fn is_left(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(super) fn enter(&self, bytes: u64) {
        self.0.entries.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn leave(&self, bytes: u64, why: Leave) {
        self.0.entries.fetch_sub(1, Ordering::Relaxed);
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        match why {
            Leave::Evicted => self.0.evictions.fetch_add(1, Ordering::Relaxed),
            Leave::Purged => self.0.purged.fetch_add(1, Ordering::Relaxed),
            Leave::Replaced => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static READ: Cell<u32> = const { Cell::new(0) };
    }

    /// A clock that goes on by a microsecond each time it is read.
    fn clock() -> Instant {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(|| crate::clock::now().into_std());
        READ.set(READ.get() + 1);
        *START + Duration::from_micros(u64::from(READ.get()))
    }

    #[test]
    fn one_lookup_of_many_is_timed() {
        let statistics = RouteStatistics::default();
        assert_eq!(statistics.read().lookup_time(), None);
        for number in 0..2 * TIMED_OF + 1 {
            assert_eq!(statistics.look(clock, || number), number);
            if number.is_multiple_of(2) { statistics.hit() } else { statistics.miss() }
        }
        assert_eq!(READ.get(), 6, "the clock is read for the first of each 64");
        let read = statistics.read();
        assert_eq!((read.timed, read.lookup_time()), (3, Some(Duration::from_micros(1))));
    }
}
