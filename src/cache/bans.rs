//! When a purge takes effect: at once, on what is stored and on what is being fetched.
//!
//! A purge becomes a ban with a number. Each entry knows the newest ban that it was held against, so a hit compares
//! two numbers, and only after a purge once looks at the bans that are newer. A fetch knows the number at which
//! it began: what it brings was perhaps made before a later purge and is held against that one too.
//! A ban is forgotten when a sweep has held all entries against it, and no older fetch is under way.
//!
//! Bans of one name are found by its hash, so a thousand purged tags cost an entry as much as one. Those with `*`
//! are tried one by one. There is a bound for both; beyond it everything older counts as purged.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::SystemTime;

use quick_cache::DefaultHashBuilder;

use super::entry::Entry;
use super::purge::{Mode, Purge, What};
use super::tags::{Label, Tags};
use super::target::Target;

/// Bans of one name.
const EXACT_MAX: usize = 16 * 1024;
/// Others.
const WIDE_MAX: usize = 1024;

/// The number of the first ban is above; 0 is for what is dead.
const FIRST: u64 = 1;

#[derive(Debug)]
pub struct Bans {
    hasher: DefaultHashBuilder,
    /// Of the last purge.
    clock: AtomicU64,
    /// Of the last purge that entries have to be held against when they are asked for.
    newest: AtomicU64,
    /// A sweep has held all entries against the bans up to here.
    swept: AtomicU64,
    live: RwLock<Live>,
    /// How many fetches began at which number.
    fetches: Mutex<BTreeMap<u64, usize>>,
}

/// When a fetch began. While it lives, no ban is forgotten that what it brings must be held against.
#[derive(Debug)]
pub struct Epoch {
    number: u64,
    bans: Arc<Bans>,
}

/// A purge that is in force.
#[derive(Debug, Clone)]
pub struct Ban {
    pub(super) number: u64,
    pub(super) matched: Matched,
    /// Its entries were taken out at once; nothing is left for a sweep.
    pub(super) is_done: bool,
}

/// How many entries a purge met.
pub(super) type Matched = Arc<AtomicU64>;

/// How many bans there are, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveBans {
    pub exact: usize,
    pub wide: usize,
}

#[derive(Debug, Default)]
struct Live {
    /// By the hash of what they ban.
    exact: HashMap<u64, Exact>,
    /// The oldest first.
    wide: Vec<Wide>,
    /// Of the newest purge by tag or group.
    newest_by_label: u64,
    /// A fetch that is older brings nothing that is stored.
    fetch_floor: u64,
    /// An entry that was last held against an older ban counts as purged.
    entry_floor: u64,
}

#[derive(Debug)]
struct Exact {
    /// The newest hard purge, or 0.
    hard: u64,
    /// The newest soft purge, and since when the entries are stale: of several the earliest.
    soft: Option<(u64, SystemTime)>,
    /// Stored entries are out already; only those that come are held against it.
    is_for_fetches: bool,
    matched: Matched,
}

#[derive(Debug)]
struct Wide {
    number: u64,
    host: Option<Box<str>>,
    what: What,
    mode: Mode,
    matched: Matched,
}

