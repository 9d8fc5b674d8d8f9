//! Good traffic in an open loop: requests arrive at a fixed rate, whether or not those before them are answered, so
//! that a proxy that stands still is not asked less. No request is tried again, and each answer is compared with what
//! it has to be: a status that is no 200, a reset, a short body or a wrong one, each is a failure.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::load::Connecting;
use super::wire::Wire;
use super::{until, within};

const EVERY: Duration = Duration::from_millis(5);
/// Arrivals that wait for their answers. Beyond these the load would be about the machine and not about the proxy.
const WAITING_MAX: usize = 2000;
/// One in so many has a connection of its own; the others take one that is free, or connect.
const CONNECTS_ONE_IN: usize = 4;

pub struct Arrivals {
    state: Arc<State>,
    arriving: JoinHandle<()>,
}

/// What has become of the requests.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The targets of those that were answered as they have to be.
    pub answered: BTreeSet<String>,
    /// The longest time from an arrival to the end of its answer.
    pub slowest: Duration,
    pub failures: Vec<String>,
}

struct State {
    address: SocketAddr,
    path: String,
    body: Bytes,
    connecting: Connecting,
    stop: AtomicBool,
    waiting: AtomicUsize,
    free: Mutex<Vec<Wire<TcpStream>>>,
    outcome: Mutex<Outcome>,
}

impl Arrivals {
    /// GETs of `path`, each with a query of its own, that are to be answered with 200 and `body`.
    pub fn start(address: SocketAddr, path: &str, body: impl Into<Bytes>, connecting: Connecting) -> Self {
        let state = Arc::new(State {
            address,
            path: path.to_owned(),
            body: body.into(),
            connecting,
            stop: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            free: Mutex::default(),
            outcome: Mutex::default(),
        });
        Self { arriving: tokio::spawn(arrive(Arc::clone(&state))), state }
    }

    /// Waits for so many further answers; the test fails with the first that is not as it has to be.
    #[track_caller]
    pub fn answers(&self, more: usize) -> impl Future<Output = ()> {
        let before = self.state.outcome.lock().unwrap().answered.len();
        until("answers under load", async move || {
            let outcome = self.state.outcome.lock().unwrap();
            assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
            (outcome.answered.len() >= before + more).then_some(())
        })
    }

    /// Waits until so many more have come to an end, good or bad.
    #[track_caller]
    pub fn ends(&self, more: usize) -> impl Future<Output = ()> {
        let ended = || {
            let outcome = self.state.outcome.lock().unwrap();
            outcome.answered.len() + outcome.failures.len()
        };
        let before = ended();
        until("ends under load", async move || (ended() >= before + more).then_some(()))
    }

    /// Lets no more arrive, and waits for the ends of those that have.
    #[track_caller]
    pub fn ended(self) -> impl Future<Output = Outcome> {
        self.state.stop.store(true, Ordering::Relaxed);
        within("the answers that are owed", async move {
            self.arriving.await.unwrap();
            std::mem::take(&mut *self.state.outcome.lock().unwrap())
        })
    }

    /// The same; the test fails if a request did.
    #[track_caller]
    pub fn succeeded(self) -> impl Future<Output = Outcome> {
        let ended = self.ended();
        async move {
            let outcome = ended.await;
            let (failed, answered) = (outcome.failures.len(), outcome.answered.len());
            assert!(failed == 0, "{failed} failed beside {answered} that did not: {:?}", outcome.failures);
            assert!(answered > 0, "there was no load");
            outcome
        }
    }
}

async fn arrive(state: Arc<State>) {
    let mut pace = tokio::time::interval(EVERY);
    // What the clock of a busy machine has left out arrives all the same.
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = JoinSet::new();
    for number in 0.. {
        pace.tick().await;
        if state.stop.load(Ordering::Relaxed) {
            break;
        }
        while asked.try_join_next().is_some() {}
        if state.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            state.waiting.fetch_sub(1, Ordering::Relaxed);
            state.outcome.lock().unwrap().failures.push(format!("{WAITING_MAX} wait for their answers"));
            continue;
        }
        let state = Arc::clone(&state);
        asked.spawn(async move {
            let (target, since) = (format!("{}?arrival={number}", state.path), Instant::now());
            let answered = ask(&state, &target, number).await;
            let mut outcome = state.outcome.lock().unwrap();
            outcome.slowest = outcome.slowest.max(since.elapsed());
            match answered {
                Ok(()) => _ = outcome.answered.insert(target),
                Err(failure) => outcome.failures.push(format!("{target}: {failure}")),
            }
            state.waiting.fetch_sub(1, Ordering::Relaxed);
        });
    }
    asked.join_all().await;
}

async fn ask(state: &State, target: &str, number: usize) -> Result<(), String> {
    let alone = state.connecting == Connecting::EachTime || number.is_multiple_of(CONNECTS_ONE_IN);
    let free = if alone { None } else { state.free.lock().unwrap().pop() };
    let mut client = match free {
        Some(client) => client,
        None => Wire::new(TcpStream::connect(state.address).await.map_err(|error| format!("connecting: {error}"))?),
    };
    let last = if alone { "Connection: close\r\n" } else { "" };
    let sent = client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{last}\r\n")).await;
    sent.map_err(|error| format!("sending: {error}"))?;
    let response = client.response("GET").await.map_err(|bad| format!("{bad:?} in place of a response"))?;
    if response.status != 200 {
        return Err(format!("{} {}", response.status, response.fields.get("x-tollgate-reason")));
    }
    if response.body != state.body {
        return Err(format!("{} bytes that are not those of the body", response.body.len()));
    }
    if alone {
        let more = client.rest().await;
        return if more.is_empty() { Ok(()) } else { Err(format!("{} bytes behind the body", more.len())) };
    }
    state.free.lock().unwrap().push(client);
    Ok(())
}
