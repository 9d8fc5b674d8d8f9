//! The task that takes spans out of a queue and sends them: when a batch is whole or some time has passed, one message at
//! a time, each within its limit. What a collector does not take now is offered a few times more, and then dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValueKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::health::{Health, Taken, Watch};
use crate::queue::{Batch, Counts, Dropped, Queue};
use crate::settings::{Batching, Target};
use crate::wire::Wire;

/// A batch is offered so often.
const OFFERS_MAX: u32 = 4;
/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// No collector is waited for longer, whatever it asks for.
pub const PAUSE_MAX: Duration = Duration::from_secs(300);

/// A batch that is lost; why was said.
struct Unsent;

/// A queue, and the task that empties it. Both stay when it turns out that spans go elsewhere.
#[derive(Debug)]
pub struct Exporter {
    queue: Arc<Queue>,
    destination: Arc<Mutex<Option<Destination>>>,
    runtime: Handle,
    /// None once it is to end.
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Where spans go, and whose they are.
#[derive(Debug, Clone)]
struct Destination {
    target: Target,
    client: Client,
    resource: Arc<[(String, String)]>,
}

impl Exporter {
    /// `scope` names the program that makes the spans; `tell` is called when the collector begins to fail or to take
    /// spans in part, and when all is well again. Until it is told where to, it sends nothing.
    pub fn start(
        batching: Batching,
        scope: &'static str,
        counts: Arc<Counts>,
        tell: impl Fn(Health) + Send + Sync + 'static,
        runtime: &Handle,
    ) -> Self {
        let queue = Arc::new(Queue::new(batching.queue_max, batching.batch_max, Arc::clone(&counts)));
        let destination = Arc::<Mutex<Option<Destination>>>::default();
        let task = Task {
            queue: Arc::clone(&queue),
            destination: Arc::clone(&destination),
            scope,
            batching,
            counts,
            tell: Box::new(tell),
            watch: Watch::default(),
        };
        Self { queue, destination, runtime: runtime.clone(), task: Mutex::new(Some(runtime.spawn(task.run()))) }
    }

    /// Where spans go from now on, those that wait included. Nowhere: nobody is to push any.
    pub fn apply(&self, target: Option<Target>, resource: &[(String, String)]) {
        let mut destination = lock(&self.destination);
        let known = destination.as_ref().map(|known| (&known.target, known.resource.as_ref()));
        if known == target.as_ref().map(|target| (target, resource)) {
            return;
        }
        *destination = target.map(|target| {
            let client = Client::new(target.clone(), self.runtime.clone());
            Destination { target, client, resource: resource.into() }
        });
        drop(destination);
        self.queue.changed.notify_one();
    }

    /// Where spans are handed in.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Sends what there is, and ends. What takes longer than `limit` is dropped.
    pub async fn close(&self, limit: Duration) {
        self.queue.close();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(limit, &mut task).await.is_err()
        {
            task.abort();
        }
        self.queue.give_up();
    }
}

fn lock(destination: &Mutex<Option<Destination>>) -> MutexGuard<'_, Option<Destination>> {
    destination.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    queue: Arc<Queue>,
    destination: Arc<Mutex<Option<Destination>>>,
    scope: &'static str,
    batching: Batching,
    counts: Arc<Counts>,
    tell: Box<dyn Fn(Health) + Send + Sync>,
    watch: Watch,
}

impl Task {
    async fn run(mut self) {
        loop {
            let is_closed = self.queue.is_closed();
            if !is_closed {
                self.wait().await;
            }
            let taken = self.queue.take();
            if taken.is_empty() && is_closed {
                return;
            }
            for batch in taken {
                self.send(batch).await;
            }
        }
    }

    /// Until a batch is whole, or those that are there have waited for others long enough.
    async fn wait(&self) {
        if self.destination().is_none() {
            self.queue.changed.notified().await;
        } else if !self.queue.has_batch() {
            let _elapsed = tokio::time::timeout(self.batching.delay, self.queue.changed.notified()).await;
        }
    }

    fn destination(&self) -> Option<Destination> {
        lock(&self.destination).clone()
    }

    async fn send(&mut self, batch: Batch) {
        let count = batch.spans;
        match self.offer(batch).await {
            Ok(Taken { rejected, .. }) => {
                self.counts.count_exported(count.saturating_sub(rejected));
                self.counts.count_dropped(Dropped::Rejected, rejected.min(count));
            }
            Err(Unsent) => self.counts.count_dropped(Dropped::Failed, count),
        }
        self.queue.done(count);
    }

    async fn offer(&mut self, batch: Batch) -> Result<Taken, Unsent> {
        let Some(Destination { client, resource, .. }) = self.destination() else { return Err(Unsent) };
        let message: Bytes = request(&batch, &resource, self.scope).0.into();
        let mut offers = 0;
        loop {
            let sent = client.export(message.clone()).await;
            if let Some(health) = self.watch.look(&sent) {
                (self.tell)(health);
            }
            let error = match sent {
                Ok(taken) => return Ok(taken),
                Err(error) => error,
            };
            offers += 1;
            // At the end there is no time to wait for better ones.
            if !error.may_pass() || offers == OFFERS_MAX || self.queue.is_closed() {
                return Err(Unsent);
            }
            self.rest(pause(offers, fastrand::f64(), error.retry_after())).await;
        }
    }

    /// Waits, but not beyond the end.
    async fn rest(&self, pause: Duration) {
        let ended = async {
            while !self.queue.is_closed() {
                self.queue.changed.notified().await;
            }
        };
        let _elapsed = tokio::time::timeout(pause, ended).await;
    }
}

/// How long to wait after so many offers: it doubles, and not all wait as long (`luck` is from 0 to 1), else they would come
/// back together. What the collector asked for is the least.
fn pause(offers: u32, luck: f64, asked: Option<Duration>) -> Duration {
    let pause = PAUSE.saturating_mul(1 << offers.saturating_sub(1).min(8)).mul_f64(0.5 + luck / 2.0);
    let asked = asked.unwrap_or_default();
    // What all were told has its own share of luck on top.
    asked.saturating_add(asked.mul_f64(luck / 10.0)).max(pause).min(PAUSE_MAX)
}

/// The message for a batch of spans of one process: an `ExportTraceServiceRequest` of one `ResourceSpans` of one `ScopeSpans`.
fn request(batch: &Batch, resource: &[(String, String)], scope: &'static str) -> Wire {
    let attributes = resource.iter().map(|(key, value)| KeyValue {
        key: key.clone(),
        value: Some(AnyValue { value: Some(AnyValueKind::StringValue(value.clone())) }),
        ..KeyValue::default()
    });
    let resource = Resource { attributes: attributes.collect(), ..Resource::default() };
    let scope = InstrumentationScope {
        name: scope.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let (mut resource_spans, mut scope_spans, mut request) = (Wire::default(), Wire::default(), Wire::default());
    scope_spans.bytes(1, &scope.encode_to_vec());
    let spans = &batch.message.0;
    resource_spans.bytes(1, &resource.encode_to_vec());
    resource_spans.length(2, scope_spans.0.len() + spans.len());
    request.length(1, resource_spans.0.len() + scope_spans.0.len() + spans.len());
    [&resource_spans.0, &scope_spans.0, spans].into_iter().for_each(|part| request.0.extend_from_slice(part));
    request
}

#[cfg(test)]
mod tests;
