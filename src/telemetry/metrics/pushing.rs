//! Pushes the metrics to a collector, again and again: the same that a scrape shows, from a task of the control thread.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tollgate_otlp::{Client, Target};

use super::{Metrics, otlp};
use crate::clock;
use crate::config::Telemetry;
use crate::telemetry::log::NOTICE;

/// The task, which ends with this.
pub struct Pushing {
    metrics: Arc<Metrics>,
    settings: watch::Sender<Option<Push>>,
}

/// Where to, as whose, and how often.
#[derive(Debug, Clone, PartialEq)]
struct Push {
    target: Target,
    resource: Arc<[(String, String)]>,
    interval: Duration,
}

impl Push {
    /// None if nothing is to be pushed.
    fn of(telemetry: Option<&Telemetry>) -> Option<Self> {
        let settings = &telemetry?.settings;
        let (target, resource) = (settings.metrics.clone()?, settings.resource.as_slice().into());
        Some(Self { target, resource, interval: settings.metrics_interval })
    }
}

impl Pushing {
    /// To be called on a `LocalSet`.
    pub fn start(metrics: &Arc<Metrics>, telemetry: Option<&Telemetry>) -> Self {
        let (settings, changed) = watch::channel(Push::of(telemetry));
        tokio::task::spawn_local(run(Arc::clone(metrics), changed));
        Self { metrics: Arc::clone(metrics), settings }
    }

    /// Takes a configuration over.
    pub fn apply(&self, telemetry: Option<&Telemetry>) {
        let push = Push::of(telemetry);
        self.settings.send_if_modified(|before| {
            let is_other = *before != push;
            *before = push;
            is_other
        });
    }

    /// Pushes what was counted since the last time, within such a time, and nothing after it.
    pub async fn close(&self, limit: Duration) {
        let Some(push) = self.settings.send_replace(None) else { return };
        let client = Client::new(push.target, Handle::current());
        let pushed = tokio::time::timeout(limit, push_once(&self.metrics, &client, &push.resource)).await;
        let pushed = pushed.unwrap_or_else(|_elapsed| Err(format!("no answer within {limit:?}")));
        self.metrics.pushed(pushed.is_ok());
        if let Err(why) = pushed {
            tracing::warn!("the last metrics are not exported: {why}");
        }
    }
}

async fn run(metrics: Arc<Metrics>, mut settings: watch::Receiver<Option<Push>>) {
    loop {
        let push = settings.borrow_and_update().clone();
        let pushing = async {
            match &push {
                Some(push) => push_again_and_again(&metrics, push).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = settings.changed() => if changed.is_err() { return },
            () = pushing => {}
        }
    }
}

async fn push_again_and_again(metrics: &Arc<Metrics>, push: &Push) {
    let client = Client::new(push.target.clone(), Handle::current());
    let mut ticks = tokio::time::interval_at(clock::now() + push.interval, push.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        ticks.tick().await;
        let pushed = push_once(metrics, &client, &push.resource).await;
        metrics.pushed(pushed.is_ok());
        // Once a change, and not once a push.
        match &pushed {
            Err(why) if !is_failing => tracing::warn!("metrics are not exported: {why}"),
            Ok(()) if is_failing => tracing::info!(target: NOTICE, "metrics are exported again"),
            _ => {}
        }
        is_failing = pushed.is_err();
    }
}

/// One message. What a collector does not take is part of the next one, since all of it are sums.
async fn push_once(metrics: &Arc<Metrics>, client: &Client, resource: &Arc<[(String, String)]>) -> Result<(), String> {
    let (metrics, resource) = (Arc::clone(metrics), Arc::clone(resource));
    let encode = move || {
        let times = (metrics.started, clock::system_time());
        otlp::message(&metrics.gather(), times, &resource).encode_to_vec()
    };
    let message = tokio::task::spawn_blocking(encode).await.map_err(|error| error.to_string())?;
    client.export(message.into()).await.map(drop).map_err(|error| error.to_string())
}
