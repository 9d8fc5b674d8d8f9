//! One transaction. It ends by a commit, or by being undone, also when it is merely dropped.

use std::time::Instant;

use sqlx::{Postgres, Sqlite};

use super::retry::{Fault, Repeat};
use super::{Query, Row, StoreError};
use crate::metrics::Metrics;
use crate::trace;

pub struct Transaction {
    open: Open,
    metrics: Metrics,
    /// The first fault in it: whatever `work` made of that error, the transaction is over.
    fault: Option<Fault>,
}

pub(super) enum Open {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Open {
    fn system(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgresql",
        }
    }
}

impl Transaction {
    pub(super) fn new(open: Open, metrics: Metrics) -> Self {
        Self { open, metrics, fault: None }
    }

    /// All rows that a statement gives, also one that changes something and says `returning`.
    pub async fn fetch(&mut self, query: &Query) -> Result<Vec<Row>, StoreError> {
        let begin = Instant::now();
        let rows = match &mut self.open {
            Open::Sqlite(open) => {
                let rows = query.for_sqlite().fetch_all(&mut **open).await;
                rows.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
            }
            Open::Postgres(open) => {
                let rows = query.for_postgres().fetch_all(&mut **open).await;
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        self.note(query, begin, rows)
    }

    /// The first row that a statement gives.
    pub async fn fetch_optional(&mut self, query: &Query) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch(query).await?.into_iter().next())
    }

    /// Runs a statement; how many rows it changed.
    pub async fn execute(&mut self, query: &Query) -> Result<u64, StoreError> {
        let begin = Instant::now();
        let changed = match &mut self.open {
            Open::Sqlite(open) => query.for_sqlite().execute(&mut **open).await.map(|done| done.rows_affected()),
            Open::Postgres(open) => query.for_postgres().execute(&mut **open).await.map(|done| done.rows_affected()),
        };
        self.note(query, begin, changed)
    }

    /// Runs statements one after the other; how many rows they changed.
    pub async fn execute_all(&mut self, statements: &[Query]) -> Result<u64, StoreError> {
        let mut changed = 0;
        for statement in statements {
            changed += self.execute(statement).await?;
        }
        Ok(changed)
    }

    fn note<T>(&mut self, query: &Query, begin: Instant, outcome: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        self.metrics.queried(query.name(), begin.elapsed());
        let fault = outcome.as_ref().err().map(|error| error as &dyn std::fmt::Display);
        trace::asked(self.open.system(), query.name(), begin, fault);
        outcome.map_err(|error| {
            let error = StoreError::from(error);
            self.fault = self.fault.or(error.fault());
            error
        })
    }

    pub(super) async fn commit(self, repeat: Repeat) -> Result<(), StoreError> {
        let outcome = match self.open {
            Open::Sqlite(open) => open.commit().await,
            Open::Postgres(open) => open.commit().await,
        };
        outcome.map_err(|error| match (StoreError::from(error), repeat) {
            (StoreError::Away(error), Repeat::UnlessCommitted) => StoreError::Unknown(error),
            (error, _) => error,
        })
    }

    /// Undoes everything; the fault that ended it, if it was one that may pass.
    pub(super) async fn undo(self) -> Option<Fault> {
        // One that cannot be told ends with its connection.
        let _outcome = match self.open {
            Open::Sqlite(open) => open.rollback().await,
            Open::Postgres(open) => open.rollback().await,
        };
        self.fault
    }
}
