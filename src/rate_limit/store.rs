//! The counts of one limit, for all workers: shards of keys, each behind a short lock.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::count::{Count, Standing};
use super::key::Key;
use super::shard::{Row, Shard, Tally};
use crate::lock::lock;

/// Enough that workers seldom meet.
const SHARDS: usize = 16;
/// A shard is worth having for so many keys; with fewer, all keys are in one order.
const SHARD_KEYS_MIN: usize = 64;

#[derive(Debug)]
pub struct Store<C: Count> {
    rule: C::Rule,
    shards: Box<[Mutex<Shard<C>>]>,
    hasher: RandomState,
}

/// What became of a request by one limit.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// How long it has to wait, if it may not pass.
    pub wait: Option<Duration>,
    /// Afterwards.
    pub standing: Standing,
}

impl<C: Count> Store<C> {
    pub fn new(rule: C::Rule, keys_max: usize) -> Self {
        let shards = if keys_max < SHARDS * SHARD_KEYS_MIN { 1 } else { SHARDS };
        let shard = || Mutex::new(Shard::new(keys_max.div_ceil(shards)));
        Self { rule, shards: (0..shards).map(|_| shard()).collect(), hasher: RandomState::new() }
    }

    /// Decides on a request. `rest` is asked, while the lock is held, whether it passes all other limits; it is told
    /// whether it passes this one. It is counted if it passes them all.
    ///
    /// Whoever takes further locks in `rest` must take them in an order that is the same everywhere.
    pub fn admit(&self, key: Key, now: Duration, is_dry_run: bool, rest: impl FnOnce(bool) -> bool) -> Seen {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let found = shard.touch(key, hash);
        // A key that is not there yet gets a place once it is counted: to be refused elsewhere costs nobody his.
        let mut first = C::default();
        let count = found.map_or(&mut first, |at| shard.count(at));
        let wait = count.wait(&self.rule, now);
        let passes_all = rest(wait.is_none());
        if wait.is_none() && passes_all {
            count.take(&self.rule, now);
        }
        let standing = count.standing(&self.rule, now);
        match wait {
            None if passes_all => shard.tally.allowed += 1,
            None => {}
            Some(_) if is_dry_run => shard.tally.dry_run += 1,
            Some(_) => shard.tally.limited += 1,
        }
        match found {
            Some(at) if wait.is_some() => shard.refused(at),
            None if passes_all => shard.insert(key, hash, first, (&self.rule, now)),
            _ => {}
        }
        Seen { wait, standing }
    }

    pub fn set_keys_max(&self, keys_max: usize) {
        let keys_max = keys_max.div_ceil(self.shards.len());
        self.shards().for_each(|mut shard| shard.keys_max = keys_max);
    }

    /// How many keys there are, and what was done.
    pub fn totals(&self) -> (usize, Tally) {
        self.shards().fold((0, Tally::default()), |(keys, sum), shard| {
            let Tally { allowed, limited, dry_run, evicted } = shard.tally;
            let sum = Tally {
                allowed: sum.allowed + allowed,
                limited: sum.limited + limited,
                dry_run: sum.dry_run + dry_run,
                evicted: sum.evicted + evicted,
            };
            (keys + shard.len(), sum)
        })
    }

    /// One key; nothing if it has not been seen lately.
    pub fn row(&self, key: Key, now: Duration) -> Option<Row> {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).row(key, hash, &self.rule, now)
    }

    /// A key that was never seen.
    pub fn untouched(&self, now: Duration) -> Standing {
        C::default().standing(&self.rule, now)
    }

    /// Every key. It goes over all there are, and holds up nobody for longer than a few of them take. So a key that
    /// comes or goes meanwhile may be seen or not, and seldom twice.
    pub fn each(&self, now: Duration, mut look: impl FnMut(Row)) {
        let mut rows = Vec::new();
        for shard in &self.shards {
            let mut from = Some(0);
            while let Some(at) = from {
                from = lock(shard).rows(at, (&self.rule, now), &mut rows);
                rows.drain(..).for_each(&mut look);
            }
        }
    }

    /// Forgets a key; false if it was not there.
    pub fn forget(&self, key: Key) -> bool {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).forget(key, hash)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<C>> {
        // The table takes the low bits for its places and the highest seven for its marks.
        let at = (hash >> 40) as usize % self.shards.len();
        lock(&self.shards[at])
    }

    fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard<C>>> {
        self.shards.iter().map(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::window::{Log, Rule};

    const NOW: Duration = Duration::ZERO;

    fn store(requests: u32, keys_max: usize) -> Store<Log> {
        Store::new(Rule::new(requests, Duration::from_secs(60)), keys_max)
    }

    #[test]
    fn what_another_limit_refuses_is_not_counted_and_takes_no_place() {
        let store = store(2, 10);
        for _ in 0..5 {
            let seen = store.admit(Key(1), NOW, false, |_| false);
            assert_eq!((seen.wait, seen.standing.remaining), (None, 2));
        }
        assert_eq!(store.totals(), (0, Tally::default()));
        store.admit(Key(1), NOW, false, |_| true);
        assert_eq!(store.admit(Key(1), NOW, false, |_| false).standing.remaining, 1);
        assert_eq!(store.totals(), (1, Tally { allowed: 1, ..Tally::default() }));
    }

    #[test]
    fn what_is_done_is_counted() {
        let store = store(1, 10);
        assert!(store.admit(Key(1), NOW, false, |passes| passes).wait.is_none());
        assert!(store.admit(Key(1), NOW, false, |passes| passes).wait.is_some());
        assert!(store.admit(Key(1), NOW, true, |_| true).wait.is_some());
        assert_eq!(store.totals(), (1, Tally { allowed: 1, limited: 1, dry_run: 1, evicted: 0 }));
        assert_eq!(store.row(Key(1), NOW).unwrap().refused, 2);
        assert!(store.forget(Key(1)) && !store.forget(Key(1)));
        assert!(store.admit(Key(1), NOW, false, |passes| passes).wait.is_none());
    }

    /// C6: the table is bounded, over all of its shards.
    #[test]
    fn keys_are_bounded_over_all_shards() {
        let store = store(10, 2_000);
        for key in 0..10_000 {
            store.admit(Key(key), NOW, false, |passes| passes);
        }
        let (keys, tally) = store.totals();
        assert_eq!((keys, tally.evicted), (2_000, 8_000));
        store.set_keys_max(1_600);
        for key in 10_000..12_000 {
            store.admit(Key(key), NOW, false, |passes| passes);
        }
        assert_eq!(store.totals().0, 1_600);
    }

    /// Who looks at all holds up nobody: in the middle of it the shard that is looked at is free.
    #[test]
    fn whoever_looks_at_all_keys_lets_others_ask_meanwhile() {
        let store = store(10, 10_000);
        for key in 0..5_000 {
            store.admit(Key(key), NOW, false, |passes| passes);
        }
        let mut seen = 0;
        store.each(NOW, |row| {
            assert!(store.shards.iter().all(|shard| shard.try_lock().is_ok()));
            assert!(store.admit(row.key, NOW, false, |passes| passes).wait.is_none());
            seen += 1;
        });
        assert_eq!(seen, 5_000);
    }

    #[test]
    fn threads_share_one_count() {
        let store = store(1_000, 10);
        let passed: usize = std::thread::scope(|scope| {
            let ask = || (0..1_000).filter(|_| store.admit(Key(1), NOW, false, |passes| passes).wait.is_none()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1_000);
    }
}
