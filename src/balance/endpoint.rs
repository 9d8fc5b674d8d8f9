//! One address of an upstream and what all workers know of it together.
//!
//! An endpoint counts and remembers; whether it may be used is decided in [`health`](super::health), and
//! who gets the next request in [`Pool`](super::Pool). It outlives reloads.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use serde::Serialize;

use super::ejections::Ejections;
use super::hash;
use super::health::{Limits, State, Transition, Verdict};
use super::in_flight;
use super::outlier::Others;
use super::queue::Queue;
use super::slow_start::Warmth;
use super::tally::{Counts, Tally};
use crate::clock;
use crate::lock::lock;
use crate::telemetry::EndpointMetrics;

/// Bytes kept of the text of the last error.
const LAST_ERROR_BYTES_MAX: usize = 256;

/// How a request to an endpoint went, as far as the endpoint is to blame. A request that its client gave
/// up is not reported at all.
#[derive(Clone, Copy)]
pub enum Outcome<'a> {
    /// A response head came.
    Answered,
    /// One came whose status counts against the endpoint; see [`Pool::judge`](super::Pool::judge).
    AnsweredBadly,
    /// No connection, no answer in time, or one that is not HTTP; with the reason for log and status page.
    Failed(&'a (dyn fmt::Display + 'a)),
}

