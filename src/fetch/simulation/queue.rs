//! Caps and the line in front of them, in worlds where requests come in crowds, endpoints go and come, caps change, and
//! clients leave.
//!
//! What decides is the real thing: the choice of endpoints, the places at them and at the upstream, the line, and what is done in
//! one's turn. What is made up is when requests come, how long they take, and whose client leaves.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::balance::{Ticket, Unchosen};
use crate::fetch::choosing::{choose, take_turn};

const GENERATIONS: usize = 4;
const QUEUE_TIMEOUT_MS: u64 = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    Ends(usize),
    /// It goes on, but needs no place any more.
    Lasts(usize),
    Leaves(usize),
    TimesOut(usize),
    /// An endpoint is drained, or comes back.
    ByHand(u8),
    Reloads(usize),
}

/// A request in the line.
struct Waiter<'p> {
    pool: &'p Pool,
    ticket: Ticket<'p>,
    /// It may not have all endpoints: those that it has had.
    tried: Vec<u64>,
}

struct World<'p> {
    /// One a generation; the caps are those of the one that serves.
    pools: &'p [Pool],
    serving: usize,
    rng: Rng,
    start: Instant,
    now_ms: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    /// By their numbers, which are given in the order in which they come.
    line: BTreeMap<usize, Waiter<'p>>,
    in_flight: BTreeMap<usize, InFlight>,
    ended: usize,
}

#[test]
fn nobody_is_overtaken_or_forgotten_and_caps_hold() {
    let mut waited = 0;
    for seed in seeds() {
        let _told = Told(seed);
        waited += run(seed);
    }
    assert!(waited > 0, "nobody had to wait");
}

/// Says how many had to wait.
fn run(seed: u64) -> u64 {
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let pools = generations(&mut rng);
    let mut world = World::new(&pools, rng);
    let mut numbers_waiting = 0;
    while let Some(Reverse((at_ms, event))) = world.events.pop() {
        world.now_ms = at_ms;
        world.happens(event);
        world.settle();
        world.holds();
        numbers_waiting += world.line.len() as u64;
    }
    assert_eq!((world.ended, world.line.len(), world.in_flight.len()), (REQUESTS, 0, 0));
    let status = pools[0].queue().status();
    assert_eq!(status.waiting, 0);
    assert!(pools[0].queue().has_room() && pools[0].snapshot(world.now()).iter().all(|one| one.in_flight == 0));
    assert!(numbers_waiting == 0 || status.waited > 0);
    status.waited
}

/// The same endpoints with other caps. A cap of the upstream that begins in the middle knows nothing of what was there
/// before, so it is there from the beginning, or never.
fn generations(rng: &mut Rng) -> Vec<Pool> {
    let mut upstream = crate::balance::tests::upstream(rng.u8(1..=4));
    let policies = [Balance::LeastConnections, Balance::RoundRobin, Balance::RandomTwo, Balance::Hash];
    upstream.balance = policies[rng.usize(..policies.len())];
    upstream.fails_max = 0;
    let (of_upstream, of_endpoint) = [(true, false), (false, true), (true, true)][rng.usize(..3)];
    let mut pools: Vec<Pool> = Vec::new();
    for _ in 0..GENERATIONS {
        upstream.requests_max = if of_upstream { rng.usize(1..=8) } else { 0 };
        upstream.endpoint_requests_max = if of_endpoint { rng.usize(1..=4) } else { 0 };
        upstream.queue =
            Some(config::Queue { requests_max: rng.usize(1..=30), timeout: Duration::from_millis(QUEUE_TIMEOUT_MS) });
        pools.push(Pool::new(&upstream, pools.last()));
    }
    pools
}

impl<'p> World<'p> {
    fn new(pools: &'p [Pool], mut rng: Rng) -> Self {
        let mut arrivals: Vec<u64> = (0..REQUESTS).map(|_| rng.u64(..5) * 3_000 + rng.u64(..400)).collect();
        arrivals.sort_unstable();
        let arrivals = arrivals.into_iter().enumerate().map(|(number, at_ms)| (at_ms, Event::Arrives(number)));
        let mut events: BinaryHeap<_> = arrivals.map(Reverse).collect();
        for generation in 1..pools.len() {
            events.push(Reverse((rng.u64(..15_000), Event::Reloads(generation))));
        }
        for endpoint in 0..pools[0].members().len() as u8 {
            for _ in 0..rng.u8(..4) {
                events.push(Reverse((rng.u64(..15_000), Event::ByHand(endpoint))));
            }
        }
        let start = Instant::now() + Duration::from_secs(1);
        World {
            pools,
            serving: 0,
            rng,
            start,
            now_ms: 0,
            events,
            line: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            ended: 0,
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
            Event::Ends(number) => self.is_over(number),
            Event::Lasts(number) => {
                if let Some(in_flight) = self.in_flight.get_mut(&number) {
                    in_flight.give_place_back();
                }
            }
            Event::Leaves(number) => self.is_over(number),
            Event::TimesOut(number) => {
                if self.line.contains_key(&number) {
                    self.is_over(number);
                }
            }
            Event::ByHand(endpoint) => {
                let (pool, address) = (&self.pools[self.serving], address(endpoint.into()));
                let was_drained = pool.endpoint(address).is_some_and(|one| one.verdict() == Verdict::Drained);
                assert!(if was_drained { pool.undrain(address) } else { pool.drain(address) });
            }
            // One that is late was overtaken by a later one.
            Event::Reloads(generation) => {
                if generation > self.serving {
                    self.serving = generation;
                    self.pools[generation].activate();
                }
            }
        }
    }

