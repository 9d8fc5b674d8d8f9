//! How the memory of the cache is divided.
//!
//! Decides how many parts the store has, how much is kept for bodies on their way, and whether the largest
//! object fits. `check` asks here too, so a config that loads has a cache that works; that is why this stands
//! below the config and not in the cache.

use thiserror::Error;

/// What an entry costs beside its response: its place in the map, in the index, and the structures themselves.
pub const ENTRY_OVERHEAD_BYTES: u64 = 384;

/// Room for the head and the names of the largest object.
const HEAD_MAX_BYTES: u64 = 64 * 1024;

/// quick_cache admits no entry over this share of a shard.
const ADMITTED_SHARE: f64 = 0.97;

const SHARDS_PER_CPU: usize = 4;

/// With fewer, what is evicted would depend on where it happens to lie.
const SHARD_ENTRIES_MIN: u64 = 32;

/// As the config says them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    pub memory_bytes: u64,
    /// The longest body.
    pub object_max_bytes: u64,
    pub entries_max: u64,
}

/// What follows from the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// A power of two.
    pub shards: usize,
    /// Of what is stored.
    pub stored_bytes: u64,
    /// Of bodies that are being fetched.
    pub fetching_bytes: u64,
    /// Each entry counts for as much, so that not more than `entries_max` fit.
    pub charge_min: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LimitsError {
    #[error("an object of {object_max_bytes} bytes needs a cache memory of {needed_bytes} bytes")]
    MemoryTooSmall { object_max_bytes: u64, needed_bytes: u64 },
    /// Of a store that was divided for smaller objects or more memory.
    #[error("the cache has to be divided anew for objects of {object_max_bytes} bytes, which a restart does")]
    ShardsTooMany { object_max_bytes: u64 },
    #[error("the number of entries must be at least 1")]
    NoEntries,
}

impl Division {
    /// A quarter of the memory is kept for bodies being fetched, or enough for one of the largest. In the rest there
    /// are as many shards as are of use and leave room in each for the largest object.
    pub fn of(limits: StoreLimits, cpus: usize) -> Result<Self, LimitsError> {
        let mut shards = (cpus.max(1) * SHARDS_PER_CPU).next_power_of_two();
        loop {
            match Self::in_shards(limits, shards) {
                Ok(division) if shards > 1 && division.shard_entries_max() < SHARD_ENTRIES_MIN => {}
                Err(LimitsError::ShardsTooMany { .. }) => {}
                result => return result,
            }
            shards /= 2;
        }
    }

    /// The same in a store that has its shards already.
    pub fn in_shards(limits: StoreLimits, shards: usize) -> Result<Self, LimitsError> {
        let StoreLimits { memory_bytes, object_max_bytes, entries_max } = limits;
        if entries_max == 0 {
            return Err(LimitsError::NoEntries);
        }
        let fetching_bytes = (memory_bytes / 4).max(object_max_bytes);
        let stored_bytes = memory_bytes.saturating_sub(fetching_bytes);
        // One more of this weight would not fit.
        let charge_min = stored_bytes / entries_max.saturating_add(1) + 1;
        let charge_max = largest(object_max_bytes).max(charge_min);
        if charge_max <= admitted(stored_bytes, shards) {
            Ok(Self { shards, stored_bytes, fetching_bytes, charge_min })
        } else if shards > 1 && charge_max <= admitted(stored_bytes, 1) {
            Err(LimitsError::ShardsTooMany { object_max_bytes })
        } else {
            Err(LimitsError::MemoryTooSmall { object_max_bytes, needed_bytes: needed(object_max_bytes) })
        }
    }

    fn shard_entries_max(&self) -> u64 {
        self.stored_bytes / self.shards as u64 / self.charge_min
    }
}

/// The heaviest entry that a store of this size takes.
pub fn admitted(stored_bytes: u64, shards: usize) -> u64 {
    let shard_bytes = stored_bytes / shards.max(1) as u64;
    (shard_bytes as f64 * ADMITTED_SHARE) as u64
}

fn largest(object_max_bytes: u64) -> u64 {
    object_max_bytes.saturating_add(HEAD_MAX_BYTES + ENTRY_OVERHEAD_BYTES)
}

