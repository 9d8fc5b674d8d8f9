//! Counts by key, in the order in which they were asked for last, and never more than so many.
//!
//! A key that is new takes up to two others with it that say nothing any more. If the table is full all the same, the
//! stalest is forgotten; but one that has used more than half of its quota is passed over, so that a flood of addresses that ask
//! once each does not give a limited one its quota back. Only so many are looked at: when they are all of that kind,
//! the stalest goes. Nobody is refused because the table is full.

use std::time::Duration;

use hashbrown::HashTable;

use super::count::{Count, Standing};
use super::key::Key;

/// So many that are worth keeping are passed over for one place.
const PASSED_OVER_MAX: usize = 8;
/// So many that say nothing any more make room at a time.
const SWEPT_MAX: usize = 2;

/// After `keys_max` was lowered, no request is kept waiting by all that are beyond it.
const EVICTED_MAX: usize = 32;

/// So many places are looked at while the lock is held, when all are to be seen.
const ROWS_A_STEP: usize = 128;

/// No entry: the end of a list.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub struct Shard<C> {
    /// Those that are free are linked by `staler`, from `free` on.
    entries: Vec<Entry<C>>,
    index: HashTable<u32>,
    newest: u32,
    stalest: u32,
    free: u32,
    pub keys_max: usize,
    pub tally: Tally,
}

/// What a limit did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub allowed: u64,
    pub limited: u64,
    pub dry_run: u64,
    /// Counts that were forgotten for want of room while they still said something.
    pub evicted: u64,
}

#[derive(Debug)]
struct Entry<C> {
    key: Key,
    hash: u64,
    count: C,
    refused: u32,
    newer: u32,
    staler: u32,
}

/// One key, for whoever looks at the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub key: Key,
    pub standing: Standing,
    /// Requests refused since it is counted.
    pub refused: u32,
}

impl<C: Count> Shard<C> {
    pub fn new(keys_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            index: HashTable::new(),
            newest: NONE,
            stalest: NONE,
            free: NONE,
            keys_max,
            tally: Tally::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Where a key is; it is the newest now.
    pub fn touch(&mut self, key: Key, hash: u64) -> Option<u32> {
        let at = self.find(key, hash)?;
        if at != self.newest {
            self.unlink(at);
            self.link(at);
        }
        Some(at)
    }

    /// The count of a key, left where it is.
    pub fn look(&mut self, key: Key, hash: u64) -> Option<&mut C> {
        let at = self.find(key, hash)?;
        Some(self.count(at))
    }

    pub fn count(&mut self, at: u32) -> &mut C {
        &mut self.entry(at).count
    }

    pub fn refused(&mut self, at: u32) {
        let refused = &mut self.entry(at).refused;
        *refused = refused.saturating_add(1);
    }

    /// A key that is not there yet.
    pub fn insert(&mut self, key: Key, hash: u64, count: C, (rule, now): (&C::Rule, Duration)) {
        self.sweep(rule, now);
        for _ in 0..EVICTED_MAX {
            if self.len() < self.keys_max.max(1) {
                break;
            }
            self.evict(rule, now);
        }
        let entry = Entry { key, hash, count, refused: 0, newer: NONE, staler: NONE };
        let at = self.free;
        let at = if at == NONE {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            self.free = self.entry(at).staler;
            *self.entry(at) = entry;
            at
        };
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |at| entries[*at as usize].hash);
        self.link(at);
    }

    /// Forgets a key; false if it was not there.
    pub fn forget(&mut self, key: Key, hash: u64) -> bool {
        let found = self.find(key, hash);
        found.is_some_and(|at| {
            self.remove(at);
            true
        })
    }

    pub fn row(&mut self, key: Key, hash: u64, rule: &C::Rule, now: Duration) -> Option<Row> {
        let at = self.find(key, hash)?;
        let entry = self.entry(at);
        Some(Row { key, standing: entry.count.standing(rule, now), refused: entry.refused })
    }

