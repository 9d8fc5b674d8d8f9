//! Who would get a request now, and who next: the choices of [`Pool::choose`], made on copies of what they change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Pool;
use super::endpoint::EndpointStatus;
use super::member::Member;
use crate::config::Balance;

/// So many endpoints are put in order. Each is chosen among all of them, so that the order of thousands would take seconds,
/// and a request that has failed so often is long given up.
const PLACES_MAX: usize = 32;

/// The endpoints of an upstream as a request would find them.
#[derive(Debug)]
pub struct Preview {
    /// Those that it may have, in the order in which it would try them, and then the others.
    pub endpoints: Vec<Previewed>,
    /// All are out, and used all the same.
    pub uses_all: bool,
    /// Nobody has room for it now.
    pub is_full: bool,
    /// The order is made by chance, and is another one each time.
    pub is_chance: bool,
}

#[derive(Debug)]
pub struct Previewed {
    pub status: EndpointStatus,
    /// Where it stands in the order, from one on. None: it is not asked, or would be after many others.
    pub place: Option<usize>,
    /// It has as many requests as it may have.
    pub is_full: bool,
    pub authority: http::HeaderValue,
}

impl Pool {
    /// What [`Pool::choose`] would do with a request of this key, if each endpoint failed in turn.
    pub fn preview(&self, key: Option<u64>, now: Instant) -> Preview {
        let members = self.members();
        let copy = |member: &Member| Member {
            endpoint: Arc::clone(&member.endpoint),
            weight: member.weight,
            credit: member.credit.clone(),
        };
        let copies: Vec<Member> = members.iter().map(copy).collect();
        let uses_all = self.uses_all(&copies, now);
        let max = self.queue.endpoint_requests_max();
        let fits = |member: &Member| match uses_all {
            true => !member.endpoint.is_drained(),
            false => member.endpoint.is_usable(now),
        };
        let has_room = |member: &Member| self.queue.has_room() && member.endpoint.has_room(max);
        let load = |member: &Member| member.load_seen(self.upstream.slow_start, now);
        let first = self.turn.load(Ordering::Relaxed);
        let mut order: Vec<u64> = Vec::new();
        while order.len() < copies.len().min(PLACES_MAX) {
            let left = |member: &Member| fits(member) && has_room(member) && !order.contains(&member.endpoint.id);
            let turn = || first.wrapping_add(order.len());
            let Some(next) = self.pick(&copies, left, load, (key, turn)) else { break };
            order.push(next.endpoint.id);
        }
        let previewed = |member: &Member| Previewed {
            status: member.endpoint.status(member.weight, now),
            place: order.iter().position(|id| *id == member.endpoint.id).map(|at| at + 1),
            is_full: !has_room(member),
            authority: member.endpoint.authority.clone(),
        };
        let mut endpoints: Vec<Previewed> = copies.iter().map(previewed).collect();
        endpoints.sort_by_key(|endpoint| endpoint.place.unwrap_or(usize::MAX));
        Preview {
            is_full: order.is_empty() && copies.iter().any(fits),
            endpoints,
            uses_all,
            is_chance: self.upstream.balance == Balance::RandomTwo,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::tests::{address, upstream_of};
    use crate::config::{Target, Upstream};

    /// An upstream of endpoints with these weights.
    fn weighted(balance: Balance, weights: &[u32]) -> Upstream {
        let endpoints = (1..).zip(weights).map(|(last, weight)| (Target::Socket(address(last)), *weight));
        Upstream { balance, ..upstream_of(endpoints.collect()) }
    }

    proptest! {
        /// Whoever is said to be next is next, and to ask changes nothing.
        #[test]
        fn who_is_said_to_be_next_is_next(
            balance in prop::sample::select(vec![Balance::LeastConnections, Balance::RoundRobin, Balance::Hash]),
            weights in prop::collection::vec(1_u32..4, 1..5),
            keys in prop::collection::vec(any::<Option<u64>>(), 1..20),
            drained in any::<Option<prop::sample::Index>>(),
        ) {
            let now = Instant::now();
            let pool = Pool::new(&weighted(balance, &weights), None);
            if let Some(index) = drained {
                let members = pool.members();
                prop_assert!(pool.drain(index.get(&members).endpoint.address));
            }
            let mut held = Vec::new();
            for key in keys {
                let seen = pool.preview(key, now);
                let again = pool.preview(key, now);
                let order = |preview: &Preview| -> Vec<_> {
                    preview.endpoints.iter().filter(|one| one.place.is_some()).map(|one| one.status.address).collect()
                };
                prop_assert_eq!(order(&seen), order(&again));
                let chosen = pool.choose(&[], key, now).ok();
                let address = chosen.as_ref().map(|chosen| chosen.endpoint().address);
                prop_assert_eq!(order(&seen).first().copied(), address);
                held.extend(chosen.filter(|_| key.is_none_or(|key| key % 2 == 0)));
            }
        }
    }

    #[test]
    fn of_many_only_the_first_are_put_in_order() {
        let pool = Pool::new(&weighted(Balance::RoundRobin, &[1; 200]), None);
        let seen = pool.preview(None, Instant::now());
        let places: Vec<_> = seen.endpoints.iter().map(|one| one.place).collect();
        let expected: Vec<_> = (1..=200).map(|place| (place <= PLACES_MAX).then_some(place)).collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn who_may_not_be_asked_stands_at_the_end() {
        let now = Instant::now();
        let pool = Pool::new(&Upstream { endpoint_requests_max: 1, ..weighted(Balance::RoundRobin, &[1, 1, 1]) }, None);
        let first = pool.choose(&[], None, now).unwrap();
        let drained = pool.preview(None, now).endpoints[0].status.address;
        assert!(pool.drain(drained));
        let seen = pool.preview(None, now);
        let places: Vec<_> = seen.endpoints.iter().map(|one| (one.place.is_some(), one.is_full)).collect();
        assert_eq!(places.iter().filter(|(is_asked, _)| *is_asked).count(), 1);
        assert!(places[0].0 && !seen.is_full);
        let _second = pool.choose(&[], None, now).unwrap();
        assert!(pool.preview(None, now).is_full);
        drop(first);
        assert!(!pool.preview(None, now).is_full);
    }
}
