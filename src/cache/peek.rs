//! What the cache would say to a request, for those who ask why. Nothing is counted, moved, begun or taken out by it.

use std::time::{Instant, SystemTime};

use http::HeaderMap;

use super::key;
use super::pending::Line;
use super::{Cache, Found, Lookup, vary};

impl Cache {
    /// What [`Cache::lookup`] would find.
    pub fn peek(&self, key: &[u8], fields: &HeaderMap, time: (Instant, fn() -> SystemTime)) -> Lookup {
        let mut has_variants = false;
        let found = self.store.peek(key, |selecting| {
            has_variants = true;
            vary::matches(selecting, fields)
        });
        match found {
            None if has_variants => Lookup::VaryMiss,
            None => Lookup::UriMiss,
            Some(entry) => Lookup::Found(Found::of(&entry, time)),
        }
    }

    /// All that is stored for a key, the newest first.
    pub fn peek_all(&self, key: &[u8], time: (Instant, fn() -> SystemTime)) -> Vec<Found> {
        self.store.peek_all(key).iter().map(|entry| Found::of(entry, time)).collect()
    }

    /// Whether a request that is not answered at once would fetch for all, wait for another, or ask for itself.
    pub fn line(&self, key: &[u8], now: Instant) -> Line {
        self.fetches.look(key, now, |pending| self.is_outdated(pending, key, now))
    }
}

/// A key as people read it: a URL, and the chosen fields of the request.
pub fn describe_key(key: &[u8]) -> (String, Vec<(String, Option<String>)>) {
    let Some(parts) = key::parts(key) else { return Default::default() };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let fields = parts.fields.iter().map(|(name, value)| ((*name).to_owned(), value.map(text)));
    (parts.to_string(), fields.collect())
}