    /// The keys at so many places from the first one on, in no order; where to go on, if there are more places.
    pub fn rows(&mut self, from: usize, (rule, now): (&C::Rule, Duration), rows: &mut Vec<Row>) -> Option<usize> {
        let end = self.entries.len().min(from.saturating_add(ROWS_A_STEP));
        for at in from..end {
            let Entry { key, hash, .. } = self.entries[at];
            // Places that are free have their last key still.
            if self.find(key, hash) == Some(at as u32) {
                let entry = &mut self.entries[at];
                rows.push(Row { key, standing: entry.count.standing(rule, now), refused: entry.refused });
            }
        }
        (end < self.entries.len()).then_some(end)
    }

    /// Takes out the stalest as far as they say nothing any more.
    fn sweep(&mut self, rule: &C::Rule, now: Duration) {
        for _ in 0..SWEPT_MAX {
            let at = self.stalest;
            if at == NONE || !self.entry(at).count.standing(rule, now).is_spent() {
                return;
            }
            self.remove(at);
        }
    }

    fn evict(&mut self, rule: &C::Rule, now: Duration) {
        for _ in 0..PASSED_OVER_MAX {
            let at = self.stalest;
            if !self.entry(at).count.standing(rule, now).is_worth_keeping() {
                break;
            }
            self.unlink(at);
            self.link(at);
        }
        let at = self.stalest;
        if !self.entry(at).count.standing(rule, now).is_spent() {
            self.tally.evicted += 1;
        }
        self.remove(at);
    }

    fn find(&self, key: Key, hash: u64) -> Option<u32> {
        self.index.find(hash, |at| self.entries[*at as usize].key == key).copied()
    }

    fn remove(&mut self, at: u32) {
        self.unlink(at);
        let hash = self.entry(at).hash;
        if let Ok(found) = self.index.find_entry(hash, |other| *other == at) {
            found.remove();
        }
        let free = self.free;
        let entry = self.entry(at);
        // What it holds of memory is given back.
        entry.count = C::default();
        entry.staler = free;
        self.free = at;
    }

