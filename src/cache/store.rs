//! Responses in memory, by key and variant.
//!
//! Owns what is stored, how much of it, and in which order it goes when memory is short. Whether a response may
//! be stored, used or served stale is decided elsewhere. Nothing here waits or does work for longer than
//! some microseconds, except `count` and `finish`, which go over everything and belong on a thread that may block.

use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use thiserror::Error;

use super::bans::{Ban, Bans, Epoch, LiveBans};
use super::entry::{Entry, NewEntry, Place, PlaceOf};
use super::index::{Cursor, Index};
use super::limits::{Division, ENTRY_OVERHEAD_BYTES, LimitsError, StoreLimits, admitted};
use super::memory::{Memory, Reservation};
use super::purge::{Mode, Purge, What};
use super::statistics::Leave;
use super::variants::{Variant, Variants};

/// Entries that are taken from the index under one lock.
const BATCH: usize = 64;

/// With more entries of one URL, they are not taken out by the caller but as they are asked for, and by a sweep.
const DIRECT_MAX: usize = 256;

/// Entries of this size are expected, for the number of those that quick_cache remembers having evicted.
const EXPECTED_ENTRY_BYTES: u64 = 4 * 1024;

/// Memory is given back in steps of this share, so that no lock is held for long.
const SHRINK_STEP: u64 = 64;

#[derive(Debug)]
pub struct Store {
    cache: Cache<Place, Slot, Charges, DefaultHashBuilder, Departures>,
    index: Arc<Index>,
    bans: Arc<Bans>,
    departed: Arc<Departed>,
    /// Held by who changes the list of variants of a key, by the hash of its URL.
    lists: [Mutex<()>; 32],
    ids: AtomicU64,
    sweep: Mutex<Sweep>,
    fetching: Memory,
    weight_min: AtomicU64,
}

/// What became of a response.
#[derive(Debug)]
pub enum Insert {
    Stored(Arc<Entry>),
    /// While it was fetched, a purge was made that it matches.
    Purged,
    /// What lay under its key stays.
    TooLarge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do until the next purge.
    Idle,
    More,
}

/// For the status page and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub entries: usize,
    pub stored_bytes: u64,
    pub stored_bytes_max: u64,
    pub fetching_bytes: u64,
    pub bans: LiveBans,
}

#[derive(Debug, Clone)]
enum Slot {
    Entry(Arc<Entry>),
    /// Under the key alone; the entries lie beside it.
    Variants(Arc<Variants>),
}

#[derive(Debug, Default)]
struct Sweep {
    cursor: Cursor,
    /// The newest ban when it began; None between two sweeps.
    goal: Option<u64>,
}

impl Store {
    pub fn new(limits: StoreLimits, cpus: usize) -> Result<Self, LimitsError> {
        let division = Division::of(limits, cpus)?;
        let shards = division.shards as u64;
        // quick_cache makes fewer shards than asked for if it expects fewer than 32 entries in each.
        let expected = (division.stored_bytes / EXPECTED_ENTRY_BYTES).min(limits.entries_max).max(shards * 32);
        unimplemented!()
    }
}
