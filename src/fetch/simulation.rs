//! A thousand little worlds in which endpoints fail, requests are sent and sent again, and time is a number.
//!
//! What decides is the real thing: the pool with its health, the breaker, the rule of retries and their budget. What is
//! made up is the network between: how an attempt ends, and when. A world is made of its seed alone, which a failure
//! names; `SEED=7 cargo test --lib simulation` runs that one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use http::StatusCode;

use super::choosing::choose;
use crate::balance::health::Verdict;
use crate::balance::probe::ProbeError;
use crate::balance::{Call, InFlight, Outcome, Pool};
use crate::config::{self, Balance, Upstream, WhenAllFail};
use crate::upstream::Fate;
use crate::upstream::budget::Budget;
use crate::upstream::retry::{self, Decision, Failure, GiveUp, Next};

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
        upstream.retry.statuses = vec![StatusCode::SERVICE_UNAVAILABLE];
    }
    upstream
}

#[test]
fn whatever_fails_the_rules_hold() {
    let seeds = match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    for seed in seeds {
        let _told = Told(seed);
        run(seed);
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

    fn arrives(&mut self, number: usize) {
        self.budget.count_request(self.now());
        self.arrivals.push_back(self.now_ms);
        let before = self.breaker_state();
        let call = match self.pool.breaker().map(|breaker| breaker.begin(self.now())) {
            Some(Err(_refused)) => {
                assert_ne!(before, "closed");
                self.ended += 1;
                return;
            }
            call => call.and_then(Result::ok),
        };
        let is_trial = call.is_some() && before != "closed";
        // One that goes on for as long as the breaker is open does not keep the next from trying.
        let trial_at_ms = is_trial.then_some(self.now_ms);
        let open_ms = self.pool.upstream().breaker.as_ref().map_or(0, |breaker| breaker.open.as_millis() as u64);
        let is_latest = |other: &Request<'_>| other.trial_at_ms.is_some_and(|at_ms| self.now_ms < at_ms + open_ms);
        assert!(!is_trial || !self.open.values().any(is_latest), "one trial at a time");
        let request = Request {
            is_idempotent: self.rng.u8(..4) > 0,
            key: self.rng.bool().then(|| self.rng.u64(..)),
            call,
            trial_at_ms,
            tried: Vec::new(),
            attempts: 0,
            next: Next::Untried,
            may_be_done: false,
            at: None,
        };
        self.open.insert(number, request);
        if self.rng.u8(..10) == 0 {
            let ms = self.rng.u64(..2_000);
            self.later(ms, Event::Leaves(number));
        }
        self.attempts(number);
    }

    /// Begins an attempt, or ends the request because nobody is left for it.
    fn attempts(&mut self, number: usize) {
        let (now, pool) = (self.now(), self.pool);
        let verdicts: Vec<_> =
            pool.members().iter().map(|member| (member.endpoint.id, member.endpoint.verdict())).collect();
        let Some(request) = self.open.get_mut(&number) else { return };
        let Ok(in_flight) = choose(pool, request.next, &mut request.tried, (request.key, now)) else {
            return self.is_over(number, None);
        };
        let id = in_flight.endpoint().id;
        let may_be_given = |verdict: Verdict| match verdict {
            Verdict::Usable => true,
            Verdict::Ejected { until } => until <= now,
            Verdict::Failing | Verdict::Unhealthy | Verdict::Drained => false,
        };
        let has_sound = verdicts.iter().any(|(_, verdict)| may_be_given(*verdict));
        let of_chosen = verdicts.iter().find(|(known, _)| *known == id).map(|(_, verdict)| *verdict).unwrap();
        let is_in = may_be_given(of_chosen) || of_chosen == Verdict::Failing;
        assert!(is_in || !has_sound, "traffic to an endpoint that is {}", of_chosen.label());
        assert_ne!(of_chosen, Verdict::Drained);
        assert!(request.is_idempotent || !request.may_be_done, "sent twice, though it may have been acted upon");
        request.attempts += 1;
        let attempt = request.attempts;
        let ejections = in_flight.endpoint().ejections();
        let last = in_flight.endpoint().address.ip().to_string().rsplit('.').next().unwrap().parse::<usize>().unwrap();
        let (ms, end) = match self.modes[last - 1] {
            Mode::Well => (self.rng.u64(1..50), End::Status(200)),
            Mode::Slow => (self.rng.u64(500..READ_TIMEOUT_MS), End::Status(200)),
            Mode::Refuses => (1, End::Failed(Fate::Unsent)),
            Mode::Resets => (self.rng.u64(1..50), End::Failed(Fate::Unknown)),
            Mode::Hangs => (READ_TIMEOUT_MS, End::Failed(Fate::Unknown)),
            Mode::Errs => (self.rng.u64(1..50), End::Status(if self.rng.bool() { 500 } else { 503 })),
        };
        request.at = Some(Attempt { in_flight, begun: now, ejections, end });
        self.later(ms, Event::Ends(number, attempt));
    }

    /// Requests that wait for an endpoint which has been taken out go on, as in `Fetch::taken_out`.
    fn moves_on(&mut self) {
        let (now, pool) = (self.now(), self.pool);
        let mut moved = Vec::new();
        for (number, request) in &mut self.open {
            let may_move = request.is_idempotent && request.attempts < pool.upstream().retry.attempts;
            let Some(attempt) = request.at.as_ref().filter(|_| may_move) else { continue };
            let endpoint = attempt.in_flight.endpoint();
            let tried: Vec<_> = request.tried.iter().copied().chain([endpoint.id]).collect();
            if endpoint.ejections() > attempt.ejections && pool.has_choice(&tried, now) {
                moved.push(*number);
            }
        }
        for number in moved {
            if self.spend() {
                let attempt = self.open.get_mut(&number).and_then(|request| request.at.take());
                self.ends(number, Attempt { end: End::Moved, ..attempt.unwrap() }, true);
            }
        }
    }

    fn ends(&mut self, number: usize, attempt: Attempt, is_paid: bool) {
        let (now, pool) = (self.now(), self.pool);
        let Attempt { in_flight, begun, end, .. } = attempt;
        let endpoint = std::sync::Arc::clone(in_flight.endpoint());
        drop(in_flight);
        let rules = &pool.upstream().retry;
        let request_fate = match end {
            End::Status(status) => {
                let status = StatusCode::from_u16(status).unwrap();
                pool.report(&endpoint, pool.judge(status), begun);
                if !retry::is_failure(rules, status) {
                    return self.is_over(number, Some(status));
                }
                Fate::Unknown
            }
            End::Failed(fate) => {
                pool.report(&endpoint, Outcome::Failed(&"it failed"), now);
                fate
            }
            End::Moved => Fate::Unknown,
        };
        let random = self.rng.u16(..);
        let Some(request) = self.open.get_mut(&number) else { return };
        request.tried.push(endpoint.id);
        request.may_be_done |= request_fate == Fate::Unknown;
        let failure = Failure {
            is_idempotent: request.is_idempotent,
            is_body_left: true,
            request: request_fate,
            is_stale: false,
            attempts: request.attempts,
            has_others: pool.has_choice(&request.tried, now),
            time_left: None,
        };
        match retry::decide(rules, &failure, random, || is_paid || self.spend()) {
            Decision::Retry { after, to } => {
                if let Some(request) = self.open.get_mut(&number) {
                    request.next = to;
                }
                self.later(after.as_millis() as u64, Event::Resumes(number));
            }
            Decision::GiveUp(GiveUp::NotIdempotent) => {
                assert!(self.open.get(&number).is_some_and(|request| !request.is_idempotent));
                self.is_over(number, None);
            }
            Decision::GiveUp(_) | Decision::Reconnect => self.is_over(number, None),
        }
    }

    /// Against a count of its own: no more than the share and the floor, and the floor always.
    fn spend(&mut self) -> bool {
        let percent = self.pool.upstream().retry.budget_percent;
        let granted = self.budget.spend(percent, self.now());
        let since_ms = self.now_ms.saturating_sub(10_000);
        self.paid.retain(|at| *at >= since_ms);
        // A second more, which the budget may count too.
        self.arrivals.retain(|at| at + 1_000 >= since_ms);
        if granted {
            self.paid.push_back(self.now_ms);
            let share = self.arrivals.len() * percent as usize / 100;
            assert!(self.paid.len() <= share + 201, "{} of {} retries", self.paid.len(), share);
        } else {
            assert!(self.paid.len() >= 100, "refused after {} retries", self.paid.len());
        }
        granted
    }

    /// With a response of that status, or without one.
    fn is_over(&mut self, number: usize, status: Option<StatusCode>) {
        let Some(request) = self.open.remove(&number) else { return };
        self.ended += 1;
        let Some(call) = request.call else { return };
        match status {
            Some(status) if !self.pool.is_failure(status) => call.answered(self.now()),
            None if request.attempts == 0 => drop(call),
            _ => call.failed(self.now()),
        }
        self.breaker_state();
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
