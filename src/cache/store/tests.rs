use std::borrow::Borrow;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::super::key::Key;
use super::super::purge::{Mode, Purge, What};
use super::super::statistics::{RouteStatistics, Statistics};
use super::super::stored::Stored;
use super::super::tags::Tags;
use super::super::target::Target;
use super::super::variants::VARIANTS_MAX;
use super::purging::{BATCH, DIRECT_ENTRIES_MAX, Progress};
use super::*;

pub(super) const HOST: &str = "example.com";

/// One shard, so that what fits does not depend on hashes.
pub(super) fn store() -> Store {
    Store::new(StoreLimits { memory_bytes: 4 << 20, object_max_bytes: 1 << 20, entries_max: 1 << 20 }, 1).unwrap()
}

fn key(path: &str) -> Key {
    Key::from(path.as_bytes())
}

pub(super) fn entry(path: &str, tags: &'static str) -> NewEntry {
    let fields = HeaderMap::from_iter([(http::HeaderName::from_static("cache-tag"), HeaderValue::from_static(tags))]);
    let (only_path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    NewEntry {
        key: key(path),
        selecting: None,
        target: Target::new(HOST, only_path, query),
        tags: Tags::of(&fields).unwrap(),
        route: RouteStatistics::default(),
        stored: Stored::of_body(b""),
    }
}

pub(super) fn with_body(entry: NewEntry, body: &[u8]) -> NewEntry {
    NewEntry { stored: Stored::of_body(body), ..entry }
}

fn variant(entry: NewEntry, selecting: &str) -> NewEntry {
    NewEntry { selecting: Some(selecting.as_bytes().into()), ..entry }
}

pub(super) fn purge(what: What, mode: Mode) -> Purge {
    Purge { host: Some(HOST.into()), what: vec![what], mode }
}

pub(super) fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

impl Store {
    fn put_now(&self, new: NewEntry) -> Arc<Entry> {
        let Insert::Stored(entry) = self.insert(&self.epoch(), new) else { panic!("it was not stored") };
        entry
    }

    fn body(&self, path: &str) -> Option<Bytes> {
        Some(self.get(Borrow::<[u8]>::borrow(&key(path)), |_| false)?.stored.body())
    }

    pub(super) fn variant(&self, path: &str, selecting: &str) -> Option<Arc<Entry>> {
        self.get(Borrow::<[u8]>::borrow(&key(path)), |stored| stored == selecting.as_bytes())
    }

    /// Entries that can be had, by what quick_cache holds.
    pub(super) fn reachable(&self) -> usize {
        self.cache.iter().filter(|(_, slot)| matches!(slot, Slot::Entry(_))).count()
    }
}

#[test]
fn all_workers_share_it() {
    fn shared<T: Send + Sync>() {}
    shared::<(Store, Entry, Epoch, Reservation)>();
}

#[test]
fn the_last_response_lies_under_its_key() {
    let store = store();
    assert_eq!(store.body("/"), None);
    let first = store.put_now(with_body(entry("/", ""), b"one"));
    assert_eq!(store.body("/").unwrap(), "one");
    store.put_now(with_body(entry("/", ""), b"two"));
    assert_eq!(store.body("/").unwrap(), "two");
    store.withdraw(&first);
    assert_eq!(store.body("/").unwrap(), "two");
    assert_eq!((store.usage().entries, store.reachable()), (1, 1));
}

#[test]
fn variants_are_told_apart_and_the_oldest_goes() {
    let store = store();
    for n in 0..=VARIANTS_MAX {
        store.put_now(variant(entry("/", ""), &n.to_string()));
    }
    assert!(store.variant("/", "0").is_none());
    assert!((1..=VARIANTS_MAX).all(|n| store.variant("/", &n.to_string()).is_some()));
    assert_eq!((store.usage().entries, store.reachable()), (VARIANTS_MAX, VARIANTS_MAX));

    // The newest that meets the request is taken.
    let newest = store.put_now(variant(entry("/", ""), "1"));
    assert_eq!(store.variant("/", "1").unwrap().id, newest.id);
    assert_eq!(store.get(b"/", |_| true).unwrap().id, newest.id);
    assert_eq!((store.usage().entries, store.reachable()), (VARIANTS_MAX, VARIANTS_MAX));

    store.withdraw(&newest);
    assert!(store.variant("/", "1").is_none());
    assert!(store.variant("/", "2").is_some());
}

#[test]
fn a_response_for_all_requests_takes_the_place_of_its_variants_and_they_of_it() {
    let store = store();
    store.put_now(variant(entry("/", ""), "a"));
    store.put_now(variant(entry("/", ""), "b"));
    store.put_now(with_body(entry("/", ""), b"all"));
    assert_eq!(store.body("/").unwrap(), "all");
    assert_eq!((store.usage().entries, store.reachable()), (1, 1));
    store.put_now(variant(entry("/", ""), "a"));
    assert_eq!(store.body("/"), None);
    assert!(store.variant("/", "a").is_some());
    assert_eq!((store.usage().entries, store.reachable()), (1, 1));
}

#[test]
fn a_key_that_is_the_beginning_of_another_has_its_own_variants() {
    let store = store();
    let first = store.put_now(variant(entry("/", ""), "a"));
    let name = [b"/".as_slice(), &first.id.to_ne_bytes()].concat();
    assert!(store.get(&name, |_| true).is_none());
}

#[test]
fn what_a_purge_takes_out() {
    let check = |what: What, gone: &[&str]| {
        for mode in [Mode::Hard, Mode::Soft(at(9))] {
            let store = store();
            let paths = ["/", "/a", "/a?q", "/b/1", "/b/2"];
            for path in paths {
                store.put_now(entry(path, if path.starts_with("/b") { "b" } else { "a" }));
            }
            store.put_now(variant(entry("/v", "a"), "x"));
            let asked = purge(what.clone(), mode);
            assert_eq!(store.count(&asked), gone.len() as u64, "{what:?}");
            let ban = store.purge(&asked);
            for path in paths {
                match (store.get(path.as_bytes(), |_| true), mode) {
                    (None, Mode::Hard) => assert!(gone.contains(&path), "{what:?} {path}"),
                    (Some(entry), Mode::Soft(since)) if gone.contains(&path) => {
                        assert_eq!(entry.stale_since(), Some(since), "{what:?} {path}");
                    }
                    (Some(entry), _) if !gone.contains(&path) => assert_eq!(entry.stale_since(), None),
                    (found, _) => panic!("{what:?} {path} {found:?}"),
                }
            }
            assert_eq!(store.finish(&ban), gone.len() as u64, "{what:?}");
            let left = if mode == Mode::Hard { 6 - gone.len() } else { 6 };
            assert_eq!((store.usage().entries, store.reachable()), (left, left));
            assert_eq!(store.usage().bans, LiveBans::default());
        }
    };
    check(What::All, &["/", "/a", "/a?q", "/b/1", "/b/2", "/v"]);
    check(What::Url("/a".into()), &["/a"]);
    check(What::Url("/v".into()), &["/v"]);
    check(What::Prefix("/a".into()), &["/a", "/a?q"]);
    check(What::named("/b/*").unwrap(), &["/b/1", "/b/2"]);
    check(What::named("b").unwrap(), &["/b/1", "/b/2"]);
    check(What::named("*").unwrap(), &["/", "/a", "/a?q", "/b/1", "/b/2", "/v"]);
    check(What::Group("b".into()), &[]);
}

#[test]
fn a_purge_of_another_host_takes_nothing() {
    for what in [What::All, What::Url("/".into()), What::named("a").unwrap()] {
        let store = store();
        store.put_now(entry("/", "a"));
        store.purge(&Purge { host: Some("example.org".into()), what: vec![what.clone()], mode: Mode::Hard });
        assert!(store.body("/").is_some());
        store.purge(&Purge { host: None, what: vec![what], mode: Mode::Hard });
        assert!(store.body("/").is_none());
    }
}

#[test]
fn a_purge_beats_a_fetch_in_flight() {
    for what in [What::All, What::Url("/".into()), What::named("/*").unwrap(), What::named("a").unwrap()] {
        for swept in [false, true] {
            let store = store();
            let before = store.epoch();
            let ban = store.purge(&purge(what.clone(), Mode::Hard));
            if swept {
                store.finish(&ban);
                while store.sweep(BATCH) == Progress::More {}
            }
            assert!(matches!(store.insert(&before, entry("/", "a")), Insert::Purged), "{what:?}");
            assert!(matches!(store.insert(&before, variant(entry("/", "a"), "x")), Insert::Purged), "{what:?}");
            store.put_now(entry("/", "a"));
            assert!(store.get(b"/", |_| true).is_some());
            assert_eq!((store.usage().entries, store.reachable()), (1, 1));
            drop(before);
            while store.sweep(BATCH) == Progress::More {}
            assert_eq!(store.usage().bans, LiveBans::default());
            assert!(store.get(b"/", |_| true).is_some());
        }
    }
}

/// Who asks meanwhile must know before the answer is there whether it may be given to him.
#[test]
fn what_is_being_fetched_may_be_purged_already() {
    let check = |what: What, expected: bool| {
        let store = store();
        let target = Target::new(HOST, "/a", None);
        let fetch = store.epoch();
        let born = store.newest_purge();
        assert!(!store.may_be_purged(&target, born));
        store.purge(&purge(what.clone(), Mode::Hard));
        assert_eq!(store.may_be_purged(&target, born), expected, "{what:?}");
        assert!(!store.may_be_purged(&target, store.newest_purge()));
        drop(fetch);
    };
    check(What::All, true);
    check(What::Url("/a".into()), true);
    check(What::Url("/b".into()), false);
    check(What::Prefix("/".into()), true);
    check(What::named("/a*").unwrap(), true);
    check(What::named("/b*").unwrap(), false);
    // Its tags are not known yet.
    check(What::named("tag").unwrap(), true);
    check(What::named("tag:*").unwrap(), true);
    check(What::Group("group".into()), true);
}

#[test]
fn a_soft_purge_makes_stale_what_was_fetched_before_it() {
    for what in [What::All, What::Url("/".into()), What::named("a").unwrap()] {
        let store = store();
        let before = store.epoch();
        store.purge(&purge(what, Mode::Soft(at(5))));
        let Insert::Stored(stored) = store.insert(&before, entry("/", "a")) else { panic!("it was not stored") };
        assert_eq!(stored.stale_since(), Some(at(5)));
        let validated = store.put_now(entry("/", "a"));
        assert_eq!(validated.stale_since(), None);
        assert_eq!(store.get(b"/", |_| true).unwrap().stale_since(), None);
    }
}

#[test]
fn too_many_purges_that_nobody_sweeps_purge_what_is_older() {
    let store = store();
    store.put_now(entry("/old", ""));
    let held = store.epoch();
    for n in 0..5000 {
        store.purge(&purge(What::named(&format!("/none/{n}/*")).unwrap(), Mode::Hard));
        assert!(store.usage().bans.wide <= 1024);
    }
    assert!(store.body("/old").is_none());
    assert!(matches!(store.insert(&held, entry("/held", "")), Insert::Purged));
    store.put_now(entry("/new", ""));
    assert!(store.body("/new").is_some());
}

#[test]
fn a_fetch_that_takes_long_does_not_keep_bans_without_end() {
    let store = store();
    store.put_now(entry("/old", ""));
    let held = store.epoch();
    for n in 0..2000 {
        let ban = store.purge(&purge(What::named(&format!("/none/{n}/*")).unwrap(), Mode::Hard));
        store.finish(&ban);
        store.purge(&purge(What::Url("/none".into()), Mode::Hard));
    }
    assert!(store.usage().bans.wide <= 1024);
    // What is stored was held against all of them. What the fetch brings can be no longer.
    assert!(store.body("/old").is_some());
    assert!(matches!(store.insert(&held, entry("/held", "")), Insert::Purged));
}

#[test]
fn purges_of_urls_leave_nothing_behind() {
    let store = store();
    for n in 0..100 {
        store.put_now(entry("/", ""));
        let ban = store.purge(&purge(What::Url("/".into()), Mode::Hard));
        assert_eq!(store.matched(&ban), Some(1), "{n}");
    }
    assert_eq!((store.usage().bans, store.usage().entries), (LiveBans::default(), 0));
    // More entries than are taken out at once wait for a sweep, and are gone all the same.
    for n in 0..=DIRECT_ENTRIES_MAX {
        store.put_now(NewEntry { key: key(&format!("/{n}")), ..entry("/", "") });
    }
    let ban = store.purge(&purge(What::Url("/".into()), Mode::Hard));
    assert_eq!(store.matched(&ban), None);
    assert!(store.body("/0").is_none());
    assert_eq!(store.finish(&ban), DIRECT_ENTRIES_MAX as u64 + 1);
}

#[test]
fn counts_by_route() {
    let store = store();
    let route = RouteStatistics::default();
    let on_route =
        |path: &str, size: usize| NewEntry { route: route.clone(), ..with_body(entry(path, ""), &vec![0; size]) };
    let first = store.put_now(on_route("/1", 10));
    let second = store.put_now(variant(on_route("/2", 20), "x"));
    let expected = Statistics { entries: 2, bytes: first.weight + second.weight, ..Statistics::default() };
    assert_eq!(route.read(), expected);
    store.put_now(on_route("/1", 10));
    store.put_now(variant(on_route("/2", 20), "x"));
    assert_eq!(route.read(), expected);
    store.purge(&purge(What::Url("/1".into()), Mode::Hard));
    assert_eq!(route.read(), Statistics { entries: 1, bytes: second.weight, purged: 1, ..expected });
    route.hit();
    route.hit();
    route.miss();
    assert_eq!((route.read().hits, route.read().misses), (2, 1));

    // Eight of them do not fit.
    for n in 0..8 {
        store.put_now(on_route(&format!("/large/{n}"), 500_000));
    }
    let read = route.read();
    assert_eq!(read.entries, store.usage().entries as u64);
    assert_eq!(read.entries + read.evictions, 9);
    assert!(read.evictions >= 2 && read.bytes <= 3 << 20, "{read:?}");
    store.purge(&purge(What::All, Mode::Hard));
    while store.sweep(BATCH) == Progress::More {}
    assert_eq!((route.read().entries, route.read().bytes, store.reachable()), (0, 0, 0));
}

#[test]
fn the_largest_object_is_stored_and_a_larger_one_is_not() {
    for (memory, object_max) in [(4 << 20, 1 << 20), (64 << 20, 8 << 20), (20 << 20, 1 << 16)] {
        let limits = StoreLimits { memory_bytes: memory, object_max_bytes: object_max, entries_max: 1 << 20 };
        let store = Store::new(limits, 2).unwrap();
        store.put_now(with_body(entry("/", ""), &vec![1; object_max as usize]));
        assert_eq!(store.body("/").unwrap().len() as u64, object_max);
        let too_large = with_body(entry("/", ""), &vec![2; store.charge_max() as usize]);
        assert!(matches!(store.insert(&store.epoch(), too_large), Insert::TooLarge));
        assert_eq!(store.body("/").unwrap().len() as u64, object_max);
        assert_eq!(store.usage().entries, 1);
    }
}

#[test]
fn not_more_entries_than_allowed() {
    for entries_max in [1, 2, 10, 100, 1000] {
        let limits = StoreLimits { memory_bytes: 64 << 20, object_max_bytes: 1 << 20, entries_max };
        let store = Store::new(limits, 2).unwrap();
        for n in 0..2 * entries_max {
            store.put_now(entry(&format!("/{n}"), ""));
        }
        let stored = store.usage().entries as u64;
        assert!(stored <= entries_max && stored * 4 >= entries_max * 3, "{stored} of {entries_max}");
    }
}

#[test]
fn memory_is_given_back_and_taken_again() {
    let limits = |memory_bytes| StoreLimits { memory_bytes, object_max_bytes: 1 << 20, entries_max: 1 << 20 };
    let store = Store::new(limits(16 << 20), 2).unwrap();
    let route = RouteStatistics::default();
    for n in 0..200 {
        let new = with_body(entry(&format!("/{n}"), ""), &[0; 50_000]);
        let new = if n % 2 == 0 { variant(new, "x") } else { new };
        store.put_now(NewEntry { route: route.clone(), ..new });
    }
    let before = store.usage();
    assert_eq!(store.resize(limits(14 << 20)), Ok(Resized::Whole));
    assert_eq!(store.resize(limits(9 << 20)), Ok(Resized::LargestDoNotFit));
    let after = store.usage();
    assert!(after.stored_bytes <= 9 << 20 && after.entries * 2 > before.entries, "{after:?}");
    assert_eq!((after.entries, after.entries as u64), (store.reachable(), route.read().entries));
    store.set_capacity(100_000);
    assert!(store.usage().stored_bytes <= 100_000);
    assert_eq!(store.resize(limits(16 << 20)), Ok(Resized::Whole));
    assert!(store.usage().stored_bytes_max >= 12 << 20);
    store.put_now(with_body(entry("/", ""), &vec![0; 1 << 20]));
    assert!(store.resize(StoreLimits { object_max_bytes: 9 << 20, ..limits(16 << 20) }).is_err());
    assert!(store.body("/").is_some());
}

#[test]
fn bodies_being_fetched_are_counted() {
    let store = store();
    let one = store.reserve(1 << 20).unwrap();
    assert!(store.reserve(1).is_none());
    assert_eq!(store.usage().fetching_bytes, 1 << 20);
    drop(one);
    assert!(store.reserve(1).is_some());
}

/// Writers put what they read from a source of truth before; a purger changes the truth and then purges. After a purge
/// has returned nobody may be given what was before it.
#[test]
fn no_purge_is_lost_among_threads() {
    const ROUNDS: u64 = 50_000;
    let limits = StoreLimits { memory_bytes: 8 << 20, object_max_bytes: 1 << 20, entries_max: 1 << 20 };
    let store = Store::new(limits, 2).unwrap();
    let truth: Vec<_> = (0..4).map(|_| AtomicU64::new(0)).collect();
    let promised: Vec<_> = (0..4).map(|_| AtomicU64::new(0)).collect();
    let over = AtomicBool::new(false);
    let start = Barrier::new(4);
    let fetch = |path: usize, as_variant: bool| {
        let epoch = store.epoch();
        let version = truth[path].load(Ordering::SeqCst);
        let new = with_body(entry(&format!("/{path}"), "a"), &version.to_be_bytes());
        store.insert(&epoch, if as_variant { variant(new, "x") } else { new });
    };
    let look = |path: usize| {
        let least = promised[path].load(Ordering::SeqCst);
        if let Some(entry) = store.get(format!("/{path}").as_bytes(), |_| true) {
            let version = u64::from_be_bytes(entry.stored.body()[..].try_into().unwrap());
            assert!(version >= least, "{version} after {least}");
        }
    };
    thread::scope(|scope| {
        for thread in 0..2 {
            let (fetch, look, start, over) = (&fetch, &look, &start, &over);
            scope.spawn(move || {
                start.wait();
                for round in 0.. {
                    fetch(round % 4, (round / 4 + thread) % 3 == 0);
                    look(round % 4);
                    look((round + 1) % 4);
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let (store, start, over) = (&store, &start, &over);
        scope.spawn(move || {
            start.wait();
            while !over.load(Ordering::Relaxed) {
                store.sweep(3);
            }
        });
        start.wait();
        for round in 1..=ROUNDS {
            let path = round as usize % 4;
            truth[path].store(round, Ordering::SeqCst);
            let what = match round / 4 % 8 {
                0 => What::All,
                1 => What::named(&format!("/{path}*")).unwrap(),
                2 => What::named("a").unwrap(),
                3 => What::Prefix(format!("/{path}").into()),
                // Most often, because its window is the smallest.
                _ => What::Url(format!("/{path}").into()),
            };
            let ban = store.purge(&purge(what, Mode::Hard));
            promised[path].store(round, Ordering::SeqCst);
            if round % 512 == 0 {
                store.finish(&ban);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    // What is in the index is in the store, and the other way round.
    store.purge(&purge(What::All, Mode::Hard));
    while store.sweep(BATCH) == Progress::More {}
    assert_eq!((store.usage().entries, store.reachable()), (0, 0));
    assert_eq!(store.usage().bans, LiveBans::default());
}