/// What every request writes stands together and first, beside the counts of the `Arc`: one line of the
/// cache then goes from core to core, and not three.
#[repr(C)]
pub struct Endpoint {
    /// Requests that have a place here, and in the upper half those that have given it back and go on.
    pub(super) in_flight: AtomicU64,
    pub(super) requests: AtomicU64,
    /// Unique in the process: another address, name or transport is another endpoint.
    pub id: u64,
    pub address: SocketAddr,
    /// The host as configured, without the port: what TLS asks for and verifies.
    pub name: Box<str>,
    /// The host as configured with the port, unless it is the scheme's own: for `Host` and `:authority`.
    pub authority: HeaderValue,
    failures: AtomicU64,
    health: Health,
    /// Answers of late, if the upstream looks for outliers.
    latest: Tally,
    created: Instant,
    warmth: Warmth,
    /// Of the address: what keys are matched with.
    pub hash: u64,
    last_error: Mutex<Option<Box<str>>>,
    ejections: Ejections,
    /// Of the upstream.
    pub(super) queue: Arc<Queue>,
    pub metrics: EndpointMetrics,
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, name: &str, authority: HeaderValue, queue: &Arc<Queue>) -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Arc::new(Endpoint {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address,
            name: name.into(),
            authority,
            in_flight: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            health: Health::default(),
            latest: Tally::default(),
            created: clock::now().into_std(),
            warmth: Warmth::default(),
            hash: hash::hash(address.to_string().as_bytes()),
            last_error: Mutex::new(None),
            ejections: Ejections::default(),
            queue: Arc::clone(queue),
            metrics: EndpointMetrics::default(),
        })
    }

    /// Requests in flight over all workers.
    pub fn in_flight(&self) -> usize {
        in_flight::all(self.in_flight.load(Ordering::Relaxed))
    }

    /// Requests that it was given, and failures that were its own, since it is known.
    pub fn totals(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// Those of them that have a place.
    pub(super) fn with_place(&self) -> usize {
        in_flight::with_place(self.in_flight.load(Ordering::SeqCst))
    }

    /// Whether fewer than `max` have a place; 0 is no cap.
    pub(super) fn has_room(&self, max: usize) -> bool {
        max == 0 || self.with_place() < max
    }

    pub fn verdict(&self) -> Verdict {
        self.health.locked().verdict()
    }

    /// How often this endpoint was taken out so far. An attempt notes it before it connects and hands it
    /// to [`Endpoint::ejected`].
    pub fn ejections(&self) -> u64 {
        self.ejections.count()
    }

    /// Ready as soon as the endpoint has been taken out more often than `seen` times. Draining by hand
    /// does not count: requests of a drained endpoint end in peace.
    pub async fn ejected(&self, seen: u64) {
        self.ejections.after(seen).await;
    }

    pub(super) fn is_usable(&self, now: Instant) -> bool {
        match self.health.gate() {
            Gate::Open | Gate::Failing => true,
            Gate::OpensAt(at) => at <= now,
            Gate::Unhealthy | Gate::Drained => false,
        }
    }

    /// Whether nothing speaks against it, but perhaps that it has to be tried.
    pub(super) fn is_sound(&self, now: Instant) -> bool {
        match self.health.gate() {
            Gate::Open => true,
            Gate::OpensAt(at) => at <= now,
            Gate::Failing | Gate::Unhealthy | Gate::Drained => false,
        }
    }

    /// Adds itself to those that are left beside another one.
    pub(super) fn count_among(&self, others: Others) -> Others {
        match self.health.gate() {
            Gate::Open | Gate::Failing => Others { usable: others.usable + 1, ..others },
            Gate::OpensAt(_) | Gate::Unhealthy => Others { out: others.out + 1, ..others },
            Gate::Drained => others,
        }
    }

    /// How long it has been in, if that is less than `ramp`.
    pub(super) fn age(&self, ramp: Duration, now: Instant) -> Option<Duration> {
        self.warmth.age(now.saturating_duration_since(self.created), ramp)
    }

    /// The same without beginning it, for those who only look.
    pub(super) fn age_seen(&self, ramp: Duration, now: Instant) -> Option<Duration> {
        self.warmth.clone().age(now.saturating_duration_since(self.created), ramp)
    }

    pub(super) fn begin_slowly(&self) {
        self.warmth.begin();
    }

    /// Answers of late.
    pub(super) fn latest(&self, window: Duration, now: Instant) -> Counts {
        self.latest.counts(window, now)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.health.gate() == Gate::Drained
    }

    pub(super) fn is_unknown_to_probes(&self) -> bool {
        self.health.locked().is_unknown()
    }

    /// Lets a request through, as [`State::admit`] decides.
    pub(super) fn admit(&self, now: Instant) -> bool {
        self.health.gate() == Gate::Open || self.health.change(|state| state.admit(now))
    }

    /// Lets a request through although the endpoint is out.
    pub(super) fn admit_anyway(&self) {
        if let Gate::OpensAt(_) = self.health.gate() {
            self.health.change(State::try_early);
        }
    }

    pub(super) fn answered(&self, limits: &Limits, now: Instant) -> Option<Transition> {
        if let Some(outlier) = limits.outlier {
            self.latest.count(false, outlier.window, now);
        }
        if self.health.gate() == Gate::Open { None } else { self.transit(State::answered) }
    }

    /// `others`: what the other endpoints answered of late in sum, and which of them are left; asked for if this one
    /// is bad enough by itself.
    pub(super) fn answered_badly(
        &self,
        limits: &Limits,
        others: impl FnOnce() -> (Counts, Others),
        now: Instant,
    ) -> Option<Transition> {
        let outlier = limits.outlier?;
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.latest.count(true, outlier.window, now);
        let own = self.latest(outlier.window, now);
        if self.health.gate() == Gate::Open && !outlier.stands_out(own, Counts::default()) {
            return None;
        }
        self.health.start_at(now);
        let (counts, others) = others();
        self.transit(|state| state.answered_badly(limits, (own, counts), others, now))
    }

    pub(super) fn failed(
        &self,
        error: &dyn fmt::Display,
        limits: &Limits,
        others: Others,
        now: Instant,
    ) -> Option<Transition> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if let Some(outlier) = limits.outlier {
            self.latest.count(true, outlier.window, now);
        }
        self.remember(error);
        self.health.start_at(now);
        self.transit(|state| state.failed(limits, others, now))
    }

    pub(super) fn probe_passed(&self, limits: &Limits) -> Option<Transition> {
        self.transit(|state| state.probe_passed(limits))
    }

    pub(super) fn probe_failed(&self, error: &dyn fmt::Display, limits: &Limits) -> Option<Transition> {
        self.remember(error);
        self.transit(|state| state.probe_failed(limits))
    }

    pub(super) fn forget_probes(&self) {
        self.health.change(State::forget_probes);
    }

    pub(super) fn drain(&self) -> Option<Transition> {
        self.transit(State::drain)
    }

    pub(super) fn undrain(&self) -> Option<Transition> {
        self.transit(State::undrain)
    }

    pub(super) fn status(&self, weight: u32, now: Instant) -> EndpointStatus {
        let verdict = self.verdict();
        let out_for = match verdict {
            Verdict::Ejected { until } => Some(until.saturating_duration_since(now).as_secs_f64()),
            Verdict::Usable | Verdict::Failing | Verdict::Unhealthy | Verdict::Drained => None,
        };
        let (attempts, took) = self.metrics.attempts();
        EndpointStatus {
            address: self.address,
            name: self.name.clone(),
            state: verdict.label(),
            up: verdict.is_given_requests(),
            out_for_s: out_for,
            drained: verdict == Verdict::Drained,
            weight,
            in_flight: self.in_flight(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            attempts,
            attempts_s: took.as_secs_f64(),
            last_error: lock(&self.last_error).clone(),
        }
    }

    fn transit(&self, change: impl FnOnce(&mut State) -> Option<Transition>) -> Option<Transition> {
        let transition = self.health.change(change);
        if transition.is_some_and(Transition::is_ejection) {
            self.ejections.announce();
            // It begins anew when it comes back.
            self.latest.clear();
        }
        if transition.is_some_and(Transition::is_return) {
            self.begin_slowly();
        }
        transition
    }

    fn remember(&self, error: &dyn fmt::Display) {
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(LAST_ERROR_BYTES_MAX));
        *lock(&self.last_error) = Some(text.into());
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("id", &self.id).field("address", &self.address).finish_non_exhaustive()
    }
}

