//! How many of something each client has at a time.
//!
//! A client is an IPv4 address, or an IPv6 network of 64 bits, which one subscriber has whole. An address is in the
//! table while it has something, so the table is no larger than what is counted.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::client_ip;

const SHARDS: usize = 32;
/// A network of IPv6 that one subscriber has.
const IPV6_PREFIX: u8 = 64;

#[derive(Debug)]
pub struct ByAddress {
    shards: [Mutex<HashTable<Row>>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Row {
    client: u128,
    hash: u64,
    open: usize,
}

/// One of an address, counted until it is dropped.
#[derive(Debug)]
pub struct OfAddress {
    counts: Arc<ByAddress>,
    client: u128,
    /// Kept, because it costs as much as all the rest.
    hash: u64,
}

impl ByAddress {
    /// None if the client has `max` already.
    pub fn enter(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<OfAddress> {
        let client = client_ip::network(address, IPV6_PREFIX);
        let hash = self.hasher.hash_one(client);
        match self.shard(hash).entry(hash, |row| row.client == client, |row| row.hash) {
            Entry::Occupied(entry) if entry.get().open >= max => return None,
            Entry::Occupied(mut entry) => entry.get_mut().open += 1,
            Entry::Vacant(_) if max == 0 => return None,
            Entry::Vacant(entry) => _ = entry.insert(Row { client, hash, open: 1 }),
        }
        Some(OfAddress { counts: Arc::clone(self), client, hash })
    }

    /// How many clients have something.
    #[cfg(test)]
    pub fn addresses(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashTable<Row>> {
        // The table goes by the upper and the lower bits.
        let shard = &self.shards[(hash >> 32) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ByAddress {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut shard = self.counts.shard(self.hash);
        if let Ok(mut entry) = shard.find_entry(self.hash, |row| row.client == self.client) {
            match &mut entry.get_mut().open {
                1 => _ = entry.remove(),
                open => *open -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, are_one_client: bool) {
        let counts = Arc::<ByAddress>::default();
        let _held = counts.enter(one.parse().unwrap(), 1).unwrap();
        assert_eq!(counts.enter(other.parse().unwrap(), 1).is_none(), are_one_client, "{one} and {other}");
    }

    #[test]
    fn ipv6_clients_count_by_64_bits() {
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("2001:db8::1", "2001:db8::ffff:1", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
    }

    #[test]
    fn what_is_given_back_leaves_nothing_behind() {
        let counts = Arc::<ByAddress>::default();
        let address = "192.0.2.1".parse().unwrap();
        let held = (counts.enter(address, 2).unwrap(), counts.enter(address, 2).unwrap());
        assert!(counts.enter(address, 2).is_none());
        drop(held.0);
        let again = counts.enter(address, 2).unwrap();
        drop((again, held.1));
        assert_eq!(counts.addresses(), 0);
        assert!(counts.enter(address, 0).is_none());
        assert_eq!(counts.addresses(), 0);
    }
}