/// The least memory in which such an object fits.
fn needed(object_max_bytes: u64) -> u64 {
    let stored_bytes = (largest(object_max_bytes) as f64 / ADMITTED_SHARE).ceil() as u64 + 1;
    stored_bytes.saturating_add(object_max_bytes).max(stored_bytes.saturating_mul(4).div_ceil(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    fn limits(memory_bytes: u64, object_max_bytes: u64, entries_max: u64) -> StoreLimits {
        StoreLimits { memory_bytes, object_max_bytes, entries_max }
    }

    #[test]
    fn shards_by_memory_and_the_largest_object() {
        let check = |memory, object_max, entries_max, cpus, shards| {
            let division = Division::of(limits(memory, object_max, entries_max), cpus).unwrap();
            assert_eq!(division.shards, shards, "{memory} {object_max} {entries_max} {cpus}");
        };
        check(64 * MIB, 8 * MIB, 1 << 20, 2, 4);
        check(64 * MIB, MIB, 1 << 20, 2, 8);
        check(64 * MIB, MIB, 1 << 20, 16, 32);
        check(64 * MIB, MIB, 1 << 20, 3, 16);
        check(64 * MIB, 31 * MIB, 1 << 20, 2, 1);
        check(1 << 40, 8 * MIB, 1 << 20, 2, 8);
        // Shards of 32 entries and more.
        check(64 * MIB, MIB, 100, 16, 2);
        check(64 * MIB, MIB, 1, 16, 1);
    }

    #[test]
    fn memory_for_bodies_being_fetched() {
        let check = |memory, object_max, stored, fetching| {
            let division = Division::of(limits(memory, object_max, 1 << 20), 2).unwrap();
            assert_eq!((division.stored_bytes, division.fetching_bytes), (stored, fetching));
        };
        check(64 * MIB, 8 * MIB, 48 * MIB, 16 * MIB);
        check(64 * MIB, 20 * MIB, 44 * MIB, 20 * MIB);
    }

    #[test]
    fn limits_that_cannot_be_kept() {
        let check = |memory, object_max, entries_max, expected| {
            assert_eq!(Division::of(limits(memory, object_max, entries_max), 2), Err(expected));
        };
        check(MIB, MIB, 0, LimitsError::NoEntries);
        let needed_bytes = needed(8 * MIB);
        check(8 * MIB, 8 * MIB, 1, LimitsError::MemoryTooSmall { object_max_bytes: 8 * MIB, needed_bytes });
        check(0, 8 * MIB, 1, LimitsError::MemoryTooSmall { object_max_bytes: 8 * MIB, needed_bytes });
        let text = LimitsError::MemoryTooSmall { object_max_bytes: 8 * MIB, needed_bytes }.to_string();
        assert_eq!(text, "an object of 8388608 bytes needs a cache memory of 17104618 bytes");
    }

    proptest! {
        #[test]
        fn what_is_said_to_be_needed_suffices_and_is_needed(object_max in 0..1_u64 << 40) {
            let needed_bytes = needed(object_max);
            prop_assert!(Division::of(limits(needed_bytes, object_max, 1 << 20), 2).is_ok());
            // The arithmetic of shares rounds by a few bytes.
            let less = needed_bytes - 4 - (object_max >> 40);
            prop_assert!(Division::of(limits(less, object_max, 1 << 20), 2).is_err());
        }

        #[test]
        fn the_largest_object_fits_and_no_more_entries_than_allowed(
            memory in 1..1_u64 << 40, object_max in 0..1_u64 << 30, entries_max in 1..1_u64 << 24, cpus in 1..65_usize,
        ) {
            let Ok(division) = Division::of(limits(memory, object_max, entries_max), cpus) else { return Ok(()) };
            prop_assert!(largest(object_max) <= admitted(division.stored_bytes, division.shards));
            prop_assert!(division.charge_min <= admitted(division.stored_bytes, division.shards));
            prop_assert!(division.stored_bytes + division.fetching_bytes <= memory);
            let shard = division.stored_bytes.div_ceil(division.shards as u64);
            prop_assert!(shard / division.charge_min * division.shards as u64 <= entries_max);
        }
    }
}