    /// Makes it the newest.
    fn link(&mut self, at: u32) {
        let newest = self.newest;
        let entry = self.entry(at);
        (entry.newer, entry.staler) = (NONE, newest);
        match newest {
            NONE => self.stalest = at,
            newest => self.entry(newest).newer = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let entry = self.entry(at);
        let (newer, staler) = (entry.newer, entry.staler);
        match newer {
            NONE => self.newest = staler,
            newer => self.entry(newer).staler = staler,
        }
        match staler {
            NONE => self.stalest = newer,
            staler => self.entry(staler).newer = newer,
        }
    }

    /// Numbers in the index and in the lists are places in `entries`: these never shrink.
    fn entry(&mut self, at: u32) -> &mut Entry<C> {
        &mut self.entries[at as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rate_limit::window::{Log, Rule};

    const MINUTE: Duration = Duration::from_secs(60);

    /// A shard of which each key has so many requests a minute.
    struct Table {
        shard: Shard<Log>,
        rule: Rule,
    }

    impl Table {
        fn new(keys_max: usize, requests: u32) -> Self {
            Self { shard: Shard::new(keys_max), rule: Rule::new(requests, MINUTE) }
        }

        /// A request; whether it may pass.
        fn ask(&mut self, key: u128, at_s: u64) -> bool {
            let (key, hash, now) = (Key(key), key as u64, Duration::from_secs(at_s));
            match self.shard.touch(key, hash) {
                Some(at) => {
                    let count = self.shard.count(at);
                    let passes = count.wait(&self.rule, now).is_none();
                    if passes {
                        count.take(&self.rule, now);
                    }
                    passes
                }
                None => {
                    let mut count = Log::default();
                    count.take(&self.rule, now);
                    self.shard.insert(key, hash, count, (&self.rule, now));
                    true
                }
            }
        }

        /// From the newest on.
        fn keys(&mut self, at_s: u64) -> Vec<u128> {
            let (mut keys, mut at) = (Vec::new(), self.shard.newest);
            while at != NONE {
                let entry = self.shard.entry(at);
                keys.push(entry.key.0);
                at = entry.staler;
            }
            self.seen_in_steps(at_s, &keys);
            keys
        }

        /// Who goes over all places sees the same ones.
        fn seen_in_steps(&mut self, at_s: u64, keys: &[u128]) {
            let (mut rows, mut from) = (Vec::new(), Some(0));
            while let Some(at) = from {
                from = self.shard.rows(at, (&self.rule, Duration::from_secs(at_s)), &mut rows);
            }
            let mut seen: Vec<_> = rows.iter().map(|row| row.key.0).collect();
            seen.sort_unstable();
            let mut keys = keys.to_vec();
            keys.sort_unstable();
            assert_eq!(seen, keys);
        }
    }

    #[test]
    fn the_stalest_goes() {
        let mut table = Table::new(3, 10);
        for key in [1, 2, 3, 1, 4] {
            assert!(table.ask(key, 0));
        }
        assert_eq!(table.keys(0), [4, 1, 3]);
        assert_eq!(table.shard.tally.evicted, 1);
    }

    #[test]
    fn what_says_nothing_any_more_goes_first_and_uncounted() {
        let mut table = Table::new(3, 10);
        for (key, at_s) in [(1, 0), (2, 0), (3, 30), (4, 70)] {
            table.ask(key, at_s);
        }
        assert_eq!(table.keys(70), [4, 3]);
        assert_eq!(table.shard.tally.evicted, 0);
    }

    /// C6: who has used up his quota does not get it back because others ask.
    #[test]
    fn a_flood_of_addresses_does_not_give_a_limited_one_its_quota_back() {
        let mut table = Table::new(100, 2);
        for _ in 0..2 {
            assert!(table.ask(1, 0));
        }
        assert!(!table.ask(1, 0));
        for key in 2..10_000 {
            assert!(table.ask(key, 1), "nobody is refused because the table is full");
        }
        assert!(!table.ask(1, 2));
        assert_eq!((table.shard.len(), table.shard.entries.len()), (100, 100));
    }

    /// The bound holds even if all are worth keeping; then the stalest goes.
    #[test]
    fn limited_ones_without_end_are_forgotten_in_turn() {
        let mut table = Table::new(10, 1);
        for key in 0..1_000 {
            assert!(table.ask(key, 0));
            assert!(!table.ask(key, 0));
        }
        assert_eq!((table.shard.len(), table.shard.tally.evicted), (10, 990));
    }

    #[test]
    fn fewer_keys_than_before_are_reached_with_the_next_one() {
        let mut table = Table::new(10, 10);
        for key in 0..10 {
            table.ask(key, 0);
        }
        table.shard.keys_max = 4;
        table.ask(10, 0);
        assert_eq!(table.keys(0), [10, 9, 8, 7]);
    }

    proptest! {
        /// With room for all, and fewer than half of a quota used, it is a list with the last one asked in front.
        #[test]
        fn it_keeps_the_order_of_a_simple_list(
            keys_max in 1_usize..6,
            steps in prop::collection::vec((0_u128..8, any::<bool>()), 1..100),
        ) {
            let mut table = Table::new(keys_max, 1_000);
            let mut list: Vec<u128> = Vec::new();
            for (key, forgets) in steps {
                list.retain(|other| *other != key);
                if forgets {
                    table.shard.forget(Key(key), key as u64);
                } else {
                    table.ask(key, 0);
                    list.insert(0, key);
                    list.truncate(keys_max);
                }
                prop_assert_eq!(table.keys(0), list.clone());
                prop_assert_eq!(table.shard.len(), list.len());
            }
        }
    }
}
