//! A thousand little worlds in which endpoints fail, requests are sent and sent again, and time is a number.
//!
//! What decides is the real thing: the pool with its health, the breaker, the rule of retries and their budget. What is
//! made up is the network between: how an attempt ends, and when. A world is made of its seed alone, which a failure
//! names; `SEED=7 cargo test --lib simulation` runs that one.

mod queue;
mod requests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use http::StatusCode;

use crate::balance::health::Verdict;
use crate::balance::probe::ProbeError;
use crate::balance::{Call, InFlight, Pool};
use crate::config::{self, Balance, Upstream, WhenAllFail};
use crate::upstream::Fate;
use crate::upstream::budget::Budget;
use crate::upstream::retry::Next;

const SEEDS: u64 = 1_000;
const REQUESTS: usize = 200;
/// In which requests come; endpoints change all the while.
const SPAN_MS: u64 = 60_000;
const READ_TIMEOUT_MS: u64 = 3_000;

/// How an endpoint is for a while.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Well,
    Slow,
    Refuses,
    Resets,
    Hangs,
    Errs,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Status(u16),
    Failed(Fate),
    /// The endpoint was taken out, and the request moves on.
    Moved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    /// The attempt of that number is over.
    Ends(usize, u32),
    /// The pause before an attempt is over.
    Resumes(usize),
    Leaves(usize),
    Changes(u8),
    Probes(u8),
    ByHand(u8),
}

struct Request<'p> {
    is_idempotent: bool,
    key: Option<u64>,
    call: Option<Call<'p>>,
    /// When it was let through, if the breaker was not closed.
    trial_at_ms: Option<u64>,
    tried: Vec<u64>,
    attempts: u32,
    next: Next,
    /// An endpoint may have acted upon it.
    may_be_done: bool,
    at: Option<Attempt>,
}

struct Attempt {
    in_flight: InFlight,
    begun: Instant,
    ejections: u64,
    end: End,
}

struct World<'p> {
    pool: &'p Pool,
    budget: Budget,
    rng: Rng,
    start: Instant,
    now_ms: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    modes: Vec<Mode>,
    open: BTreeMap<usize, Request<'p>>,
    ended: usize,
    breaker: &'static str,
    arrivals: VecDeque<u64>,
    paid: VecDeque<u64>,
    /// Probes or operators may take out the last endpoint; failures must not.
    failures_alone: bool,
}

fn address(number: usize) -> SocketAddr {
    ([10, 0, 0, number as u8 + 1], 3000).into()
}

/// An upstream with everything that a configuration can say, drawn.
fn upstream(rng: &mut Rng) -> Upstream {
    let seconds = |rng: &mut Rng, range| Duration::from_secs(rng.u64(range));
    let mut upstream = crate::balance::tests::upstream(rng.u8(1..=5));
    let policies = [Balance::LeastConnections, Balance::RoundRobin, Balance::RandomTwo, Balance::Hash];
    upstream.balance = policies[rng.usize(..policies.len())];
    upstream.hash_load_max = rng.bool().then_some(150);
    upstream.fails_max = rng.u32(0..=3);
    upstream.fail_timeout = seconds(rng, 1..=10);
    upstream.fail_timeout_max = upstream.fail_timeout * 4;
    upstream.slow_start = rng.bool().then(|| seconds(rng, 1..=20));
    upstream.outlier = rng.bool().then(|| config::Outlier {
        share: rng.u32(20..=80),
        requests: rng.u32(1..=20),
        window: seconds(rng, 1..=20),
        status: vec![500..=599],
        ejected_max: rng.u32(1..=100),
    });
    upstream.breaker = rng.bool().then(|| config::Breaker {
        failures: rng.u32(1..=10),
        window: seconds(rng, 1..=30),
        share: rng.u32(1..=100),
        open: seconds(rng, 1..=10),
        status: vec![500..=599],
    });
    upstream.health = rng.bool().then(|| config::HealthCheck {
        unhealthy_after: rng.u32(1..=3),
        healthy_after: rng.u32(1..=3),
        when_all_fail: if rng.bool() { WhenAllFail::UseAll } else { WhenAllFail::Refuse },
        ..crate::balance::tests::check_of("/health")
    });
    upstream.retry.attempts = rng.u32(1..=4);
    upstream.retry.budget_percent = [0, 20, 100][rng.usize(..3)];
    if rng.bool() {
        upstream.retry.status = vec![503..=503];
    }
    upstream
}

#[test]
fn whatever_fails_the_rules_hold() {
    for seed in seeds() {
        let _told = Told(seed);
        run(seed);
    }
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    }
}

/// Says which world it was, if it did not end well.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this world is {}", self.0);
        }
    }
}

