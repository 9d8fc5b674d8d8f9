//! Purges of the store, and the sweep that works them off.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Store, lock};
use crate::cache::ban_list::{Ban, LiveBans};
use crate::cache::entry::Entry;
use crate::cache::index::Cursor;
use crate::cache::purge::{Mode, Purge, What};
use crate::cache::statistics::Leave;
use crate::cache::target::Target;

/// Entries that are taken from the index under one lock.
pub(super) const BATCH: usize = 64;

/// Taking an entry out, with the memory that is given back, takes longer than looking at so many.
const LOOKS: usize = 16;

/// Between two batches. What workers have allocated is given back here, under locks that they allocate under, on a core
/// that they may want.
const PAUSE: Duration = Duration::from_micros(500);

/// URLs of one purge, and entries of one URL, that are taken out at once by the caller. More go as they are asked for,
/// and by a sweep.
const DIRECT_URLS_MAX: usize = 16;
pub(super) const DIRECT_ENTRIES_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do until the next purge.
    Idle,
    More,
}

#[derive(Debug, Default)]
pub(super) struct Sweep {
    cursor: Cursor,
    /// The newest ban when it began; None between two sweeps.
    goal: Option<u64>,
}

impl Store {
    /// In force when this returns. For single URLs of one host, the entries are out as well.
    pub fn purge(&self, purge: &Purge) -> Ban {
        let urls = self.direct(purge);
        let ban = self.bans.publish(purge, urls.is_some());
        for url in urls.into_iter().flatten() {
            self.take_out(url, purge, &ban);
        }
        ban
    }

    /// The number of the newest purge.
    pub fn newest_purge(&self) -> u64 {
        self.bans.clock()
    }

    /// Whether what a fetch for `target` brings may have been purged since it began, after the purge `born`. Its tags are
    /// not known yet, so any that were purged may be its own. The epoch of the fetch has to be there still.
    pub fn may_be_purged(&self, target: &Target, born: u64) -> bool {
        self.bans.may_concern(target, born)
    }

    /// How many entries a purge took out or made stale, once all have been held against it.
    pub fn matched(&self, ban: &Ban) -> Option<u64> {
        (ban.is_done || self.bans.swept() >= ban.number).then(|| ban.matched.load(Ordering::Relaxed))
    }

    /// Goes over what is stored until all has been held against a purge. Several may do so at the same time.
    pub fn finish(&self, ban: &Ban) -> u64 {
        loop {
            if let Some(matched) = self.matched(ban) {
                return matched;
            }
            self.sweep(BATCH);
            std::thread::sleep(PAUSE);
        }
    }

    /// How many entries a purge would match now.
    pub fn count(&self, purge: &Purge) -> u64 {
        let mut cursor = Cursor::default();
        let mut count = 0;
        loop {
            let batch = self.index.next(&mut cursor, BATCH);
            if batch.is_empty() {
                return count;
            }
            let met = batch.iter().filter(|entry| purge.matches(&entry.target, &entry.tags) && self.bans.admit(entry));
            count += met.count() as u64;
        }
    }

    /// Whether a sweep has something to do, or to forget.
    pub fn has_purges(&self) -> bool {
        !self.bans.is_swept() || self.bans.live_bans() != LiveBans::default()
    }

    /// Holds the next entries against the purges in force and takes out what they match: about `budget` of them, or so many
    /// that looking takes as long. When it has been over all of them, purges that nobody needs are forgotten.
    pub fn sweep(&self, budget: usize) -> Progress {
        self.bury();
        let mut sweep = lock(&self.sweep);
        let goal = match sweep.goal {
            Some(goal) => goal,
            None if self.bans.is_swept() => {
                self.bans.forget();
                return Progress::Idle;
            }
            None => {
                *sweep = Sweep::default();
                *sweep.goal.insert(self.bans.goal())
            }
        };
        let mut left = budget.saturating_mul(LOOKS);
        while left > 0 {
            let batch = self.index.next(&mut sweep.cursor, BATCH.min(left.div_ceil(LOOKS)));
            if batch.is_empty() {
                sweep.goal = None;
                self.bans.set_swept(goal);
                return if self.bans.is_swept() { Progress::Idle } else { Progress::More };
            }
            let met: Vec<_> = batch.iter().filter(|entry| !self.bans.admit(entry)).collect();
            left = left.saturating_sub(batch.len() + met.len() * (LOOKS - 1));
            met.into_iter().for_each(|entry| self.remove(entry, Leave::Purged));
        }
        Progress::More
    }

    /// Entries of these URLs, if they are few, are taken out at once.
    fn direct(&self, purge: &Purge) -> Option<Vec<u64>> {
        let host = purge.host.as_deref()?;
        let url = |what: &What| match what {
            What::Url(url) => Some(self.bans.url(host, url)),
            _ => None,
        };
        let urls: Vec<_> = purge.what.iter().map(url).collect::<Option<_>>()?;
        let is_few = |url: &u64| self.index.of_url(*url, 0, DIRECT_ENTRIES_MAX + 1).len() <= DIRECT_ENTRIES_MAX;
        (urls.len() <= DIRECT_URLS_MAX && urls.iter().all(is_few)).then_some(urls)
    }

    fn take_out(&self, url: u64, purge: &Purge, ban: &Ban) {
        let mut after = 0;
        loop {
            let batch = self.index.of_url(url, after, BATCH);
            let Some(last) = batch.last() else { return };
            after = last.id;
            // Fetches that began after the purge are not meant, and neither are others with the same hash.
            let meant = |entry: &&Arc<Entry>| {
                entry.born < ban.number && !entry.is_dead() && purge.matches(&entry.target, &entry.tags)
            };
            for entry in batch.iter().filter(meant) {
                match purge.mode {
                    Mode::Soft(since) => entry.mark_stale(since),
                    Mode::Hard if !entry.kill() => continue,
                    Mode::Hard => self.remove(entry, Leave::Purged),
                }
                ban.matched.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
