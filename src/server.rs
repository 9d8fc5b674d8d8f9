//! The composition root: builds what lives as long as the process, starts the workers and the control tasks, and
//! carries out orders until it is told to end; how that is done is up to `shutdown`.
//!
//! The main thread is the control thread. It carries reload, DNS, probes, supervision and the admin listener
//! on a runtime of its own, so that they answer when every worker is busy.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::background::{self, Background};
use crate::cache::Cache;
use crate::config::{self, Config, Environment, Loaded, Unusable};
use crate::connection::HeadBudget;
use crate::control::{Control, Ended, Inbox, Options, Order, Stop, Trigger, warn_of};
use crate::division::LimitsError;
use crate::listener::{BindError, Cap, Socket};
use crate::overload::Overload;
use crate::signals::{self, Signal};
use crate::snapshot::{Lasting, Live, Snapshot, SnapshotError};
use crate::sockets::{self, Sockets};
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{AccessLog, AccessLogError};
use crate::telemetry::log;
use crate::telemetry::metrics::Pushing;
use crate::telemetry::traces::Exporting;
use crate::tls::{CertificateError, Certificates};
use crate::warm::{self, Doors};
use crate::watch::Watch;
use crate::worker::{self, Shared};
use crate::{admin, capacity, clock, inherited, observed, ready, recovery, reload, shutdown};

