//! Who gets the next request: those that may, by the policy of the upstream.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::request::Parts;

use super::endpoint::{Endpoint, InFlight};
use super::member::Member;
use super::{Pool, hash, least_connections, random_two, round_robin, slow_start};
use crate::config::{Balance, HashBy, WhenAllFail};
use crate::header::cookies;

/// Who asks, on requests to an upstream that chooses by client; see [`Pool::chooses_by_client`].
#[derive(Debug, Clone, Copy)]
pub struct Asker(pub IpAddr);

impl Pool {
    /// Chooses an endpoint and counts a request at it. `tried` holds the ids of endpoints that have had
    /// this request; they don't get it again. `key` is that of [`Pool::key`]. None: no endpoint is left for it.
    ///
    /// When all endpoints are out or failing and the policy says so, those that are not drained are used all the
    /// same. That is also the policy of an upstream without a health check: a wrong guess costs an
    /// attempt, refusing costs every request.
    pub fn choose(&self, tried: &[u64], key: Option<u64>, now: Instant) -> Option<InFlight> {
        let members = self.members.load();
        let untried = |member: &Member| !tried.contains(&member.endpoint.id);
        let refuses = self.upstream.health.as_ref().is_some_and(|check| check.when_all_fail == WhenAllFail::Refuse);
        // One that is failing and stays because it is the last is no better than those that are out.
        let uses_all = || !refuses && !members.iter().any(|member| member.endpoint.is_sound(now));
        if !uses_all() {
            let usable = |member: &Member| untried(member) && member.endpoint.is_usable(now);
            // Another worker may have taken the trial of a chosen endpoint meanwhile. It is not usable then,
            // so each turn but the last removes one.
            for _ in 0..=members.len() {
                let Some(endpoint) = self.pick(&members, usable, key, now) else { break };
                if endpoint.admit(now) {
                    return Some(InFlight::begin(endpoint));
                }
            }
            if !uses_all() {
                return None;
            }
        }
        let endpoint = self.pick(&members, |member| untried(member) && !member.endpoint.is_drained(), key, now)?;
        endpoint.admit_anyway();
        Some(InFlight::begin(endpoint))
    }

    /// Whether a sound endpoint is left for a request that `tried` have had.
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

    /// Whether requests have to say who asks.
    pub fn chooses_by_client(&self) -> bool {
        self.upstream.balance == Balance::Hash && self.upstream.hash_by == HashBy::ClientIp
    }

    fn pick<'a>(
        &self,
        members: &'a [Member],
        fits: impl Fn(&Member) -> bool + Copy,
        key: Option<u64>,
        now: Instant,
    ) -> Option<&'a Arc<Endpoint>> {
        let slow_start = self.upstream.slow_start;
        let fitting = members.iter().filter(move |member| fits(member));
        let loads = fitting.clone().map(move |member| (member, member.load(slow_start, now)));
        let chosen = match (self.upstream.balance, key) {
            (Balance::RoundRobin, _) => {
                round_robin::choose(loads.map(|(member, load)| (member, &member.credit, load.share)))
            }
            (Balance::RandomTwo, _) => random_two::choose(loads, [fastrand::u64(..), fastrand::u64(..)]),
            (Balance::Hash, Some(key)) => {
                let hashed = loads.map(|(member, load)| (member, member.endpoint.hash, load));
                hash::choose(hashed, key, self.upstream.hash_load_max)
            }
            (Balance::LeastConnections | Balance::Hash, _) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let beginner = slow_start.and_then(|_| slow_start::turn_of_beginner(loads.clone(), turn));
                let others = || loads.clone().filter(|(_, load)| !load.is_idle_beginner());
                beginner
                    .or_else(|| slow_start.and_then(|_| least_connections::choose(others(), turn)))
                    .or_else(|| least_connections::choose(loads.clone(), turn))
            }
        };
        chosen.map(|member| &member.endpoint)
    }
}
