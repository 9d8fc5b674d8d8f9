//! The control thread's [`Control`] as the admin listener sees it. Beside `checks`, the only file here that knows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::oneshot;

use super::Process;
use super::checks::{Looked, look, milliseconds_since};
use super::limits::Named;
use super::live::Gauges;
use super::status::{CertificateStatus, ConfigStatus, Connections, Status, WorkerStatus, overall, rfc3339};
use crate::balance::Pool;
use crate::cache::Cache;
use crate::control::{Control, Order, Outcome, Stop};
use crate::overload::Pressure;
use crate::proxy::explain::shape::{Explanation, Question};
use crate::proxy::explain::{self, Ground, Unclear};
use crate::snapshot::Snapshot;
use crate::stub_status::Totals;
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{Following, Wanted};
use crate::telemetry::metrics::RouteTotals;
use crate::tls::CertificateInfo;
use crate::{clock, config, recovery};

/// The page shows so many cached routes, those that are asked for most.
const CACHED_ROUTES_SHOWN_MAX: usize = 50;

impl Process for Control {
    fn rules(&self) -> Option<config::Admin> {
        self.shared.live.load().config.admin.clone()
    }

    fn is_draining(&self) -> bool {
        self.draining.get()
    }

    fn refuses_all(&self) -> bool {
        self.shared.overload.pressure() == Pressure::Hard
    }

    fn status(&self) -> impl Serialize {
        status(self)
    }

    fn explain(&self, question: &Question, shows_secrets: bool) -> Result<Explanation, Unclear> {
        let (snapshot, bound) = (self.shared.live.load_full(), self.sockets.bound());
        let (cache, overload) = (&self.shared.cache, &self.shared.overload);
        let (snapshot, bound, now) = (&snapshot, &bound, clock::now());
        explain::explain(&Ground { snapshot, cache, overload, bound, is_live: true, shows_secrets, now }, question)
    }

    fn follow(&self, wanted: Wanted) -> Option<Following> {
        self.access.follow(wanted)
    }

    fn glance(&self) -> impl Serialize {
        let mut status = status(self);
        status.cache.routes.sort_by_key(|route| std::cmp::Reverse(route.hits + route.misses));
        status.cache.routes.truncate(CACHED_ROUTES_SHOWN_MAX);
        status
    }

    fn gauges(&self) -> Gauges {
        let Totals { connections, busy, .. } = self.shared.totals();
        let (hits, misses) = self.shared.cache.lookups();
        Gauges { connections, busy, hits, misses }
    }

    fn each_route(&self, show: impl FnMut(&str, RouteTotals)) {
        self.shared.metrics.each_route(show);
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    fn cache(&self) -> Arc<Cache> {
        Arc::clone(&self.shared.cache)
    }

    fn cache_config(&self) -> config::Cache {
        self.shared.live.load().config.cache.clone()
    }

    fn rate_limits(&self) -> Vec<Named> {
        let snapshot = self.shared.live.load();
        let named = |(name, limit): (&String, &Arc<_>)| {
            let having = snapshot.config.routes.iter().filter(|route| route.rate_limit.contains(name));
            Named { limit: Arc::clone(limit), routes: having.map(|route| route.name.clone()).collect() }
        };
        snapshot.rate_limits.iter().map(named).collect()
    }

    fn pools(&self) -> BTreeMap<String, Arc<Pool>> {
        let snapshot = self.shared.live.load();
        snapshot.upstreams.iter().map(|(name, upstream)| (name.clone(), Arc::clone(&upstream.pool))).collect()
    }

    async fn reload(&self) -> Option<Outcome> {
        let (reply, outcome) = oneshot::channel();
        self.inbox.order(Order::ReloadAndTell(reply));
        outcome.await.ok()
    }

    fn stop(&self) {
        self.inbox.stop(Stop::Command);
    }
}

fn status(control: &Control) -> Status {
    let begun = clock::now();
    let now = clock::system_time();
    let snapshot = control.shared.live.load_full();
    let Looked { listeners, upstreams, cache, certificates, checks } = look(control, &snapshot, now);
    Status {
        status: overall(&checks),
        timestamp: rfc3339(now).unwrap_or_default(),
        uptime_s: begun.duration_since(control.started).as_secs_f64(),
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        config: config_status(control, &snapshot),
        workers: workers(control),
        connections: Connections { open: control.shared.totals().connections, max: control.shared.cap.max() },
        listeners,
        upstreams,
        cache,
        replicas: control.supervisor.status(),
        certificates: certificates.iter().map(certificate).collect(),
        checks,
        recovery: recovery::report(&snapshot, &control.shared.overload),
        response_time_ms: milliseconds_since(begun),
    }
}

fn config_status(control: &Control, snapshot: &Snapshot) -> ConfigStatus {
    let last = control.last_reload.borrow();
    let at = |unix: u64| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(unix));
    ConfigStatus {
        file: control.options.config.clone(),
        generation: snapshot.generation,
        loaded_at: last.applied_at.map_or_else(|| rfc3339(control.started_at), at),
        last_reload_at: last.at.and_then(at),
        last_error: last.error.clone(),
        last_diagnostics: last.diagnostics.clone(),
    }
}

fn workers(control: &Control) -> Vec<WorkerStatus> {
    let counts = control.shared.counts.iter();
    let status = counts.map(|counts| WorkerStatus {
        connections: counts.connections.load(Relaxed),
        busy: counts.busy.load(Relaxed),
        accepted: counts.accepted.load(Relaxed),
        requests: counts.requests.load(Relaxed),
    });
    status.collect()
}

fn certificate(info: &CertificateInfo) -> CertificateStatus {
    CertificateStatus { hosts: hosts(info), not_after: rfc3339(info.not_after) }
}

fn hosts(certificate: &CertificateInfo) -> Vec<String> {
    certificate.hosts.iter().map(ToString::to_string).collect()
}
