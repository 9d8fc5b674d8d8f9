//! Who gets the next request: those that may, by the policy of the upstream.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::request::Parts;

use super::in_flight::InFlight;
use super::least_connections::Load;
use super::member::Member;
use super::{Pool, hash, least_connections, random_two, round_robin, slow_start};
use crate::config::{Balance, HashBy, WhenAllFail};
use crate::header::cookies;

/// Who asks, on requests to an upstream that chooses by client; see [`Pool::chooses_by_client`].
#[derive(Debug, Clone, Copy)]
pub struct Asker(pub IpAddr);

/// Why a request gets no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchosen {
    /// None is left for it.
    NoEndpoint,
    /// Those that are left have as many requests as they may have, or the upstream has.
    Full,
}

impl Pool {
    /// Chooses an endpoint and counts a request at it. `tried` holds the ids of endpoints that have had
    /// this request; they don't get it again. `key` is that of [`Pool::key`]. One that is full is passed over as long
    /// as another one has room.
    ///
    /// When all endpoints are out or failing and the policy says so, those that are not drained are used all the
    /// same. That is also the policy of an upstream without a health check: a wrong guess costs an
    /// attempt, refusing costs every request.
    pub fn choose(&self, tried: &[u64], key: Option<u64>, now: Instant) -> Result<InFlight, Unchosen> {
        let members = self.members.load();
        let untried = |member: &Member| !tried.contains(&member.endpoint.id);
        let uses_all = || self.uses_all(&members, now);
        if !uses_all() {
            let usable = |member: &Member| untried(member) && member.endpoint.is_usable(now);
            // Another worker may have taken the trial of a chosen endpoint meanwhile. It is not usable then,
            // so each turn but the last removes one.
            for _ in 0..=members.len() {
                match self.take(&members, usable, key, now) {
                    Ok(in_flight) if in_flight.endpoint().admit(now) => return Ok(in_flight.counted()),
                    Ok(_) => {}
                    Err(Unchosen::Full) => return Err(Unchosen::Full),
                    Err(Unchosen::NoEndpoint) => break,
                }
            }
            if !uses_all() {
                return Err(Unchosen::NoEndpoint);
            }
        }
        let fits = |member: &Member| untried(member) && !member.endpoint.is_drained();
        let in_flight = self.take(&members, fits, key, now)?;
        in_flight.endpoint().admit_anyway();
        Ok(in_flight.counted())
    }

    /// One that is failing and stays because it is the last is no better than those that are out.
    pub(super) fn uses_all(&self, members: &[Member], now: Instant) -> bool {
        let refuses = self.upstream.health.as_ref().is_some_and(|check| check.when_all_fail == WhenAllFail::Refuse);
        !refuses && !members.iter().any(|member| member.endpoint.is_sound(now))
    }

    /// Takes a place at one of those that fit and have room.
    fn take(
        &self,
        members: &[Member],
        fits: impl Fn(&Member) -> bool + Copy,
        key: Option<u64>,
        now: Instant,
    ) -> Result<InFlight, Unchosen> {
        let max = self.queue.endpoint_requests_max();
        if self.queue.has_room() {
            let free = |member: &Member| fits(member) && member.endpoint.has_room(max);
            // Another worker may take the last place of a chosen endpoint meanwhile.
            for _ in 0..=members.len() {
                let load = |member: &Member| member.load(self.upstream.slow_start, now);
                let turn = || self.turn.fetch_add(1, Ordering::Relaxed);
                let Some(member) = self.pick(members, free, load, (key, turn)) else { break };
                if let Some(in_flight) = InFlight::begin(&member.endpoint, max) {
                    return Ok(in_flight);
                }
            }
        }
        Err(if members.iter().any(fits) { Unchosen::Full } else { Unchosen::NoEndpoint })
    }

    /// Whether a usable endpoint is left for a request that `tried` have had.
    pub fn has_choice(&self, tried: &[u64], now: Instant) -> bool {
        self.members.load().iter().any(|member| !tried.contains(&member.endpoint.id) && member.endpoint.is_usable(now))
    }

    /// What a request is kept to one endpoint by; None where the policy is another one, or the request does not have it.
    pub fn key(&self, head: &Parts) -> Option<u64> {
        if self.upstream.balance != Balance::Hash {
            return None;
        }
        let bytes = match &self.upstream.hash_by {
            HashBy::ClientIp => match head.extensions.get::<Asker>()?.0 {
                IpAddr::V4(address) => return Some(hash::hash(&address.octets())),
                IpAddr::V6(address) => return Some(hash::hash(&address.octets())),
            },
            HashBy::Path => head.uri.path().as_bytes(),
            HashBy::Field(name) => head.headers.get(name)?.as_bytes(),
            HashBy::Cookie(name) => cookies::all(&head.headers, name).next()?.as_bytes(),
        };
        (!bytes.is_empty()).then(|| hash::hash(bytes))
    }

    /// Whether a field of the request may say which endpoint it goes to.
    pub fn chooses_by_field(&self) -> bool {
        self.upstream.balance == Balance::Hash && matches!(self.upstream.hash_by, HashBy::Field(_))
    }

    /// Whether requests have to say who asks.
    pub fn chooses_by_client(&self) -> bool {
        self.upstream.balance == Balance::Hash && self.upstream.hash_by == HashBy::ClientIp
    }