fn run(seed: u64) {
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let upstream = upstream(&mut rng);
    let pool = Pool::new(&upstream, None);
    let mut world = World::new(&pool, rng);
    while let Some(Reverse((at_ms, event))) = world.events.pop() {
        world.now_ms = at_ms;
        world.happens(event);
        world.moves_on();
        world.holds();
    }
    assert!(world.open.is_empty(), "requests without an end");
    assert_eq!(world.ended, REQUESTS);
    assert!(pool.snapshot(world.now()).iter().all(|endpoint| endpoint.in_flight == 0), "in flight at the end");
}

impl<'p> World<'p> {
    fn new(pool: &'p Pool, mut rng: Rng) -> Self {
        let start = Instant::now() + Duration::from_secs(1);
        let count = pool.members().len();
        let mut events = BinaryHeap::new();
        // Bursts, with pauses between them, so that budgets and breakers have something to do.
        let crowded = rng.bool();
        for number in 0..REQUESTS {
            let at_ms = if crowded { rng.u64(..6) * 10_000 + rng.u64(..300) } else { rng.u64(..SPAN_MS) };
            events.push(Reverse((at_ms, Event::Arrives(number))));
        }
        let by_hand = rng.u8(..4) == 0;
        for endpoint in 0..count as u8 {
            events.push(Reverse((0, Event::Changes(endpoint))));
            if pool.upstream().health.is_some() {
                events.push(Reverse((rng.u64(..1_000), Event::Probes(endpoint))));
            }
            if by_hand {
                events.push(Reverse((rng.u64(..SPAN_MS), Event::ByHand(endpoint))));
            }
        }
        World {
            budget: Budget::new(start),
            start,
            now_ms: 0,
            events,
            modes: vec![Mode::Well; count],
            open: BTreeMap::new(),
            ended: 0,
            breaker: "closed",
            arrivals: VecDeque::new(),
            paid: VecDeque::new(),
            failures_alone: pool.upstream().health.is_none() && !by_hand,
            pool,
            rng,
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    fn later(&mut self, ms: u64, event: Event) {
        self.events.push(Reverse((self.now_ms + ms, event)));
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives(number) => self.arrives(number),
            Event::Ends(number, attempt) => {
                let request = self.open.get_mut(&number).filter(|request| request.attempts == attempt);
                if let Some(attempt) = request.and_then(|request| request.at.take()) {
                    self.ends(number, attempt, false);
                }
            }
            Event::Resumes(number) => self.attempts(number),
            Event::Leaves(number) => self.ended += usize::from(self.open.remove(&number).is_some()),
            Event::Changes(endpoint) => {
                let modes = [Mode::Well, Mode::Well, Mode::Slow, Mode::Refuses, Mode::Resets, Mode::Hangs, Mode::Errs];
                self.modes[usize::from(endpoint)] = modes[self.rng.usize(..modes.len())];
                if self.now_ms < SPAN_MS {
                    let ms = self.rng.u64(500..15_000);
                    self.later(ms, Event::Changes(endpoint));
                }
            }
            Event::Probes(endpoint) => {
                let passes = matches!(self.modes[usize::from(endpoint)], Mode::Well | Mode::Slow);
                let result = if passes { Ok(()) } else { Err(ProbeError::Body) };
                if let Some(endpoint) = self.pool.endpoint(address(endpoint.into())) {
                    self.pool.report_probe(&endpoint, &result);
                }
                if self.now_ms < SPAN_MS {
                    let ms = self.rng.u64(100..2_000);
                    self.later(ms, Event::Probes(endpoint));
                }
            }
            Event::ByHand(endpoint) => {
                let known = self.pool.drain(address(endpoint.into()));
                assert!(known && (self.rng.bool() || self.pool.undrain(address(endpoint.into()))));
            }
        }
    }

    fn holds(&mut self) {
        self.breaker_state();
        if self.failures_alone {
            let members = self.pool.members();
            let mut verdicts = members.iter().map(|member| member.endpoint.verdict());
            assert!(
                verdicts.any(|verdict| matches!(verdict, Verdict::Usable | Verdict::Failing)),
                "the last one is out"
            );
        }
    }

    /// The breaker's state; it was reached by an edge.
    fn breaker_state(&mut self) -> &'static str {
        let state = self.pool.breaker_status(self.now()).map_or("closed", |status| status.state);
        let edge = (std::mem::replace(&mut self.breaker, state), state);
        let edges = [("closed", "open"), ("open", "half-open"), ("half-open", "closed"), ("half-open", "open")];
        assert!(edge.0 == edge.1 || edges.contains(&edge), "no edge: {edge:?}");
        state
    }
}
