//! Reload: read, check, build, bind what is new, swap. On any error nothing has changed.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::capacity;
use crate::clock;
use crate::config::{self, Config, Environment, Loaded, change};
use crate::ready;
use crate::server::{Control, Order, warn_of};
use crate::snapshot::{Lasting, Snapshot};

/// An editor writes a file in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// A new upstream's names and replicas have this long to be known before it serves.
const FIRST_MEMBERS_LIMIT: Duration = Duration::from_secs(2);

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
    Applied { generation: u64, changes: Vec<String> },
    Refused { diagnostics: String },
}

/// The last reload, for the status page.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Last {
    pub at: Option<u64>,
    /// When the configuration in force was read; None at the start.
    pub applied_at: Option<u64>,
    pub error: Option<String>,
}

/// Watches the folders of the files that the configuration was made of.
pub struct Watch {
    watcher: std::cell::RefCell<Option<RecommendedWatcher>>,
    files: Rc<std::cell::RefCell<Files>>,
}

#[derive(Debug, Default)]
struct Files {
    paths: Vec<PathBuf>,
    hash: u64,
}

/// Reads the configuration again and serves it, if it is good.
pub async fn reload(control: &Rc<Control>, watch: &Watch, trigger: Trigger) -> Outcome {
    ready::reloading();
    let outcome = match build(control).await {
        Ok((loaded, built)) => {
            let outcome = apply(control, &loaded, built).await;
            watch.follow(loaded.files);
            outcome
        }
        Err(diagnostics) => Outcome::Refused { diagnostics },
    };
    ready::reloaded();
    note(control, &outcome, trigger);
    outcome
}

struct Built {
    snapshot: Arc<Snapshot>,
    certificates: crate::tls::Prepared,
    sockets: BTreeMap<SocketAddr, Vec<std::net::TcpListener>>,
}

/// Everything that can fail, and nothing that can be seen from outside.
async fn build(control: &Control) -> Result<(Loaded, Built), String> {
    let loaded = config::load(&control.options.config, &Environment::system()).map_err(|found| found.to_string())?;
    let now = clock::system_time();
    let certificates =
        control.certificates.prepare(&loaded.config.certificates, now).map_err(|error| error.to_string())?;
    let lasting = Lasting { certificates: &control.certificates, metrics: &control.shared.metrics };
    let current = control.shared.live.load_full();
    let snapshot =
        Snapshot::build(loaded.config.clone(), Some(&current), &lasting).map_err(|error| error.to_string())?;
    let mut sockets = BTreeMap::new();
    for address in addresses(&loaded.config).difference(&addresses(&current.config)) {
        sockets.insert(*address, control.bind(*address).map_err(|error| error.to_string())?);
    }
    control.access.reconfigure(&loaded.config.log.access).map_err(|error| error.to_string())?;
    Ok((loaded, Built { snapshot: Arc::new(snapshot), certificates, sockets }))
}

async fn apply(control: &Rc<Control>, loaded: &Loaded, built: Built) -> Outcome {
    let Built { snapshot, certificates, sockets } = built;
    let previous = control.shared.live.load_full();
    certificates.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    control.certificates.install(certificates);
    control.tend(&snapshot);
    control.background.first_members(&snapshot, FIRST_MEMBERS_LIMIT).await;
    let generation = snapshot.generation;
    control.shared.live.store(Arc::clone(&snapshot));
    snapshot.activate();
    control.shared.cap.set_max(capacity::connections_max(&loaded.config));
    control.diagnostics.set_level(loaded.config.log.level);
    for (address, sockets) in sockets {
        control.hand_out(address, sockets);
    }
    for address in addresses(&previous.config).difference(&addresses(&loaded.config)) {
        control.unlisten(*address);
    }
    warn_of(&loaded.warnings);
    Outcome::Applied { generation, changes: change::describe(&previous.config, &loaded.config) }
}

