//! The life of one replica: started, waited for until it is ready, and started again whenever it ends, until
//! it is told to stop.

use std::cell::{Ref, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::group::Group;
use super::plan::Phase;
use super::port::Port;
use super::process::{self, Process};
use super::ready;
use crate::balance::Endpoint;
use crate::clock;

/// A replica that ended sooner may have found its port taken, so its next start gets another one.
/// Otherwise the port is kept, for the sake of metrics by endpoint.
const PORT_PROVEN: Duration = Duration::from_secs(2);
const LAST_LINES_LIMIT: Duration = Duration::from_millis(500);
/// Between two looks at the requests in flight of a replica that is to stop.
const IDLE_GLANCE: Duration = Duration::from_millis(50);

/// The time limits of a replica.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From its start until it is ready.
    pub ready: Duration,
    /// From the last request that can come until TERM: requests that were just sent arrive.
    pub grace: Duration,
    /// From TERM to KILL.
    pub term: Duration,
}

/// When a replica that has to stop is signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopAt {
    /// From here on TERM is sent as soon as it has no request in flight,
    pub idle_from: Instant,
    /// and here at the latest.
    pub term: Instant,
    /// At the latest; sooner if TERM was.
    pub kill: Instant,
}

impl StopAt {
    fn earliest(self, other: StopAt) -> StopAt {
        StopAt {
            idle_from: self.idle_from.min(other.idle_from),
            term: self.term.min(other.term),
            kill: self.kill.min(other.kill),
        }
    }
}

/// One replica over all its processes.
#[derive(Debug)]
pub struct Replica {
    pub id: u64,
    pub upstream: String,
    pub index: usize,
    pub command: Vec<String>,
    state: RefCell<State>,
    stop: watch::Sender<Option<StopAt>>,
}

#[derive(Debug)]
pub struct State {
    pub phase: Phase,
    /// That of the process, or of the last one.
    pub address: Option<SocketAddr>,
    pub process: Option<Running>,
    pub restarts: u32,
    /// Knows the requests that a replica which is to stop still has.
    requests: Option<Arc<Endpoint>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Running {
    pub pid: u32,
    pub since: Instant,
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {} of {}", self.index, self.upstream)?;
        self.state.borrow().address.map_or(Ok(()), |address| write!(f, " ({address})"))
    }
}

impl Replica {
    pub fn new(id: u64, upstream: &str, index: usize, command: &[String]) -> Self {
        let state = State { phase: Phase::Starting, address: None, process: None, restarts: 0, requests: None };
        Replica {
            id,
            upstream: upstream.to_owned(),
            index,
            command: command.to_vec(),
            state: RefCell::new(state),
            stop: watch::Sender::new(None),
        }
    }

    pub fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    pub fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    /// Has it stop for good. The earliest of several orders counts.
    pub fn stop(&self, at: StopAt) {
        self.set_phase(Phase::Stopping);
        self.stop.send_modify(|order| *order = Some(order.map_or(at, |order| order.earliest(at))));
    }

    /// Has TERM wait for the requests in flight there.
    pub fn watch_requests(&self, at: Option<Arc<Endpoint>>) {
        self.state.borrow_mut().requests = at;
    }

    fn is_idle(&self) -> bool {
        self.state.borrow().requests.as_ref().is_none_or(|endpoint| endpoint.in_flight() == 0)
    }

    fn set_phase(&self, phase: Phase) {
        let mut state = self.state.borrow_mut();
        if state.phase != Phase::Stopping {
            state.phase = phase;
        }
    }

    fn set_process(&self, process: Option<Running>) {
        self.state.borrow_mut().process = process;
    }
}

/// How one process of a replica came to its end.
enum End {
    /// It was told to.
    Ordered,
    Failed {
        what: String,
        served: Duration,
    },
}

/// Keeps a replica alive. It leaves its group once it has stopped.
pub async fn keep(group: Rc<Group>, replica: Rc<Replica>) {
    let mut orders = replica.stop.subscribe();
    let mut backoff = Backoff::new();
    let mut port = None;
    while let End::Failed { what, served } = live(&group, &replica, &mut port, &mut orders).await {
        replica.set_process(None);
        replica.set_phase(Phase::BackingOff);
        group.changed();
        let pause = backoff.after(served);
        tracing::warn!("{replica} {what}; starting another in {pause:?}");
        port.take_if(|_| served < PORT_PROVEN);
        tokio::select! {
            biased;
            () = ordered(&mut orders) => break,
            () = sleep(pause) => {}
        }
        replica.set_phase(Phase::Starting);
        replica.state.borrow_mut().restarts += 1;
    }
    group.remove(replica.id);
}

