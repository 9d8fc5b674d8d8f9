//! Works on jobs, beside the requests: claims what is due, has it done, and puts off what failed.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tollgate_otlp::{Kind as SpanKind, Name};

use super::storage::{self, Claim, Stored};
use super::{Job, JobError, Jobs, Kind};
use crate::clock::now_ms;
use crate::media;
use crate::say;
use crate::secret::new_id;
use crate::store::{Repeat, StoreError, Transaction};
use crate::trace::{self, Trace};

/// Longer than a request waits for a database that is away, and far longer than a job takes.
const LEASE: Duration = Duration::from_secs(10);
/// How often to look for jobs that other replicas have left, or that have rested.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    /// The lease was over, and somebody else has the job, or had it.
    Lost,
}

impl Jobs {
    /// Goes on working.
    pub async fn work(&self) -> Infallible {
        let [thumbnails, metadata, notifications] = Kind::ALL.map(|kind| self.work_on(kind));
        let (never, ..) = tokio::join!(thumbnails, metadata, notifications, self.keep_count());
        never
    }

    async fn keep_count(&self) -> Infallible {
        loop {
            if let Err(error) = self.count().await {
                say(format_args!("counting jobs failed: {error}"));
            }
            sleep(COUNT_INTERVAL).await;
        }
    }

    async fn work_on(&self, kind: Kind) -> Infallible {
        let mut left = self.left.subscribe();
        // They end with this.
        let mut running = JoinSet::new();
        loop {
            match self.claim(kind, now_ms()).await {
                Ok(claimed) => {
                    for stored in claimed {
                        let jobs = self.clone();
                        running.spawn(async move { jobs.attempt(&stored).await });
                    }
                }
                Err(error) => say(format_args!("claiming jobs failed: {error}")),
            }
            wait(&mut left, &mut running).await;
        }
    }

    /// Takes what is due and has room.
    pub(super) async fn claim(&self, kind: Kind, now_ms: i64) -> Result<Vec<Stored>, StoreError> {
        // Mostly there is nothing, and then nobody is kept from writing.
        if self.store.fetch_optional(&storage::is_due(kind, now_ms)).await?.is_none() {
            return Ok(Vec::new());
        }
        let lease = new_id();
        self.held.begin(&lease);
        let claimed = self.take(kind, &lease, now_ms).await;
        for stored in claimed.iter().flatten() {
            self.held.begin(stored.lease());
        }
        self.held.end(&lease);
        claimed
    }

    async fn take(&self, kind: Kind, lease: &str, now_ms: i64) -> Result<Vec<Stored>, StoreError> {
        let until_ms = now_ms.saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX));
        let claim = Claim { kind, lease, now_ms, until_ms };
        let mut attempts = self.store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = storage::claim(&mut transaction, &claim).await;
            if let Some(claimed) = attempts.end(transaction, outcome).await? {
                return Ok(claimed);
            }
        }
    }

    async fn attempt(&self, stored: &Stored) {
        let outcome = match timeout(LEASE, self.perform(stored)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(JobError::Late),
        };
        let kind = stored.job.kind;
        match outcome {
            Ok(Ended::Done) => {
                self.metrics.worked(kind.name(), "done");
                // It may have left another.
                self.have_been_left();
            }
            Ok(Ended::Lost) => self.metrics.worked(kind.name(), "lost"),
            Err(error) => {
                self.metrics.worked(kind.name(), "failed");
                if let Err(error) = self.put_off(stored, &error, now_ms()).await {
                    // It is taken over when the lease is over.
                    say(format_args!("putting off job {} failed: {error}", stored.job.id));
                }
            }
        }
        self.held.end(stored.lease());
    }

    /// Does what a job is for, and ends it, or neither.
    async fn perform(&self, stored: &Stored) -> Result<Ended, JobError> {
        let span = self.tracing.below(&stored.job.trace_id, &stored.job.producer)?;
        let begun = Instant::now();
        let outcome = span.scope(self.perform_below(stored, &span)).await;
        if span.is_recorded() {
            span.ended(consumed(stored, begun, &outcome));
        }
        outcome
    }

    async fn perform_below(&self, stored: &Stored, span: &Trace) -> Result<Ended, JobError> {
        let mut attempts = self.store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = effect(&mut transaction, stored, span, now_ms()).await;
            if let Some(ended) = attempts.end(transaction, outcome).await? {
                return Ok(ended);
            }
        }
    }

    /// Lets a job rest until its next attempt, or gives it up.
    pub(super) async fn put_off(&self, stored: &Stored, error: &JobError, now_ms: i64) -> Result<(), StoreError> {
        let Stored { job, attempts: begun, .. } = stored;
        let Job { id, kind, trace_id, producer, owner, .. } = job;
        let (fault, lease) = (error.to_string(), stored.lease());
        say(format_args!(
            "attempt {begun} at job {id} ({}) failed: {fault} (trace={trace_id} parent={producer} user.id={owner})",
            kind.name()
        ));
        let statement = match kind.pause_ms(*begun) {
            Some(pause_ms) => storage::postpone(id, lease, &fault, now_ms + pause_ms),
            None => storage::give_up(id, lease, &fault, now_ms),
        };
        self.store.change(&[statement]).await.map(drop)
    }
}

