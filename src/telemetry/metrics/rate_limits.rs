//! What rate limits hold and did, at the moment of a scrape.

use super::families;
use super::gathered::Gathered;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RateLimitSample {
    pub limit: String,
    pub allowed: u64,
    pub limited: u64,
    pub dry_run: u64,
    pub evicted: u64,
    pub keys: u64,
    pub keys_max: u64,
}

impl RateLimitSample {
    pub fn gather(&self, to: &mut Gathered) {
        let Self { limit, allowed, limited, dry_run, evicted, keys, keys_max } = self;
        for (decision, count) in [("allowed", allowed), ("limited", limited), ("dry_run", dry_run)] {
            to.add(&families::LIMIT_REQUESTS, [decision.into(), limit.into()], *count);
        }
        to.add(&families::LIMIT_EVICTED, [limit.into()], *evicted);
        to.add(&families::LIMIT_KEYS, [limit.into()], *keys);
        to.add(&families::LIMIT_KEYS_MAX, [limit.into()], *keys_max);
    }
}
