//! The tables of jobs and notifications. Only statements and their rows. Those whose names begin with `work` belong to no
//! request.

use super::{Job, Kind};
use crate::api::PageQuery;
use crate::store::{Query, Row, StoreError, Transaction};

/// A job as it is stored, with how it stands.
#[derive(Debug, Clone)]
pub struct Stored {
    pub job: Job,
    pub attempts: i64,
    pub due_ms: i64,
    pub lease: Option<String>,
    pub fault: Option<String>,
    pub created_ms: i64,
    pub outcome: Option<String>,
    pub ended_ms: Option<i64>,
}

impl Stored {
    /// None if only another version of this program knows its kind.
    fn read(row: &Row) -> Result<Option<Self>, StoreError> {
        let Some(kind) = Kind::parse(&row.get::<String>("kind")?) else { return Ok(None) };
        let job = Job {
            id: row.get("id")?,
            owner: row.get("owner_id")?,
            kind,
            subject: row.get("subject")?,
            trace_id: row.get("trace_id")?,
            producer: row.get("span_id")?,
        };
        Ok(Some(Self {
            job,
            attempts: row.get("attempts")?,
            due_ms: row.get("due_ms")?,
            lease: row.get("lease")?,
            fault: row.get("fault")?,
            created_ms: row.get("created_ms")?,
            outcome: row.get("outcome")?,
            ended_ms: row.get("ended_ms")?,
        }))
    }

    /// Of whoever has it; empty if nobody has.
    pub fn lease(&self) -> &str {
        self.lease.as_deref().unwrap_or_default()
    }

    /// All those of known kinds.
    pub fn read_all(rows: &[Row]) -> Result<Vec<Self>, StoreError> {
        rows.iter().filter_map(|row| Self::read(row).transpose()).collect()
    }
}

pub fn add(job: &Job, now_ms: i64) -> Query {
    Query::new(
        "job_add",
        "insert into jobs (id, owner_id, kind, subject, attempts, due_ms, trace_id, span_id, created_ms) \
         values ($1, $2, $3, $4, 0, $5, $6, $7, $5) on conflict (id) do nothing",
    )
    .bind(job.id.as_str())
    .bind(job.owner.as_str())
    .bind(job.kind.name())
    .bind(job.subject.as_str())
    .bind(now_ms)
    .bind(job.trace_id.as_str())
    .bind(job.producer.as_str())
}

/// A job, if it is this user's.
pub fn job_of(owner: &str, id: &str) -> Query {
    Query::new("job_of_user", "select * from jobs where id = $1 and owner_id = $2").bind(id).bind(owner)
}

/// Whether a job of this kind can be begun, or its lease is over.
pub fn is_due(kind: Kind, now_ms: i64) -> Query {
    Query::new("work_due", "select id from jobs where kind = $1 and due_ms <= $2 and ended_ms is null limit 1")
        .bind(kind.name())
        .bind(now_ms)
}

/// A claim on jobs of one kind.
#[derive(Debug)]
pub struct Claim<'c> {
    pub kind: Kind,
    pub lease: &'c str,
    pub now_ms: i64,
    pub until_ms: i64,
}

/// Takes as many jobs as the width has room for. One that was begun too often, by somebody who never came back, fails.
pub async fn claim(transaction: &mut Transaction, claim: &Claim<'_>) -> Result<Vec<Stored>, StoreError> {
    let kind = claim.kind.name();
    // Two who count the same room must not both fill it.
    let alone = Query::by_database("work_lock", "select 1", "select pg_advisory_xact_lock(hashtext('jobs ' || $1))");
    transaction.execute(&alone.bind(kind)).await?;
    let bury = Query::new(
        "work_bury",
        "update jobs set lease = null, outcome = 'failed', ended_ms = $2, fault = 'whoever worked on it was lost' \
         where kind = $1 and due_ms <= $2 and ended_ms is null and attempts >= $3",
    );
    transaction.execute(&bury.bind(kind).bind(claim.now_ms).bind(claim.kind.queue().attempts_max())).await?;
    let running = Query::new(
        "work_running",
        "select count(*) as jobs from jobs where kind = $1 and due_ms > $2 and ended_ms is null and lease is not null",
    );
    let running = match transaction.fetch_optional(&running.bind(kind).bind(claim.now_ms)).await? {
        Some(row) => row.get("jobs")?,
        None => 0,
    };
    let take = Query::by_database(
        "work_take",
        "update jobs set attempts = attempts + 1, lease = $2, due_ms = $4 where id in (select id from jobs \
         where kind = $1 and due_ms <= $3 and ended_ms is null order by due_ms, id limit $5)",
        "update jobs set attempts = attempts + 1, lease = $2, due_ms = $4 where id = any (array (select id from jobs \
         where kind = $1 and due_ms <= $3 and ended_ms is null order by due_ms, id limit $5 for update skip locked))",
    )
    .bind(kind)
    .bind(claim.lease)
    .bind(claim.now_ms)
    .bind(claim.until_ms)
    .bind((claim.kind.width() - running).max(0));
    transaction.execute(&take).await?;
    // Also those of an attempt whose commit was not heard of.
    let taken = Query::new("work_taken", "select * from jobs where lease = $1 and ended_ms is null");
    Stored::read_all(&transaction.fetch(&taken.bind(claim.lease)).await?)
}

