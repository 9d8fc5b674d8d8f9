//! How much is stored, and how it is counted.

use super::*;
use crate::cache::statistics::Statistics;
use crate::cache::store::purging::{BATCH, Progress};

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
    store.set_capacity(u64::MAX);
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

#[test]
fn what_was_given_back_is_not_had_again_by_other_limits() {
    let limits = |memory| StoreLimits { memory_bytes: memory, object_max_bytes: 1 << 20, entries_max: 1 << 20 };
    let store = Store::new(limits(64 << 20), 2).unwrap();
    store.set_capacity(8 << 20);
    store.resize(limits(32 << 20)).unwrap();
    assert_eq!((store.stored().capacity, store.stored().configured), (8 << 20, 24 << 20));
    store.resize(limits(8 << 20)).unwrap();
    assert_eq!(store.stored().capacity, 6 << 20);
    store.resize(limits(64 << 20)).unwrap();
    assert_eq!(store.stored().capacity, 48 << 20);
}
