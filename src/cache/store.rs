//! Responses in memory, by key and variant.
//!
//! Owns what is stored, how much of it, and in which order it goes when memory is short. Whether a response may
//! be stored, used or served stale is decided elsewhere. Nothing here waits, or holds a lock for longer than some
//! microseconds. `count`, `finish`, `resize` and `set_capacity` go over everything and belong on a thread that may block.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, OptionsBuilder};

use super::ban_list::LiveBans;
use super::bans::{Bans, Epoch};
use super::entry::{Entry, NewEntry, Place, PlaceOf};
use super::index::Index;
use super::memory::{Memory, Reservation};
use super::slot::{Charges, Departed, Departures, Slot};
use super::statistics::Leave;
use super::variants::{Variant, Variants};
use super::vary::Selecting;
use crate::division::{Division, LimitsError, StoreLimits, admitted};
use crate::lock::lock;
use crate::overload::memory::Stored;

pub mod purging;

use purging::Sweep;

/// Entries of this size are expected: so many places are reserved, and about half as many that were evicted remembered.
const EXPECTED_ENTRY_BYTES: u64 = 4 * 1024;

/// Places for entries that are reserved at once.
const RESERVED_MAX: usize = 1 << 21;

/// Memory is given back in steps of this part, so that no lock is held for long.
const SHRINK_STEP: u64 = 64;

const LISTS: u64 = 32;

#[derive(Debug)]
pub struct Store {
    cache: Cache<Place, Slot, Charges, DefaultHashBuilder, Departures>,
    departures: Departures,
    index: Arc<Index>,
    bans: Arc<Bans>,
    /// Held by who changes the list of variants of a key, by the hash of its URL.
    lists: Box<[Mutex<()>]>,
    next_id: AtomicU64,
    sweep: Mutex<Sweep>,
    fetching: Memory,
    /// The capacity by the limits, of which memory may be given back.
    configured: AtomicU64,
    /// Held by who changes the capacity.
    capacity: Mutex<()>,
    /// The least that an entry counts for: it bounds how many there are.
    charge_min: AtomicU64,
}

/// What became of a response.
#[derive(Debug)]
pub enum Insert {
    Stored(Arc<Entry>),
    /// While it was fetched, a purge was made that it matches.
    Purged,
    /// What lay under its key stays there.
    TooLarge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resized {
    Whole,
    /// The store is divided into too many shards for the largest objects. Until a restart they are not stored.
    LargestDoNotFit,
}

/// For the status page and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub entries: usize,
    pub stored_bytes: u64,
    pub stored_bytes_max: u64,
    pub fetching_bytes: u64,
    pub fetching_bytes_max: u64,
    pub bans: LiveBans,
}

impl Store {
    pub fn new(limits: StoreLimits, cpus: usize) -> Result<Self, LimitsError> {
        let division = Division::of(limits, cpus)?;
        // quick_cache makes fewer shards than asked for if it expects fewer than 32 entries in each.
        let expected = (division.stored_bytes / EXPECTED_ENTRY_BYTES).min(limits.entries_max);
        let expected = usize::try_from(expected).unwrap_or(usize::MAX).max(division.shards * 32);
        let mut options = OptionsBuilder::new();
        options.shards(division.shards).estimated_items_capacity(expected).weight_capacity(division.stored_bytes);
        // `build` fails only where one of the two capacities was not given, and both are, right above.
        let Ok(options) = options.build() else { unreachable!("both capacities are given") };
        let index = Arc::<Index>::default();
        let departures = Departures::new(Arc::clone(&index));
        let cache = Cache::with_options(options, Charges, DefaultHashBuilder::default(), departures.clone());
        // A map that grows hashes all of its keys again under the lock. What is reserved and not used costs no memory.
        cache.reserve(expected.min(RESERVED_MAX));
        Ok(Self {
            cache,
            departures,
            index,
            bans: Bans::new(),
            lists: (0..LISTS).map(|_| Mutex::default()).collect(),
            next_id: AtomicU64::new(Place::PRIMARY + 1),
            sweep: Mutex::default(),
            fetching: Memory::new(division.fetching_bytes),
            configured: AtomicU64::new(division.stored_bytes),
            capacity: Mutex::default(),
            charge_min: AtomicU64::new(division.charge_min),
        })
    }

