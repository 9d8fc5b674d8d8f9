//! The cache as operators see and move it: what is in it, purges, new limits.

use http::HeaderMap;

use super::purge::{Mode, Purge, What, named_in};
use super::rules::Policy;
use super::statistics::{RouteStatistics, Statistics};
use super::store::purging::Progress;
use super::store::{Resized, Usage};
use super::{Cache, target};
use crate::division::{LimitsError, StoreLimits};
use crate::header::CACHE_PURGE;
use crate::lock::lock;
use crate::overload::memory::Stored;
use crate::telemetry::metrics::ShortSum;

/// Names of one response; a worker looks up what depends on each.
const NAMES_MAX: usize = 64;

/// Entries that one step of a sweep looks at: less than a millisecond of work.
const SWEEP_STEP: usize = 128;

/// What is in the cache, and what it did.
#[derive(Debug, Clone)]
pub struct Report {
    pub usage: Usage,
    /// By the names of routes.
    pub routes: Vec<(String, Statistics)>,
}

impl Cache {
    /// Purges, and says how many responses were met. It goes over all that is stored, so it is for threads that may block.
    pub fn purge(&self, purge: &Purge) -> u64 {
        let ban = self.store.purge(purge);
        self.store.finish(&ban)
    }

    /// How many responses a purge would meet now. For threads that may block.
    pub fn count(&self, purge: &Purge) -> u64 {
        self.store.count(purge)
    }

    /// Whether there are purges that are not worked off, or not forgotten yet.
    pub fn has_purges(&self) -> bool {
        self.store.has_purges()
    }

    /// One step of working purges off. For threads that may block.
    pub fn sweep(&self) -> Progress {
        self.store.sweep(SWEEP_STEP)
    }

    /// What is stored and what may be.
    pub fn stored(&self) -> Stored {
        self.store.stored()
    }

    /// Gives memory back, or takes some of it again. For threads that may block.
    pub fn set_stored_max(&self, bytes: u64) {
        self.store.set_capacity(bytes);
    }

    /// Takes over new limits. For threads that may block.
    pub fn resize(&self, limits: StoreLimits) -> Result<Resized, LimitsError> {
        self.store.resize(limits)
    }

    /// Forgets the counts of routes that are gone with all that they had stored.
    pub fn report(&self) -> Report {
        let mut routes = lock(&self.routes);
        routes.retain(|_, statistics| !statistics.is_left());
        let routes = routes.iter().map(|(name, statistics)| (name.clone(), statistics.read())).collect();
        Report { usage: self.store.usage(), routes }
    }

    /// What the lookups took that were timed, over all routes that are left.
    pub fn lookup_times(&self) -> ShortSum {
        let mut sum = ShortSum::default();
        lock(&self.routes).values().for_each(|statistics| sum.merge(&statistics.read().lookups));
        sum
    }

    /// How often a route's cache had the response and how often not, over all routes.
    pub fn lookups(&self) -> (u64, u64) {
        let routes = lock(&self.routes);
        let read = routes.values().map(RouteStatistics::lookups);
        read.fold((0, 0), |(hits, misses), (more_hits, more_misses)| (hits + more_hits, misses + more_misses))
    }

    /// Purges what a response names, on a route that lets it, and takes the field off. Only what is of the same host goes.
    /// Says by how many purges.
    pub fn obey(&self, policy: &Policy, key: &[u8], fields: &mut HeaderMap) -> u64 {
        let Some(dependencies) = &policy.purges else { return 0 };
        let names = named_in(fields.get_all(CACHE_PURGE));
        fields.remove(CACHE_PURGE);
        let Some(target) = target(key).filter(|_| !names.is_empty()) else { return 0 };
        // Of more than that, rather too much goes than too little.
        let what = Some(names).filter(|names| names.len() <= NAMES_MAX);
        let what = what.and_then(|names| dependencies.closure(names).ok()).unwrap_or_else(|| vec![What::All]);
        self.store.purge(&Purge { host: Some(target.host().into()), what, mode: Mode::Hard });
        1
    }
}