/// One endpoint as metrics and the status page show it.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointStatus {
    pub address: SocketAddr,
    pub name: Box<str>,
    /// `usable`, `failing`, `ejected`, `unhealthy` or `drained`.
    pub state: &'static str,
    /// Whether it is given requests: `usable` and `failing` are.
    pub up: bool,
    /// Seconds until an ejected endpoint is tried again.
    pub out_for_s: Option<f64>,
    pub drained: bool,
    pub weight: u32,
    pub in_flight: usize,
    pub requests: u64,
    pub failures: u64,
    /// Attempts that are over, and how many seconds they took in all, to the head of a response or their failure.
    pub attempts: u64,
    pub attempts_s: f64,
    /// Of a request or a probe; it stays after the endpoint has come back.
    pub last_error: Option<Box<str>>,
}

/// The state behind a lock that is taken when something changes, and the gate in front of it, which each
/// choice reads instead.
#[derive(Debug, Default)]
struct Health {
    /// The verdict in one word: one of the constants below, or the milliseconds from `start` at which an
    /// ejection ends, rounded up.
    gate: AtomicU64,
    /// The time from which the gate counts: that of the first failure.
    start: OnceLock<Instant>,
    state: Mutex<State>,
}

const OPEN: u64 = 0;
const UNHEALTHY: u64 = u64::MAX;
const DRAINED: u64 = u64::MAX - 1;
const FAILING: u64 = u64::MAX - 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Failing,
    OpensAt(Instant),
    Unhealthy,
    Drained,
}

impl Health {
    fn locked(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn start_at(&self, now: Instant) {
        self.start.get_or_init(|| now);
    }

    fn gate(&self) -> Gate {
        match self.gate.load(Ordering::Acquire) {
            OPEN => Gate::Open,
            UNHEALTHY => Gate::Unhealthy,
            DRAINED => Gate::Drained,
            FAILING => Gate::Failing,
            // Only a failure ejects, and it sets the start first.
            at_ms => self.start.get().map_or(Gate::Open, |start| Gate::OpensAt(*start + Duration::from_millis(at_ms))),
        }
    }

    /// Changes the state and sets the gate by it, while no one else does.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.locked();
        let result = change(&mut state);
        let gate = match state.verdict() {
            Verdict::Usable => OPEN,
            Verdict::Failing => FAILING,
            Verdict::Unhealthy => UNHEALTHY,
            Verdict::Drained => DRAINED,
            Verdict::Ejected { until } => self.opens_at_ms(until),
        };
        self.gate.store(gate, Ordering::Release);
        result
    }