    /// The entry of a key. If the key has variants, the newest whose selecting fields `matches` the request.
    ///
    /// It may be stale. It is none that a hard purge took out, if that returned before this began.
    pub fn get(&self, key: &[u8], matches: impl FnMut(&Selecting) -> bool) -> Option<Arc<Entry>> {
        find(key, matches, |place| self.cache.get(place), |entry| self.live(entry))
    }

    /// What [`Store::get`] would give. Nothing becomes newer by it, and nothing goes.
    pub fn peek(&self, key: &[u8], matches: impl FnMut(&Selecting) -> bool) -> Option<Arc<Entry>> {
        find(key, matches, |place| self.cache.peek(place), |entry| self.bans.admit(&entry).then_some(entry))
    }

    /// All that is stored for a key, the newest first, left as it is.
    pub fn peek_all(&self, key: &[u8]) -> Vec<Arc<Entry>> {
        let mut all = Vec::new();
        let note = |entry: Arc<Entry>| -> Option<Arc<Entry>> {
            all.extend(self.bans.admit(&entry).then_some(entry));
            None
        };
        drop(find(key, |_| true, |place| self.cache.peek(place), note));
        all
    }

    /// To be taken before a request goes to the origin, so that a purge made meanwhile holds for the answer too.
    pub fn epoch(&self) -> Epoch {
        self.bans.epoch()
    }

