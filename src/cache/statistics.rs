//! What the cache did, by route.
//!
//! Lookups are counted by each thread for itself. The rest changes only when something is stored or goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Role;
use crate::telemetry::metrics::{PerThread, ShortSum, ShortTimes};

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
    all: AtomicU64,
    timed: ShortTimes,
    /// Requests that are over, by what the cache was to them.
    roles: [AtomicU64; Role::ALL.len()],
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
    /// Requests by what the cache was to them, in the order of [`Role::ALL`].
    pub roles: [u64; Role::ALL.len()],
    /// Entries that made room for others.
    pub evictions: u64,
    /// Entries that a hard purge took out.
    pub purged: u64,
    /// Of the lookups that were timed.
    pub lookups: ShortSum,
}

impl Statistics {
    /// How long a lookup takes, if any was timed.
    pub fn lookup_time(&self) -> Option<Duration> {
        self.lookups.mean()
    }

    /// Requests that were answered by what was stored.
    pub fn hits(&self) -> u64 {
        self.of(&[Role::Hit, Role::Stale])
    }

    /// Requests that had to wait for the origin.
    pub fn misses(&self) -> u64 {
        self.of(&[Role::Miss, Role::Validated, Role::Collapsed])
    }

    fn of(&self, roles: &[Role]) -> u64 {
        roles.iter().map(|role| self.roles[*role as usize]).sum()
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
    /// A request is over.
    pub fn count(&self, role: Role) {
        self.0.lookups.local().roles[role as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Looks, and takes the time of it now and then.
    pub fn look<T>(&self, now: fn() -> Instant, look: impl FnOnce() -> T) -> T {
        let lookups = self.0.lookups.local();
        if !lookups.all.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIMED_OF) {
            return look();
        }
        let begun = now();
        let looked = look();
        lookups.timed.count(now().saturating_duration_since(begun));
        looked
    }

    pub fn read(&self) -> Statistics {
        let (mut roles, mut timed) = ([0; Role::ALL.len()], ShortSum::default());
        for lookups in self.0.lookups.iter() {
            roles.iter_mut().zip(&lookups.roles).for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
            timed.add(&lookups.timed);
        }
        Statistics {
            entries: self.0.entries.load(Ordering::Relaxed),
            bytes: self.0.bytes.load(Ordering::Relaxed),
            roles,
            evictions: self.0.evictions.load(Ordering::Relaxed),
            purged: self.0.purged.load(Ordering::Relaxed),
            lookups: timed,
        }
    }

    /// Requests that the cache answered, and those that had to wait for the origin.
    pub(super) fn lookups(&self) -> (u64, u64) {
        let read = self.read();
        (read.hits(), read.misses())
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
        }
        assert_eq!(READ.get(), 6, "the clock is read for the first of each 64");
        let read = statistics.read();
        assert_eq!((read.lookups.count(), read.lookup_time()), (3, Some(Duration::from_micros(1))));
    }

    #[test]
    fn requests_by_what_the_cache_was_to_them() {
        let statistics = RouteStatistics::default();
        for (index, role) in Role::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| statistics.count(role));
        }
        let read = statistics.read();
        assert_eq!((read.roles, read.hits(), read.misses()), ([1, 2, 3, 4, 5, 6], 1 + 2, 3 + 4 + 5));
    }
}
