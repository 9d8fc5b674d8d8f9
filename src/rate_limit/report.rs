//! What operators are shown of limits, and the reset of an address by hand.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::Duration;

use super::count::Standing;
use super::key::Key;
use super::shard::{Row, Tally};
use super::{Counts, Limit, Table};
use crate::clock;
use crate::config::{LimitKey, RateLimit};

/// So many of the most limited keys are shown.
const SHOWN_MAX: usize = 10;

/// A limit as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    pub keys: usize,
    pub tally: Tally,
    /// Keys that would be refused now.
    pub limited_now: usize,
    /// Those of which most is used, if what they stand for can be said.
    pub most_used: Vec<Counted>,
}

/// How one of those whom a limit counts stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// An address, a network, a route, or `all`.
    pub who: String,
    pub standing: Standing,
    /// Requests refused since it is counted.
    pub refused: u32,
}

/// How an address stands with one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    Exempt,
    /// The limit does not count by address.
    NotByAddress,
    Counted(Counted),
}

impl Limit {
    pub fn config(&self) -> &RateLimit {
        &self.config
    }

    /// How many keys there are, and what was done.
    pub fn totals(&self) -> (usize, Tally) {
        match &self.counts.table {
            Table::Window(store) => store.totals(),
            Table::Gcra(store) => store.totals(),
        }
    }

    /// Looks at every key; `routes` are the names of those that have the limit.
    pub fn overview(&self, routes: &[&str]) -> Overview {
        let ((keys, tally), mut limited_now) = (self.totals(), 0);
        let mut most_used: BinaryHeap<Reverse<(u64, u32, u128)>> = BinaryHeap::new();
        self.counts.each(|Row { key, standing, refused }| {
            limited_now += usize::from(standing.remaining == 0);
            if standing.is_spent() {
                return;
            }
            // A key that moved meanwhile comes twice.
            if most_used.iter().all(|Reverse((_, _, other))| *other != key.0) {
                most_used.push(Reverse((used_millionths(standing), refused, key.0)));
            }
            if most_used.len() > SHOWN_MAX {
                most_used.pop();
            }
        });
        let shown = most_used.into_sorted_vec().into_iter().filter_map(|Reverse((_, _, key))| {
            let who = self.who(Key(key), routes)?;
            let Row { standing, refused, .. } = self.counts.row(Key(key))?;
            Some(Counted { who, standing, refused })
        });
        Overview { keys, tally, limited_now, most_used: shown.collect() }
    }

    pub fn of_address(&self, client: IpAddr) -> Reported {
        if self.is_exempt(client) {
            return Reported::Exempt;
        }
        let counts = &self.counts;
        let Some(key) = counts.keys.of_address(client) else { return Reported::NotByAddress };
        let row = counts.row(key).unwrap_or_else(|| Row { key, standing: counts.untouched(), refused: 0 });
        let who = self.who(key, &[]).unwrap_or_else(|| client.to_string());
        Reported::Counted(Counted { who, standing: row.standing, refused: row.refused })
    }

    /// Forgets what was counted for an address; whether there was something.
    pub fn reset(&self, client: IpAddr) -> bool {
        let Some(key) = self.counts.keys.of_address(client) else { return false };
        match &self.counts.table {
            Table::Window(store) => store.forget(key),
            Table::Gcra(store) => store.forget(key),
        }
    }

    /// What a key stands for. The values of fields are not kept.
    fn who(&self, key: Key, routes: &[&str]) -> Option<String> {
        let counts = &self.counts;
        match counts.quota.key {
            LimitKey::ClientIp => Some(match counts.keys.address(key)? {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("{address}/{}", counts.quota.ipv6_prefix),
            }),
            LimitKey::All => Some("all".to_owned()),
            LimitKey::Route => {
                routes.iter().find(|route| counts.keys.of_route(route) == key).map(|route| (*route).to_owned())
            }
            LimitKey::Field(_) => None,
        }
    }
}

impl Counts {
    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.began)
    }

    fn each(&self, look: impl FnMut(Row)) {
        match &self.table {
            Table::Window(store) => store.each(self.now(), look),
            Table::Gcra(store) => store.each(self.now(), look),
        }
    }

    fn row(&self, key: Key) -> Option<Row> {
        match &self.table {
            Table::Window(store) => store.row(key, self.now()),
            Table::Gcra(store) => store.row(key, self.now()),
        }
    }

    fn untouched(&self) -> Standing {
        match &self.table {
            Table::Window(store) => store.untouched(self.now()),
            Table::Gcra(store) => store.untouched(self.now()),
        }
    }
}

fn used_millionths(standing: Standing) -> u64 {
    let used = u64::from(standing.capacity.saturating_sub(standing.remaining));
    used * 1_000_000 / u64::from(standing.capacity.max(1))
}