/// Replicas of our own and names have this long to be there before connections are accepted anyway.
const FIRST_MEMBERS_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    ReadyFd(#[from] inherited::ReadyFdError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("[cache]: {0}")]
    Cache(#[from] LimitsError),
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    #[error("the log is set up already")]
    Log(#[from] tracing::subscriber::SetGlobalDefaultError),
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl StartError {
    /// Whether it is what `check` refuses too, so that another start would end the same way until the
    /// configuration, or a file that it names, is mended.
    pub fn is_of_configuration(&self) -> bool {
        match self {
            Self::Config(_) | Self::Certificate(_) | Self::Snapshot(_) | Self::Cache(_) => true,
            Self::AccessLog(error) => matches!(error, AccessLogError::Open { .. }),
            Self::Admin(error) => error.is_of_configuration(),
            Self::ReadyFd(_) | Self::Bind(_) | Self::Log(_) | Self::Tls(_) | Self::System { .. } => false,
        }
    }
}

/// Runs the proxy until it is told to end.
pub fn run(options: Options) -> Result<Ended, StartError> {
    capacity::raise_open_files_limit();
    let loaded = config::load(&options.config, &Environment::system())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::System { what: "cannot start the control runtime", source })?;
    let ended = LocalSet::new().block_on(&runtime, serve(options, loaded));
    // Who asks for a disk that is gone may never come back, and dropping a runtime waits for all of its threads.
    runtime.shutdown_background();
    ended
}

async fn serve(options: Options, loaded: Loaded) -> Result<Ended, StartError> {
    let diagnostics = log::Diagnostics::start(loaded.config.log.level)?;
    warn_of(&loaded.warnings);
    let (signals, signalled) = mpsc::unbounded_channel();
    signals::listen(&signals).map_err(|source| StartError::System { what: "cannot listen for signals", source })?;
    let ready = options.ready_fd.map(inherited::ready).transpose()?;
    let (orders, mut ordered) = mpsc::unbounded_channel();
    let (stops, mut stopped) = mpsc::unbounded_channel();
    let control = Rc::new(start(options, &loaded, diagnostics, Inbox { orders, stops })?);
    tokio::task::spawn_local(pass_on(signalled, control.clone()));
    tokio::task::spawn_local(background::sweep(Arc::clone(&control.shared.cache)));
    tokio::task::spawn_local(recovery::run(control.shared.clone()));
    let (lately, file) = (Rc::clone(&control.lately), control.options.config.clone());
    tokio::task::spawn_local(lately.watch(control.shared.clone(), control.access.clone(), file));
    control.supervisor.adopt_orphans();
    // First of all: an address that is taken must not start anything.
    let sockets = open_all(&control, &loaded.config).await?;
    let admin = admin::listen(&control).await?;
    let serving = async {
        let watch = begin(&control, &loaded, sockets).await;
        announce(&control, &loaded, ready, admin.address());
        tokio::join!(obey(&control, &watch, &mut ordered), warm_cache(&control, &loaded.config));
    };
    // Whatever is under way, a start or a reload, is left where it stands.
    tokio::select! {
        biased;
        _ = stopped.recv() => {}
        () = serving => {}
    }
    // Who waits for an answer to an order is told that there will be none.
    drop(ordered);
    let ended = shutdown::drain(&control, &mut stopped).await;
    shutdown::finish(&control, ended).await;
    Ok(ended)
}

/// Accepts connections once there is somebody to answer them, or after a while without.
async fn begin(control: &Control, loaded: &Loaded, sockets: Vec<(SocketAddr, Vec<Socket>)>) -> Watch {
    let snapshot = control.shared.live.load_full();
    control.prepare(&snapshot);
    control.tend(&snapshot);
    let watch = Watch::start(Rc::clone(&control.files_changed));
    watch.follow(reload::watched(loaded));
    control.background.first_members(&snapshot, FIRST_MEMBERS_LIMIT).await;
    for (address, sockets) in sockets {
        control.sockets.hand_out(address, sockets, &control.workers);
    }
    watch
}

/// Has the cache asked for what the configuration names, if it does.
async fn warm_cache(control: &Control, config: &Config) {
    let Some(plan) = config.cache.warm.as_ref().filter(|_| config.cache.enabled) else { return };
    let bound = control.sockets.bound();
    let listeners = config.listeners.iter();
    let listeners = listeners.filter_map(|listen| Some((*bound.get(&listen.address)?, listen.tls.is_some())));
    let names: Vec<_> = control.certificates.info().iter().flat_map(|info| info.hosts.clone()).collect();
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let doors = Doors::new(listeners, names.iter().map(String::as_str), plan.host.clone());
    // A reload may bring others meanwhile, and those from before are looked after no longer.
    let is_ready = || control.shared.live.load().upstreams.values().all(|upstream| upstream.pool.has_proven_member());
    warm::start::at_start(plan, doors, is_ready).await;
}

/// Carries out orders, one after the other, for as long as it is polled.
async fn obey(control: &Control, watch: &Watch, ordered: &mut mpsc::UnboundedReceiver<Order>) {
    loop {
        let order = tokio::select! {
            biased;
            order = ordered.recv() => order,
            () = control.files_changed.notified() => Some(Order::Reload(Trigger::Watch)),
        };
        match order {
            Some(Order::Reload(trigger)) => drop(reload::reload(control, watch, trigger).await),
            Some(Order::ReloadAndTell(reply)) => {
                let _asker_left = reply.send(reload::reload(control, watch, Trigger::Command).await);
            }
            Some(Order::ReopenLogs) => control.reopen_logs(),
            None => return,
        }
    }
}

/// Builds what lives as long as the process, and starts the workers.
fn start(
    options: Options,
    loaded: &Loaded,
    diagnostics: log::Diagnostics,
    inbox: Inbox,
) -> Result<Control, StartError> {
    let config = &loaded.config;
    let sockets = Sockets::new(inherited::sockets(options.ready_fd));
    let metrics = Arc::new(Metrics::new(clock::system_time()));
    let certificates = Certificates::new()?;
    let prepared = certificates.prepare(&config.certificates, clock::system_time())?;
    prepared.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    certificates.install(prepared);
    let workers = capacity::worker_count(config);
    let cache = Cache::new(config.cache.limits(), workers)?;
    let overload = Arc::<Overload>::default();
    let pushing = Pushing::start(&metrics, config.telemetry.as_ref());
    let exporting = Exporting::start(config.telemetry.as_ref(), &Handle::current());
    let lasting = Lasting {
        certificates: &certificates,
        metrics: &metrics,
        cache: &cache,
        overload: &overload,
        spans: Some(exporting.queue()),
    };
    let snapshot = Snapshot::build(config.clone(), None, &lasting)?;
    snapshot.activate();
    let access = AccessLog::start(&config.log.access)?;
    let executable = std::env::current_exe()
        .map_err(|source| StartError::System { what: "cannot find the running executable", source })?;
    let supervisor = Supervisor::new(executable);
    let shared = Shared {
        cache,
        live: Arc::new(Live::from_pointee(snapshot)),
        cap: Cap::new(capacity::connections_max(config)),
        heads: HeadBudget::new(capacity::heads_max(config)),
        overload,
        metrics,
        counts: (0..workers).map(|_| Arc::default()).collect(),
    };
    let mut workers = Vec::new();
    for index in 0..shared.counts.len() {
        let started = worker::start(index, shared.clone(), access.writer());
        workers.push(started.map_err(|source| StartError::System { what: "cannot start a worker", source })?);
    }
    let control = Control {
        options,
        shared,
        certificates,
        access,
        exporting,
        pushing,
        diagnostics,
        supervisor,
        background: Background::default(),
        lately: Rc::default(),
        started_with: config.clone(),
        started: clock::now(),
        started_at: clock::system_time(),
        draining: Cell::new(false),
        last_reload: RefCell::default(),
        inbox,
        files_changed: Rc::default(),
        workers,
        sockets,
    };
    observed::observe(&control);
    Ok(control)
}

/// Makes orders of signals.
async fn pass_on(mut signalled: mpsc::UnboundedReceiver<Signal>, control: Rc<Control>) {
    while let Some(signal) = signalled.recv().await {
        match signal {
            Signal::Stop => control.inbox.stop(Stop::Signal),
            Signal::Reload => control.inbox.order(Order::Reload(Trigger::Signal)),
            Signal::ReopenLogs => control.inbox.order(Order::ReopenLogs),
            Signal::Upgrade => tracing::warn!("SIGUSR2 does nothing here: another binary takes a restart"),
        }
    }
}

async fn open_all(control: &Control, config: &Config) -> Result<Vec<(SocketAddr, Vec<Socket>)>, BindError> {
    let addresses = sockets::addresses(config);
    control.sockets.warn_of_unused(&addresses);
    let mut opened = Vec::with_capacity(addresses.len());
    for address in addresses {
        opened.push((address, control.sockets.open(address, control.workers.len()).await?));
    }
    Ok(opened)
}

fn announce(control: &Control, loaded: &Loaded, ready: Option<OwnedFd>, admin: Option<SocketAddr>) {
    let bound = control.sockets.bound();
    ready::banner(&loaded.config, &control.options.config, &bound, admin);
    ready::tell(ready, &bound, admin);
}