    /// Stores what was fetched since `epoch`, in place of what lay under its key for the same requests.
    pub fn insert(&self, epoch: &Epoch, new: NewEntry) -> Insert {
        let charge = new.weight().max(self.charge_min.load(Ordering::Relaxed));
        if charge > self.charge_max() {
            return Insert::TooLarge;
        }
        let selecting = new.selecting.clone();
        let url = self.bans.url(new.target.host(), new.target.path_and_query());
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry::new(new, id, url, charge, epoch.number()));
        entry.route.enter(entry.weight);
        // A purge looks into the index after it is in force: it either finds the entry there or is seen here.
        self.index.insert(Arc::clone(&entry));
        if !self.bans.admit_fetched(&entry) {
            self.departures.leave(&entry, Leave::Replaced);
            return Insert::Purged;
        }
        self.put(entry.place(), Slot::Entry(Arc::clone(&entry)), &Variants::default());
        if let Some(selecting) = selecting {
            self.enlist(&entry, selecting);
        }
        // A purge that found it in the index did perhaps not find it in its place yet.
        if entry.is_dead() {
            self.remove(&entry, Leave::Purged);
            return Insert::Purged;
        }
        self.bury();
        Insert::Stored(entry)
    }

    /// Takes an entry back. Nothing happens to another one that took its place.
    pub fn withdraw(&self, entry: &Entry) {
        self.remove(entry, Leave::Replaced);
    }

    /// What is beside the stored contents themselves: bodies that are being fetched, and coded forms.
    pub fn memory(&self) -> &Memory {
        &self.fetching
    }

    /// Memory for a body that is being fetched, if there is some left.
    pub fn reserve(&self, bytes: u64) -> Option<Reservation> {
        self.fetching.reserve(bytes)
    }

    /// New limits after a reload. What fits is kept, and the memory is never exceeded.
    pub fn resize(&self, limits: StoreLimits) -> Result<Resized, LimitsError> {
        let (division, resized) = match Division::in_shards(limits, self.cache.num_shards()) {
            Err(LimitsError::ShardsTooMany { .. }) => (Division::in_shards(limits, 1)?, Resized::LargestDoNotFit),
            division => (division?, Resized::Whole),
        };
        self.charge_min.store(division.charge_min, Ordering::Relaxed);
        self.fetching.set_limit(division.fetching_bytes);
        let before = self.stored();
        self.configured.store(division.stored_bytes, Ordering::Relaxed);
        // What it has given back because memory is short, it does not get by a reload.
        let is_held = before.capacity < before.configured;
        let stored_max = if is_held { before.capacity.min(division.stored_bytes) } else { division.stored_bytes };
        self.set_capacity(stored_max);
        Ok(resized)
    }

    /// Gives memory back, or may take more, up to what is configured. The largest object that is stored gets smaller
    /// and larger with it.
    pub fn set_capacity(&self, stored_bytes: u64) {
        // A reload may have other limits meanwhile; who comes later brings about what holds.
        let _changing = lock(&self.capacity);
        let stored_bytes = stored_bytes.min(self.configured.load(Ordering::Relaxed));
        let shards = self.cache.num_shards() as u64;
        loop {
            let now = self.cache.capacity();
            let step = (now / SHRINK_STEP).max(shards);
            if now <= stored_bytes.saturating_add(step) {
                break;
            }
            self.cache.set_capacity(now - step);
            self.bury();
        }
        self.cache.set_capacity(stored_bytes);
        self.bury();
    }

    pub fn stored(&self) -> Stored {
        let configured = self.configured.load(Ordering::Relaxed);
        Stored { bytes: self.cache.weight(), capacity: self.cache.capacity(), configured }
    }

    pub fn usage(&self) -> Usage {
        Usage {
            entries: self.index.len(),
            stored_bytes: self.cache.weight(),
            stored_bytes_max: self.cache.capacity(),
            fetching_bytes: self.fetching.used_bytes(),
            fetching_bytes_max: self.fetching.limit_bytes(),
            bans: self.bans.live_bans(),
        }
    }

    /// What the heaviest entry may count for.
    fn charge_max(&self) -> u64 {
        admitted(self.cache.capacity(), self.cache.num_shards())
    }

    fn live(&self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        if self.bans.admit(&entry) {
            return Some(entry);
        }
        self.remove(&entry, Leave::Purged);
        None
    }

    fn remove(&self, entry: &Entry, why: Leave) {
        drop(self.cache.remove_if(&entry.place_of(), |slot| slot.is(entry.id)));
        self.departures.leave(entry, why);
        if entry.variant != Place::PRIMARY {
            self.delist(entry);
        }
    }

    fn enlist(&self, entry: &Entry, selecting: Arc<Selecting>) {
        let _changing = self.list(entry);
        let variants = self.variants(entry).unwrap_or_default().with(Variant { selecting, id: entry.id });
        self.set_variants(entry, variants);
    }

    fn delist(&self, entry: &Entry) {
        let _changing = self.list(entry);
        if let Some(variants) = self.variants(entry).and_then(|variants| variants.without(entry.id)) {
            self.set_variants(entry, variants);
        }
    }

    fn variants(&self, entry: &Entry) -> Option<Arc<Variants>> {
        match self.cache.peek(&PlaceOf { variant: Place::PRIMARY, ..entry.place_of() })? {
            Slot::Variants(variants) => Some(variants),
            Slot::Entry(_) => None,
        }
    }

    fn set_variants(&self, entry: &Entry, variants: Variants) {
        let place = PlaceOf { variant: Place::PRIMARY, ..entry.place_of() };
        if variants.is_empty() {
            // Only the list: a response for every request may have taken its place.
            let is_list = |slot: &Slot| matches!(slot, Slot::Variants(_));
            drop(self.cache.remove_if(&place, is_list));
        } else {
            let variants = Arc::new(variants);
            // A key of its own: that of the entry would hold what is stored under it.
            let place = Place { key: place.key.into(), variant: place.variant };
            self.put(place, Slot::Variants(Arc::clone(&variants)), &variants);
        }
    }

    fn put(&self, place: Place, slot: Slot, kept: &Variants) {
        let mut departed = Departed::default();
        self.cache.insert_with_lifecycle(place.clone(), slot, &mut departed);
        departed.replaced(&place, kept);
    }

    /// Removes entries whose list is gone.
    fn bury(&self) {
        for (place, why) in self.departures.take_orphans() {
            if let Some((_, Slot::Entry(entry))) = self.cache.remove(&PlaceOf::from(&place)) {
                self.departures.leave(&entry, why);
            }
        }
    }

    fn list(&self, entry: &Entry) -> MutexGuard<'_, ()> {
        lock(&self.lists[(entry.url % LISTS) as usize])
    }
}

/// The entry of a key, of those that are `live`; of its variants the first that `matches`.
fn find(
    key: &[u8],
    mut matches: impl FnMut(&Selecting) -> bool,
    slot: impl Fn(&PlaceOf<'_>) -> Option<Slot>,
    mut live: impl FnMut(Arc<Entry>) -> Option<Arc<Entry>>,
) -> Option<Arc<Entry>> {
    match slot(&PlaceOf { key, variant: Place::PRIMARY })? {
        Slot::Entry(entry) => live(entry),
        Slot::Variants(variants) => variants.iter().filter(|variant| matches(&variant.selecting)).find_map(|variant| {
            match slot(&PlaceOf { key, variant: variant.id })? {
                Slot::Entry(entry) => live(entry),
                Slot::Variants(_) => None,
            }
        }),
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
