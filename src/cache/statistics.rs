//! What the cache did, by route.
//!
//! Lookups are counted by each thread for itself. The rest changes only when something is stored or goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
}

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
        }
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
