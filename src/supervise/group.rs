//! The replicas of one upstream, and who of them is a member of it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::output::Output;
use super::plan::{Phase, Seen, Step, plan};
use super::port::Ports;
use super::replica::{self, Limits, Replica, StopAt};
use super::{Check, Endpoints, Members, Shared, Wanted};
use crate::clock;

pub struct Group {
    shared: Rc<Shared>,
    upstream: String,
    wanted: RefCell<State>,
    replicas: RefCell<Vec<Rc<Replica>>>,
}

struct State {
    command: Vec<String>,
    count: usize,
    check: Option<Check>,
    drain_timeout: Duration,
    endpoints: Option<Endpoints>,
    /// None once the upstream is gone or the process ends: then nobody chooses among the members.
    members: Option<Members>,
}

impl Group {
    pub fn new(shared: Rc<Shared>, upstream: &str) -> Rc<Self> {
        let wanted = State {
            command: Vec::new(),
            count: 0,
            check: None,
            drain_timeout: Duration::ZERO,
            endpoints: None,
            members: None,
        };
        Rc::new(Group {
            shared,
            upstream: upstream.to_owned(),
            wanted: RefCell::new(wanted),
            replicas: RefCell::default(),
        })
    }

    pub fn want(self: &Rc<Self>, wanted: Wanted) {
        let Wanted { upstream: _, run, check, drain_timeout, members, endpoints } = wanted;
        let mut state = self.wanted.borrow_mut();
        if state.count > 0 && state.command != run.command {
            tracing::info!("the command of {} has changed; its replicas are replaced one by one", self.upstream);
        }
        *state = State {
            command: run.command,
            count: run.replicas,
            check,
            drain_timeout,
            endpoints: Some(endpoints),
            members: Some(members),
        };
        drop(state);
        self.reconcile();
    }

    /// Retires all replicas.
    pub fn want_none(self: &Rc<Self>) {
        let mut state = self.wanted.borrow_mut();
        state.count = 0;
        state.members = None;
        drop(state);
        self.reconcile();
    }

    pub fn stop_all(&self, at: StopAt) {
        self.replicas.borrow().iter().for_each(|replica| replica.stop(at));
    }

    pub fn is_empty(&self) -> bool {
        self.replicas.borrow().is_empty()
    }

    /// All replicas, in the order of their index.
    pub fn replicas(&self) -> Vec<Rc<Replica>> {
        let mut replicas = self.replicas.borrow().clone();
        replicas.sort_by_key(|replica| (replica.index, replica.id));
        replicas
    }

    /// To be called by a replica after a change of its state.
    pub fn changed(self: &Rc<Self>) {
        self.reconcile();
        self.shared.changes.send_replace(());
    }

    /// To be called by a replica that has stopped for good.
    pub fn remove(self: &Rc<Self>, id: u64) {
        self.replicas.borrow_mut().retain(|replica| replica.id != id);
        self.changed();
    }

    pub fn check(&self) -> Option<Check> {
        self.wanted.borrow().check.clone()
    }

    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    pub fn ports(&self) -> &Ports {
        &self.shared.ports
    }

    pub fn output(&self) -> &Output {
        &self.shared.output
    }

    pub fn executable(&self) -> &Path {
        &self.shared.executable
    }

    fn reconcile(self: &Rc<Self>) {
        let (seen, count) = (self.seen(), self.wanted.borrow().count);
        for step in plan(count, &seen) {
            match step {
                Step::Start { index } => self.start(index),
                Step::Retire { id } => self.retire(id),
            }
        }
        // Not while `wanted` is borrowed: the members are not ours.
        let members = self.wanted.borrow().members.clone();
        if let Some(tell) = members {
            tell(&self.ready_addresses());
        }
    }

    fn seen(&self) -> Vec<Seen> {
        let wanted = self.wanted.borrow();
        let see = |replica: &Rc<Replica>| Seen {
            id: replica.id,
            index: replica.index,
            current: replica.command == wanted.command,
            phase: replica.phase(),
        };
        self.replicas.borrow().iter().map(see).collect()
    }

    fn start(self: &Rc<Self>, index: usize) {
        let id = self.shared.next_id.replace(self.shared.next_id.get() + 1);
        let replica = Rc::new(Replica::new(id, &self.upstream, index, &self.wanted.borrow().command));
        self.replicas.borrow_mut().push(Rc::clone(&replica));
        tokio::task::spawn_local(replica::keep(Rc::clone(self), replica));
    }

    fn retire(&self, id: u64) {
        let replicas = self.replicas.borrow();
        let Some(replica) = replicas.iter().find(|replica| replica.id == id) else { return };
        let limits = self.shared.limits;
        let now = clock::now();
        if replica.phase() != Phase::Ready {
            return replica.stop(StopAt { idle_from: now, term: now, kill: now + limits.term });
        }
        // It is a member until the others are told of its end, so its requests are still known.
        let wanted = self.wanted.borrow();
        let address = replica.state().address;
        replica.watch_requests(address.zip(wanted.endpoints.as_ref()).and_then(|(address, find)| find(address)));
        let idle_from = now + limits.grace;
        let term = idle_from.max(now + wanted.drain_timeout);
        replica.stop(StopAt { idle_from, term, kill: term + limits.term });
    }

    fn ready_addresses(&self) -> Vec<SocketAddr> {
        let ready = self.replicas().into_iter().filter(|replica| replica.phase() == Phase::Ready);
        ready.filter_map(|replica| replica.state().address).collect()
    }
}
