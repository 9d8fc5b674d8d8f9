//! What the control thread does for the pools of a generation: resolves their names and probes their
//! endpoints. And for what outlives them: works off the purges of the cache.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::balance::resolve::{self, ResolveError, Resolver};
use crate::balance::{Pool, probe};
use crate::cache::{Cache, Progress};
use crate::config::Dns;
use crate::snapshot::Snapshot;
use crate::upstream::Probing;

/// How often it is looked whether there are purges. They are in force meanwhile, and each look goes over all that is stored.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
const SWEEP_PAUSE: Duration = Duration::from_millis(1);

/// The tasks of the generation that is served.
#[derive(Default)]
pub struct Background {
    tasks: RefCell<Vec<AbortHandle>>,
    resolver: RefCell<Option<(Dns, Arc<Resolver>)>>,
}

impl Background {
    /// Ends the tasks of the generation before and starts those of this one.
    pub fn apply(&self, snapshot: &Snapshot) {
        let resolver = match self.resolver(&snapshot.config.dns) {
            Ok(resolver) => Some(resolver),
            Err(error) => {
                tracing::error!("names are not resolved: {error}");
                None
            }
        };
        let mut tasks = Vec::new();
        for upstream in snapshot.upstreams.values() {
            if let Some(resolver) = &resolver
                && upstream.pool.names().next().is_some()
            {
                let follow = resolve::follow(Arc::clone(resolver), Arc::clone(&upstream.pool));
                tasks.push(tokio::task::spawn_local(follow).abort_handle());
            }
            if upstream.pool.upstream().health.is_some() {
                let probes = probe::run(Arc::clone(&upstream.pool), Probing::new(Arc::clone(upstream)));
                tasks.push(tokio::task::spawn_local(probes).abort_handle());
            }
        }
        for task in self.tasks.replace(tasks) {
            task.abort();
        }
    }

    /// Waits until every pool has a member, for names of a new upstream that are resolved right now.
    pub async fn first_members(&self, snapshot: &Snapshot, limit: Duration) {
        let all = async {
            for upstream in snapshot.upstreams.values() {
                first_member(&upstream.pool).await;
            }
        };
        let _elapsed = tokio::time::timeout(limit, all).await;
    }

    /// One resolver for as long as its settings stay: it holds sockets and the hosts file.
    fn resolver(&self, dns: &Dns) -> Result<Arc<Resolver>, ResolveError> {
        let mut current = self.resolver.borrow_mut();
        if let Some((settings, resolver)) = &*current
            && settings == dns
        {
            return Ok(Arc::clone(resolver));
        }
        let resolver = Arc::new(Resolver::new(dns)?);
        *current = Some((dns.clone(), Arc::clone(&resolver)));
        Ok(resolver)
    }
}

/// Works off purges, as long as it is polled. They are in force already; what they meet is taken out, and then they are
/// forgotten. Each step is short, and workers have the cores in between.
pub async fn sweep(cache: Arc<Cache>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        while cache.has_purges() {
            let swept = Arc::clone(&cache);
            match tokio::task::spawn_blocking(move || swept.sweep()).await {
                Ok(Progress::More) => tokio::time::sleep(SWEEP_PAUSE).await,
                // A ban that is left is for a fetch that is under way.
                Ok(Progress::Idle) | Err(_) => break,
            }
        }
    }
}

async fn first_member(pool: &Pool) {
    let mut changes = pool.changes();
    while pool.members().is_empty() && changes.changed().await.is_ok() {}
}
