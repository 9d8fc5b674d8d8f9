//! What failed and what was refused, by the reason, counted on each thread for itself: under a flood these are most of what
//! there is to count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::cells::PerThread;
use crate::lock::lock;

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Reasons(Arc<PerThread<Mutex<BTreeMap<&'static str, u64>>>>);

impl Reasons {
    pub fn count(&self, reason: &'static str) {
        // Only a scrape wants the same lock.
        *lock(self.0.local()).entry(reason).or_default() += 1;
    }

    /// Registers the instrument that reads the counts at a scrape.
    pub fn observe(&self, meter: &Meter, name: &'static str, description: &'static str) {
        let reasons = self.clone();
        let _counter = meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |observer| {
                for (reason, count) in reasons.sums() {
                    observer.observe(count, &[KeyValue::new("reason", reason)]);
                }
            })
            .build();
    }

    fn sums(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for counted in self.0.iter() {
            for (reason, count) in lock(counted).iter() {
                *sums.entry(*reason).or_default() += count;
            }
        }
        sums
    }
}
