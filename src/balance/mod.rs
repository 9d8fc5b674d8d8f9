//! Pools of endpoints: who gets the next request of an upstream.
//!
//! A [`Pool`] is one upstream in one generation of the configuration; its [`Endpoint`]s and what is
//! known of them live on over reloads and DNS answers. This module chooses and keeps the books. It never
//! connects: requests are sent by `upstream`, and what became of them is reported here.

mod breaker;
mod call;
mod choice;
mod ejections;
mod endpoint;
mod hash;
pub mod health;
mod in_flight;
mod least_connections;
mod member;
mod outlier;
mod preview;
pub mod probe;
mod queue;
mod random_two;
pub mod resolve;
mod round_robin;
mod slow_start;
mod tally;
mod verdict;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::sync::{Notify, watch};

pub use call::{Breaker, BreakerStatus, Call, Refused};
pub use choice::{Asker, Unchosen};
pub use endpoint::{Endpoint, EndpointStatus, Outcome};
use health::{Limits, Transition};
pub use in_flight::InFlight;
pub use member::Member;
use member::{assemble, configured, initial_addresses};
use outlier::{Others, Outlier};
pub use preview::{Preview, Previewed};
use probe::ProbeError;
pub use queue::{Queue, QueueStatus, Ticket};
use tally::Counts;

use crate::config::{self, HealthCheck, Target, Upstream};
use crate::lock::lock;

/// The endpoints of one upstream.
pub struct Pool {
    upstream: Upstream,
    limits: Limits,
    members: ArcSwap<Vec<Member>>,
    /// The addresses of each source, from which the members are put together.
    addresses: Mutex<Vec<Vec<SocketAddr>>>,
    /// One for each source: a request to resolve it at once.
    nudges: Vec<Notify>,
    turn: AtomicUsize,
    /// Who decides over an ejection sees all those before: the last endpoint stays. Shared by all generations.
    ejecting: Arc<Mutex<()>>,
    /// Counts changes of members and of their health; shared by all generations of the upstream.
    changes: Arc<watch::Sender<u64>>,
    /// Addresses that were drained by hand: one that leaves and comes back is drained still. Shared by all
    /// generations of the upstream.
    drained: Arc<Mutex<HashSet<SocketAddr>>>,
    forgets_probes: bool,
    /// Kept over reloads, until its limits change.
    breaker: Option<Arc<Breaker>>,
    /// Caps, and who waits for room. Shared by all generations of the upstream.
    queue: Arc<Queue>,
    /// The number of this one there, once it serves.
    generation: AtomicU64,
}

/// A source whose addresses DNS knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedSource<'a> {
    /// For [`Pool::set_members`] and [`Pool::nudged`].
    source: usize,
    pub host: &'a str,
    port: u16,
}

impl Pool {
    /// Builds the next generation. Endpoints of `previous` are kept by address with their counts, health
    /// and drain; only another name or transport (TLS, protocol) makes a new endpoint, since idle
    /// connections belong to the old one, and then just the drain is kept. Names keep the addresses they
    /// had. `previous` is left as it is.
    pub fn new(upstream: &Upstream, previous: Option<&Pool>) -> Self {
        let addresses = match previous {
            Some(pool) => initial_addresses(upstream, Some((&pool.upstream, &lock(&pool.addresses)))),
            None => initial_addresses(upstream, None),
        };
        let known = previous.map(Pool::members).unwrap_or_default();
        let same_transport =
            previous.is_some_and(|p| p.upstream.protocol == upstream.protocol && p.upstream.tls == upstream.tls);
        let drained = previous.map(|previous| Arc::clone(&previous.drained)).unwrap_or_default();
        let queue = previous.map(|previous| Arc::clone(&previous.queue)).unwrap_or_default();
        let members = assemble(upstream, &addresses, &known, same_transport, (&lock(&drained), &queue));
        let generation = if previous.is_none() { queue.set_caps(upstream) } else { 0 };
        Pool {
            limits: limits(upstream),
            members: ArcSwap::from_pointee(members),
            nudges: addresses.iter().map(|_| Notify::new()).collect(),
            addresses: Mutex::new(addresses),
            turn: AtomicUsize::new(0),
            changes: previous.map_or_else(|| Arc::new(watch::Sender::new(0)), |p| Arc::clone(&p.changes)),
            ejecting: previous.map(|previous| Arc::clone(&previous.ejecting)).unwrap_or_default(),
            drained,
            forgets_probes: previous.is_some_and(|p| asks_otherwise(&p.upstream, upstream)),
            breaker: breaker_of(upstream, previous),
            queue,
            generation: AtomicU64::new(generation),
            upstream: upstream.clone(),
        }
    }