fn note(control: &Control, outcome: &Outcome, trigger: Trigger) {
    let at = clock::system_time().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let error = match outcome {
        Outcome::Applied { generation, changes } if changes.is_empty() => {
            tracing::info!("configuration {generation}: nothing has changed ({trigger:?})");
            None
        }
        Outcome::Applied { generation, changes } => {
            tracing::info!("configuration {generation} is in force ({trigger:?})");
            changes.iter().for_each(|change| tracing::info!("  {change}"));
            None
        }
        Outcome::Refused { diagnostics } => {
            tracing::error!(
                "the new configuration is refused, the old one stays in force ({trigger:?})\n{diagnostics}"
            );
            Some(diagnostics.clone())
        }
    };
    let metrics = &control.shared.metrics;
    match &error {
        None => metrics.reload_succeeded(control.shared.live.load().generation, clock::system_time()),
        Some(_) => metrics.reload_failed(),
    }
    let applied_at = if error.is_none() { Some(at) } else { control.last_reload.borrow().applied_at };
    control.last_reload.replace(Last { at: Some(at), applied_at, error });
}

fn addresses(config: &Config) -> BTreeSet<SocketAddr> {
    config.listeners.iter().map(|listen| listen.address).collect()
}

/// Starts to watch, if the configuration says so.
pub fn watch(control: &Rc<Control>, files: Vec<PathBuf>) -> Watch {
    let watch = Watch { watcher: std::cell::RefCell::default(), files: Rc::default() };
    if control.shared.live.load().config.server.reload == config::Reload::Signal {
        return watch;
    }
    let (events, received) = mpsc::unbounded_channel();
    match notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ended = events.send(());
        }
    }) {
        Ok(watcher) => {
            watch.watcher.replace(Some(watcher));
            tokio::task::spawn_local(report(received, Rc::clone(&watch.files), control.orders.clone()));
        }
        Err(error) => tracing::warn!("cannot watch the configuration: {error}; use SIGHUP or `tollgate reload`"),
    }
    watch.follow(files);
    watch
}

/// Orders a reload when the events have calmed down and a file is not what it was.
async fn report(
    mut events: mpsc::UnboundedReceiver<()>,
    files: Rc<std::cell::RefCell<Files>>,
    orders: mpsc::UnboundedSender<Order>,
) {
    while events.recv().await.is_some() {
        while tokio::time::timeout(DEBOUNCE, events.recv()).await.is_ok_and(|event| event.is_some()) {}
        let mut files = files.borrow_mut();
        let hash = hash_of(&files.paths);
        if std::mem::replace(&mut files.hash, hash) != hash && orders.send(Order::FilesChanged).is_err() {
            return;
        }
    }
}

impl Watch {
    /// Watches the parent folders: a file that is renamed over, or a symlink that is swapped, gives no event
    /// on the file itself.
    fn follow(&self, paths: Vec<PathBuf>) {
        let hash = hash_of(&paths);
        let before = self.files.replace(Files { paths, hash });
        let Some(watcher) = &mut *self.watcher.borrow_mut() else { return };
        let (old, new) = (folders(&before.paths), folders(&self.files.borrow().paths));
        for folder in old.difference(&new) {
            let _gone = watcher.unwatch(folder);
        }
        for folder in new.difference(&old) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!("cannot watch {}: {error}", folder.display());
            }
        }
    }
}

/// The folders of the files, and of what they link to.
fn folders(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in paths {
        let mut path = path.clone();
        for _ in 0..LINKS_MAX {
            folders.insert(folder_of(&path));
            let Ok(target) = std::fs::read_link(&path) else { break };
            path = folder_of(&path).join(target);
        }
        if let Ok(real) = std::fs::canonicalize(&path) {
            folders.insert(folder_of(&real));
        }
    }
    folders
}

const LINKS_MAX: usize = 8;

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn hash_of(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        path.hash(&mut hasher);
        match std::fs::metadata(path) {
            Ok(data) if data.is_dir() => {
                let mut names: Vec<_> = std::fs::read_dir(path).into_iter().flatten().flatten().collect();
                names.sort_by_key(std::fs::DirEntry::file_name);
                names.iter().for_each(|entry| entry.file_name().hash(&mut hasher));
            }
            _ => std::fs::read(path).ok().hash(&mut hasher),
        }
    }
    hasher.finish()
}