/// The CONSUMER span of an attempt, by the semantic conventions for messages.
fn consumed<'a>(stored: &'a Stored, begun: Instant, outcome: &Result<Ended, JobError>) -> trace::Ended<'a> {
    let Job { id, kind, owner, .. } = &stored.job;
    let (result, fault) = match outcome {
        Ok(Ended::Done) => ("done", None),
        Ok(Ended::Lost) => ("lost", None),
        Err(error) => ("failed", Some(error.to_string())),
    };
    let attributes = vec![
        ("messaging.system", "tollgate-backend".into()),
        ("messaging.operation.type", "process".into()),
        ("messaging.destination.name", kind.name().into()),
        ("messaging.message.id", id.as_str().into()),
        ("user.id", owner.as_str().into()),
        ("job.attempt", stored.attempts.into()),
        ("job.result", result.into()),
    ];
    let name = Name("process", Some(kind.name()));
    trace::Ended { kind: SpanKind::Consumer, name, begun, attributes, fault }
}

/// Until there may be something to begin.
async fn wait(left: &mut watch::Receiver<()>, running: &mut JoinSet<()>) {
    tokio::select! {
        Some(_ended) = running.join_next() => {}
        // The sender lives as long as the jobs.
        _ = left.changed() => {}
        () = sleep(LOOK_INTERVAL) => {}
    }
}

