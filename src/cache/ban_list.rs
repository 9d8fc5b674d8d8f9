//! The purges in force, and what each response has still to be held against.
//!
//! Pure. Bans of one name are found by its hash, so a thousand purged tags cost a response as much as one. Those with
//! `*` are tried one by one. There is a bound for both, which `has_room` asks about.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use quick_cache::DefaultHashBuilder;

use super::purge::{Mode, Purge, What};
use super::tags::{Label, Tags};
use super::target::Target;

/// Bans of one name.
const EXACT_MAX: usize = 16 * 1024;
/// Others.
const WIDE_MAX: usize = 1024;

/// The number of the first ban is above; 0 is for what is dead.
pub const FIRST: u64 = 1;

/// A purge that is in force.
#[derive(Debug, Clone)]
pub struct Ban {
    pub(super) number: u64,
    pub(super) matched: Matched,
    /// Its entries were taken out at once; nothing is left for a sweep.
    pub(super) is_done: bool,
}

/// How many entries a purge met. One that several match, which came shortly after each other, counts for one of them.
pub type Matched = Arc<AtomicU64>;

/// How many bans there are, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveBans {
    pub exact: usize,
    pub wide: usize,
}

#[derive(Debug, Default)]
pub struct BanList {
    hasher: DefaultHashBuilder,
    /// By the hash of what they ban.
    exact: HashMap<u64, Exact>,
    /// The oldest first.
    wide: Vec<Wide>,
    /// The newest ban of tags or groups.
    newest_of_labels: u64,
    /// A fetch that is older brings nothing that is stored.
    fetch_floor: u64,
    /// An entry that was last held against an older ban counts as purged.
    entry_floor: u64,
}

/// A response that is held against bans.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub target: &'a Target,
    pub tags: &'a Tags,
    /// The newest ban that it was held against.
    pub tested: u64,
    /// It comes from the origin and is not stored yet.
    pub is_fetched: bool,
}

/// What becomes of a response.
#[derive(Debug)]
pub enum Fate {
    Lives,
    Stale { since: SystemTime, by: Vec<Matched> },
    Dies(Option<Matched>),
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

impl BanList {
    pub fn has_room(&self, purge: &Purge) -> bool {
        let host = purge.host.as_deref();
        let exact = purge.what.iter().filter(|what| self.exact(host, what).is_some()).count();
        let wide = purge.what.len() - exact;
        self.exact.len() + exact <= EXACT_MAX && self.wide.len() + wide <= WIDE_MAX
    }

    /// Adds a purge under a number above all others. If it is done, only fetches are still to be held against it.
    pub fn add(&mut self, purge: &Purge, ban: &Ban) {
        for what in &purge.what {
            if matches!(what, What::Tag(_) | What::Group(_)) {
                self.newest_of_labels = ban.number;
            }
            match self.exact(purge.host.as_deref(), what) {
                Some(hash) => self.add_exact(hash, purge.mode, ban),
                None => self.wide.push(Wide {
                    number: ban.number,
                    host: purge.host.clone(),
                    what: what.clone(),
                    mode: purge.mode,
                    matched: Arc::clone(&ban.matched),
                }),
            }
        }
    }

    pub fn fate(&self, candidate: Candidate<'_>) -> Fate {
        let Candidate { target, tags, tested, is_fetched } = candidate;
        let floor = if is_fetched { self.fetch_floor.max(self.entry_floor) } else { self.entry_floor };
        if tested < floor.max(FIRST) {
            return Fate::Dies(None);
        }
        let mut fate = Fate::Lives;
        if !self.exact.is_empty() {
            for hash in self.names(target, tags) {
                let Some(ban) = self.exact.get(&hash).filter(|ban| is_fetched || !ban.is_for_fetches) else { continue };
                if ban.hard > tested {
                    return Fate::Dies(Some(Arc::clone(&ban.matched)));
                }
                if let Some((_, since)) = ban.soft.filter(|(number, _)| *number > tested) {
                    fate = fate.stale(since, &ban.matched);
                }
            }
        }
        let newer = self.wide.partition_point(|ban| ban.number <= tested);
        for ban in self.wide.iter().skip(newer).filter(|ban| ban.matches(target, tags)) {
            match ban.mode {
                Mode::Hard => return Fate::Dies(Some(Arc::clone(&ban.matched))),
                Mode::Soft(since) => fate = fate.stale(since, &ban.matched),
            }
        }
        fate
    }

    /// Whether a ban may match what a fetch brings whose tags are not known yet.
    pub fn may_concern(&self, target: &Target, born: u64) -> bool {
        let candidate = Candidate { target, tags: &Tags::default(), tested: born, is_fetched: true };
        born < self.newest_of_labels || !matches!(self.fate(candidate), Fate::Lives)
    }

