//! When a purge takes effect: at once, on what is stored and on what is being fetched.
//!
//! A purge becomes a ban with a number. Each entry knows the newest ban that it was held against, so a hit compares
//! two numbers, and only after a purge once looks at the bans that are newer. A fetch knows the number at which
//! it began: what it brings was perhaps made before a later purge and is held against that one too.
//! A ban is forgotten when a sweep has held all entries against it, and no older fetch is under way.
//!
//! There is a bound for their number; beyond it everything older counts as purged.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use quick_cache::DefaultHashBuilder;

use super::ban_list::{Ban, BanList, Candidate, FIRST, Fate, LiveBans, Matched};
use super::entry::Entry;
use super::purge::Purge;
use super::target::Target;
use crate::lock::lock;

#[derive(Debug)]
pub struct Bans {
    hasher: DefaultHashBuilder,
    /// Of the last purge.
    clock: AtomicU64,
    /// Of the last purge that entries have to be held against when they are asked for.
    newest: AtomicU64,
    /// A sweep has held all entries against the bans up to here.
    swept: AtomicU64,
    list: RwLock<BanList>,
    /// How many fetches began at which number.
    fetches: Mutex<BTreeMap<u64, usize>>,
}

/// When a fetch began. While it lives, no ban is forgotten that what it brings must be held against.
#[derive(Debug)]
pub struct Epoch {
    number: u64,
    bans: Arc<Bans>,
}

impl Bans {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            hasher: DefaultHashBuilder::default(),
            clock: AtomicU64::new(FIRST),
            newest: AtomicU64::new(FIRST),
            swept: AtomicU64::new(FIRST),
            list: RwLock::default(),
            fetches: Mutex::default(),
        })
    }

    /// To be taken before the request goes to the origin, and kept until its answer is stored.
    pub fn epoch(self: &Arc<Self>) -> Epoch {
        let mut fetches = self.fetches();
        // Under the lock: a purge that looks for older fetches sees this one, or has its number set before.
        let number = self.clock();
        *fetches.entry(number).or_default() += 1;
        Epoch { number, bans: Arc::clone(self) }
    }

    /// Whether a stored entry may still be used.
    pub fn admit(&self, entry: &Entry) -> bool {
        entry.tested() >= self.newest() || self.test(entry, false)
    }

    /// Whether an entry that was fetched may be stored. It has to be in the index already: then a purge that comes
    /// after this finds it there.
    pub fn admit_fetched(&self, entry: &Entry) -> bool {
        self.test(entry, true)
    }

    /// In force when this returns. With `direct`, entries of URLs are taken out by the caller, by `url` of their host.
    pub fn publish(&self, purge: &Purge, direct: bool) -> Ban {
        let mut list = self.write();
        self.make_room(&mut list, purge);
        let number = self.clock() + 1;
        // Before it looks for fetches: one that begins later has this number, and needs no ban.
        self.clock.store(number, Ordering::Release);
        let ban = Ban { number, matched: Matched::default(), is_done: direct };
        if !direct || self.oldest_fetch().is_some_and(|oldest| oldest < number) {
            list.add(purge, &ban);
        }
        if !direct {
            self.newest.store(number, Ordering::Release);
        }
        ban
    }

    /// The number of the newest purge.
    pub fn clock(&self) -> u64 {
        self.clock.load(Ordering::Acquire)
    }

    /// Whether what a fetch for this target brings may be purged already; it began at `born`, and its tags are not known.
    pub fn may_concern(&self, target: &Target, born: u64) -> bool {
        born < self.clock() && self.read().may_concern(target, born)
    }

    /// What a sweep that begins now will have held all entries against.
    pub fn goal(&self) -> u64 {
        // Under the lock, so that the ban of this number is in its place.
        let _list = self.read();
        self.clock()
    }

    /// A sweep that began with this goal has seen all entries.
    pub fn set_swept(&self, goal: u64) {
        self.swept.fetch_max(goal, Ordering::Release);
        self.forget();
    }

    pub fn swept(&self) -> u64 {
        self.swept.load(Ordering::Acquire)
    }

    /// Whether a sweep has nothing to do.
    pub fn is_swept(&self) -> bool {
        self.swept() >= self.newest()
    }

    /// Forgets bans that nobody needs any more.
    pub fn forget(&self) {
        if self.live_bans() != LiveBans::default() {
            self.forget_unneeded(&mut self.write());
        }
    }

    pub fn live_bans(&self) -> LiveBans {
        self.read().len()
    }

    /// The hash of host, path and query, for the index.
    pub fn url(&self, host: &str, path_and_query: &str) -> u64 {
        self.hasher.hash_one((host, path_and_query))
    }

    fn test(&self, entry: &Entry, is_fetched: bool) -> bool {
        loop {
            let tested = entry.tested();
            if entry.is_dead() {
                return false;
            }
            // A sweep may have met it in the index, and held it against what is for stored entries alone.
            let since = if is_fetched { entry.born } else { tested };
            let (fate, newest) = {
                let list = self.read();
                let candidate = Candidate { target: &entry.target, tags: &entry.tags, tested: since, is_fetched };
                (list.fate(candidate), self.newest().max(tested))
            };
            let (passes, met) = match fate {
                Fate::Dies(by) if entry.kill_if(tested) => (false, by.into_iter().collect()),
                Fate::Dies(_) => continue,
                Fate::Lives => (true, Vec::new()),
                Fate::Stale { since, by } => {
                    // Before the number, so that whoever sees that sees this.
                    entry.mark_stale(since);
                    (true, by)
                }
            };
            if !passes || entry.advance(tested, newest) {
                // What was not stored yet is none that the purge met.
                if !is_fetched {
                    met.iter().for_each(|matched| _ = matched.fetch_add(1, Ordering::Relaxed));
                }
                return passes;
            }
        }
    }

    /// Forgets what nobody needs. If that is not enough, fetches that began before the bans that were swept lose the
    /// right to be stored; and if that is not enough either, nobody sweeps, and everything older counts as purged.
    fn make_room(&self, list: &mut BanList, purge: &Purge) {
        if !list.has_room(purge) {
            self.forget_unneeded(list);
        }
        if !list.has_room(purge) {
            list.forget_for_fetches(self.swept());
        }
        if !list.has_room(purge) {
            list.forget_all(self.newest(), self.clock());
        }
    }

    fn forget_unneeded(&self, list: &mut BanList) {
        list.forget(self.swept(), self.oldest_fetch().unwrap_or(u64::MAX));
    }

    /// The number at which it began.
    fn oldest_fetch(&self) -> Option<u64> {
        self.fetches().keys().next().copied()
    }

    fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    fn read(&self) -> RwLockReadGuard<'_, BanList> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BanList> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken after the list, where both are.
    fn fetches(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        lock(&self.fetches)
    }
}

impl Epoch {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        let mut fetches = self.bans.fetches();
        if let Some(count) = fetches.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                fetches.remove(&self.number);
            }
        }
    }
}
