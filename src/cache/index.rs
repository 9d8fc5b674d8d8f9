//! All entries by host, path and query: what a purge of one place needs, and what a walk over everything goes along.
//!
//! quick_cache cannot be walked in bounded steps: looking for the next entry it passes all places that are
//! empty under one lock, and after a purge of a million entries that is all of them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use super::entry::Entry;
use crate::lock::lock;

const STRIPES: u64 = 32;

/// By the hash of host, path and query, and then by number.
type Stripe = BTreeMap<(u64, u64), Arc<Entry>>;

#[derive(Debug)]
pub struct Index(Box<[Mutex<Stripe>]>);

/// How far a walk came.
#[derive(Debug, Default)]
pub struct Cursor {
    stripe: usize,
    after: Option<(u64, u64)>,
}

impl Index {
    pub fn insert(&self, entry: Arc<Entry>) {
        self.stripe(entry.url).insert((entry.url, entry.id), entry);
    }

    pub fn remove(&self, entry: &Entry) {
        // The entry is dropped after the lock.
        let _removed = self.stripe(entry.url).remove(&(entry.url, entry.id));
    }

    /// At most `max` entries whose host, path and query have this hash, by number, from the one after `after`.
    pub fn of_url(&self, url: u64, after: u64, max: usize) -> Vec<Arc<Entry>> {
        let range = (Bound::Excluded((url, after)), Bound::Included((url, u64::MAX)));
        self.stripe(url).range(range).take(max).map(|(_, entry)| Arc::clone(entry)).collect()
    }

    /// The next entries of a walk, at most `max`; none when it is over. What is inserted meanwhile may be left out.
    pub fn next(&self, cursor: &mut Cursor, max: usize) -> Vec<Arc<Entry>> {
        while let Some(stripe) = self.0.get(cursor.stripe) {
            let from = cursor.after.map_or(Bound::Unbounded, Bound::Excluded);
            let next: Vec<_> =
                lock(stripe).range((from, Bound::Unbounded)).take(max).map(|(_, entry)| Arc::clone(entry)).collect();
            match next.last() {
                Some(last) => {
                    cursor.after = Some((last.url, last.id));
                    return next;
                }
                None => *cursor = Cursor { stripe: cursor.stripe + 1, after: None },
            }
        }
        Vec::new()
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|stripe| lock(stripe).len()).sum()
    }

    fn stripe(&self, url: u64) -> MutexGuard<'_, Stripe> {
        lock(&self.0[(url % STRIPES) as usize])
    }
}

impl Default for Index {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::default()).collect())
    }
}
