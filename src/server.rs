//! The composition root: builds what lives as long as the process, starts the workers and the control tasks,
//! and takes all of it down again without losing a request.
//!
//! The main thread is the control thread. It carries reload, DNS, probes, supervision and the admin listener
//! on a runtime of its own, so that they answer when every worker is busy.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::background::Background;
use crate::balance::Member;
use crate::balance::health::Verdict;
use crate::config::{self, Config, Diagnostics, Environment, Loaded, Reload};
use crate::listener::{self, BindError, Cap};
use crate::signals::{self, Signal};
use crate::snapshot::{Lasting, Live, Snapshot, SnapshotError};
use crate::supervise::{Supervisor, Wanted};
use crate::telemetry::access_log::{AccessLog, AccessLogError};
use crate::telemetry::log;
use crate::telemetry::metrics::{EndpointSample, Metrics, MetricsError};
use crate::tls::{CertificateError, Certificates};
use crate::upstream::Upstream;
use crate::watch::Watch;
use crate::worker::{self, Command, Shared};
use crate::{admin, capacity, clock, ready, reload, shutdown};

/// Replicas of our own and names have this long to be there before connections are accepted anyway.
const FIRST_MEMBERS_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Options {
    pub config: PathBuf,
    /// Gets one line of JSON once connections are accepted.
    pub ready_fd: Option<i32>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration is not usable")]
    Config(Diagnostics),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("the log is set up already")]
    Log(#[from] tracing::subscriber::SetGlobalDefaultError),
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

/// How the process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every request was answered.
    Drained,
    /// `drain_timeout` passed, or a second signal came; what was open was cut.
    Cut,
}

/// What the control thread is asked to do, by signals, the admin listener and the watch.
#[derive(Debug)]
pub enum Order {
    Signal(Signal),
    /// The files may have changed.
    FilesChanged,
    /// Reload and say what came of it.
    Reload(tokio::sync::oneshot::Sender<reload::Outcome>),
    Stop,
}

/// Everything that lives as long as the process, as the control thread holds it.
pub struct Control {
    pub options: Options,
    pub shared: Shared,
    pub certificates: Arc<Certificates>,
    pub access: AccessLog,
    pub diagnostics: log::Diagnostics,
    pub supervisor: Rc<Supervisor>,
    pub background: Background,
    pub started: Instant,
    pub started_at: SystemTime,
    pub draining: Cell<bool>,
    pub last_reload: RefCell<reload::Last>,
    pub orders: mpsc::UnboundedSender<Order>,
    pub workers: Vec<worker::Handle>,
    /// Configured addresses and what they were bound to.
    pub bound: RefCell<BTreeMap<SocketAddr, SocketAddr>>,
    /// Sockets that the service manager handed over, until a listener takes them.
    handed_over: RefCell<Vec<StdListener>>,
}

/// Runs the proxy until it is told to end.
pub fn run(options: Options) -> Result<Ended, StartError> {
    capacity::raise_open_files_limit();
    let loaded = config::load(&options.config, &Environment::system()).map_err(StartError::Config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::System { what: "cannot start the control runtime", source })?;
    LocalSet::new().block_on(&runtime, serve(options, loaded))
}

async fn serve(options: Options, loaded: Loaded) -> Result<Ended, StartError> {
    let diagnostics = log::Diagnostics::start(loaded.config.log.level)?;
    warn_of(&loaded.warnings);
    let (orders, mut received) = mpsc::unbounded_channel();
    let control = Rc::new(Control::start(options, &loaded, diagnostics, orders)?);
    // First of all: an address that is taken must not start anything.
    let sockets = control.bind_all(&loaded.config)?;
    let admin = admin::listen(&control).await?;
    control.listen_for_signals()?;
    control.tend(&control.shared.live.load_full());
    let watch = control.watch(&loaded);
    control.background.first_members(&control.shared.live.load_full(), FIRST_MEMBERS_LIMIT).await;
    for (address, sockets) in sockets {
        control.hand_out(address, sockets);
    }
    control.announce(&loaded, admin.address());
    while let Some(order) = received.recv().await {
        match order {
            Order::Signal(Signal::Stop) | Order::Stop => break,
            Order::Signal(Signal::Reload) => {
                reload::reload(&control, &watch, reload::Trigger::Signal).await;
            }
            Order::FilesChanged => {
                reload::reload(&control, &watch, reload::Trigger::Watch).await;
            }
            Order::Reload(reply) => {
                let _asker_left = reply.send(reload::reload(&control, &watch, reload::Trigger::Command).await);
            }
            Order::Signal(Signal::ReopenLogs) => control.reopen_logs(),
        }
    }
    let ended = shutdown::drain(&control, &mut received).await;

    shutdown::finish(&control, ended).await;
    Ok(ended)
}

impl Control {
    fn start(
        options: Options,
        loaded: &Loaded,
        diagnostics: log::Diagnostics,
        orders: mpsc::UnboundedSender<Order>,
    ) -> Result<Self, StartError> {
        let config = &loaded.config;
        let metrics = Arc::new(Metrics::new(clock::system_time())?);
        let certificates = Certificates::new()?;
        let prepared = certificates.prepare(&config.certificates, clock::system_time())?;
        prepared.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        certificates.install(prepared);
        let lasting = Lasting { certificates: &certificates, metrics: &metrics };
        let snapshot = Snapshot::build(config.clone(), None, &lasting)?;
        let access = AccessLog::start(&config.log.access)?;
        let executable = std::env::current_exe()
            .map_err(|source| StartError::System { what: "cannot find the running executable", source })?;
        let supervisor = Supervisor::new(executable);
        let shared = Shared {
            live: Arc::new(Live::from_pointee(snapshot)),
            cap: Cap::new(capacity::connections_max(config)),
            metrics,
            counts: (0..capacity::worker_count(config)).map(|_| Arc::default()).collect(),
        };
        let mut workers = Vec::new();
        for index in 0..shared.counts.len() {
            let started = worker::start(index, shared.clone(), access.writer());
            workers.push(started.map_err(|source| StartError::System { what: "cannot start a worker", source })?);
        }
        let control = Self {
            options,
            shared,
            certificates,
            access,
            diagnostics,
            supervisor,
            background: Background::default(),
            started: clock::now(),
            started_at: clock::system_time(),
            draining: Cell::new(false),
            last_reload: RefCell::default(),
            orders,
            workers,
            bound: RefCell::default(),
            handed_over: RefCell::new(ready::handed_over_sockets()),
        };
        control.observe();
        Ok(control)
    }

