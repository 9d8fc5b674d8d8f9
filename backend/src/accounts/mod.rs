//! Accounts: who there is, how they prove it, and what they may change of themselves.
//!
//! # When a token counts
//!
//! An access token is good for 15 minutes if the database says, at each request, that it is not revoked and that its user
//! is there: one statement by primary keys. So an end of a session is in force everywhere with its commit, and a stored
//! profile of an older version is never shown. What is known to be revoked needs no database: each replica
//! remembers what it has seen refused, and Redis, if there is one, what any replica has. **While the database is away, those
//! tokens stay refused at once (401); every other one waits for it, and is refused with 503 if it does not come back.** None
//! is believed because nobody could be asked.
//!
//! # Sessions
//!
//! A session begins by signing in and is renewed by refresh tokens, each of which counts once. One that comes a second
//! time was stolen, or its thief was first: the session ends, with all access tokens that were given out for it.
//! Sessions live in the database also where there is Redis: a renewal is one transaction, and must outlive a
//! Redis that starts again empty.

mod fields;
mod http;
mod key;
mod password;
mod profile;
mod seed;
mod session;
mod standing;
mod storage;
mod token;

use std::sync::Arc;
use std::time::Duration;

pub use self::http::routes;
pub use self::key::Key;
pub use self::password::{Cost, PasswordError};
pub use self::seed::{seed, seeded_id};

use self::password::Passwords;
use self::profile::Profiles;
use self::standing::Revocations;
use self::token::Tokens;
use crate::metrics::Metrics;
use crate::remote::Remote;
use crate::secret::NoRandomness;
use crate::store::{Store, StoreError};

/// Who has signed in or renewed within this is active. A client that is in use renews at least that often.
const ACTIVE: Duration = Duration::from_secs(15 * 60);

#[derive(Clone)]
pub struct Accounts {
    store: Store,
    passwords: Passwords,
    tokens: Tokens,
    revocations: Arc<Revocations>,
    profiles: Arc<Profiles>,
    metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Random(#[from] NoRandomness),
    #[error("signing a token failed")]
    Signing(#[from] jsonwebtoken::errors::Error),
    #[error("nobody signs in with that")]
    WrongLogin,
    #[error("the refresh token is not good, or not any more")]
    WrongRefresh,
    #[error("the refresh token was used before")]
    Reused,
    #[error("the profile has changed meanwhile")]
    Changed,
    /// The user was removed after the token was looked at.
    #[error("there is no such user")]
    Gone,
}

impl Accounts {
    pub fn new(
        store: Store,
        remote: Option<Remote>,
        key: &Key,
        cost: Cost,
        metrics: Metrics,
    ) -> Result<Self, PasswordError> {
        Ok(Self {
            passwords: Passwords::new(cost, metrics.queue("passwords"))?,
            tokens: Tokens::new(key),
            revocations: Arc::new(Revocations::new(remote.clone())),
            profiles: Arc::new(Profiles::new(remote)),
            store,
            metrics,
        })
    }

    /// Counts who is active.
    pub async fn count_active(&self, now_ms: i64) -> Result<(), StoreError> {
        let active_ms = i64::try_from(ACTIVE.as_millis()).unwrap_or_default();
        let row = self.store.fetch_behind(&storage::active_users(now_ms - active_ms)).await?;
        if let Some(row) = row.first() {
            self.metrics.active_users(row.get("users")?);
        }
        Ok(())
    }

    /// Removes sessions and revocations whose time is over.
    pub async fn sweep(&self, now_ms: i64) -> Result<(), StoreError> {
        for statement in storage::sweep(now_ms) {
            self.store.change(&[statement]).await?;
        }
        Ok(())
    }
}