    /// To be called once when this generation begins to serve: its caps hold from then on. If it checks health in another way than
    /// the one before, or no longer, verdicts of the old check end here. A generation that is built and
    /// thrown away thus leaves no trace.
    pub fn activate(&self) {
        self.generation.store(self.queue.set_caps(&self.upstream), Ordering::Relaxed);
        if self.forgets_probes {
            self.members.load().iter().for_each(|member| member.endpoint.forget_probes());
            self.note_change();
        }
    }

    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The members of this moment.
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.members.load_full()
    }

    /// The names to resolve.
    pub fn names(&self) -> impl Iterator<Item = NamedSource<'_>> {
        configured(&self.upstream).iter().enumerate().filter_map(|(index, source)| match &source.target {
            Target::Name { host, port } => Some(NamedSource { source: index, host, port: *port }),
            Target::Socket(_) => None,
        })
    }

    /// Replaces the addresses of one source; replicas that the proxy starts are source 0. An unknown
    /// source is ignored.
    pub fn set_members(&self, source: usize, addresses: impl IntoIterator<Item = SocketAddr>) {
        let mut new: Vec<SocketAddr> = addresses.into_iter().collect();
        // DNS answers rotate; a fixed order makes equal answers equal.
        new.sort_unstable();
        new.dedup();
        let mut sources = lock(&self.addresses);
        let Some(current) = sources.get_mut(source) else { return };
        if *current == new {
            return;
        }
        *current = new;
        let known = self.members();
        let members = assemble(&self.upstream, &sources, &known, true, (&lock(&self.drained), &self.queue));
        let known: HashSet<u64> = known.iter().map(|member| member.endpoint.id).collect();
        let added = members.iter().filter(|member| !known.contains(&member.endpoint.id)).count();
        let removed = known.len() + added - members.len();
        tracing::info!(
            upstream = %self.upstream.name, endpoints = members.len(), added, removed, "endpoints changed"
        );
        self.members.store(Arc::new(members));
        drop(sources);
        self.note_change();
    }

    /// None if the upstream has none.
    pub fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_deref()
    }

    /// Whether a response counts as a failure for the breaker.
    pub fn is_failure(&self, status: StatusCode) -> bool {
        let breaker = self.upstream.breaker.as_ref();
        breaker.is_some_and(|breaker| breaker.status.iter().any(|range| range.contains(&status.as_u16())))
    }

    /// Whether there is a member that may be asked, and that has passed its probes if it has any.
    pub fn has_proven_member(&self) -> bool {
        let is_probed = self.upstream().health.is_some();
        let is_proven = |endpoint: &Endpoint| {
            endpoint.verdict() == health::Verdict::Usable && !(is_probed && endpoint.is_unknown_to_probes())
        };
        self.members().iter().any(|member| is_proven(&member.endpoint))
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    pub fn breaker_status(&self, now: Instant) -> Option<BreakerStatus> {
        self.breaker().map(|breaker| breaker.status(now))
    }

    /// Whether they share one, or neither has any.
    pub fn has_breaker_of(&self, other: &Pool) -> bool {
        self.breaker.as_ref().map(Arc::as_ptr) == other.breaker.as_ref().map(Arc::as_ptr)
    }

    /// What a response with this status says of its endpoint.
    pub fn judge(&self, status: StatusCode) -> Outcome<'static> {
        let bad = |outlier: &config::Outlier| outlier.status.iter().any(|range| range.contains(&status.as_u16()));
        if self.upstream.outlier.as_ref().is_some_and(bad) { Outcome::AnsweredBadly } else { Outcome::Answered }
    }

    /// Takes note of how a request went. Called at the response head or at the failure; with
    /// [`Outcome::Answered`] for a sound endpoint it costs one atomic load, and a count if outliers are looked for.
    pub fn report(&self, endpoint: &Endpoint, outcome: Outcome<'_>, now: Instant) {
        let (transition, error) = match outcome {
            Outcome::Answered => (endpoint.answered(&self.limits, now), None),
            Outcome::AnsweredBadly => {
                let _one_at_a_time = lock(&self.ejecting);
                (endpoint.answered_badly(&self.limits, || self.others(endpoint, now), now), None)
            }
            Outcome::Failed(error) => {
                let _one_at_a_time = lock(&self.ejecting);
                (endpoint.failed(error, &self.limits, self.others(endpoint, now).1, now), Some(error))
            }
        };
        if let Some(transition) = transition {
            self.note(endpoint, transition, error);
        }
    }

    /// Another generation serves by now: its endpoints may be others than these.
    pub fn is_superseded(&self) -> bool {
        self.generation.load(Ordering::Relaxed) != self.queue.generation()
    }

    /// What the other endpoints answered of late in sum, if outliers are looked for, and which of them are left.
    fn others(&self, endpoint: &Endpoint, now: Instant) -> (Counts, Others) {
        let members = self.members.load();
        let others = members.iter().map(|member| &member.endpoint).filter(|other| other.id != endpoint.id);
        others.fold(Default::default(), |(counts, others), other| {
            let latest = self.limits.outlier.map(|outlier| other.latest(outlier.window, now));
            (counts.and(latest.unwrap_or_default()), other.count_among(others))
        })
    }

    /// Takes note of a probe.
    pub fn report_probe(&self, endpoint: &Endpoint, result: &Result<(), ProbeError>) {
        let (transition, error): (_, Option<&dyn fmt::Display>) = match result {
            Ok(()) => (endpoint.probe_passed(&self.limits), None),
            Err(error) => (endpoint.probe_failed(error, &self.limits), Some(error)),
        };
        if let Some(transition) = transition {
            self.note(endpoint, transition, error);
        }
    }

    /// Gives an endpoint no new requests; those in flight end. False: there is none with this address.
    pub fn drain(&self, address: SocketAddr) -> bool {
        let is_known = self.by_hand(address, Endpoint::drain);
        if is_known {
            lock(&self.drained).insert(address);
        }
        is_known
    }

    /// The endpoint may be away at the moment. False: there is none with this address, and none was drained.
    pub fn undrain(&self, address: SocketAddr) -> bool {
        let was_drained = lock(&self.drained).remove(&address);
        self.by_hand(address, Endpoint::undrain) || was_drained
    }

    fn by_hand(&self, address: SocketAddr, change: fn(&Endpoint) -> Option<Transition>) -> bool {
        let Some(endpoint) = self.endpoint(address) else { return false };
        if let Some(transition) = change(&endpoint) {
            self.note(&endpoint, transition, None);
        }
        true
    }

    /// The member with this address.
    pub fn endpoint(&self, address: SocketAddr) -> Option<Arc<Endpoint>> {
        let members = self.members.load();
        members.iter().find(|member| member.endpoint.address == address).map(|member| Arc::clone(&member.endpoint))
    }

    /// An endpoint of this address that is no member, to ask it before it becomes one.
    pub fn stranger(&self, address: SocketAddr) -> Arc<Endpoint> {
        member::stranger(&self.upstream, address)
    }

    /// Has the names of this upstream resolved at once; for a connect that failed. Cheap, and any number
    /// of calls is one.
    pub fn nudge(&self) {
        self.nudges.iter().for_each(Notify::notify_one);
    }

    /// Ready after a [`Pool::nudge`], also one from before the call; for one waiter a source.
    async fn nudged(&self, source: usize) {
        match self.nudges.get(source) {
            Some(nudge) => nudge.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Changes with each change of members or of their health.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Every endpoint, for metrics and the status page.
    pub fn snapshot(&self, now: Instant) -> Vec<EndpointStatus> {
        self.members.load().iter().map(|member| member.endpoint.status(member.weight, now)).collect()
    }

    fn note(&self, endpoint: &Endpoint, transition: Transition, error: Option<&dyn fmt::Display>) {
        let (upstream, address) = (&self.upstream.name, endpoint.address);
        match error {
            Some(error) => tracing::warn!("endpoint {address} of {upstream} {transition} ({error})"),
            None => tracing::info!("endpoint {address} of {upstream} {transition}"),
        }
        self.note_change();
    }

    fn note_change(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        // Who waits may have an endpoint now, or none to wait for.
        self.queue.wake();
    }
}

fn limits(upstream: &Upstream) -> Limits {
    let check = upstream.health.as_ref();
    Limits {
        fails_max: upstream.fails_max,
        fail_timeout: upstream.fail_timeout,
        fail_timeout_max: upstream.fail_timeout_max,
        healthy_after: check.map_or(1, |check| check.healthy_after),
        unhealthy_after: check.map_or(1, |check| check.unhealthy_after),
        outlier: upstream.outlier.as_ref().map(|outlier| Outlier {
            share_percent: outlier.share,
            requests: outlier.requests,
            window: outlier.window,
            ejected_percent_max: outlier.ejected_max,
        }),
    }
}

fn breaker_of(upstream: &Upstream, previous: Option<&Pool>) -> Option<Arc<Breaker>> {
    let config::Breaker { failures, window, share, open, .. } = *upstream.breaker.as_ref()?;
    let limits = breaker::Limits { failures, share_percent: share, window, open };
    let kept = previous.and_then(|previous| previous.breaker.clone()).filter(|kept| *kept.limits() == limits);
    Some(kept.unwrap_or_else(|| Arc::new(Breaker::new(&upstream.name, limits))))
}

/// Whether answers to the check of `before` say nothing about that of `after`.
fn asks_otherwise(before: &Upstream, after: &Upstream) -> bool {
    fn question(check: &HealthCheck) -> impl PartialEq {
        (check.path.clone(), check.expect_status.clone(), check.expect_body.clone())
    }
    before.health.as_ref().map(question) != after.health.as_ref().map(question)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::balance::health::Verdict;
    use crate::config::{
        Balance, EndpointAddress, HashBy, Keepalive, Retry, Source, Timeouts, UpstreamProtocol, WhenAllFail,
    };

    pub(crate) fn named(host: &str) -> Target {
        Target::Name { host: host.to_owned(), port: 3000 }
    }

    pub(crate) fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 3000).into()
    }

    /// An upstream of the endpoints 10.0.0.1:3000, 10.0.0.2:3000, …
    pub(crate) fn upstream(count: u8) -> Upstream {
        upstream_of((1..=count).map(|last| (Target::Socket(address(last)), 1)).collect())
    }

    pub(crate) fn upstream_of(endpoints: Vec<(Target, u32)>) -> Upstream {
        let second = Duration::from_secs(1);
        let endpoints = endpoints.into_iter().map(|(target, weight)| EndpointAddress { target, weight });
        Upstream {
            name: "app".to_owned(),
            source: Source::Endpoints(endpoints.collect()),
            protocol: UpstreamProtocol::H1,
            tls: None,
            balance: Balance::LeastConnections,
            fails_max: 1,
            fail_timeout: 30 * second,
            fail_timeout_max: 300 * second,
            outlier: None,
            slow_start: None,
            hash_by: HashBy::ClientIp,
            hash_load_max: None,
            requests_max: 0,
            endpoint_requests_max: 0,
            queue: None,
            keepalive: Keepalive { connections: 32, requests: 100, idle: 60 * second },
            timeout: Timeouts {
                connect: second,
                send: second,
                read: second,
                tunnel_idle: second,
                total: None,
                attempt: None,
            },
            health: None,
            breaker: None,
            retry: Retry { attempts: 2, status: vec![], backoff: second, budget_percent: 20 },
        }
    }

    pub(crate) fn check_of(path: &str) -> HealthCheck {
        HealthCheck {
            path: path.to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 3,
            expect_status: vec![200..=399],
            expect_body: None,
            when_all_fail: WhenAllFail::UseAll,
        }
    }

    impl Pool {
        /// Waits until each of `addresses` is a member and healthy: a probe has passed and nothing speaks
        /// against it. Without a health check, to be usable is enough.
        pub(crate) async fn wait_healthy(&self, addresses: &[SocketAddr]) {
            let mut changes = self.changes();
            loop {
                changes.borrow_and_update();
                if self.are_healthy(addresses) || changes.changed().await.is_err() {
                    return;
                }
            }
        }

        pub(crate) fn are_healthy(&self, addresses: &[SocketAddr]) -> bool {
            let checked = self.upstream.health.is_some();
            let members = self.members.load();
            let healthy: HashSet<SocketAddr> = members
                .iter()
                .filter(|m| {
                    m.endpoint.verdict() == health::Verdict::Usable && (!checked || !m.endpoint.is_unknown_to_probes())
                })
                .map(|m| m.endpoint.address)
                .collect();
            addresses.iter().all(|address| healthy.contains(address))
        }
    }

    const POLICIES: [Balance; 4] = [Balance::LeastConnections, Balance::RoundRobin, Balance::RandomTwo, Balance::Hash];

    fn outlier() -> config::Outlier {
        let window = Duration::from_secs(10);
        config::Outlier { share: 50, requests: 20, window, status: vec![500..=599], ejected_max: 50 }
    }

    /// How many of `count` requests each endpoint gets, each over before the next.
    fn spread(pool: &Pool, count: u64, now: Instant) -> Vec<usize> {
        let mut counts = vec![0; pool.members().len()];
        for key in 0..count {
            let chosen = pool.choose(&[], Some(hash::hash(&key.to_be_bytes())), now).unwrap();
            let address = chosen.endpoint().address;
            let index = pool.members().iter().position(|member| member.endpoint.address == address).unwrap();
            counts[index] += 1;
        }
        counts
    }

    fn fail(pool: &Pool, last: u8, now: Instant) {
        let members = pool.members();
        let member = members.iter().find(|m| m.endpoint.address == address(last)).unwrap();
        pool.report(&member.endpoint, Outcome::Failed(&"connection refused"), now);
    }

    /// The last parts of the addresses that are chosen one after another for one request.
    fn attempts(pool: &Pool, now: Instant) -> Vec<u8> {
        let (mut tried, mut order) = (Vec::new(), Vec::new());
        while let Ok(in_flight) = pool.choose(&tried, None, now) {
            tried.push(in_flight.endpoint().id);
            order.push(in_flight.endpoint().address.to_string().as_bytes()[7] - b'0');
        }
        order.sort_unstable();
        order
    }

    #[test]
    fn each_endpoint_gets_a_request_once() {
        let now = Instant::now();
        for balance in POLICIES {
            let pool = Pool::new(&Upstream { balance, ..upstream(3) }, None);
            assert_eq!(attempts(&pool, now), [1, 2, 3]);
            fail(&pool, 2, now);
            assert_eq!(attempts(&pool, now), [1, 3]);
            pool.drain(address(1));
            assert_eq!(attempts(&pool, now), [3]);
            assert!(attempts(&Pool::new(&upstream(0), None), now).is_empty());
        }
    }

    #[test]
    fn when_all_are_out_the_policy_decides() {
        let now = Instant::now();
        let check = |when_all_fail: Option<WhenAllFail>, expected: &[u8]| {
            let mut upstream = upstream(3);
            upstream.health = when_all_fail.map(|when_all_fail| HealthCheck { when_all_fail, ..check_of("/health") });
            let pool = Pool::new(&upstream, None);
            pool.drain(address(3));
            fail(&pool, 1, now);
            assert_eq!(attempts(&pool, now), [2]);
            fail(&pool, 2, now);
            assert_eq!(attempts(&pool, now), expected, "{when_all_fail:?}");
        };
        check(None, &[1, 2]);
        check(Some(WhenAllFail::UseAll), &[1, 2]);
        check(Some(WhenAllFail::Refuse), &[2]);
    }

    #[test]
    fn an_answer_while_all_are_out_brings_the_endpoint_back() {
        let now = Instant::now();
        let pool = Pool::new(&upstream(2), None);
        fail(&pool, 1, now);
        fail(&pool, 2, now);
        let in_flight = pool.choose(&[], None, now).unwrap();
        pool.report(in_flight.endpoint(), Outcome::Answered, now);
        assert_eq!(in_flight.endpoint().verdict(), Verdict::Usable);
    }

    #[test]
    fn failures_while_all_are_out_are_no_news() {
        let now = Instant::now();
        let pool = Pool::new(&upstream(2), None);
        fail(&pool, 1, now);
        fail(&pool, 2, now);
        let changes = pool.changes();
        for _ in 0..100 {
            let in_flight = pool.choose(&[], None, now).unwrap();
            pool.report(in_flight.endpoint(), Outcome::Failed(&"connection refused"), now);
        }
        assert!(!changes.has_changed().unwrap());
    }

    #[test]
    fn after_its_pause_an_endpoint_gets_one_request() {
        let now = Instant::now();
        let pool = Pool::new(&upstream(2), None);
        fail(&pool, 1, now);
        let later = now + Duration::from_secs(30);
        assert_eq!(attempts(&pool, later), [1, 2]);
        assert_eq!(attempts(&pool, later), [2]);
        pool.report(&pool.members()[0].endpoint, Outcome::Answered, later);
        assert_eq!(attempts(&pool, later), [1, 2]);
    }

    #[test]
    fn who_comes_back_gets_its_share_little_by_little() {
        let start = Instant::now();
        for balance in POLICIES {
            let slow_start = Some(Duration::from_secs(10));
            let pool = Pool::new(&Upstream { balance, slow_start, ..upstream(2) }, None);
            assert!(spread(&pool, 2000, start).into_iter().all(|count| count.abs_diff(1000) < 100), "{balance:?}");
            fail(&pool, 1, start);
            let back = start + Duration::from_secs(30);
            let trial = loop {
                let chosen = pool.choose(&[], None, back).unwrap();
                if chosen.endpoint().address == address(1) {
                    break chosen;
                }
            };
            pool.report(trial.endpoint(), Outcome::Answered, back);
            drop(trial);
            let mut before = 0;
            for (seconds, part) in [(0, 0.0), (2, 0.2), (5, 0.5), (8, 0.8), (10, 1.0)] {
                let count = spread(&pool, 2000, back + Duration::from_secs(seconds))[0];
                let due = (2000.0 * part / (1.0 + part)) as usize;
                assert!(count.abs_diff(due) < 130 && count + 130 > before, "{balance:?}: {count} after {seconds} s");
                before = count;
            }
        }
    }

    #[test]
    fn an_idle_endpoint_that_begins_is_not_given_everything() {
        let start = Instant::now();
        let pool = Pool::new(&Upstream { slow_start: Some(Duration::from_secs(10)), ..upstream(2) }, None);
        let endpoint = pool.endpoint(address(1)).unwrap();
        let _busy: Vec<_> = (0..20).map(|_| InFlight::begin(&pool.endpoint(address(2)).unwrap(), 0)).collect();
        endpoint.begin_slowly();
        assert!(spread(&pool, 100, start)[0] <= 1);
        assert!((150..=180).contains(&spread(&pool, 1000, start + Duration::from_secs(2))[0]));
        let taken: Vec<_> = (0..20).map(|_| pool.choose(&[], None, start + Duration::from_secs(5)).unwrap()).collect();
        let begun = taken.iter().filter(|taken| taken.endpoint().address == address(1)).count();
        assert!((13..=14).contains(&begun), "half of what the other one has, not {begun}");
    }

    #[test]
    fn a_key_stays_until_its_endpoint_is_out_and_comes_back_to_it() {
        let now = Instant::now();
        let pool = Pool::new(&Upstream { balance: Balance::Hash, ..upstream(3) }, None);
        let at = |key: u64, now| pool.choose(&[], Some(key), now).unwrap().endpoint().address;
        let before: Vec<_> = (0..100).map(|key| at(key, now)).collect();
        fail(&pool, 2, now);
        for (key, before) in before.iter().enumerate() {
            let moved = at(key as u64, now) != *before;
            assert_eq!(moved, *before == address(2), "{key}");
        }
        let trial = (0..100).find(|key| at(*key, now + Duration::from_secs(30)) == address(2)).unwrap();
        assert_eq!(before[trial as usize], address(2));
        pool.report(&pool.endpoint(address(2)).unwrap(), Outcome::Answered, now + Duration::from_secs(30));
        let after: Vec<_> = (0..100).map(|key| at(key, now + Duration::from_secs(31))).collect();
        assert_eq!(before, after);
        let _held = [pool.choose(&[], Some(trial), now), pool.choose(&[], Some(trial), now)];
        assert_eq!(at(trial, now + Duration::from_secs(31)), address(2), "however much it has to do");
    }

    #[test]
    fn a_key_is_passed_on_when_its_endpoint_has_more_than_the_bound() {
        let now = Instant::now();
        let policy = Upstream { balance: Balance::Hash, hash_load_max: Some(150), ..upstream(2) };
        let pool = Pool::new(&policy, None);
        let held: Vec<_> = (0..40).map(|_| pool.choose(&[], Some(7), now).unwrap()).collect();
        let mut counts: Vec<_> = pool.snapshot(now).iter().map(|endpoint| endpoint.in_flight).collect();
        counts.sort_unstable();
        assert_eq!(counts, [10, 30]);
        drop(held);
    }

    #[test]
    fn an_outlier_is_taken_out_and_a_general_fault_takes_out_none() {
        let now = Instant::now();
        let answer = |pool: &Pool, last: u8, status: u16, count: usize| {
            let endpoint = pool.endpoint(address(last)).unwrap();
            let outcome = pool.judge(StatusCode::from_u16(status).unwrap());
            (0..count).for_each(|_| pool.report(&endpoint, outcome, now));
        };
        let states = |pool: &Pool| pool.snapshot(now).iter().map(|e| e.state).collect::<Vec<_>>();
        let watching = Upstream { outlier: Some(outlier()), ..upstream(3) };
        let pool = Pool::new(&watching, None);
        answer(&pool, 1, 200, 20);
        answer(&pool, 2, 404, 20);
        answer(&pool, 3, 503, 19);
        assert_eq!(states(&pool), ["usable"; 3]);
        answer(&pool, 3, 503, 1);
        assert_eq!(states(&pool), ["usable", "usable", "ejected"]);
        answer(&pool, 2, 503, 100);
        assert_eq!(states(&pool), ["usable", "usable", "ejected"], "half of them may be out");
        let pool = Pool::new(&watching, None);
        for _ in 0..50 {
            (1..=3).for_each(|last| answer(&pool, last, 500, 1));
        }
        assert_eq!(states(&pool), ["usable"; 3], "all of them fail");
        let pool = Pool::new(&upstream(3), None);
        answer(&pool, 3, 503, 1000);
        assert_eq!(states(&pool), ["usable"; 3], "statuses do not count");
    }

    #[test]
    fn the_last_endpoint_is_failing_and_not_out() {
        let now = Instant::now();
        let pool = Pool::new(&upstream(2), None);
        let states = |pool: &Pool| pool.snapshot(now).iter().map(|e| e.state).collect::<Vec<_>>();
        fail(&pool, 1, now);
        fail(&pool, 2, now);
        assert_eq!(states(&pool), ["ejected", "failing"]);
        pool.report(&pool.endpoint(address(2)).unwrap(), Outcome::Answered, now);
        assert_eq!(states(&pool), ["ejected", "usable"]);
    }

    #[test]
    fn busy_endpoints_get_less_and_weights_are_respected() {
        let now = Instant::now();
        let weighted = upstream_of(vec![(Target::Socket(address(1)), 2), (Target::Socket(address(2)), 1)]);
        let pool = Pool::new(&weighted, None);
        let in_flight: Vec<_> = (0..9).map(|_| pool.choose(&[], None, now).unwrap()).collect();
        let counts = |pool: &Pool| pool.snapshot(now).iter().map(|e| e.in_flight).collect::<Vec<_>>();
        assert_eq!(counts(&pool), [6, 3]);
        drop(in_flight);
        assert_eq!(counts(&pool), [0, 0]);
    }

    #[test]
    fn a_reload_keeps_what_is_known_and_a_discarded_one_leaves_no_trace() {
        let now = Instant::now();
        let check = |path| Upstream { health: Some(check_of(path)), ..upstream(2) };
        let pool = Pool::new(&check("/health"), None);
        let _in_flight = pool.choose(&[], None, now);
        for _ in 0..3 {
            pool.report_probe(&pool.members()[0].endpoint, &Err(ProbeError::Body));
        }
        let states = |pool: &Pool| pool.snapshot(now).iter().map(|e| e.state).collect::<Vec<_>>();
        let same = Pool::new(&check("/health"), Some(&pool));
        same.activate();
        assert_eq!(states(&same), ["unhealthy", "usable"]);
        assert_eq!(same.snapshot(now).iter().map(|e| e.in_flight).sum::<usize>(), 1);
        let other = Pool::new(&check("/ready"), Some(&same));
        assert_eq!(states(&same), ["unhealthy", "usable"], "built, not yet active");
        other.activate();
        assert_eq!(states(&other), ["usable", "usable"]);
    }

    #[test]
    fn members_follow_their_source_and_keep_their_state() {
        let now = Instant::now();
        let pool = Pool::new(&upstream_of(vec![(named("app"), 1), (Target::Socket(address(9)), 1)]), None);
        assert_eq!(pool.names().collect::<Vec<_>>(), [NamedSource { source: 0, host: "app", port: 3000 }]);
        assert_eq!(attempts(&pool, now), [9]);
        pool.set_members(0, [address(2), address(1), address(2)]);
        assert_eq!(attempts(&pool, now), [1, 2, 9]);
        fail(&pool, 2, now);
        pool.set_members(0, [address(2), address(3)]);
        assert_eq!(attempts(&pool, now), [3, 9]);
        pool.set_members(7, [address(4)]);
        assert_eq!(attempts(&pool, now), [3, 9]);
        assert!(!pool.drain(address(1)) && pool.drain(address(3)) && pool.undrain(address(3)));
    }

    #[test]
    fn a_drain_by_hand_outlives_an_absence() {
        let now = Instant::now();
        let upstream = upstream_of(vec![(named("app"), 1)]);
        let pool = Pool::new(&upstream, None);
        let both = [address(1), address(2)];
        pool.set_members(0, both);
        assert!(pool.drain(address(2)));
        pool.set_members(0, [address(1)]);
        pool.set_members(0, both);
        assert_eq!(attempts(&pool, now), [1]);
        pool.set_members(0, [address(1)]);
        let next = Pool::new(&upstream, Some(&pool));
        next.set_members(0, both);
        assert_eq!(attempts(&next, now), [1], "over a reload too");
        next.set_members(0, [address(1)]);
        assert!(next.undrain(address(2)) && !next.undrain(address(3)));
        next.set_members(0, both);
        assert_eq!(attempts(&next, now), [1, 2]);
    }

    #[tokio::test]
    async fn waiting_for_new_replicas_ends_when_each_has_passed_a_probe() {
        let upstream = Upstream { health: Some(check_of("/health")), ..upstream_of(vec![(named("app"), 1)]) };
        let pool = Pool::new(&upstream, None);
        let addresses = [address(1), address(2)];
        let events = async {
            pool.set_members(0, addresses);
            for member in pool.members().iter() {
                tokio::task::yield_now().await;
                assert!(!pool.are_healthy(&addresses));
                pool.report_probe(&member.endpoint, &Ok(()));
            }
        };
        tokio::join!(pool.wait_healthy(&addresses), events);
        assert!(pool.are_healthy(&addresses));
    }

    proptest! {
        /// Whatever has failed, was drained or probed: no endpoint is chosen twice for a request, a
        /// drained one never, and one that is out only when all are.
        #[test]
        fn a_choice_is_untried_and_usable(
            events in prop::collection::vec((0u8..4, 1u8..6, 0u64..20), 0..60),
            balance in prop::sample::select(POLICIES.to_vec()),
            key: Option<u64>,
            slow_start in prop::sample::select(vec![None, Some(Duration::from_secs(10))]),
        ) {
            let health = Some(HealthCheck { unhealthy_after: 1, ..check_of("/health") });
            let pool = Pool::new(&Upstream { balance, health, slow_start, ..upstream(5) }, None);
            let mut now = Instant::now();
            for (event, last, seconds) in events {
                now += Duration::from_secs(seconds);
                let endpoint = Arc::clone(&pool.members()[usize::from(last) - 1].endpoint);
                match event {
                    0 => fail(&pool, last, now),
                    1 => pool.report_probe(&endpoint, &Err(ProbeError::Body)),
                    2 => pool.report_probe(&endpoint, &Ok(())),
                    _ => { pool.drain(address(last)); }
                }
                let mut tried = Vec::new();
                loop {
                    let usable: Vec<u64> = pool.members().iter().map(|m| &m.endpoint)
                        .filter(|e| e.is_usable(now)).map(|e| e.id).collect();
                    let has_sound = pool.members().iter().any(|m| m.endpoint.is_sound(now));
                    let Ok(chosen) = pool.choose(&tried, key, now) else {
                        prop_assert!(usable.iter().all(|id| tried.contains(id)));
                        break;
                    };
                    let id = chosen.endpoint().id;
                    prop_assert!(!tried.contains(&id) && !chosen.endpoint().is_drained());
                    prop_assert!(usable.contains(&id) || !has_sound);
                    tried.push(id);
                }
            }
            prop_assert!(pool.snapshot(now).iter().all(|e| e.in_flight == 0));
        }

        /// Failures and bad answers alone leave an endpoint in, whatever happens between them.
        #[test]
        fn the_last_endpoint_stays_in(events in prop::collection::vec((0u8..4, 1u8..4, 0u64..20), 0..200)) {
            let pool = Pool::new(&Upstream { outlier: Some(outlier()), fails_max: 2, ..upstream(3) }, None);
            let mut now = Instant::now();
            for (event, last, seconds) in events {
                now += Duration::from_secs(seconds);
                let endpoint = pool.endpoint(address(last)).unwrap();
                let _in_flight = pool.choose(&[], None, now).unwrap();
                match event {
                    0 => fail(&pool, last, now),
                    1 => (0..20).for_each(|_| pool.report(&endpoint, Outcome::AnsweredBadly, now)),
                    _ => pool.report(&endpoint, Outcome::Answered, now),
                }
                let verdicts = pool.members().iter().map(|m| m.endpoint.verdict()).collect::<Vec<_>>();
                let is_in = |verdict: &Verdict| matches!(verdict, Verdict::Usable | Verdict::Failing);
                prop_assert!(verdicts.iter().any(is_in), "{verdicts:?}");
                prop_assert!(verdicts.iter().filter(|v| **v == Verdict::Failing).count() <= 1, "{verdicts:?}");
            }
        }
    }
}
