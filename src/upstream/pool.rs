//! The upstream connections of one worker: idle HTTP/1.1 ones in a stack an endpoint, HTTP/2 ones shared.
//!
//! A connection that carried a response goes back when the response's body has ended, and only then: until
//! that moment bytes of the old answer may still come. The last one returned is taken first, so that the
//! surplus ages out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::h1;
use super::h2_connection::{Carrier, SharedH2, Usage};
use crate::balance::Endpoint;
use crate::body::{Arrival, BodyError, ReadAhead};
use crate::config::Keepalive;
use crate::lock::lock;
use crate::overload::Crowded;
use crate::spare;
use crate::splice::Pipe;
use crate::telemetry::EndpointMetrics;
use crate::telemetry::metrics::Held;
use crate::timers::Sweep;

/// How often connections that idled too long are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// Every upstream connection of one worker.
pub struct Connections {
    sweep: Rc<Sweep>,
    pub(super) read_ahead: ReadAhead,
    endpoints: RefCell<HashMap<u64, Rc<EndpointConnections>>>,
    crowded: RefCell<Arc<Crowded>>,
    /// Idle ones that had to go before their time, since somebody asked.
    closed_early: Cell<u64>,
}

/// The connections to one endpoint.
pub struct EndpointConnections {
    idle: Arc<IdleStack>,
    shared: RefCell<Vec<SharedH2>>,
    /// HTTP/2 connections so far.
    opened: Cell<u64>,
    /// Taken while an HTTP/2 connection is made, so that one burst makes one connection.
    pub(super) connecting: tokio::sync::Mutex<()>,
    /// How many there are, as the last round of reaping has found.
    held: RefCell<Held>,
}

/// An HTTP/1.1 connection, in use by one request, and the way back for it.
pub struct Exclusive {
    pub(super) connection: h1::Connection,
    served: u64,
    /// Where it goes back to, as long as anyone asks there.
    home: Weak<IdleStack>,
    keepalive: Keepalive,
}

struct IdleStack {
    idle: Mutex<Vec<Idle>>,
    /// Counts the rounds of reaping, so that returning a connection reads no clock.
    rounds: AtomicU64,
    /// After so many of them an idle connection is closed.
    rounds_max: AtomicU64,
}

struct Idle {
    exclusive: Box<Exclusive>,
    returned_in: u64,
}

impl Connections {
    pub fn new(sweep: Rc<Sweep>) -> Rc<Self> {
        Rc::new(Self {
            sweep,
            read_ahead: ReadAhead::default(),
            endpoints: RefCell::default(),
            crowded: RefCell::default(),
            closed_early: Cell::new(0),
        })
    }

    /// Where idle connections have only about a second from now on.
    pub fn limit_idle(&self, crowded: Arc<Crowded>) {
        self.crowded.replace(crowded);
    }

    /// How many were closed before their time, since this was asked last.
    pub fn take_closed_early(&self) -> u64 {
        self.closed_early.take()
    }

    pub fn sweep(&self) -> &Rc<Sweep> {
        &self.sweep
    }

    pub fn of_endpoint(&self, endpoint: &Endpoint, keepalive: Keepalive) -> Rc<EndpointConnections> {
        let mut endpoints = self.endpoints.borrow_mut();
        let new = || Rc::new(EndpointConnections::new(keepalive, &endpoint.metrics));
        let found = endpoints.entry(endpoint.id).or_insert_with(new);
        found.idle.rounds_max.store(rounds(keepalive.idle), Ordering::Relaxed);
        Rc::clone(found)
    }

    /// Reads ahead for slow clients: to be called once a tick.
    pub fn look_ahead(&self) {
        self.read_ahead.look();
    }

    /// Closes what idled too long and forgets endpoints that nothing is left of, for as long as it is polled.
    pub async fn reap(&self) {
        let mut ticks = tokio::time::interval(REAP_INTERVAL);
        loop {
            ticks.tick().await;
            spare::shrink();
            let crowded = Arc::clone(&self.crowded.borrow());
            self.endpoints.borrow_mut().retain(|id, connections| {
                let closed_early = connections.reap(crowded.concerns(*id));
                self.closed_early.update(|count| count + closed_early);
                Rc::strong_count(connections) > 1 || !connections.is_empty() || connections.is_awaited()
            });
        }
    }

    /// Takes no more requests to a connection that let one wait for too long and brought nothing else meanwhile: it may
    /// have died in silence. Requests in progress go on. One that brings other things is sound, and the request slow.
    pub fn suspect(&self, endpoint: u64, carrier: &Carrier) {
        if carrier.is_silent()
            && let Some(connections) = self.endpoints.borrow().get(&endpoint)
        {
            connections.retire(&carrier.usage);
        }
    }
}

impl EndpointConnections {
    fn new(keepalive: Keepalive, metrics: &EndpointMetrics) -> Self {
        let rounds_max = AtomicU64::new(rounds(keepalive.idle));
        let idle = IdleStack { idle: Mutex::default(), rounds: AtomicU64::new(0), rounds_max };
        Self {
            idle: Arc::new(idle),
            shared: RefCell::default(),
            opened: Cell::new(0),
            connecting: tokio::sync::Mutex::new(()),
            held: RefCell::new(metrics.hold()),
        }
    }

