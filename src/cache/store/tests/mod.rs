//! What is stored and under what, and what the tests of each subject share.

mod limits;
mod purges;

use std::borrow::Borrow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::super::key::Key;
use super::super::purge::{Mode, Purge, What};
use super::super::statistics::RouteStatistics;
use super::super::stored::Stored;
use super::super::tags::Tags;
use super::super::target::Target;
use super::super::variants::VARIANTS_MAX;
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
        selecting: None,
        target: Target::new(HOST, only_path, query),
        tags: Tags::of(&fields).unwrap(),
        route: RouteStatistics::default(),
        stored: Stored::under(&key(path), b""),
    }
}

pub(super) fn with_body(entry: NewEntry, body: &[u8]) -> NewEntry {
    NewEntry { stored: Stored::under(&entry.stored.key, body), ..entry }
}

fn variant(entry: NewEntry, selecting: &str) -> NewEntry {
    NewEntry { selecting: Some(Arc::new(Selecting::of_text(selecting))), ..entry }
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
        self.get(Borrow::<[u8]>::borrow(&key(path)), |stored| *stored == Selecting::of_text(selecting))
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

/// A key lies with what is stored under it, and holds that, too.
#[test]
fn what_is_gone_is_held_by_no_key() {
    let store = store();
    let texts = [(); 3].map(|()| Arc::<[u8]>::from(&b"/"[..]));
    let [all, first, last] = texts.each_ref().map(|text| {
        let key = Bytes::from_owner(Arc::clone(text)).into();
        let mut stored = (*Stored::under(&key, b"")).clone();
        stored.key = key;
        NewEntry { stored: Arc::new(stored), ..entry("/", "") }
    });
    store.put_now(all);
    store.put_now(variant(first, "a"));
    let last = store.put_now(variant(last, "b"));
    store.put_now(variant(entry("/", ""), "a"));
    store.withdraw(&last);
    drop(last);
    assert!(store.variant("/", "a").is_some() && store.variant("/", "b").is_none());
    assert_eq!(texts.each_ref().map(Arc::strong_count), [1; 3]);
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
