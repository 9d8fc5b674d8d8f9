//! A stored response with what the store knows of it.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quick_cache::Equivalent;

use super::key::Key;
use super::statistics::RouteStatistics;
use super::stored::Stored;
use super::tags::Tags;
use super::target::Target;
use super::vary::Selecting;
use crate::division::ENTRY_OVERHEAD_BYTES;

/// What `Store::insert` is given.
#[derive(Debug)]
pub struct NewEntry {
    /// What `Vary` says of the request. None: the response is for every request of the key.
    pub selecting: Option<Arc<Selecting>>,
    pub target: Target,
    pub tags: Tags,
    pub route: RouteStatistics,
    pub stored: Arc<Stored>,
}

/// It never changes, but for what purges did to it. What a hit looks at comes first.
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    pub stored: Arc<Stored>,
    /// The newest purge that it was held against, or `DEAD`.
    tested: AtomicU64,
    /// Milliseconds since 1970, or `NEVER`.
    stale_since_ms: AtomicU64,
    pub target: Target,
    pub tags: Tags,
    pub route: RouteStatistics,
    pub(super) id: u64,
    /// The part of its place that is not its key.
    pub(super) variant: u64,
    /// Of its host, path and query, by which the index finds it.
    pub(super) url: u64,
    /// What it holds in bytes.
    pub(super) weight: u64,
    /// What it counts for in the store.
    pub(super) charge: u64,
    /// The purge after which its fetch began.
    pub(super) born: u64,
    listed: AtomicBool,
}

/// It matched a hard purge. Real numbers of purges begin above.
const DEAD: u64 = 0;
const NEVER: u64 = u64::MAX;

impl NewEntry {
    pub(super) fn weight(&self) -> u64 {
        let selecting = self.selecting.as_ref().map_or(0, |selecting| selecting.weight());
        self.stored.weight() + self.target.weight() + self.tags.weight() + selecting + ENTRY_OVERHEAD_BYTES
    }
}

impl Entry {
    /// Born at `epoch`: when its fetch began, it had been held against all purges up to this one.
    pub(super) fn new(new: NewEntry, id: u64, url: u64, charge: u64, epoch: u64) -> Self {
        let weight = new.weight();
        let variant = if new.selecting.is_some() { id } else { Place::PRIMARY };
        Self {
            stored: new.stored,
            target: new.target,
            tags: new.tags,
            route: new.route,
            id,
            variant,
            url,
            weight,
            charge,
            born: epoch,
            tested: AtomicU64::new(epoch),
            stale_since_ms: AtomicU64::new(NEVER),
            listed: AtomicBool::new(true),
        }
    }

    pub(super) fn place(&self) -> Place {
        Place { key: self.stored.key.clone(), variant: self.variant }
    }

    pub(super) fn place_of(&self) -> PlaceOf<'_> {
        PlaceOf { key: self.stored.key.borrow(), variant: self.variant }
    }

    /// The soft purge since which it counts as stale, whatever its lifetime.
    pub fn stale_since(&self) -> Option<SystemTime> {
        match self.stale_since_ms.load(Ordering::Relaxed) {
            NEVER => None,
            ms => Some(UNIX_EPOCH + Duration::from_millis(ms)),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.tested() == DEAD
    }

    /// Acquires what was marked before it was set.
    pub(super) fn tested(&self) -> u64 {
        self.tested.load(Ordering::Acquire)
    }

    /// Whether it was this caller who ended it.
    pub(super) fn kill(&self) -> bool {
        self.tested.swap(DEAD, Ordering::AcqRel) != DEAD
    }

    /// The same, if nobody tested it meanwhile.
    pub(super) fn kill_if(&self, tested: u64) -> bool {
        self.advance(tested, DEAD)
    }

    /// False if somebody else tested it meanwhile.
    pub(super) fn advance(&self, tested: u64, newest: u64) -> bool {
        self.tested.compare_exchange(tested, newest, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub(super) fn mark_stale(&self, since: SystemTime) {
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let since_ms = u64::try_from(since).unwrap_or(NEVER).min(NEVER - 1);
        self.stale_since_ms.fetch_min(since_ms, Ordering::Relaxed);
    }

    /// True for the first who asks: it is he who takes it from the index and the counts.
    pub(super) fn unlist(&self) -> bool {
        self.listed.swap(false, Ordering::AcqRel)
    }
}

/// Where an entry lies: under its key, or as one of several variants beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub key: Key,
    /// The number of the entry, or `PRIMARY`.
    pub variant: u64,
}

impl Place {
    pub const PRIMARY: u64 = 0;

    pub fn key_length(&self) -> u64 {
        let key: &[u8] = self.key.borrow();
        key.len() as u64
    }
}

/// A place by the bytes of its key, for lookups without an allocation.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct PlaceOf<'a> {
    pub key: &'a [u8],
    pub variant: u64,
}

impl<'a> From<&'a Place> for PlaceOf<'a> {
    fn from(place: &'a Place) -> Self {
        Self { key: place.key.borrow(), variant: place.variant }
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        PlaceOf::from(self).hash(state);
    }
}

impl Equivalent<Place> for PlaceOf<'_> {
    fn equivalent(&self, place: &Place) -> bool {
        self.variant == place.variant && self.key == Borrow::<[u8]>::borrow(&place.key)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// With the counts of references before it, which are 16 bytes.
    #[test]
    fn what_a_hit_looks_at_is_in_one_line() {
        assert!(16 + offset_of!(Entry, stale_since_ms) + 8 <= 64);
    }
}