    /// Forgets what no entry and no fetch has still to be held against; the newest number of that.
    pub fn forget(&mut self, swept: u64, oldest_fetch: u64) -> u64 {
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

    /// Forgets what only fetches have still to be held against. Those that began before lose the right to be stored.
    pub fn forget_for_fetches(&mut self, swept: u64) {
        let newest = self.forget(swept, u64::MAX);
        self.fetch_floor = self.fetch_floor.max(newest);
    }

    /// Forgets all. What was not held against bans up to `newest`, and fetches before `clock`, count as purged.
    pub fn forget_all(&mut self, newest: u64, clock: u64) {
        self.exact.clear();
        self.wide.clear();
        self.entry_floor = newest;
        self.fetch_floor = clock;
    }

    pub fn len(&self) -> LiveBans {
        LiveBans { exact: self.exact.len(), wide: self.wide.len() }
    }

    fn add_exact(&mut self, hash: u64, mode: Mode, ban: &Ban) {
        let new = || Exact { hard: 0, soft: None, is_for_fetches: true, matched: Matched::default() };
        let exact = self.exact.entry(hash).or_insert_with(new);
        exact.is_for_fetches &= ban.is_done;
        exact.matched = Arc::clone(&ban.matched);
        match mode {
            Mode::Hard => exact.hard = ban.number,
            Mode::Soft(since) => {
                let since = exact.soft.map_or(since, |(_, earlier)| earlier.min(since));
                exact.soft = Some((ban.number, since));
            }
        }
    }

    /// What `names` calls it, if it is one name.
    fn exact(&self, host: Option<&str>, what: &What) -> Option<u64> {
        match what {
            What::Url(url) => Some(self.name('u', host, url)),
            What::Tag(pattern) => Some(self.name('t', host, pattern.exact()?)),
            What::Group(name) => Some(self.name('g', host, name)),
            What::All | What::Prefix(_) | What::Path(_) => None,
        }
    }

    /// All that an exact ban of this response can be called.
    fn names(&self, target: &Target, tags: &Tags) -> impl Iterator<Item = u64> {
        let both = move |kind, name: &str| [None, Some(target.host())].map(|host| self.name(kind, host, name));
        let labels = tags.iter().flat_map(move |label| {
            let group = matches!(label, Label::Group(_)).then(|| both('g', label.name()));
            both('t', label.name()).into_iter().chain(group.into_iter().flatten())
        });
        both('u', target.path_and_query()).into_iter().chain(labels)
    }

    fn name(&self, kind: char, host: Option<&str>, name: &str) -> u64 {
        self.hasher.hash_one((kind, host, name))
    }
}

impl Fate {
    fn stale(self, since: SystemTime, matched: &Matched) -> Self {
        let (since, mut by) = match self {
            Self::Stale { since: earlier, by } => (earlier.min(since), by),
            _ => (since, Vec::new()),
        };
        // A purge can match a response by several names.
        if !by.iter().any(|other| Arc::ptr_eq(other, matched)) {
            by.push(Arc::clone(matched));
        }
        Self::Stale { since, by }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(number: u64) -> Ban {
        Ban { number, matched: Matched::default(), is_done: false }
    }

    fn fate(bans: &BanList, tested: u64, is_fetched: bool) -> &'static str {
        let (target, tags) = (Target::new("example.com", "/a", None), Tags::default());
        match bans.fate(Candidate { target: &target, tags: &tags, tested, is_fetched }) {
            Fate::Lives => "lives",
            Fate::Stale { .. } => "stale",
            Fate::Dies(_) => "dies",
        }
    }

    fn purge(what: What, mode: Mode) -> Purge {
        Purge { host: None, what: vec![what], mode }
    }

    #[test]
    fn only_newer_bans_count() {
        for what in [What::All, What::Url("/a".into())] {
            let mut bans = BanList::default();
            bans.add(&purge(what.clone(), Mode::Hard), &ban(5));
            bans.add(&purge(what, Mode::Soft(SystemTime::UNIX_EPOCH)), &ban(7));
            for (tested, expected) in [(0, "dies"), (4, "dies"), (5, "stale"), (6, "stale"), (7, "lives")] {
                assert_eq!(fate(&bans, tested, false), expected, "{tested}");
            }
        }
    }

    #[test]
    fn a_ban_is_forgotten_when_neither_entries_nor_fetches_need_it() {
        let check = |is_done: bool, swept: u64, oldest_fetch: u64, is_left: bool| {
            let mut bans = BanList::default();
            bans.add(&purge(What::Url("/a".into()), Mode::Hard), &Ban { is_done, ..ban(5) });
            bans.forget(swept, oldest_fetch);
            assert_eq!(bans.len() != LiveBans::default(), is_left, "{is_done} {swept} {oldest_fetch}");
        };
        check(false, 4, u64::MAX, true);
        check(false, 5, u64::MAX, false);
        check(false, 5, 4, true);
        check(false, 5, 5, false);
        check(true, 4, u64::MAX, false);
        check(true, 9, 4, true);
    }

    #[test]
    fn what_is_done_is_held_against_fetches_alone() {
        let mut bans = BanList::default();
        bans.add(&purge(What::Url("/a".into()), Mode::Hard), &Ban { is_done: true, ..ban(5) });
        assert_eq!((fate(&bans, 4, false), fate(&bans, 4, true), fate(&bans, 5, true)), ("lives", "dies", "lives"));
        bans.add(&purge(What::Url("/a".into()), Mode::Hard), &ban(6));
        assert_eq!((fate(&bans, 5, false), fate(&bans, 5, true)), ("dies", "dies"));
    }

    #[test]
    fn what_was_forgotten_too_early_counts_as_matched() {
        let mut bans = BanList::default();
        bans.add(&purge(What::Prefix("/none".into()), Mode::Hard), &ban(5));
        bans.forget_for_fetches(5);
        assert_eq!((fate(&bans, 4, false), fate(&bans, 4, true), fate(&bans, 5, true)), ("lives", "dies", "lives"));
        bans.forget_all(7, 8);
        assert_eq!((fate(&bans, 6, false), fate(&bans, 7, false)), ("dies", "lives"));
        assert_eq!((fate(&bans, 7, true), fate(&bans, 8, true)), ("dies", "lives"));
    }
}
