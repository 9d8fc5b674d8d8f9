//! What the control thread holds, as those who work on it see it: the server, reloads, the admin listener
//! and the end of the process. It keeps and hands on; when which of it happens is decided by them.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::background::Background;
use crate::balance::probe;
use crate::config::{Config, Diagnostics, Source};
use crate::lately::Lately;
use crate::snapshot::Snapshot;
use crate::sockets::Sockets;
use crate::supervise::{Check, Supervisor, Wanted};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log;
use crate::telemetry::metrics::Pushing;
use crate::telemetry::traces::Exporting;
use crate::tls::Certificates;
use crate::upstream::{Probing, Upstream};
use crate::worker::{self, Shared};

#[derive(Debug, Clone)]
pub struct Options {
    pub config: PathBuf,
    /// Gets one line of JSON once connections are accepted.
    pub ready_fd: Option<i32>,
}

/// How the process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every request was answered.
    Drained,
    /// `drain_timeout` passed, or a second signal came; what was open was cut.
    Cut,
}

/// What the control thread is asked to do, by signals and the admin listener.
#[derive(Debug)]
pub enum Order {
    Reload(Trigger),
    /// Reload and say what came of it.
    ReloadAndTell(oneshot::Sender<Outcome>),
    ReopenLogs,
}

/// Who wants the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Signal,
    Command,
}

/// Where orders are left. An order to stop does not wait for those before it.
#[derive(Debug)]
pub struct Inbox {
    pub orders: mpsc::UnboundedSender<Order>,
    pub stops: mpsc::UnboundedSender<Stop>,
}

impl Inbox {
    /// Once the process ends, nobody takes it: whoever waits for a reply is told by its end.
    pub fn order(&self, order: Order) {
        let _ending = self.orders.send(order);
    }

    pub fn stop(&self, stop: Stop) {
        let _ending = self.stops.send(stop);
    }
}

/// Everything that lives as long as the process, as the control thread holds it.
pub struct Control {
    pub options: Options,
    pub shared: Shared,
    pub certificates: Arc<Certificates>,
    pub access: AccessLog,
    pub exporting: Exporting,
    pub pushing: Pushing,
    pub diagnostics: log::Diagnostics,
    pub supervisor: Rc<Supervisor>,
    pub background: Background,
    pub lately: Rc<Lately>,
    /// What some keys keep until a restart.
    pub started_with: Config,
    pub started: Instant,
    pub started_at: SystemTime,
    pub draining: Cell<bool>,
    pub last_reload: RefCell<Last>,
    pub inbox: Inbox,
    /// Notified when the files of the configuration may have changed.
    pub files_changed: Rc<Notify>,
    pub workers: Vec<worker::Handle>,
    pub sockets: Sockets,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Signal,
    Watch,
    Command,
}

/// What came of a reload, in words.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    Applied {
        generation: u64,
        changes: Vec<String>,
    },
    Refused {
        /// As `check` says it.
        diagnostics: String,
        /// The same in one line.
        #[serde(skip)]
        summary: String,
    },
}

/// The last reload, for the status page.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Last {
    pub at: Option<u64>,
    /// When the configuration in force was read; None at the start.
    pub applied_at: Option<u64>,
    /// Why it was refused, in one line.
    pub error: Option<String>,
    /// The same as `check` says it, with the lines that are meant.
    pub diagnostics: Option<String>,
}

impl Control {
    /// Has a generation get ready to serve: its names are resolved, its endpoints probed, and replicas started
    /// where there are none.
    pub fn prepare(&self, snapshot: &Snapshot) {
        self.supervisor.begin(replicas_wanted(snapshot));
        self.background.apply(snapshot);
    }

    /// Replaces and removes replicas, once this generation serves.
    pub fn tend(&self, snapshot: &Snapshot) {
        self.supervisor.apply(replicas_wanted(snapshot));
    }

    pub fn connections(&self) -> usize {
        self.shared.counts.iter().map(|counts| counts.connections.load(Ordering::Relaxed)).sum()
    }

    pub fn reopen_logs(&self) {
        match self.access.reopen() {
            Ok(()) => tracing::info!(target: log::NOTICE, "log files reopened"),
            Err(error) => tracing::error!("{error}; the old file stays in use"),
        }
    }
}

/// The replicas of a generation; they become members of its pools.
fn replicas_wanted(snapshot: &Snapshot) -> Vec<Wanted> {
    let wanted = snapshot.upstreams.values().filter_map(|upstream| {
        let Source::Run(run) = &upstream.pool.upstream().source else { return None };
        let (pool, known) = (Arc::clone(&upstream.pool), Arc::clone(&upstream.pool));
        Some(Wanted {
            upstream: upstream.config().name.clone(),
            run: run.clone(),
            check: check_of(upstream),
            drain_timeout: snapshot.config.server.drain_timeout,
            members: Rc::new(move |addresses| pool.set_members(0, addresses.iter().copied())),
            endpoints: Rc::new(move |address| known.endpoint(address)),
        })
    });
    wanted.collect()
}

/// The probe of an upstream, for addresses that are no members yet.
fn check_of(upstream: &Arc<Upstream>) -> Option<Check> {
    let check = upstream.pool.upstream().health.clone()?;
    let upstream = Arc::clone(upstream);
    Some(Rc::new(move |address| {
        let (check, upstream) = (check.clone(), Arc::clone(&upstream));
        Box::pin(async move {
            let endpoint = upstream.pool.stranger(address);
            probe::probe(&check, &Probing::new(upstream), &endpoint).await
        })
    }))
}

/// Says what is doubtful about a configuration that is good enough.
pub fn warn_of(warnings: &Diagnostics) {
    if !warnings.is_empty() {
        tracing::warn!("{warnings}");
    }
}