    fn is_over(&mut self, number: usize) {
        let was_there = self.line.remove(&number).is_some() || self.in_flight.remove(&number).is_some();
        self.ended += usize::from(was_there);
    }

    /// As in `Fetch::endpoint`.
    fn arrives(&mut self, number: usize) {
        let pool = &self.pools[self.serving];
        // A retry has had an endpoint already.
        let mut tried = Vec::new();
        if self.rng.u8(..5) == 0
            && let Some(member) = pool.members().first()
        {
            tried.push(member.endpoint.id);
        }
        if self.rng.u8(..10) == 0 {
            let ms = self.rng.u64(..3_000);
            self.later(ms, Event::Leaves(number));
        }
        let chosen = match pool.queue().is_empty() {
            true => choose(pool, Next::Any, &mut tried, (None, self.now())),
            false => Err(Unchosen::Full),
        };
        match chosen {
            Ok(in_flight) => self.begins(number, in_flight),
            Err(Unchosen::NoEndpoint) => self.ended += 1,
            Err(Unchosen::Full) => match pool.queue().join(pool.upstream().queue.unwrap().requests_max) {
                Ok(ticket) => {
                    self.line.insert(number, Waiter { pool, ticket, tried });
                    self.later(QUEUE_TIMEOUT_MS, Event::TimesOut(number));
                }
                Err(_full) => {
                    assert!(self.line.len() >= pool.upstream().queue.unwrap().requests_max);
                    self.ended += 1;
                }
            },
        }
    }

    fn begins(&mut self, number: usize, in_flight: InFlight) {
        let config = self.pools[self.serving].upstream();
        let places = self.pools[self.serving].queue().in_use_at(in_flight.endpoint());
        assert!(places.max == 0 || places.used <= places.max, "{places:?}");
        assert!(
            config.requests_max == 0 || self.with_place() < config.requests_max,
            "more than at the upstream may be"
        );
        self.in_flight.insert(number, in_flight);
        let ms = self.rng.u64(1..1_500);
        let lasts = self.rng.u8(..10) == 0;
        self.later(ms, if lasts { Event::Lasts(number) } else { Event::Ends(number) });
        if lasts {
            self.later(ms * 3, Event::Ends(number));
        }
    }

    /// All that are in flight and have not given their place back.
    fn with_place(&self) -> usize {
        self.in_flight.values().filter(|in_flight| in_flight.has_place()).count()
    }

    /// Whoever has been woken takes his turn, until nobody is.
    fn settle(&mut self) {
        while let Some(number) = self.woken() {
            let now = self.now();
            let Some(Waiter { pool, ticket, tried }) = self.line.get_mut(&number) else { return };
            match take_turn(pool, ticket, Next::Any, tried, (None, now)) {
                None => {}
                Some(Err(_nobody_is_left)) => self.is_over(number),
                Some(Ok(in_flight)) => {
                    let had_none = tried.is_empty();
                    let before = self.line.range(..number).any(|(_, other)| had_none && other.tried.is_empty());
                    assert!(!before, "{number} has overtaken somebody");
                    // Out of the line first, as in `Fetch::wait`: who leaves wakes the next.
                    self.line.remove(&number);
                    self.begins(number, in_flight);
                }
            }
        }
    }

    /// The first of those that have been woken.
    fn woken(&self) -> Option<usize> {
        let cx = &mut Context::from_waker(Waker::noop());
        self.line.iter().find(|(_, waiter)| pin!(waiter.ticket.turn()).poll(cx).is_ready()).map(|(number, _)| *number)
    }

    /// Nobody waits beside an endpoint that he could have.
    fn holds(&mut self) {
        let now = self.now();
        for (number, waiter) in &mut self.line {
            let found = choose(waiter.pool, Next::Any, &mut waiter.tried, (None, now));
            assert!(matches!(found, Err(Unchosen::Full)), "{number} waits beside {found:?}");
        }
        assert_eq!(self.pools[self.serving].queue().status().waiting, self.line.len());
    }
}
