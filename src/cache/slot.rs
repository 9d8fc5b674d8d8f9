//! What quick_cache holds for the store, what it counts for, and what happens when it goes.

use std::mem;
use std::sync::{Arc, Mutex};

use quick_cache::{Lifecycle, Weighter};

use super::entry::{Entry, Place};
use super::index::Index;
use super::statistics::Leave;
use super::variants::Variants;
use crate::division::ENTRY_OVERHEAD_BYTES;
use crate::lock::lock;

#[derive(Debug, Clone)]
pub enum Slot {
    Entry(Arc<Entry>),
    /// Under the key alone; the entries lie beside it.
    Variants(Arc<Variants>),
}

/// What each slot counts for, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Charges;

/// Takes what quick_cache evicts out of the index and the counts.
#[derive(Debug, Clone)]
pub struct Departures {
    index: Arc<Index>,
    /// Entries that no list of variants names any more, and why: nobody finds them.
    orphans: Arc<Mutex<Vec<(Place, Leave)>>>,
}

/// What one operation put out. It is dropped after the lock of the shard is given back.
#[derive(Debug, Default)]
pub struct Departed {
    slots: Vec<(Place, Slot)>,
    departures: Option<Departures>,
}

impl Slot {
    pub fn is(&self, id: u64) -> bool {
        matches!(self, Self::Entry(entry) if entry.id == id)
    }
}

impl Weighter<Place, Slot> for Charges {
    fn weight(&self, place: &Place, slot: &Slot) -> u64 {
        match slot {
            Slot::Entry(entry) => entry.charge,
            Slot::Variants(variants) => variants.weight() + place.key_length() + ENTRY_OVERHEAD_BYTES,
        }
    }
}

impl Lifecycle<Place, Slot> for Departures {
    type RequestState = Departed;

    // Against its documentation, quick_cache 0.7 calls this for what is replaced, too. The store relies on it.
    fn on_evict(&self, departed: &mut Departed, place: Place, slot: Slot) {
        departed.departures.get_or_insert_with(|| self.clone());
        departed.slots.push((place, slot));
    }
}

impl Departures {
    pub fn new(index: Arc<Index>) -> Self {
        Self { index, orphans: Arc::default() }
    }

    pub fn leave(&self, entry: &Entry, why: Leave) {
        if entry.unlist() {
            self.index.remove(entry);
            entry.route.leave(entry.weight, why);
        }
    }

    /// Entries that are to be removed by whoever comes along next.
    pub fn take_orphans(&self) -> Vec<(Place, Leave)> {
        mem::take(&mut *lock(&self.orphans))
    }

    fn depart(&self, place: Place, slot: Slot, why: Leave, kept: &Variants) {
        match slot {
            Slot::Entry(entry) => self.leave(&entry, why),
            Slot::Variants(variants) => {
                let left = variants.iter().filter(|variant| !kept.contains(variant.id));
                let places = left.map(|variant| (Place { key: place.key.clone(), variant: variant.id }, why));
                lock(&self.orphans).extend(places);
            }
        }
    }
}

impl Departed {
    /// Tells what was put in at `place`, with these variants: what lay there was replaced and not evicted.
    pub fn replaced(mut self, place: &Place, kept: &Variants) {
        let Some(departures) = self.departures.take() else { return };
        for (gone, slot) in mem::take(&mut self.slots) {
            let why = if gone == *place { Leave::Replaced } else { Leave::Evicted };
            let kept = if gone == *place { kept } else { &Variants::default() };
            departures.depart(gone, slot, why, kept);
        }
    }
}

impl Drop for Departed {
    fn drop(&mut self) {
        let Some(departures) = self.departures.take() else { return };
        for (place, slot) in mem::take(&mut self.slots) {
            departures.depart(place, slot, Leave::Evicted, &Variants::default());
        }
    }
}
