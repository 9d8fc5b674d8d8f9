//! Pushes the metrics to a collector, again and again and at the end: the same that a scrape shows, from a task of the
//! control thread.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tollgate_otlp::{Client, ExportError, Health, PAUSE_MAX, Taken, Target, Watch};

use super::{Metrics, otlp};
use crate::clock;
use crate::config::Telemetry;
use crate::telemetry::log::NOTICE;
use crate::telemetry::resource::resource;

/// The task, which ends with this.
pub struct Pushing {
    orders: watch::Sender<Order>,
    /// None once it is to end.
    task: Cell<Option<JoinHandle<()>>>,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Taken,
    /// Some of it was rejected.
    TakenInPart,
    Failed,
}

#[derive(Debug, Clone, PartialEq)]
enum Order {
    Rest,
    Push(Box<Push>),
    /// Once more, and no more after that.
    End,
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
        let telemetry = telemetry?;
        let (target, interval) = (telemetry.settings.metrics.clone()?, telemetry.settings.metrics_interval);
        Some(Self { target, resource: resource(telemetry).into(), interval })
    }
}

impl Order {
    fn of(telemetry: Option<&Telemetry>) -> Self {
        Push::of(telemetry).map_or(Self::Rest, |push| Self::Push(Box::new(push)))
    }
}

impl Pushed {
    /// In the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Taken, Self::TakenInPart, Self::Failed];

    /// As a metric names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Taken => "success",
            Self::TakenInPart => "partial",
            Self::Failed => "failure",
        }
    }

    fn of(sent: &Result<Taken, ExportError>) -> Self {
        match sent {
            Ok(Taken { rejected: 0, .. }) => Self::Taken,
            Ok(_) => Self::TakenInPart,
            Err(_) => Self::Failed,
        }
    }
}

impl Pushing {
    /// To be called on a `LocalSet`.
    pub fn start(metrics: &Arc<Metrics>, telemetry: Option<&Telemetry>) -> Self {
        let (orders, given) = watch::channel(Order::of(telemetry));
        let task = tokio::task::spawn_local(run(Arc::clone(metrics), given));
        Self { orders, task: Cell::new(Some(task)) }
    }

    /// Takes a configuration over.
    pub fn apply(&self, telemetry: Option<&Telemetry>) {
        let order = Order::of(telemetry);
        self.orders.send_if_modified(|before| {
            let is_other = *before != order;
            *before = order;
            is_other
        });
    }

    /// Pushes what there is once more, for so long.
    pub async fn close(&self, limit: Duration) {
        self.orders.send_replace(Order::End);
        if let Some(mut task) = self.task.take()
            && tokio::time::timeout(limit, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

async fn run(metrics: Arc<Metrics>, mut orders: watch::Receiver<Order>) {
    let mut pusher = None;
    loop {
        let order = orders.borrow_and_update().clone();
        match order {
            Order::Rest => pusher = None,
            Order::Push(push) => pusher = Some(Pusher::new(&metrics, *push)),
            Order::End => {
                if let Some(pusher) = &mut pusher {
                    pusher.push().await;
                }
                return;
            }
        }
        let pushing = async {
            match &mut pusher {
                Some(pusher) => pusher.push_again_and_again().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            () = pushing => {}
        }
    }
}

struct Pusher {
    metrics: Arc<Metrics>,
    client: Client,
    resource: Arc<[(String, String)]>,
    interval: Duration,
    watch: Watch,
}

impl Pusher {
    fn new(metrics: &Arc<Metrics>, Push { target, resource, interval }: Push) -> Self {
        let client = Client::new(target, Handle::current());
        Self { metrics: Arc::clone(metrics), client, resource, interval, watch: Watch::default() }
    }

    async fn push_again_and_again(&mut self) {
        let mut ticks = tokio::time::interval_at(clock::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(pause) = self.push().await {
                tokio::time::sleep(pause.min(PAUSE_MAX)).await;
            }
        }
    }

    /// The pause that the collector asks for.
    async fn push(&mut self) -> Option<Duration> {
        let sent = self.send().await;
        self.metrics.pushed(Pushed::of(&sent));
        match self.watch.look(&sent) {
            Some(Health::Failing(why)) => tracing::warn!("metrics are not exported: {why}"),
            Some(Health::Impaired(why)) => tracing::warn!("metrics are exported, but {why}"),
            Some(Health::Recovered) => tracing::info!(target: NOTICE, "metrics are exported again"),
            None => {}
        }
        sent.err()?.retry_after()
    }

    /// One message. What a collector does not take is part of the next one, since all of it are sums.
    async fn send(&self) -> Result<Taken, ExportError> {
        let (metrics, resource) = (Arc::clone(&self.metrics), Arc::clone(&self.resource));
        let encode = move || {
            let times = (metrics.started, clock::system_time());
            otlp::message(&metrics.gather(), times, &resource).encode_to_vec()
        };
        let message = tokio::task::spawn_blocking(encode).await.map_err(|_| ExportError::Ended)?;
        self.client.export(message.into()).await
    }
}
