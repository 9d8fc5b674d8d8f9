//! The connections: how many, how they are opened, and which one a statement goes to.
//!
//! SQLite has one writer at a time, so one connection of each process writes, and those who want it queue for it in
//! order; across processes the busy time limit does the waiting. Readers never wait for a writer (WAL).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};

use super::transaction::Open;
use super::{Freshness, Query, Row, StoreError, Transaction, migrate};
use crate::alone::LeftAlone;
use crate::metrics::Metrics;

/// Which database, and how long it may be away.
#[derive(Debug, Clone)]
pub struct Settings {
    pub place: Place,
    /// So long a statement waits for a database that is away.
    pub patience: Duration,
}

#[derive(Debug, Clone)]
pub enum Place {
    /// `tollgate.db` in this folder, which is made if it is not there.
    Folder(PathBuf),
    Postgres {
        primary: String,
        /// For reads that may be a little behind, as long as it answers.
        replica: Option<String>,
        connections: Connections,
    },
}

/// Of one replica of the app to PostgreSQL.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// Kept open.
    pub min: u32,
    pub max: u32,
}

/// The connections of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub open: u32,
    pub idle: u32,
    pub max: u32,
}

const SQLITE_READERS: u32 = 3;
/// How long a writer of SQLite waits for one in another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection from the pool. Longer waits are the retry's.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is asked first whether it still lives. A restart takes longer than that.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);
/// For a read from the replica. The primary can answer each of them, and is asked after that.
const REPLICA_TIME_MAX: Duration = Duration::from_millis(500);
/// After a failure the replica is not asked for so long.
const REPLICA_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub enum Pools {
    Sqlite { writer: SqlitePool, readers: SqlitePool },
    Postgres { primary: PgPool, replica: Option<Replica> },
}

/// The replica of the primary.
#[derive(Clone)]
pub struct Replica {
    pool: PgPool,
    alone: LeftAlone,
}

impl Replica {
    fn new(options: PgConnectOptions, connections: Connections) -> Self {
        let alone = LeftAlone::new(REPLICA_PAUSE, Instant::now());
        Self { pool: postgres_pool(connections).connect_lazy_with(options), alone }
    }

    /// None if it does not answer. What it refuses, as it does while it is behind by a migration, is for the primary as well.
    async fn fetch(&self, query: &Query) -> Option<Vec<Row>> {
        if self.alone.is_left_alone(Instant::now()) {
            return None;
        }
        let read = query.for_postgres().fetch_all(&self.pool);
        if let Ok(Ok(rows)) = tokio::time::timeout(REPLICA_TIME_MAX, read).await {
            return Some(rows.into_iter().map(Row::Postgres).collect());
        }
        self.alone.failed(Instant::now());
        None
    }
}

impl Pools {
    /// As OpenTelemetry calls the database.
    pub fn system(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgresql",
        }
    }

    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        match &settings.place {
            Place::Folder(folder) => {
                let file = folder.join(migrate::DATABASE);
                let options = SqliteConnectOptions::new()
                    .filename(&file)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // With WAL a power cut can cost the last transactions, and never the database.
                    .synchronous(SqliteSynchronous::Normal)
                    .busy_timeout(BUSY_TIMEOUT);
                migrate::sqlite(folder, &options).await?;
                let writer = pool(1).connect_lazy_with(options.clone());
                let readers = pool(SQLITE_READERS).connect_lazy_with(options.pragma("query_only", "on"));
                Ok(Self::Sqlite { writer, readers })
            }
            Place::Postgres { primary, replica, connections } => {
                let options: PgConnectOptions = primary.parse()?;
                let replica = match replica {
                    Some(url) => Some(Replica::new(url.parse()?, *connections)),
                    None => None,
                };
                migrate::postgres(&options).await?;
                let primary = postgres_pool(*connections).connect_lazy_with(options);
                Ok(Self::Postgres { primary, replica })
            }
        }
    }

    pub async fn fetch(&self, query: &Query, freshness: Freshness) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite { readers, .. } => {
                let rows = query.for_sqlite().fetch_all(readers).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres { primary, replica } => {
                if let (Freshness::Behind, Some(replica)) = (freshness, replica)
                    && let Some(rows) = replica.fetch(query).await
                {
                    return Ok(rows);
                }
                let rows = query.for_postgres().fetch_all(primary).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    pub async fn begin(&self, metrics: Metrics) -> Result<Transaction, StoreError> {
        let open = match self {
            // A plain BEGIN takes the lock with its first change, and then what was read before may be old.
            Self::Sqlite { writer, .. } => Open::Sqlite(writer.begin_with("begin immediate").await?),
            Self::Postgres { primary, .. } => Open::Postgres(primary.begin().await?),
        };
        Ok(Transaction::new(open, metrics))
    }

    pub fn usage(&self) -> Usage {
        match self {
            Self::Sqlite { writer, readers } => {
                let (one, other) = (usage(writer), usage(readers));
                Usage { open: one.open + other.open, idle: one.idle + other.idle, max: one.max + other.max }
            }
            Self::Postgres { primary, .. } => usage(primary),
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres { primary, replica } => {
                primary.close().await;
                if let Some(replica) = replica {
                    replica.pool.close().await;
                }
            }
        }
    }
}

fn usage<DB: sqlx::Database>(pool: &sqlx::Pool<DB>) -> Usage {
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    Usage { open: pool.size(), idle, max: pool.options().get_max_connections() }
}

fn pool<DB: sqlx::Database>(max: u32) -> PoolOptions<DB> {
    PoolOptions::new().max_connections(max).acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false)
}

fn postgres_pool(connections: Connections) -> PoolOptions<sqlx::Postgres> {
    pool(connections.max).min_connections(connections.min).before_acquire(|connection: &mut PgConnection, meta| {
        Box::pin(async move {
            if meta.idle_for > TRUSTED_IDLE {
                connection.ping().await?;
            }
            Ok(true)
        })
    })
}
