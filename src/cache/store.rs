//! TEMPORARY
use super::key::Key;
use super::{Lookup, Stored, vary};
use http::HeaderMap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
pub struct Store(Mutex<HashMap<Key, Vec<Arc<Stored>>>>);
pub struct Reservation;
impl Reservation {
    pub fn grow_to(&mut self, _: u64) -> bool {
        true
    }
}
impl Store {
    pub fn new() -> Self {
        Self(Mutex::default())
    }
    pub fn epoch(&self) -> u64 {
        0
    }
    pub fn reserve(&self, _: u64) -> Option<Reservation> {
        Some(Reservation)
    }
    pub fn get(&self, key: &[u8], fields: &HeaderMap) -> Lookup {
        let map = self.0.lock().unwrap();
        match map.get(key) {
            None => Lookup::UriMiss,
            Some(list) => list
                .iter()
                .rev()
                .find(|s| vary::matches(&s.selecting, fields))
                .map_or(Lookup::VaryMiss, |s| Lookup::Found(Arc::clone(s))),
        }
    }
    pub fn put(&self, key: &Key, stored: Arc<Stored>, _: u64) {
        let mut map = self.0.lock().unwrap();
        let list = map.entry(key.clone()).or_default();
        list.retain(|s| s.selecting != stored.selecting);
        list.push(stored);
    }
    pub fn remove(&self, key: &[u8]) {
        self.0.lock().unwrap().remove(key);
    }
}