/// Marks a job as done if the lease still holds, and keeps everybody else away from it until the commit.
pub fn end(id: &str, lease: &str, now_ms: i64) -> Query {
    Query::new(
        "work_end",
        "update jobs set lease = null, outcome = 'done', ended_ms = $3 \
         where id = $1 and lease = $2 and ended_ms is null",
    )
    .bind(id)
    .bind(lease)
    .bind(now_ms)
}

/// Gives a job back that will be due then.
pub fn postpone(id: &str, lease: &str, fault: &str, due_ms: i64) -> Query {
    Query::new(
        "work_postpone",
        "update jobs set lease = null, due_ms = $3, fault = $4 where id = $1 and lease = $2 and ended_ms is null",
    )
    .bind(id)
    .bind(lease)
    .bind(due_ms)
    .bind(fault)
}

/// Gives back what was begun under a lease and has not ended. It does not count as an attempt.
pub fn give_back(lease: &str, now_ms: i64) -> Query {
    Query::new(
        "work_give_back",
        "update jobs set lease = null, due_ms = $2, attempts = attempts - 1 where lease = $1 and ended_ms is null",
    )
    .bind(lease)
    .bind(now_ms)
}

/// Gives a job up.
pub fn give_up(id: &str, lease: &str, fault: &str, now_ms: i64) -> Query {
    Query::new(
        "work_give_up",
        "update jobs set lease = null, outcome = 'failed', ended_ms = $3, fault = $4 \
         where id = $1 and lease = $2 and ended_ms is null",
    )
    .bind(id)
    .bind(lease)
    .bind(now_ms)
    .bind(fault)
}

/// How many are to be done, by kind.
pub fn depth() -> Query {
    Query::new("work_depth", "select kind, count(*) as jobs from jobs where ended_ms is null group by kind")
}

/// Removes what nobody asks for any more: jobs a week after their end, notifications after 90 days.
pub fn sweep(now_ms: i64) -> [Query; 2] {
    let day_ms = 24 * 60 * 60 * 1000;
    [
        Query::new("sweep_jobs", "delete from jobs where ended_ms <= $1").bind(now_ms - 7 * day_ms),
        Query::new("sweep_notifications", "delete from notifications where created_ms <= $1")
            .bind(now_ms - 90 * day_ms),
    ]
}

/// What somebody is told.
#[derive(Debug, Clone)]
pub struct Told {
    pub id: String,
    pub subject: String,
    pub created_ms: i64,
}

impl TryFrom<&Row> for Told {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self { id: row.get("id")?, subject: row.get("subject")?, created_ms: row.get("created_ms")? })
    }
}

/// Tells the owner of a job about its subject.
pub fn tell(job: &Job, id: &str, now_ms: i64) -> Query {
    Query::new(
        "work_tell",
        "insert into notifications (id, user_id, job_id, subject, created_ms) values ($1, $2, $3, $4, $5)",
    )
    .bind(id)
    .bind(job.owner.as_str())
    .bind(job.id.as_str())
    .bind(job.subject.as_str())
    .bind(now_ms)
}

/// What a user was told, the newest first.
pub fn told(user: &str, page: &PageQuery) -> Query {
    Query::new(
        "notifications_of_user",
        "select * from notifications where user_id = $1 and id < coalesce($2, 'g') order by id desc limit $3",
    )
    .bind(user)
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}
