//! What failed and what was refused, by the reason, counted on each thread for itself: under a flood these are most of what
//! there is to count.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::cells::PerThread;
use super::families::Family;
use super::gathered::Gathered;
use crate::lock::lock;

#[derive(Debug, Default)]
pub struct Reasons(PerThread<Mutex<BTreeMap<&'static str, u64>>>);

impl Reasons {
    pub fn count(&self, reason: &'static str) {
        // Only a scrape wants the same lock.
        *lock(self.0.local()).entry(reason).or_default() += 1;
    }

    pub fn gather(&self, family: &'static Family, to: &mut Gathered) {
        let mut sums = BTreeMap::<_, u64>::new();
        for counted in self.0.iter() {
            for (reason, count) in lock(counted).iter() {
                *sums.entry(*reason).or_default() += count;
            }
        }
        for (reason, count) in sums {
            to.add(family, [reason.into()], count);
        }
    }
}