    fn opens_at_ms(&self, until: Instant) -> u64 {
        let since_start = self.start.get().map_or(Duration::ZERO, |&start| until.saturating_duration_since(start));
        let ms = since_start.as_nanos().div_ceil(1_000_000);
        u64::try_from(ms).unwrap_or(FAILING).clamp(OPEN + 1, FAILING - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::InFlight;

    const LIMITS: Limits = Limits {
        fails_max: 1,
        fail_timeout: Duration::from_secs(10),
        fail_timeout_max: Duration::from_secs(10),
        healthy_after: 1,
        unhealthy_after: 1,
        outlier: None,
    };

    fn fail(endpoint: &Endpoint, now: Instant) {
        endpoint.failed(&"reset", &LIMITS, Others { usable: 1, out: 0 }, now);
    }

    fn endpoint() -> Arc<Endpoint> {
        Endpoint::new(([10, 0, 0, 3], 3000).into(), "app", HeaderValue::from_static("app:3000"), &Arc::default())
    }

    #[test]
    fn the_shared_types_are_send_and_sync() {
        fn check<T: Send + Sync>() {}
        check::<Endpoint>();
        check::<InFlight>();
        check::<crate::balance::Pool>();
    }

    #[test]
    fn a_request_counts_until_its_guard_is_dropped() {
        let endpoint = endpoint();
        let first = InFlight::begin(&endpoint, 0).unwrap().counted();
        let second = InFlight::begin(&endpoint, 0).unwrap().counted();
        assert_eq!(endpoint.in_flight(), 2);
        drop(first);
        assert_eq!(endpoint.in_flight(), 1);
        drop(second);
        assert_eq!((endpoint.in_flight(), endpoint.status(1, Instant::now()).requests), (0, 2));
    }

    #[test]
    fn the_gate_follows_the_state() {
        let (endpoint, now) = (endpoint(), Instant::now());
        let later = |ms| now + Duration::from_millis(ms);
        assert!(endpoint.is_usable(now));
        fail(&endpoint, now);
        assert!(!endpoint.is_usable(later(9_999)) && !endpoint.admit(later(9_999)));
        assert!(endpoint.is_usable(later(10_000)) && endpoint.admit(later(10_000)));
        assert!(!endpoint.is_usable(later(10_001)), "one trial at a time");
        endpoint.answered(&LIMITS, later(10_002));
        assert!(endpoint.is_usable(later(10_002)));
        endpoint.drain();
        assert!(!endpoint.is_usable(later(10_002)) && endpoint.is_drained());
        endpoint.undrain();
        assert!(endpoint.is_usable(later(10_002)));
        endpoint.probe_failed(&"503", &LIMITS);
        assert_eq!(endpoint.status(1, now).state, "unhealthy");
        assert!(!endpoint.is_usable(later(1_000_000)));
        endpoint.forget_probes();
        assert!(endpoint.is_usable(now));
    }

    #[test]
    fn the_last_error_is_cut_at_a_whole_character() {
        let endpoint = endpoint();
        endpoint.failed(&"é".repeat(1000), &LIMITS, Others::default(), Instant::now());
        let kept = endpoint.status(1, Instant::now()).last_error.unwrap();
        assert_eq!(kept.len(), LAST_ERROR_BYTES_MAX);
    }

    #[test]
    fn who_comes_back_begins_slowly() {
        let endpoint = endpoint();
        let (now, ramp) = (endpoint.created + Duration::from_secs(5), Duration::from_secs(10));
        let later = |ms| now + Duration::from_millis(ms);
        assert_eq!(endpoint.age(ramp, now), None);
        fail(&endpoint, now);
        assert!(endpoint.admit(later(10_000)));
        endpoint.answered(&LIMITS, later(10_000));
        assert_eq!(endpoint.age(ramp, later(11_000)), Some(Duration::ZERO), "from the first choice on");
        assert_eq!(endpoint.age(ramp, later(15_000)), Some(Duration::from_secs(4)));
        assert_eq!((endpoint.age(ramp, later(21_000)), endpoint.age(ramp, later(15_000))), (None, None));
    }

    #[test]
    fn ejections_are_told_and_draining_is_not() {
        let (endpoint, now) = (endpoint(), Instant::now());
        let seen = endpoint.ejections();
        endpoint.drain();
        assert_eq!(endpoint.ejections(), seen, "a drained endpoint keeps its requests");
        fail(&endpoint, now);
        assert_eq!(endpoint.ejections(), seen + 1);
        endpoint.probe_failed(&"503", &LIMITS);
        assert_eq!(endpoint.ejections(), seen + 2);
    }
}