    /// The one whose turn it is among those that fit, by their loads.
    pub(super) fn pick<'a>(
        &self,
        members: &'a [Member],
        fits: impl Fn(&Member) -> bool + Copy,
        load: impl Fn(&Member) -> Load + Copy,
        (key, turn): (Option<u64>, impl FnOnce() -> usize),
    ) -> Option<&'a Member> {
        let slow_start = self.upstream.slow_start;
        let fitting = members.iter().filter(move |member| fits(member));
        let loads = fitting.map(move |member| (member, load(member)));
        match (self.upstream.balance, key) {
            (Balance::RoundRobin, _) => {
                round_robin::choose(loads.map(|(member, load)| (member, &member.credit, load.share)))
            }
            (Balance::RandomTwo, _) => random_two::choose(loads, [fastrand::u64(..), fastrand::u64(..)]),
            (Balance::Hash, Some(key)) => {
                let hashed = loads.map(|(member, load)| (member, member.endpoint.hash, load));
                hash::choose(hashed, key, self.upstream.hash_load_max)
            }
            (Balance::LeastConnections | Balance::Hash, _) => {
                let turn = turn();
                let beginner = slow_start.and_then(|_| slow_start::turn_of_beginner(loads.clone(), turn));
                let others = || loads.clone().filter(|(_, load)| !load.is_idle_beginner());
                beginner
                    .or_else(|| slow_start.and_then(|_| least_connections::choose(others(), turn)))
                    .or_else(|| least_connections::choose(loads.clone(), turn))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::{address, upstream};
    use crate::config::Upstream;

    const POLICIES: [Balance; 4] = [Balance::LeastConnections, Balance::RoundRobin, Balance::RandomTwo, Balance::Hash];

    fn capped(balance: Balance, requests_max: usize, endpoint_requests_max: usize) -> Upstream {
        Upstream { balance, requests_max, endpoint_requests_max, ..upstream(2) }
    }

    #[test]
    fn no_more_than_the_caps_are_in_flight_and_what_is_full_is_passed_over() {
        let now = Instant::now();
        let check = |requests_max: usize, endpoint_requests_max: usize, expected: usize| {
            for balance in POLICIES {
                let pool = Pool::new(&capped(balance, requests_max, endpoint_requests_max), None);
                for _ in 0..2 {
                    let held: Vec<_> = (0..expected).map(|_| pool.choose(&[], Some(7), now).unwrap()).collect();
                    assert_eq!(pool.choose(&[], Some(7), now).unwrap_err(), Unchosen::Full, "{balance:?}");
                    drop(held);
                }
                assert!(pool.snapshot(now).iter().all(|endpoint| endpoint.in_flight == 0));
                assert_eq!(
                    pool.snapshot(now).iter().map(|endpoint| endpoint.requests).sum::<u64>(),
                    2 * expected as u64
                );
            }
        };
        check(3, 0, 3);
        check(0, 2, 4);
        check(3, 2, 3);
        check(9, 1, 2);
    }

    #[test]
    fn full_is_not_the_same_as_nobody_left() {
        let now = Instant::now();
        let pool = Pool::new(&capped(Balance::RoundRobin, 0, 1), None);
        let first = pool.choose(&[], None, now).unwrap();
        let tried = [first.endpoint().id];
        let second = pool.choose(&tried, None, now).unwrap();
        assert_eq!(pool.choose(&tried, None, now).unwrap_err(), Unchosen::Full);
        let both = [tried[0], second.endpoint().id];
        assert_eq!(pool.choose(&both, None, now).unwrap_err(), Unchosen::NoEndpoint);
        assert!(pool.drain(address(1)) && pool.drain(address(2)));
        assert_eq!(pool.choose(&[], None, now).unwrap_err(), Unchosen::NoEndpoint);
    }

    #[test]
    fn a_place_that_is_given_back_is_free_and_its_request_still_counts() {
        let now = Instant::now();
        let pool = Pool::new(&Upstream { requests_max: 1, endpoint_requests_max: 1, ..upstream(1) }, None);
        let mut tunnel = pool.choose(&[], None, now).unwrap();
        tunnel.give_place_back();
        tunnel.give_place_back();
        let beside = pool.choose(&[], None, now).unwrap();
        assert_eq!(beside.endpoint().in_flight(), 2);
        assert_eq!(pool.choose(&[], None, now).unwrap_err(), Unchosen::Full);
        drop(tunnel);
        assert_eq!(beside.endpoint().in_flight(), 1);
        assert_eq!(pool.choose(&[], None, now).unwrap_err(), Unchosen::Full);
        drop(beside);
        assert!(pool.choose(&[], None, now).is_ok());
    }

    #[test]
    fn a_generation_counts_by_its_caps_once_it_is_active() {
        let now = Instant::now();
        let first = Pool::new(&capped(Balance::RoundRobin, 1, 0), None);
        let held = first.choose(&[], None, now).unwrap();
        let second = Pool::new(&capped(Balance::RoundRobin, 2, 0), Some(&first));
        assert!(first.choose(&[], None, now).is_err());
        second.activate();
        // Who still has the first one goes by the caps in force.
        let other = first.choose(&[], None, now).unwrap();
        assert!(second.choose(&[], None, now).is_err());
        drop((held, other));
        assert!(second.choose(&[], None, now).is_ok());
    }

    #[test]
    fn threads_that_race_do_not_get_past_the_caps() {
        let pool = Pool::new(&capped(Balance::LeastConnections, 3, 2), None);
        let now = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let held = pool.choose(&[], None, now);
                        let counts: Vec<_> = pool.members().iter().map(|one| one.endpoint.in_flight()).collect();
                        assert!(counts.iter().all(|count| *count <= 2), "{counts:?}");
                        drop(held);
                    }
                });
            }
        });
        assert!(pool.queue().has_room() && pool.snapshot(now).iter().all(|endpoint| endpoint.in_flight == 0));
    }
}
