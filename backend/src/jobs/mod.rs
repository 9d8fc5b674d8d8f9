//! Jobs: what is left to do after a request has its answer. They wait in the database, so none is lost with a replica.
//!
//! # Once
//!
//! Whoever begins a job takes a lease of ten seconds on it. Its effect and its end are one transaction, which begins with the
//! end and is undone unless the lease still holds. So the job of a replica that was killed is taken over when its
//! lease is over, and if that replica was merely slow, one of the two changes nothing. A replica that stops in order gives
//! back what it has begun, which is no attempt then. An effect outside of the database could not be held to this; there is
//! none.
//!
//! # How many
//!
//! The width of a kind holds for all replicas together: who claims jobs counts the leases that hold, and nobody else
//! claims of that kind meanwhile. A lease that is over while its holder still works, as after a long stop of the process,
//! is not counted.

mod held;
mod http;
mod kind;
mod storage;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::watch;

pub use self::http::{Left, routes};
pub use self::kind::Kind;

use self::held::Held;
use self::kind::Queue;
use crate::api::{Page, PageQuery};
use crate::metrics::Metrics;
use crate::secret::{NoRandomness, new_id};
use crate::store::{Store, StoreError, Transaction};
use crate::trace::{Trace, Tracing};

/// As many may wait before more are refused. It is looked at once a second, so it is no exact bound.
const DEPTH_MAX: i64 = 100_000;

#[derive(Clone)]
pub struct Jobs {
    store: Store,
    metrics: Metrics,
    tracing: Tracing,
    /// Says that this replica has left a job.
    left: watch::Sender<()>,
    /// How many there were to do when they were counted last.
    depth: Arc<AtomicI64>,
    held: Held,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    /// Who may see how far it is.
    pub owner: String,
    pub kind: Kind,
    /// The name of what it is about.
    pub subject: String,
    pub trace_id: String,
    /// The span that left it, and whether it is sampled.
    pub producer: String,
}

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Random(#[from] NoRandomness),
    #[error("it took longer than its lease")]
    Late,
    #[error("too many jobs wait")]
    Full,
    #[error("there is no such job")]
    Gone,
}

impl Job {
    pub fn new(kind: Kind, owner: &str, subject: &str, producer: &Trace) -> Self {
        Self {
            id: new_id(),
            owner: owner.to_owned(),
            kind,
            subject: subject.to_owned(),
            trace_id: producer.trace_id.to_string(),
            producer: producer.producer(),
        }
    }
}

/// Leaves jobs as a part of a transaction: they are there once it is committed, and only then.
pub async fn leave(transaction: &mut Transaction, jobs: &[Job], now_ms: i64) -> Result<(), StoreError> {
    for job in jobs {
        transaction.execute(&storage::add(job, now_ms)).await?;
    }
    Ok(())
}

impl Jobs {
    pub fn new(store: Store, metrics: Metrics, tracing: Tracing) -> Self {
        let (left, depth, held) = (watch::Sender::new(()), Arc::default(), Held::default());
        Self { store, metrics, tracing, left, depth, held }
    }

    /// Refuses what would leave more jobs than can be kept.
    pub fn room(&self) -> Result<(), JobError> {
        if self.depth.load(Ordering::Relaxed) < DEPTH_MAX { Ok(()) } else { Err(JobError::Full) }
    }

    /// To be said after the commit of what left jobs. Who does not hear it looks once a second anyway.
    pub fn have_been_left(&self) {
        self.left.send_replace(());
    }

    async fn get(&self, owner: &str, id: &str) -> Result<storage::Stored, JobError> {
        let rows = self.store.fetch(&storage::job_of(owner, id)).await?;
        storage::Stored::read_all(&rows)?.pop().ok_or(JobError::Gone)
    }

    async fn told(&self, user: &str, query: &PageQuery) -> Result<Page<storage::Told>, StoreError> {
        let rows = self.store.fetch(&storage::told(user, query)).await?;
        let rows = rows.iter().map(storage::Told::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::new(rows, query, |told| told.id.clone()))
    }

    /// Counts what is to be done.
    async fn count(&self) -> Result<(), StoreError> {
        let rows = self.store.fetch_behind(&storage::depth()).await?;
        let mut depths = Vec::new();
        for row in &rows {
            depths.push((Kind::parse(&row.get::<String>("kind")?), row.get::<i64>("jobs")?));
        }
        for queue in Queue::ALL {
            let of_queue = depths.iter().filter(|(kind, _)| kind.is_some_and(|kind| kind.queue() == queue));
            self.metrics.queue(queue.name()).set(of_queue.map(|(_, jobs)| jobs).sum());
        }
        self.depth.store(depths.iter().map(|(_, jobs)| jobs).sum(), Ordering::Relaxed);
        Ok(())
    }

    /// Gives back the jobs that this replica has not finished, for others to begin at once. Nothing of them may go on.
    pub async fn give_back(&self, now_ms: i64) -> Result<(), StoreError> {
        let statements: Vec<_> = self.held.all().iter().map(|lease| storage::give_back(lease, now_ms)).collect();
        if statements.is_empty() { Ok(()) } else { self.store.change(&statements).await.map(drop) }
    }

    /// Removes what is long over.
    pub async fn sweep(&self, now_ms: i64) -> Result<(), StoreError> {
        for statement in storage::sweep(now_ms) {
            self.store.change(&[statement]).await?;
        }
        Ok(())
    }
}
