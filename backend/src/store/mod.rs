//! The database: owns the pools, and decides when a statement is sent again.
//!
//! # Two databases, one text
//!
//! SQLite, embedded, is the default; PostgreSQL comes by its URL. `sqlx::Any` would speak both, but it leaves the
//! placeholders to the caller, narrows the types to its own, and hides `BEGIN IMMEDIATE`. Storage written twice, or
//! by a macro over both drivers, doubles what has to be read. So there is an enum of pools and one text: both
//! know `$1`, `returning`, `on conflict` and common table expressions, and [`query::Value`] and [`Row`] have the few types
//! that mean the same in both. Times are milliseconds since 1970 in a `bigint`, keys are text, a sum needs
//! `cast(… as bigint)`. Where the texts must differ, as in a search for words, a [`Query`] takes one for each.
//! No statement is checked when it is compiled: that would need a database at hand; the tests run each against SQLite,
//! and `tests/parties/app_stores.sh` against PostgreSQL.
//!
//! # Waiting
//!
//! A database that restarts is no failure of the request: what is safe to send again is sent again, with growing
//! pauses, until [`Store::patience`](Settings::patience) is over. [`retry`] has the rule.

mod attempts;
mod error;
mod migrate;
mod pools;
mod query;
mod retry;
mod row;
mod transaction;

use std::time::{Duration, Instant};

pub use self::attempts::Attempts;
pub use self::error::StoreError;
pub use self::pools::{Connections, Place, Settings, Usage};
pub use self::query::Query;
pub use self::retry::Repeat;
pub use self::row::Row;
pub use self::transaction::Transaction;

use self::pools::Pools;
use self::retry::Retry;
use crate::metrics::Metrics;
use crate::trace;

/// The database, for all who ask it. Clones share their connections.
#[derive(Clone)]
pub struct Store {
    pools: Pools,
    patience: Duration,
    metrics: Metrics,
}

impl Store {
    /// Opens the database and brings its tables up to date. A server that does not answer yet is waited for.
    pub async fn open(settings: &Settings, metrics: Metrics) -> Result<Self, StoreError> {
        let mut retry = Retry::new(settings.patience, Instant::now());
        loop {
            let error = match Pools::open(settings).await {
                Ok(pools) => return Ok(Self { pools, patience: settings.patience, metrics }),
                Err(error) => error,
            };
            match retry.pause(error.fault(), Instant::now()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    /// All rows of a query that changes nothing.
    pub async fn fetch(&self, query: &Query) -> Result<Vec<Row>, StoreError> {
        self.read(query, Freshness::Now).await
    }

    /// The first row of a query that changes nothing.
    pub async fn fetch_optional(&self, query: &Query) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch(query).await?.into_iter().next())
    }

    /// As [`fetch`](Self::fetch), from a replica of the database if there is one that answers: what was just written may be
    /// missing.
    pub async fn fetch_behind(&self, query: &Query) -> Result<Vec<Row>, StoreError> {
        self.read(query, Freshness::Behind).await
    }

    async fn read(&self, query: &Query, freshness: Freshness) -> Result<Vec<Row>, StoreError> {
        let mut retry = Retry::new(self.patience, Instant::now());
        loop {
            let begin = Instant::now();
            let outcome = self.pools.fetch(query, freshness).await;
            self.metrics.queried(query.name(), begin.elapsed());
            let fault = outcome.as_ref().err().map(|error| error as &dyn std::fmt::Display);
            trace::asked(self.pools.system(), query.name(), begin, fault);
            let error = match outcome {
                Ok(rows) => return Ok(rows),
                Err(error) => error,
            };
            match retry.pause(error.fault(), Instant::now()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    /// Attempts at one transaction: see [`Attempts`].
    pub fn attempts(&self, repeat: Repeat) -> Attempts<'_> {
        Attempts::new(self, repeat)
    }

    /// Runs statements as one transaction; how many rows they changed. A second run must change nothing more.
    pub async fn change(&self, statements: &[Query]) -> Result<u64, StoreError> {
        let mut attempts = self.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = transaction.execute_all(statements).await;
            if let Some(changed) = attempts.end(transaction, outcome).await? {
                return Ok(changed);
            }
        }
    }

    /// How long the database takes to say anything. It is asked once.
    pub async fn ping(&self) -> Result<Duration, StoreError> {
        let begin = Instant::now();
        self.pools.fetch(&Query::new("ping", "select 1"), Freshness::Now).await?;
        Ok(begin.elapsed())
    }

    /// How many connections there are and how many wait for work.
    pub fn usage(&self) -> Usage {
        self.pools.usage()
    }

    /// Closes all connections. From here on every call fails, as if the database were gone.
    pub async fn close(&self) {
        self.pools.close().await;
    }
}

/// How much a reader minds that a replica of the database is a little behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Now,
    Behind,
}

/// How SQLite goes about a statement, in its own words.
#[cfg(test)]
pub async fn plan(query: &Query) -> String {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { place: Place::Folder(folder.path().to_owned()), patience: Duration::from_secs(5) };
    let store = Store::open(&settings, Metrics::new().unwrap()).await.unwrap();
    let rows = store.fetch(&query.explained()).await.unwrap();
    rows.iter().map(|row| row.get::<String>("detail").unwrap()).collect::<Vec<_>>().join("; ")
}
