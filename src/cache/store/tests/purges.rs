//! What a purge takes out, when, and what it leaves behind.

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;

use super::*;
use crate::cache::store::purging::{BATCH, DIRECT_ENTRIES_MAX, Progress};

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

/// What is direct is out of the index already, and held against fetches alone.
#[test]
fn what_a_sweep_met_before_it_was_stored_is_held_against_all_since_it_was_asked_for() {
    let store = store();
    let fetch = store.epoch();
    store.purge(&purge(What::Url("/a".into()), Mode::Hard));
    let url = store.bans.url(HOST, "/a");
    let comes = Arc::new(Entry::new(entry("/a", ""), 7, url, 100, fetch.number()));
    store.index.insert(Arc::clone(&comes));
    store.purge(&purge(What::Prefix("/b".into()), Mode::Hard));
    while store.sweep(BATCH) == Progress::More {}
    assert!(!comes.is_dead() && !store.bans.admit_fetched(&comes));
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
        store.put_now(NewEntry { stored: Stored::under(&key(&format!("/{n}")), b""), ..entry("/", "") });
    }
    let ban = store.purge(&purge(What::Url("/".into()), Mode::Hard));
    assert_eq!(store.matched(&ban), None);
    assert!(store.body("/0").is_none());
    assert_eq!(store.finish(&ban), DIRECT_ENTRIES_MAX as u64 + 1);
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