    /// Has the metrics read at a scrape what others hold.
    fn observe(&self) {
        let metrics = &self.shared.metrics;
        metrics.config_loaded(1, self.started_at);
        metrics.observe_access_log(self.access.clone());
        let certificates = Arc::clone(&self.certificates);
        metrics.observe_certificates(move || {
            let expiries = certificates.info().into_iter();
            expiries
                .flat_map(|info| info.hosts.into_iter().map(move |host| (host.to_string(), info.not_after)))
                .collect()
        });
        let live = Arc::clone(&self.shared.live);
        metrics
            .observe_endpoints(move || live.load().upstreams.values().flat_map(|upstream| samples(upstream)).collect());
    }

    /// Gives the replicas, names and probes of a generation to those who tend them.
    pub fn tend(&self, snapshot: &Arc<Snapshot>) {
        self.supervisor.apply(replicas_wanted(snapshot));
        self.background.apply(snapshot);
    }

    fn watch(&self, loaded: &Loaded) -> Watch {
        let orders = self.orders.clone();
        match loaded.config.server.reload {
            Reload::Signal => Watch::off(),
            Reload::Watch => Watch::start(loaded.files.clone(), move || drop(orders.send(Order::FilesChanged))),
        }
    }

    fn listen_for_signals(&self) -> Result<(), StartError> {
        let (signals, mut received) = mpsc::unbounded_channel();
        signals::listen(&signals).map_err(|source| StartError::System { what: "cannot listen for signals", source })?;
        let orders = self.orders.clone();
        tokio::task::spawn_local(async move {
            while let Some(signal) = received.recv().await {
                let _ended = orders.send(Order::Signal(signal));
            }
        });
        Ok(())
    }

    fn bind_all(&self, config: &Config) -> Result<Vec<(SocketAddr, Vec<StdListener>)>, BindError> {
        config.listeners.iter().map(|listen| Ok((listen.address, self.bind(listen.address)?))).collect()
    }

    /// Binds what the workers will accept on, without accepting yet.
    pub fn bind(&self, configured: SocketAddr) -> Result<Vec<StdListener>, BindError> {
        let mut handed_over = self.handed_over.borrow_mut();
        let found = handed_over.iter().position(|socket| socket.local_addr().is_ok_and(|bound| bound == configured));
        match found {
            Some(index) => listener::duplicate(&handed_over.swap_remove(index), self.workers.len())
                .map_err(|source| BindError { address: configured, source }),
            None => listener::bind(configured, self.workers.len()),
        }
    }

    /// Lets every worker accept on its socket.
    pub fn hand_out(&self, configured: SocketAddr, sockets: Vec<StdListener>) {
        if let Some(bound) = sockets.first().and_then(|socket| socket.local_addr().ok()) {
            self.bound.borrow_mut().insert(configured, bound);
        }
        for (worker, socket) in self.workers.iter().zip(sockets) {
            worker.order(Command::Listen { configured, socket });
        }
    }

    pub fn unlisten(&self, configured: SocketAddr) {
        self.bound.borrow_mut().remove(&configured);
        for worker in &self.workers {
            worker.order(Command::Unlisten { configured });
        }
    }

    pub fn connections(&self) -> usize {
        self.shared.counts.iter().map(|counts| counts.connections.load(Ordering::Relaxed)).sum()
    }

    fn announce(&self, loaded: &Loaded, admin: Option<SocketAddr>) {
        let bound = self.bound.borrow();
        ready::banner(&loaded.config, &self.options.config, &bound, admin);
        ready::tell(self.options.ready_fd, &bound, admin);
    }

    fn reopen_logs(&self) {
        match self.access.reopen() {
            Ok(()) => tracing::info!("log files reopened"),
            Err(error) => tracing::error!("{error}; the old file stays in use"),
        }
    }
}

fn samples(upstream: &Upstream) -> Vec<EndpointSample> {
    let members = upstream.pool.members();
    let sample = |member: &Member| EndpointSample {
        upstream: upstream.name.clone(),
        address: member.endpoint.address,
        up: member.endpoint.verdict() == Verdict::Usable,
        in_flight: member.endpoint.in_flight() as u64,
    };
    members.iter().map(sample).collect()
}

/// The replicas of a generation; they become members of its pools.
fn replicas_wanted(snapshot: &Snapshot) -> Vec<Wanted> {
    let wanted = snapshot.upstreams.values().filter_map(|upstream| {
        let pool = Arc::clone(&upstream.pool);
        let members = Rc::new(move |addresses: &[SocketAddr]| pool.set_members(0, addresses.iter().copied()));
        Wanted::of(upstream.pool.upstream(), members)
    });
    wanted.collect()
}

/// Says what is doubtful about a configuration that is good enough.
pub fn warn_of(warnings: &Diagnostics) {
    if !warnings.is_empty() {
        tracing::warn!("{warnings}");
    }
}
