//! Brings the tables up to date, by one process at a time: SQLite under a lock on a file, PostgreSQL under an
//! advisory lock. A migration that was applied never changes; a mistake in one is mended by the next.

use std::fs::File;
use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::StoreError;
use crate::folder;

/// The file of SQLite.
pub const DATABASE: &str = "tollgate.db";

struct Migration {
    version: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

/// One file for both databases, or one for SQLite and one for PostgreSQL, or one for both and then one for each.
macro_rules! migration {
    ($version:literal, $both:literal) => {
        migration!($version, $both, $both)
    };
    ($version:literal, $sqlite:literal, $postgres:literal) => {
        Migration {
            version: $version,
            sqlite: include_str!(concat!("../../migrations/", $sqlite)),
            postgres: include_str!(concat!("../../migrations/", $postgres)),
        }
    };
    ($version:literal, $both:literal, then $sqlite:literal, $postgres:literal) => {
        Migration {
            version: $version,
            sqlite: concat!(
                include_str!(concat!("../../migrations/", $both)),
                include_str!(concat!("../../migrations/", $sqlite))
            ),
            postgres: concat!(
                include_str!(concat!("../../migrations/", $both)),
                include_str!(concat!("../../migrations/", $postgres))
            ),
        }
    };
}

/// In the order in which they are applied.
const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_accounts.sql"),
    migration!(2, "0002_media.sqlite.sql", "0002_media.postgres.sql"),
    migration!(3, "0003_shop.sql", then "0003_shop.sqlite.sql", "0003_shop.postgres.sql"),
    migration!(4, "0004_workflows.sql", then "0004_workflows.sqlite.sql", "0004_workflows.postgres.sql"),
    migration!(5, "0005_jobs.sql"),
    migration!(6, "0006_playlist_versions.sql"),
    migration!(7, "0007_words.sqlite.sql", "0007_words.postgres.sql"),
    migration!(8, "0008_sessions.sql"),
];

const APPLIED: &str = "create table if not exists migrations (version bigint primary key, digest text not null)";
/// Any number that no other program takes for its own.
const ADVISORY_LOCK: i64 = 0x746f_6c6c_6761_7465;

pub async fn sqlite(folder: &Path, options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let _lock = lock(folder.to_owned()).await?;
    // The change to WAL is inside of the lock too: SQLite does not wait for others with that.
    let mut connection = options.connect().await?;
    sqlx::raw_sql(APPLIED).execute(&mut connection).await?;
    let applied = sqlx::query("select version, digest from migrations order by version").fetch_all(&mut connection);
    let applied: Vec<(i64, String)> = applied.await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    for migration in outstanding(&applied, MIGRATIONS, |migration| migration.sqlite)? {
        apply_sqlite(&mut connection, migration).await?;
    }
    connection.close().await?;
    Ok(())
}

async fn apply_sqlite(connection: &mut SqliteConnection, migration: &Migration) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("begin immediate").await?;
    sqlx::raw_sql(migration.sqlite).execute(&mut *transaction).await?;
    sqlx::query("insert into migrations (version, digest) values ($1, $2)")
        .bind(migration.version)
        .bind(digest(migration.sqlite))
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

pub async fn postgres(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection = options.connect().await?;
    // It is given back with the session, also when this process dies.
    sqlx::query("select pg_advisory_lock($1)").bind(ADVISORY_LOCK).execute(&mut connection).await?;
    sqlx::raw_sql(APPLIED).execute(&mut connection).await?;
    let applied = sqlx::query("select version, digest from migrations order by version").fetch_all(&mut connection);
    let applied: Vec<(i64, String)> = applied.await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    for migration in outstanding(&applied, MIGRATIONS, |migration| migration.postgres)? {
        apply_postgres(&mut connection, migration).await?;
    }
    connection.close().await?;
    Ok(())
}

async fn apply_postgres(connection: &mut PgConnection, migration: &Migration) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(migration.postgres).execute(&mut *transaction).await?;
    sqlx::query("insert into migrations (version, digest) values ($1, $2)")
        .bind(migration.version)
        .bind(digest(migration.postgres))
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

/// Waits for the lock of the folder, which is made if it is not there. It ends with the file.
async fn lock(folder: std::path::PathBuf) -> Result<File, StoreError> {
    let locked = tokio::task::spawn_blocking(move || {
        folder::make(&folder)?;
        // SQLite would make its file readable for all; those beside it have the mode of this one.
        folder::open(&folder.join(DATABASE))?;
        let lock = folder::open(&folder.join("tollgate.lock"))?;
        lock.lock()?;
        Ok(lock)
    });
    locked.await.map_err(std::io::Error::other).flatten().map_err(StoreError::Folder)
}

/// What is still to be applied. An applied migration that reads differently now, or that is not known, is an error:
/// this program would not find the tables that it expects.
fn outstanding<'m>(
    applied: &[(i64, String)],
    migrations: &'m [Migration],
    text: fn(&Migration) -> &'static str,
) -> Result<Vec<&'m Migration>, StoreError> {
    for (version, applied_digest) in applied {
        let Some(migration) = migrations.iter().find(|migration| migration.version == *version) else {
            return Err(StoreError::Later { version: *version });
        };
        if digest(text(migration)) != *applied_digest {
            return Err(StoreError::Changed { version: *version });
        }
    }
    let is_applied = |migration: &Migration| applied.iter().any(|(version, _)| *version == migration.version);
    Ok(migrations.iter().filter(|migration| !is_applied(migration)).collect())
}

fn digest(text: &str) -> String {
    crate::secret::sha256_hex(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[Migration] = &[
        Migration { version: 1, sqlite: "one", postgres: "one" },
        Migration { version: 2, sqlite: "two", postgres: "zwei" },
    ];

    fn versions(applied: &[(i64, &str)]) -> Result<Vec<i64>, String> {
        let applied: Vec<_> = applied.iter().map(|(version, text)| (*version, digest(text))).collect();
        let found = outstanding(&applied, TWO, |migration| migration.sqlite).map_err(|error| error.to_string())?;
        Ok(found.iter().map(|migration| migration.version).collect())
    }

    #[test]
    fn what_is_applied_is_left_alone_if_it_is_what_is_known() {
        assert_eq!(versions(&[]).unwrap(), [1, 2]);
        assert_eq!(versions(&[(1, "one")]).unwrap(), [2]);
        assert_eq!(versions(&[(1, "one"), (2, "two")]).unwrap(), [0; 0]);
        assert!(versions(&[(1, "uno")]).unwrap_err().contains("migration 1 has changed"));
        assert!(versions(&[(1, "one"), (3, "three")]).unwrap_err().contains("it has migration 3"));
    }

    #[test]
    fn versions_only_grow() {
        assert!(MIGRATIONS.is_sorted_by(|one, next| one.version < next.version));
    }
}