/// What becomes of an entry.
#[derive(Debug)]
enum Fate {
    Lives,
    Stale { since: SystemTime, by: Vec<Matched> },
    Dies(Option<Matched>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Stored,
    Fetched,
}

impl Bans {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            hasher: DefaultHashBuilder::default(),
            clock: AtomicU64::new(FIRST),
            newest: AtomicU64::new(FIRST),
            swept: AtomicU64::new(FIRST),
            live: RwLock::default(),
            fetches: Mutex::default(),
        })
    }

    /// To be taken before the request goes to the origin, and kept until its answer is stored.
    pub fn epoch(self: &Arc<Self>) -> Epoch {
        let mut fetches = self.fetches();
        // Under the lock: a purge that looks for older fetches sees this one, or has its number set before.
        let number = self.clock.load(Ordering::Acquire);
        *fetches.entry(number).or_default() += 1;
        Epoch { number, bans: Arc::clone(self) }
    }

    /// Whether a stored entry may still be used.
    pub fn admit(&self, entry: &Entry) -> bool {
        entry.tested() >= self.newest() || self.test(entry, Subject::Stored)
    }

    /// Whether an entry that was fetched may be stored. It has to be in the index already: then a purge that comes
    /// after this finds it there.
    pub fn admit_fetched(&self, entry: &Entry) -> bool {
        self.test(entry, Subject::Fetched)
    }

    /// In force when this returns. With `direct`, entries of URLs are taken out by the caller, by `url` of their host.
    pub fn publish(&self, purge: &Purge, direct: bool) -> Ban {
        let mut live = self.live();
        self.make_room(&mut live, purge.what.len());
        let number = self.clock.load(Ordering::Relaxed) + 1;
        self.clock.store(number, Ordering::Release);
        let has_fetches = self.fetches().keys().next().is_some_and(|oldest| *oldest < number);
        let ban = Ban { number, matched: Matched::default(), is_done: direct };
        let host = purge.host.as_deref();
        for what in &purge.what {
            if matches!(what, What::All | What::Tag(_) | What::Group(_)) {
                live.newest_by_label = number;
            }
            match self.exact(host, what) {
                Some(_) if direct && !has_fetches => {}
                Some(hash) => live.add_exact(hash, purge.mode, &ban),
                None => live.wide.push(Wide {
                    number,
                    host: purge.host.clone(),
                    what: what.clone(),
                    mode: purge.mode,
                    matched: Arc::clone(&ban.matched),
                }),
            }
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

    /// Whether what a fetch brings that began at `born` may be purged already. Its tags are not known yet, so any of
    /// those purged since may be its own.
    pub fn may_concern(&self, target: &Target, born: u64) -> bool {
        if born >= self.clock() {
            return false;
        }
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let floor = live.fetch_floor.max(live.entry_floor);
        let first = live.wide.partition_point(|ban| ban.number <= born);
        let tags = Tags::default();
        born < floor
            || born < live.newest_by_label
            || live.wide.iter().skip(first).any(|ban| ban.matches(target, &tags))
            || self.names(target, &tags).any(|hash| live.exact.get(&hash).is_some_and(|ban| ban.number() > born))
    }

    /// What a sweep that begins now will have held all entries against.
    pub fn goal(&self) -> u64 {
        // Under the lock, so that the ban of this number is in its place.
        let _live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        self.clock.load(Ordering::Relaxed)
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
            self.forget_unneeded(&mut self.live());
        }
    }

    pub fn live_bans(&self) -> LiveBans {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        LiveBans { exact: live.exact.len(), wide: live.wide.len() }
    }

    /// The hash of host, path and query, for the index.
    pub fn url(&self, host: &str, path_and_query: &str) -> u64 {
        self.hasher.hash_one(('u', Some(host), path_and_query))
    }

    fn test(&self, entry: &Entry, subject: Subject) -> bool {
        loop {
            let tested = entry.tested();
            let (fate, newest) = {
                let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
                (self.fate(&live, entry, tested, subject), self.newest().max(tested))
            };
            let (passes, met) = match fate {
                Fate::Dies(by) if entry.kill_if(tested) => (false, by.into_iter().collect()),
                Fate::Dies(_) if entry.is_dead() => return false,
                Fate::Dies(_) => continue,
                Fate::Lives => (true, Vec::new()),
                Fate::Stale { since, by } => {
                    // Before the number, so that whoever sees that sees this.
                    entry.mark_stale(since);
                    (true, by)
                }
            };
            if !passes || entry.advance(tested, newest) {
                if subject == Subject::Stored {
                    met.iter().for_each(|matched| _ = matched.fetch_add(1, Ordering::Relaxed));
                }
                return passes;
            }
        }
    }

    fn fate(&self, live: &Live, entry: &Entry, tested: u64, subject: Subject) -> Fate {
        let floor = match subject {
            Subject::Stored => live.entry_floor,
            Subject::Fetched => live.fetch_floor.max(live.entry_floor),
        };
        if tested < floor.max(FIRST) {
            return Fate::Dies(None);
        }
        let mut stale: Option<SystemTime> = None;
        let mut by: Vec<Matched> = Vec::new();
        let mut soft = |since: SystemTime, matched: &Matched| {
            stale = Some(stale.map_or(since, |stale| stale.min(since)));
            if !by.iter().any(|other| Arc::ptr_eq(other, matched)) {
                by.push(Arc::clone(matched));
            }
        };
        if !live.exact.is_empty() {
            for hash in self.names(&entry.target, &entry.tags) {
                let Some(ban) = live.exact.get(&hash) else { continue };
                if ban.is_for_fetches && subject == Subject::Stored {
                    continue;
                }
                if ban.hard > tested {
                    return Fate::Dies(Some(Arc::clone(&ban.matched)));
                }
                if let Some((_, since)) = ban.soft.filter(|(number, _)| *number > tested) {
                    soft(since, &ban.matched);
                }
            }
        }
        let first = live.wide.partition_point(|ban| ban.number <= tested);
        for ban in live.wide.iter().skip(first).filter(|ban| ban.matches(&entry.target, &entry.tags)) {
            match ban.mode {
                Mode::Hard => return Fate::Dies(Some(Arc::clone(&ban.matched))),
                Mode::Soft(since) => soft(since, &ban.matched),
            }
        }
        stale.map_or(Fate::Lives, |since| Fate::Stale { since, by })
    }

    /// All that an exact ban of this response can be called.
    fn names(&self, target: &Target, tags: &Tags) -> impl Iterator<Item = u64> {
        let host = target.host();
        let both =
            move |kind: char, name: &str| [None, Some(host)].map(|host| self.hasher.hash_one((kind, host, name)));
        let labels = tags.iter().flat_map(move |label| {
            let group = matches!(label, Label::Group(_)).then(|| both('g', label.name()));
            both('t', label.name()).into_iter().chain(group.into_iter().flatten())
        });
        both('u', target.path_and_query()).into_iter().chain(labels)
    }

    /// What `names` calls it, if it bans one name.
    fn exact(&self, host: Option<&str>, what: &What) -> Option<u64> {
        let (kind, name) = match what {
            What::Url(url) => ('u', &**url),
            What::Tag(pattern) => ('t', pattern.exact()?),
            What::Group(name) => ('g', &**name),
            What::All | What::Prefix(_) | What::Path(_) => return None,
        };
        Some(self.hasher.hash_one((kind, host, name)))
    }

    /// Forgets what nobody needs. If that is not enough, fetches that began before the bans that were swept lose the
    /// right to be stored; and if that is not enough either, nobody sweeps, and everything older counts as purged.
    fn make_room(&self, live: &mut Live, more: usize) {
        if live.has_room(more) {
            return;
        }
        self.forget_unneeded(live);
        if live.has_room(more) {
            return;
        }
        let swept = self.swept();
        live.fetch_floor = live.fetch_floor.max(live.forget(swept, u64::MAX));
        if live.has_room(more) {
            return;
        }
        let fetch_floor = self.clock.load(Ordering::Relaxed);
        *live = Live { fetch_floor, entry_floor: self.newest(), ..Live::default() };
    }

    fn forget_unneeded(&self, live: &mut Live) {
        let oldest = self.fetches().keys().next().copied().unwrap_or(u64::MAX);
        live.forget(self.swept(), oldest);
    }

    fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    fn live(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken after `live`, where both are.
    fn fetches(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn has_room(&self, more: usize) -> bool {
        self.exact.len() + more <= EXACT_MAX && self.wide.len() + more <= WIDE_MAX
    }

    fn add_exact(&mut self, hash: u64, mode: Mode, ban: &Ban) {
        let is_for_fetches = ban.is_done;
        let matched = Arc::clone(&ban.matched);
        let exact = self.exact.entry(hash).or_insert_with(|| Exact {
            hard: 0,
            soft: None,
            is_for_fetches,
            matched: Arc::clone(&matched),
        });
        exact.is_for_fetches &= is_for_fetches;
        exact.matched = matched;
        match mode {
            Mode::Hard => exact.hard = ban.number,
            Mode::Soft(since) => {
                let since = exact.soft.map_or(since, |(_, earlier)| earlier.min(since));
                exact.soft = Some((ban.number, since));
            }
        }
    }

    /// Forgets what no entry and no fetch has still to be held against; the newest number of that.
    fn forget(&mut self, swept: u64, oldest_fetch: u64) -> u64 {
        let mut newest = 0;
        let mut is_needed = |number: u64, is_for_fetches: bool| {
            let is_needed = !is_for_fetches && number > swept || number > oldest_fetch;
            if !is_needed {
                newest = newest.max(number);
            }
            is_needed
        };
        self.exact.retain(|_, ban| is_needed(ban.number(), ban.is_for_fetches));
        self.wide.retain(|ban| is_needed(ban.number, false));
        newest
    }
}

impl Exact {
    fn number(&self) -> u64 {
        self.soft.map_or(self.hard, |(number, _)| number.max(self.hard))
    }
}

impl Wide {
    fn matches(&self, target: &Target, tags: &Tags) -> bool {
        self.host.as_deref().is_none_or(|host| host == target.host()) && self.what.matches(target, tags)
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
