//! Warming when the proxy starts, as `[cache.warm]` says: once its upstreams can answer, beside the first clients.

use std::time::Duration;

use anyhow::anyhow;

use super::{Doors, Item, Report, distinct, most_asked, pages, warm};
use crate::config::Warm;
use crate::telemetry::log;

/// Upstreams have this long to be ready. Then they are asked all the same, and what fails is told.
const READY_LIMIT: Duration = Duration::from_secs(60);
const READY_PAUSE: Duration = Duration::from_millis(50);
/// Pages that are named in the log, of each kind.
const NAMED_MAX: usize = 20;

/// Asks for all that the configuration names, once `is_ready` says that upstreams can answer, and says in the log how it
/// went.
pub async fn at_start(plan: &Warm, doors: anyhow::Result<Doors>, is_ready: impl Fn() -> bool) {
    let doors = match doors {
        Ok(doors) => doors,
        Err(error) => return tracing::warn!("the cache is not warmed: {error:#}"),
    };
    let ready = async {
        while !is_ready() {
            tokio::time::sleep(READY_PAUSE).await;
        }
    };
    if tokio::time::timeout(READY_LIMIT, ready).await.is_err() {
        tracing::warn!("the cache is warmed although an upstream has no usable endpoint yet");
    }
    let items = items(plan, &doors).await;
    let items = tokio::task::spawn_blocking(|| distinct(items)).await.unwrap_or_default();
    tracing::info!("the cache is warmed with {} pages", items.len());
    let report = warm(&doors, items, plan.concurrency, |done| tracing::info!("warming the cache: {done}")).await;
    tell(&report);
}

/// What cannot be read is told and left out.
async fn items(plan: &Warm, doors: &Doors) -> Vec<Item> {
    let mut items: Vec<_> = plan.pages.iter().filter_map(|page| Item::read(page)).collect();
    if let Some(root) = plan.sitemap.as_deref().and_then(Item::read) {
        match pages(doors, root, |problem| tracing::warn!("warming the cache: {problem}")).await {
            Ok(pages) => items.extend(pages),
            Err(error) => tracing::warn!("warming the cache: {error:#}"),
        }
    }
    if let Some(log) = &plan.access_log {
        let (path, top) = (log.clone(), plan.top);
        let asked = tokio::task::spawn_blocking(move || most_asked(&path, top)).await;
        match asked.map_err(|panicked| anyhow!(panicked)).and_then(|asked| Ok(asked?)) {
            Ok(asked) => items.extend(asked),
            Err(error) => tracing::warn!("warming the cache: cannot read {}: {error:#}", log.display()),
        }
    }
    items
}

fn tell(report: &Report) {
    for (what, pages) in [("not kept", &report.not_kept), ("failed", &report.failed)] {
        for page in pages.iter().take(NAMED_MAX) {
            tracing::warn!("warming the cache: {what}: {:?}: {}", page.page, page.reason);
        }
        if pages.len() > NAMED_MAX {
            tracing::warn!("warming the cache: {what}: {} more", pages.len() - NAMED_MAX);
        }
    }
    tracing::info!(target: log::NOTICE, "the cache is warmed: {}", report.summary());
}