/// The end of a job and its effect, as parts of one transaction. The end is first: it keeps others away, and finds out
/// whether the lease still holds.
pub(super) async fn effect(
    transaction: &mut Transaction,
    stored: &Stored,
    span: &Trace,
    now_ms: i64,
) -> Result<Ended, JobError> {
    let job = &stored.job;
    if transaction.execute(&storage::end(&job.id, stored.lease(), now_ms)).await? == 0 {
        return Ok(Ended::Lost);
    }
    match job.kind {
        Kind::Thumbnail => media::effects::thumbnail(transaction, job, span, now_ms).await?,
        Kind::Metadata => media::effects::metadata(transaction, job, span, now_ms).await?,
        Kind::Notification => {
            transaction.execute(&storage::tell(job, &new_id(), now_ms)).await?;
        }
    }
    Ok(Ended::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::leave;
    use crate::metrics::Metrics;
    use crate::store::{Place, Query, Settings, Store};
    use crate::trace::Tracing;

    const LEASE_MS: i64 = 10_000;

    /// Jobs in a database of its own, with a user who owns them.
    async fn jobs() -> (tempfile::TempDir, Jobs) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().to_owned());
        let metrics = Metrics::new().unwrap();
        let settings = Settings { place, patience: Duration::from_secs(5) };
        let store = Store::open(&settings, metrics.clone()).await.unwrap();
        let jobs = Jobs::new(store, metrics, Tracing::default());
        let add = "insert into users (id, email, user_name, display_name, password_hash, version, created_ms, \
                   changed_ms) values ('ada', 'ada@example.com', 'ada', 'Ada', '', 1, 0, 0)";
        jobs.store.change(&[Query::new("user", add)]).await.unwrap();
        (folder, jobs)
    }

    async fn leave_some(jobs: &Jobs, kind: Kind, count: usize) {
        let span = Tracing::default().join(None).unwrap();
        let some: Vec<_> = (0..count).map(|_| Job::new(kind, "ada", "thing", &span)).collect();
        let mut transaction = jobs.store.attempts(Repeat::Safe).begin().await.unwrap();
        leave(&mut transaction, &some, 0).await.unwrap();
        jobs.store.attempts(Repeat::Safe).end::<(), StoreError>(transaction, Ok(())).await.unwrap();
    }

    async fn number(jobs: &Jobs, statement: &'static str) -> i64 {
        jobs.store.fetch_optional(&Query::new("number", statement)).await.unwrap().unwrap().get("n").unwrap()
    }

    async fn told(jobs: &Jobs) -> i64 {
        number(jobs, "select count(*) as n from notifications").await
    }

    /// Claims the one job that there is.
    async fn claim_one(jobs: &Jobs, now_ms: i64) -> Stored {
        let mut claimed = jobs.claim(Kind::Notification, now_ms).await.unwrap();
        assert_eq!(claimed.len(), 1);
        claimed.pop().unwrap()
    }

    #[tokio::test]
    async fn the_job_of_a_worker_that_crashed_in_the_middle_is_done_once() {
        let (_folder, jobs) = jobs().await;
        leave_some(&jobs, Kind::Notification, 1).await;
        let first = claim_one(&jobs, 0).await;
        let span = Tracing::default().join(None).unwrap();
        let mut transaction = jobs.store.attempts(Repeat::Safe).begin().await.unwrap();
        assert_eq!(effect(&mut transaction, &first, &span, 1).await.unwrap(), Ended::Done);
        // It never comes to the commit.
        drop(transaction);
        assert_eq!(told(&jobs).await, 0);
        assert!(jobs.claim(Kind::Notification, LEASE_MS - 1).await.unwrap().is_empty(), "the lease still holds");

        let second = claim_one(&jobs, LEASE_MS).await;
        assert_eq!((&second.job, second.attempts), (&first.job, 2));
        assert_eq!(jobs.perform(&second).await.unwrap(), Ended::Done);
        // And if it had not crashed, but slept.
        assert_eq!(jobs.perform(&first).await.unwrap(), Ended::Lost);
        assert_eq!(jobs.perform(&second).await.unwrap(), Ended::Lost);
        assert_eq!(told(&jobs).await, 1);
    }

    #[tokio::test]
    async fn who_lost_the_lease_changes_nothing() {
        let (_folder, jobs) = jobs().await;
        leave_some(&jobs, Kind::Notification, 1).await;
        let slow = claim_one(&jobs, 0).await;
        let second = claim_one(&jobs, LEASE_MS).await;
        assert_eq!(jobs.perform(&slow).await.unwrap(), Ended::Lost);
        jobs.put_off(&slow, &JobError::Late, LEASE_MS).await.unwrap();
        assert_eq!(told(&jobs).await, 0);
        assert_eq!(jobs.perform(&second).await.unwrap(), Ended::Done);
        assert_eq!(told(&jobs).await, 1);
    }

    #[tokio::test]
    async fn what_is_not_finished_is_given_back_at_once_and_was_no_attempt() {
        let (_folder, jobs) = jobs().await;
        leave_some(&jobs, Kind::Notification, 3).await;
        let held = jobs.claim(Kind::Notification, 0).await.unwrap();
        jobs.attempt(&held[0]).await;
        jobs.give_back(1).await.unwrap();
        assert_eq!(jobs.perform(&held[1]).await.unwrap(), Ended::Lost, "it is not ours any more");

        let next = jobs.claim(Kind::Notification, 1).await.unwrap();
        assert_eq!(next.iter().map(|stored| stored.attempts).collect::<Vec<_>>(), [1, 1]);
        for stored in &next {
            jobs.attempt(stored).await;
        }
        assert_eq!((told(&jobs).await, jobs.held.all()), (3, vec![held[0].lease().to_owned()]));
    }

    #[tokio::test]
    async fn no_more_are_claimed_than_a_kind_is_wide() {
        let (_folder, jobs) = jobs().await;
        for kind in Kind::ALL {
            leave_some(&jobs, kind, 12).await;
            let claims = (0..4).map(|_| jobs.claim(kind, 0));
            let claimed = futures_util::future::try_join_all(claims).await.unwrap().concat();
            assert_eq!(claimed.len(), usize::try_from(kind.width()).unwrap(), "{kind:?}");
            assert_eq!(jobs.perform(&claimed[0]).await.unwrap(), Ended::Done);
            assert_eq!(jobs.claim(kind, 1).await.unwrap().len(), 1, "{kind:?}: the one that ended made room");
        }
    }

    #[tokio::test]
    async fn a_job_is_tried_as_often_as_its_queue_says() {
        for (kind, dues) in [(Kind::Metadata, vec![0, 1000, 3000]), (Kind::Notification, vec![0, 1000])] {
            let (_folder, jobs) = jobs().await;
            leave_some(&jobs, kind, 1).await;
            for due_ms in dues {
                assert!(jobs.claim(kind, due_ms - 1).await.unwrap().is_empty(), "{kind:?} before {due_ms}");
                let claimed = jobs.claim(kind, due_ms).await.unwrap();
                jobs.put_off(&claimed[0], &JobError::Late, due_ms).await.unwrap();
            }
            assert!(jobs.claim(kind, i64::MAX).await.unwrap().is_empty());
            assert_eq!(number(&jobs, "select count(*) as n from jobs where outcome = 'failed'").await, 1);
        }
    }

    #[tokio::test]
    async fn a_job_that_takes_its_workers_with_it_is_given_up() {
        let (_folder, jobs) = jobs().await;
        leave_some(&jobs, Kind::Notification, 1).await;
        for attempt in 0..2 {
            claim_one(&jobs, attempt * LEASE_MS).await;
        }
        assert!(jobs.claim(Kind::Notification, 2 * LEASE_MS).await.unwrap().is_empty());
        assert_eq!(number(&jobs, "select count(*) as n from jobs where outcome = 'failed'").await, 1);
    }
}