/// From the start of one process to its end.
async fn live(
    group: &Rc<Group>,
    replica: &Replica,
    port: &mut Option<Port>,
    orders: &mut watch::Receiver<Option<StopAt>>,
) -> End {
    let failed = |what| End::Failed { what, served: Duration::ZERO };
    let (mut process, address) = match start(group, replica, port) {
        Ok(started) => started,
        Err(error) => return failed(format!("cannot be started: {error}")),
    };
    let limits = group.limits();
    let check = group.check();
    group.changed();
    let ready = tokio::select! {
        biased;
        () = ordered(orders) => return stop(process, replica, orders, limits).await,
        what = process.ended() => return failed(format!("{what} before it was ready")),
        ready = ready::wait(address, check.as_ref(), limits.ready) => ready,
    };
    if let Err(reason) = ready {
        let term = clock::now();
        let at = StopAt { idle_from: term, term, kill: term + limits.term };
        terminate(&mut process, replica, at, orders, limits).await;
        return failed(format!("was not ready within {:?}: {reason}", limits.ready));
    }
    let ready_since = clock::now();
    replica.set_phase(Phase::Ready);
    tracing::info!("{replica} is ready");
    group.changed();
    tokio::select! {
        biased;
        () = ordered(orders) => stop(process, replica, orders, limits).await,
        what = process.ended() => End::Failed { what, served: clock::now() - ready_since },
    }
}

fn start(group: &Group, replica: &Replica, port: &mut Option<Port>) -> std::io::Result<(Process, SocketAddr)> {
    let address = match port {
        Some(port) => port.address(),
        None => port.insert(group.ports().choose()?).address(),
    };
    replica.state.borrow_mut().address = Some(address);
    let command = process::command(&replica.command, group.executable(), address)?;
    let name = format!("{}[{}]", replica.upstream, replica.index);
    let process = Process::start(command, group.output(), &name)?;
    replica.set_process(Some(Running { pid: process.id(), since: clock::now() }));
    Ok((process, address))
}

async fn stop(
    mut process: Process,
    replica: &Replica,
    orders: &mut watch::Receiver<Option<StopAt>>,
    limits: Limits,
) -> End {
    let order = *orders.borrow();
    let now = clock::now();
    let at = order.unwrap_or(StopAt { idle_from: now, term: now, kill: now });
    let what = terminate(&mut process, replica, at, orders, limits).await;
    tracing::info!("{replica} has stopped: it {what}");
    process.last_lines(LAST_LINES_LIMIT).await;
    End::Ordered
}

/// Sends TERM, then KILL, at their times, or sooner if an order says so, until the process has ended.
async fn terminate(
    process: &mut Process,
    replica: &Replica,
    mut at: StopAt,
    orders: &mut watch::Receiver<Option<StopAt>>,
    limits: Limits,
) -> String {
    let mut next = Some(Signal::TERM);
    loop {
        at = orders.borrow_and_update().map_or(at, |order| order.earliest(at));
        tokio::select! {
            biased;
            what = process.ended() => return what,
            () = due(replica, at, next) => {
                if let Some(signal) = next {
                    process.signal(signal);
                }
                if next == Some(Signal::KILL) {
                    tracing::warn!("{replica} did not end by SIGTERM in time; it is killed");
                }
                next = (next == Some(Signal::TERM)).then_some(Signal::KILL);
                at.kill = at.kill.min(clock::now() + limits.term);
            }
            Ok(()) = orders.changed() => {}
        }
    }
}

/// Ready when the next signal is to be sent; never after the last one.
async fn due(replica: &Replica, at: StopAt, next: Option<Signal>) {
    match next {
        Some(Signal::TERM) => {
            sleep_until(at.idle_from.min(at.term)).await;
            while clock::now() < at.term && !replica.is_idle() {
                sleep(IDLE_GLANCE).await;
            }
        }
        Some(_) => sleep_until(at.kill).await,
        None => std::future::pending().await,
    }
}

/// Ready once there is an order to stop.
async fn ordered(orders: &mut watch::Receiver<Option<StopAt>>) {
    if orders.wait_for(Option::is_some).await.is_err() {
        // Without the sender there is nobody left to order it.
        std::future::pending().await
    }
}
