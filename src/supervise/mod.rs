//! Replicas that the proxy itself starts: `run` in an upstream.
//!
//! This module owns their processes: it starts them, tells the pool of their upstream who is ready, starts
//! them again when they end, replaces them when their command changes, and takes them down with the proxy.
//! It never sends them requests of clients; once a replica is ready, its health is the business of the pool.
//!
//! All of it runs on the control thread. The kernel ends a replica together with the *thread* that started
//! it, so that thread must be the one that lives as long as the process. A command that is a shell script
//! had better `exec` its program, because only the process that was started itself is told.

mod backoff;
mod group;
mod orphans;
mod output;
mod plan;
mod port;
mod process;
mod ready;
mod replica;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::balance::Endpoint;
use crate::clock;
use crate::config::Run;
use group::Group;
use output::Output;
use port::Ports;
pub use ready::Check;
use replica::{Limits, Replica, StopAt};

const LIMITS: Limits =
    Limits { ready: Duration::from_secs(30), grace: Duration::from_secs(1), term: Duration::from_secs(10) };
/// The kernel takes this long at most to end what was killed; and standard error to take the last lines.
const REAP_LIMIT: Duration = Duration::from_secs(1);

/// Told the addresses of the replicas that are ready, after each change.
pub type Members = Rc<dyn Fn(&[SocketAddr])>;
/// Finds what is known of a member, to see when its last request has ended.
pub type Endpoints = Rc<dyn Fn(SocketAddr) -> Option<Arc<Endpoint>>>;

/// The replicas that one upstream should have.
#[derive(Clone)]
pub struct Wanted {
    pub upstream: String,
    pub run: Run,
    /// What a new replica has to pass before it is a member. None: it is enough that it accepts connections.
    pub check: Option<Check>,
    /// A replica that is replaced has this long to end its requests.
    pub drain_timeout: Duration,
    pub members: Members,
    pub endpoints: Endpoints,
}

/// One replica for the status page.
#[derive(Debug, Clone, Serialize)]
pub struct ReplicaStatus {
    pub upstream: String,
    /// 1 up to the number of replicas; two have the same while one replaces the other.
    pub replica: usize,
    pub state: &'static str,
    pub address: Option<SocketAddr>,
    pub pid: Option<u32>,
    pub restarts: u32,
    pub uptime_s: Option<u64>,
}

/// All replicas of this process.
pub struct Supervisor {
    shared: Rc<Shared>,
    groups: RefCell<BTreeMap<String, Rc<Group>>>,
    stopping: Cell<bool>,
}

/// What the replicas of all upstreams have in common.
struct Shared {
    executable: PathBuf,
    ports: Ports,
    output: Output,
    limits: Limits,
    next_id: Cell<u64>,
    /// Changes with each change of a replica.
    changes: watch::Sender<()>,
}

impl Supervisor {
    /// `executable` stands for `{self}` in commands. What replicas write goes to standard error.
    pub fn new(executable: PathBuf) -> Rc<Self> {
        Self::with(executable, Output::to(io::stderr()), LIMITS)
    }

    fn with(executable: PathBuf, output: Output, limits: Limits) -> Rc<Self> {
        let shared = Shared {
            executable,
            ports: Ports::default(),
            output,
            limits,
            next_id: Cell::new(0),
            changes: watch::Sender::new(()),
        };
        Rc::new(Supervisor { shared: Rc::new(shared), groups: RefCell::default(), stopping: Cell::new(false) })
    }

    /// Has orphans of replicas reaped, if they come to this process. To be called once, on a `LocalSet`.
    pub fn adopt_orphans(self: &Rc<Self>) {
        if !orphans::are_ours() {
            return;
        }
        let supervisor = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let is_supervised = |pid| supervisor.status().iter().any(|replica| replica.pid == Some(pid));
            if let Err(error) = orphans::reap(is_supervised).await {
                tracing::warn!("orphans of replicas are not reaped: {error}");
            }
        });
    }

    /// Takes over what each upstream should have now, from one generation of the configuration. Replicas
    /// whose command is unchanged stay, and the new members are told of them at once. To be called on a
    /// `LocalSet`.
    pub fn apply(&self, wanted: Vec<Wanted>) {
        if self.stopping.get() {
            return;
        }
        self.groups.borrow_mut().retain(|_, group| !group.is_empty());
        let mut gone = self.groups.borrow().clone();
        for wanted in wanted {
            gone.remove(&wanted.upstream);
            self.group(&wanted.upstream).want(wanted);
        }
        gone.values().for_each(|group| group.want_none());
    }

    /// Starts the replicas of upstreams that have none, of a generation that does not serve yet; what is
    /// replaced or removed by it is still in use. To be called on a `LocalSet`.
    pub fn begin(&self, wanted: Vec<Wanted>) {
        let is_new = |wanted: &Wanted| self.groups.borrow().get(&wanted.upstream).is_none_or(|group| group.is_empty());
        let new = wanted.into_iter().filter(|wanted| !self.stopping.get() && is_new(wanted));
        new.for_each(|wanted| self.group(&wanted.upstream).want(wanted));
    }

    fn group(&self, upstream: &str) -> Rc<Group> {
        let mut groups = self.groups.borrow_mut();
        let group = groups.entry(upstream.to_owned());
        Rc::clone(group.or_insert_with(|| Group::new(Rc::clone(&self.shared), upstream)))
    }

    /// Ends all replicas: TERM now, KILL after the limit. Nothing is started any more.
    pub async fn stop(&self, limit: Duration) {
        self.stopping.set(true);
        let groups: Vec<_> = self.groups.borrow().values().cloned().collect();
        let now = clock::now();
        for group in &groups {
            group.want_none();
            group.stop_all(StopAt { idle_from: now, term: now, kill: now + limit });
        }
        let all_ended = self.until(|| groups.iter().all(|group| group.is_empty()));
        if timeout(limit + REAP_LIMIT, all_ended).await.is_err() {
            tracing::error!("replicas still run although they were killed");
        }
        self.shared.output.flush(REAP_LIMIT).await;
    }

    pub fn status(&self) -> Vec<ReplicaStatus> {
        let now = clock::now();
        let replicas = self.groups.borrow().values().flat_map(|group| group.replicas()).collect::<Vec<_>>();
        let status = |replica: &Rc<Replica>| {
            let state = replica.state();
            ReplicaStatus {
                upstream: replica.upstream.clone(),
                replica: replica.index,
                state: state.phase.label(),
                address: state.address,
                pid: state.process.map(|process| process.pid),
                restarts: state.restarts,
                uptime_s: state.process.map(|process| (now - process.since).as_secs()),
            }
        };
        replicas.iter().map(status).collect()
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        let mut changes = self.shared.changes.subscribe();
        while !holds() {
            // `self` has the sender, so this waits for a change.
            let _never_closed = changes.changed().await;
        }
    }
}
