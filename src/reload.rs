//! Reload: read, check, build, bind what is new, swap. On any error nothing has changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::capacity;
use crate::clock;
use crate::config::{self, Environment, Loaded, change};
use crate::control::{Control, Last, Outcome, Trigger, warn_of};
use crate::listener::Socket;
use crate::ready;
use crate::snapshot::{Lasting, Snapshot};
use crate::sockets::addresses;
use crate::watch::Watch;

/// A new upstream's names and replicas have this long to be known before it serves.
const FIRST_MEMBERS_LIMIT: Duration = Duration::from_secs(2);

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
    sockets: BTreeMap<SocketAddr, Vec<Socket>>,
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
        let opened = control.sockets.open(*address, control.workers.len()).await;
        sockets.insert(*address, opened.map_err(|error| error.to_string())?);
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
    let wanted = addresses(&loaded.config);
    for (address, sockets) in sockets {
        control.sockets.hand_out(address, sockets, &control.workers);
    }
    for address in addresses(&previous.config).difference(&wanted) {
        control.sockets.give_up(*address, &control.workers);
    }
    control.sockets.warn_of_unused(&wanted);
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