    /// The connection that was returned last, if one is still open.
    pub(super) fn take_idle(&self, keepalive: Keepalive) -> Option<Box<Exclusive>> {
        let mut idle = lock(&self.idle.idle);
        while let Some(Idle { mut exclusive, .. }) = idle.pop() {
            if exclusive.connection.is_open() {
                exclusive.keepalive = keepalive;
                return Some(exclusive);
            }
        }
        None
    }

    /// A new connection, which is to come back here.
    pub(super) fn adopt(&self, connection: h1::Connection, keepalive: Keepalive) -> Box<Exclusive> {
        Box::new(Exclusive { connection, served: 0, home: Arc::downgrade(&self.idle), keepalive })
    }

    /// HTTP/2 connections that were opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// An HTTP/2 connection that has room and is not among the first `old`; one that has served its time is let go.
    pub(super) fn open_shared(&self, keepalive: Keepalive, old: u64) -> Option<SharedH2> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| !connection.has_served(keepalive.requests));
        shared.iter().find(|connection| connection.number > old && connection.has_room()).cloned()
    }

    /// Shares a connection that was just opened, if connections are kept.
    pub(super) fn share(&self, mut connection: SharedH2, keepalive: Keepalive) -> SharedH2 {
        self.opened.set(self.opened.get() + 1);
        connection.number = self.opened.get();
        if keepalive.connections > 0 {
            self.shared.borrow_mut().push(connection.clone());
        }
        connection
    }

    /// Gives no more requests to this connection.
    pub(super) fn retire(&self, connection: &Arc<Usage>) {
        self.shared.borrow_mut().retain(|open| !Arc::ptr_eq(&open.usage, connection));
    }

    /// Whether a connection may still come back.
    fn is_awaited(&self) -> bool {
        Arc::weak_count(&self.idle) > 0
    }

    fn is_empty(&self) -> bool {
        lock(&self.idle.idle).is_empty() && self.shared.borrow().is_empty()
    }

    /// Closes what idled for too long, which is a round where it is crowded, and of the rest the oldest that are more than
    /// are to be kept. Says how many of the former would have had more time.
    fn reap(&self, is_crowded: bool) -> u64 {
        let round = self.idle.rounds.fetch_add(1, Ordering::Relaxed);
        let own_max = self.idle.rounds_max.load(Ordering::Relaxed);
        let rounds_max = if is_crowded { 1 } else { own_max };
        let mut closed_early = 0;
        let mut may_stay = |rounds| {
            closed_early += u64::from(rounds >= rounds_max && rounds < own_max);
            rounds < rounds_max
        };
        let mut exclusive = lock(&self.idle.idle);
        exclusive.retain_mut(|idle| {
            let rounds = round.saturating_sub(idle.returned_in);
            if rounds == 1 {
                idle.exclusive.connection.shrink();
            }
            idle.exclusive.connection.is_open() && may_stay(rounds)
        });
        let kept_max = exclusive.last().map_or(0, |last| last.exclusive.keepalive.connections);
        let surplus = exclusive.len().saturating_sub(kept_max);
        exclusive.drain(..surplus);
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.sender.is_closed() && may_stay(shared.idle_rounds()));
        // Every exclusive one knows the way back.
        let all = Arc::weak_count(&self.idle) + shared.len();
        let idle = exclusive.len() + shared.iter().filter(|shared| shared.is_idle()).count();
        self.held.borrow_mut().set(all, idle);
        closed_early
    }
}

impl Exclusive {
    /// Counts a request that the connection carries.
    pub(super) fn serve(&mut self) {
        self.served += 1;
    }

    /// The stream of another protocol, after a 101.
    pub(super) fn into_upgraded(self: Box<Self>) -> h1::Upgraded {
        self.connection.into_upgraded()
    }

    /// Puts the connection back, unless it has served its time or cannot be used again. There may be more than are to be
    /// kept until the next round of reaping: a load that comes and goes would open and close them all the time.
    pub(super) fn give_back(mut self: Box<Self>) {
        let Keepalive { connections, requests, .. } = self.keepalive;
        if self.served >= requests || connections == 0 || !self.connection.may_be_kept() {
            return;
        }
        self.connection.silence.disarm();
        self.connection.leave_buffer();
        let Some(home) = self.home.upgrade() else { return };
        let returned_in = home.rounds.load(Ordering::Relaxed);
        lock(&home.idle).push(Idle { exclusive: self, returned_in });
    }
}

impl Arrival for Exclusive {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.connection.poll_frame(cx)
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<bool, BodyError>> {
        self.connection.poll_splice(cx, pipe)
    }

    fn has_ended(&self) -> bool {
        self.connection.has_ended()
    }

    fn is_uploading(&self) -> bool {
        self.connection.is_uploading()
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.connection.poll_upload(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.connection.size_hint()
    }

    fn complete(self: Box<Self>) {
        self.give_back();
    }
}

fn rounds(idle: Duration) -> u64 {
    idle.as_secs().div_ceil(REAP_INTERVAL.as_secs()).max(1)
}
