//! Reload: read, check, build, open what is new, swap. Until the swap nothing has changed, so an error leaves
//! all as it was; and whatever is changed on disk meanwhile is read by the next reload, which the watch orders.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cache::Resized;
use crate::capacity;
use crate::clock;
use crate::config::{self, Diagnostics, Environment, Files, Loaded, Reload, change};
use crate::control::{Control, Last, Outcome, Trigger, warn_of};
use crate::division::StoreLimits;
use crate::listener::{BindError, Socket};
use crate::ready;
use crate::recovery;
use crate::snapshot::{Lasting, Snapshot, SnapshotError};
use crate::sockets::addresses;
use crate::telemetry::access_log::{AccessLogError, Opened};
use crate::telemetry::log::NOTICE;
use crate::tls::{CertificateError, Prepared};
use crate::watch::Watch;

/// A new upstream's names and replicas have this long to be known before it serves.
const FIRST_MEMBERS_LIMIT: Duration = Duration::from_secs(2);

/// Why a configuration is not taken over.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Config(#[from] Diagnostics),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
}

impl Refusal {
    /// With places and advice where there are some.
    fn render(&self) -> String {
        match self {
            Self::Config(found) => found.render(false),
            other => other.to_string(),
        }
    }
}

/// Reads the configuration again and serves it, if it is good.
pub async fn reload(control: &Control, watch: &Watch, trigger: Trigger) -> Outcome {
    ready::reloading();
    let outcome = match take_over(control, watch).await {
        Ok(applied) => applied,
        Err(refusal) => Outcome::Refused { diagnostics: refusal.render(), summary: refusal.to_string() },
    };
    ready::reloaded();
    note(control, &outcome, trigger);
    outcome
}

/// The files of a configuration that are to be watched.
pub fn watched(loaded: &Loaded) -> Files {
    match loaded.config.server.reload {
        Reload::Watch => loaded.files.clone(),
        Reload::Signal => Files::default(),
    }
}

async fn take_over(control: &Control, watch: &Watch) -> Result<Outcome, Refusal> {
    let loaded = config::load(&control.options.config, &Environment::system()).map_err(|unusable| {
        watch.follow_too(unusable.files);
        unusable.diagnostics
    })?;
    let built = build(control, &loaded).await.inspect_err(|_| watch.follow_too(loaded.files.clone()))?;
    let outcome = apply(control, &loaded, built).await;
    watch.follow(watched(&loaded));
    Ok(outcome)
}

struct Built {
    snapshot: Arc<Snapshot>,
    certificates: Prepared,
    sockets: BTreeMap<SocketAddr, Vec<Socket>>,
    access: Opened,
}

/// Everything that can fail, and nothing that can be seen from outside but sockets that listen a moment early.
async fn build(control: &Control, loaded: &Loaded) -> Result<Built, Refusal> {
    let config = &loaded.config;
    let certificates = control.certificates.prepare(&config.certificates, clock::system_time())?;
    let shared = &control.shared;
    let lasting = Lasting {
        certificates: &control.certificates,
        metrics: &shared.metrics,
        cache: &shared.cache,
        overload: &shared.overload,
        spans: Some(control.exporting.queue()),
    };
    let current = control.shared.live.load_full();
    let snapshot = Arc::new(Snapshot::build(config.clone(), Some(&current), &lasting)?);
    let access = control.access.open(&config.log.access)?;
    // Last: from now on they accept.
    let mut sockets = BTreeMap::new();
    for address in addresses(config).difference(&addresses(&current.config)) {
        sockets.insert(*address, control.sockets.open(*address, control.workers.len()).await?);
    }
    Ok(Built { snapshot, certificates, sockets, access })
}

async fn apply(control: &Control, loaded: &Loaded, built: Built) -> Outcome {
    let Built { snapshot, certificates, sockets, access } = built;
    let previous = control.shared.live.load_full();
    let mut changes = change::describe(&control.started_with, &previous.config, &loaded.config);
    if certificates.changed && changes.is_empty() {
        changes.push("certificates: the renewed ones are in use".to_owned());
    }
    certificates.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    control.certificates.install(certificates);
    control.prepare(&snapshot);
    control.background.first_members(&snapshot, FIRST_MEMBERS_LIMIT).await;
    let generation = snapshot.generation;
    control.shared.live.store(Arc::clone(&snapshot));
    snapshot.activate();
    recovery::keep_count(&previous, &snapshot, &control.shared.overload);
    control.tend(&snapshot);
    control.shared.cap.set_max(capacity::connections_max(&loaded.config));
    control.shared.heads.set_max(capacity::heads_max(&loaded.config));
    control.access.install(access);
    control.exporting.apply(loaded.config.telemetry.as_ref());
    control.pushing.apply(loaded.config.telemetry.as_ref());
    control.diagnostics.set_level(loaded.config.log.level);
    changes.extend(resize_cache(control, previous.config.cache.limits(), loaded.config.cache.limits()).await);
    let wanted = addresses(&loaded.config);
    for (address, sockets) in sockets {
        control.sockets.hand_out(address, sockets, &control.workers);
    }
    for address in addresses(&previous.config).difference(&wanted) {
        control.sockets.give_up(*address, &control.workers);
    }
    control.sockets.warn_of_unused(&wanted);
    warn_of(&loaded.warnings);
    Outcome::Applied { generation, changes }
}

/// Gives the cache its new limits; what it cannot do before a restart.
async fn resize_cache(control: &Control, old: StoreLimits, new: StoreLimits) -> Option<String> {
    if new == old {
        return None;
    }
    let cache = Arc::clone(&control.shared.cache);
    // What does not fit any more is taken out, which may be all of it.
    let resized = tokio::task::spawn_blocking(move || cache.resize(new)).await;
    let kept = match resized.ok()? {
        Ok(Resized::Whole) => return None,
        Ok(Resized::LargestDoNotFit) => {
            "cache: it has to be divided anew for the largest responses, which are not kept until then: needs a restart"
                .to_owned()
        }
        Err(error) => format!("cache: it keeps its old limits: {error}"),
    };
    tracing::warn!("{kept}");
    Some(kept)
}

fn note(control: &Control, outcome: &Outcome, trigger: Trigger) {
    let at = clock::system_time().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let refused = match outcome {
        Outcome::Applied { generation, changes } if changes.is_empty() => {
            tracing::info!(target: NOTICE, "configuration {generation}: nothing has changed ({trigger:?})");
            None
        }
        Outcome::Applied { generation, changes } => {
            tracing::info!(target: NOTICE, "configuration {generation} is in force ({trigger:?})");
            changes.iter().for_each(|change| tracing::info!(target: NOTICE, "  {change}"));
            None
        }
        Outcome::Refused { diagnostics, summary } => {
            tracing::error!(
                "the new configuration is refused, the old one stays in force ({trigger:?})\n{}",
                diagnostics.trim_end()
            );
            Some((summary.clone(), diagnostics.clone()))
        }
    };
    let metrics = &control.shared.metrics;
    match &refused {
        None => metrics.reload_succeeded(control.shared.live.load().generation, clock::system_time()),
        Some(_) => metrics.reload_failed(),
    }
    let applied_at = if refused.is_none() { Some(at) } else { control.last_reload.borrow().applied_at };
    let (error, diagnostics) = refused.unzip();
    control.last_reload.replace(Last { at: Some(at), applied_at, error, diagnostics });
}
