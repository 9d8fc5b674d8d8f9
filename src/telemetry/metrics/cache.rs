//! What the cache holds and did, at the moment of a scrape.

use super::families;
use super::gathered::Gathered;
use super::histogram::ShortSum;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct CacheSample {
    pub stored_bytes: u64,
    pub stored_bytes_max: u64,
    pub fetching_bytes: u64,
    pub fetching_bytes_max: u64,
    pub routes: Vec<CachedRouteSample>,
}

/// One route, by its name in the config.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CachedRouteSample {
    pub route: String,
    pub entries: u64,
    pub bytes: u64,
    pub evictions: u64,
    pub purged: u64,
    /// Requests by what the cache was to them.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Of the lookups that were timed.
    pub lookups: ShortSum,
}

impl CacheSample {
    pub fn gather(&self, to: &mut Gathered) {
        let mut lookups = ShortSum::default();
        for CachedRouteSample { route, entries, bytes, evictions, purged, outcomes, lookups: timed } in &self.routes {
            for (outcome, count) in outcomes {
                to.add(&families::CACHE_REQUESTS, [(*outcome).into(), route.into()], *count);
            }
            to.add(&families::CACHE_ENTRIES, [route.into()], *entries);
            to.add(&families::CACHE_BYTES, [route.into()], *bytes);
            to.add(&families::CACHE_EVICTIONS, [route.into()], *evictions);
            to.add(&families::CACHE_PURGED, [route.into()], *purged);
            lookups.merge(timed);
        }
        if !self.routes.is_empty() {
            to.add(&families::CACHE_LOOKUP, [], lookups.histogram());
        }
        for (of, used, max) in [
            ("stored", self.stored_bytes, self.stored_bytes_max),
            ("fetching", self.fetching_bytes, self.fetching_bytes_max),
        ] {
            to.add(&families::CACHE_MEMORY, [of.into()], used);
            to.add(&families::CACHE_MEMORY_MAX, [of.into()], max);
        }
    }
}
