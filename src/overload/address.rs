//! How many of something each client has at a time.
//!
//! A client is an IPv4 address, or an IPv6 network of 64 bits, which one subscriber has whole. It is in the table while
//! somebody holds it: a connection that asks for it, or whatever is counted. So the table is no larger than what there is,
//! and a connection finds its own client once.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::count;
use crate::client_ip;
use crate::lock::lock;

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
    network: u128,
    hash: u64,
    /// Gone in between its last holder and the end of its row.
    client: Weak<Client>,
}

#[derive(Debug)]
pub struct Client {
    clients: Arc<ByAddress>,
    hash: u64,
    open: AtomicUsize,
}

/// One of a client's, counted until it is dropped.
#[derive(Debug)]
pub struct OfAddress(Arc<Client>);

impl ByAddress {
    pub fn client(self: &Arc<Self>, address: IpAddr) -> Arc<Client> {
        let network = network(address);
        let hash = self.hasher.hash_one(network);
        let mut shard = self.shard(hash);
        let row = shard.entry(hash, |row| row.network == network, |row| row.hash);
        if let Entry::Occupied(row) = &row
            && let Some(client) = row.get().client.upgrade()
        {
            return client;
        }
        let client = Arc::new(Client { clients: Arc::clone(self), hash, open: AtomicUsize::new(0) });
        row.insert(Row { network, hash, client: Arc::downgrade(&client) });
        client
    }

    /// None if the client has `max` already.
    pub fn enter(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<OfAddress> {
        self.client(address).enter(max)
    }

    /// How many clients there are.
    #[cfg(test)]
    pub fn addresses(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashTable<Row>> {
        // The table goes by the upper and the lower bits.
        let shard = &self.shards[(hash >> 32) as usize % SHARDS];
        lock(shard)
    }
}

impl Client {
    /// None if the client has `max` already.
    pub fn enter(self: Arc<Self>, max: usize) -> Option<OfAddress> {
        count::enter(&self.open, max).then(|| OfAddress(self))
    }
}

fn network(address: IpAddr) -> u128 {
    client_ip::network(address, IPV6_PREFIX)
}

impl Default for ByAddress {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Whoever asked for it meanwhile has put another one into its row.
        let is_this = |row: &Row| std::ptr::eq(row.client.as_ptr(), self);
        if let Ok(row) = self.clients.shard(self.hash).find_entry(self.hash, is_this) {
            row.remove();
        }
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
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

    #[test]
    fn who_holds_a_client_has_the_one_that_is_counted() {
        let counts = Arc::<ByAddress>::default();
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let client = counts.client(address);
        let held = Arc::clone(&client).enter(1).unwrap();
        assert!(counts.enter(address, 1).is_none());
        drop((client, held));
        assert_eq!(counts.addresses(), 0);
    }

    /// Who comes while the last one goes finds a row whose client is gone.
    #[test]
    fn threads_that_come_and_go_never_pass_the_limit_and_leave_nothing() {
        let (counts, inside) = (Arc::<ByAddress>::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let Some(_held) = counts.enter(IpAddr::from([192, 0, 2, 1]), 2) else { continue };
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(counts.addresses(), 0);
    }
}
