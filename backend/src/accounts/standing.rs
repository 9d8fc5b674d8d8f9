//! Decides whether an access token is believed: see the policy in the docs of [`accounts`](super).

use std::time::Duration;

use quick_cache::sync::Cache;

use super::Accounts;
use super::storage::{self, Revoked};
use super::token::TokenError;
use crate::api::Caller;
use crate::clock::now_ms;
use crate::remote::Remote;
use crate::store::StoreError;

/// More than are revoked within the life of a token; what falls out is still in the database.
const REMEMBERED_MAX: usize = 10_000;

/// Why a token is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Disbelief {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the session of the access token has ended")]
    Revoked,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The tokens that are known to be revoked without asking the database.
pub struct Revocations {
    seen: Cache<String, ()>,
    remote: Option<Remote>,
}

impl Revocations {
    pub fn new(remote: Option<Remote>) -> Self {
        Self { seen: Cache::new(REMEMBERED_MAX), remote }
    }

    /// Remembers what the database has just been told, and tells the other replicas.
    pub async fn announce(&self, revoked: &[Revoked], now_ms: i64) {
        for token in revoked {
            self.seen.insert(token.id.clone(), ());
            if let Some(remote) = &self.remote {
                let left_ms = u64::try_from(token.expires_ms - now_ms).unwrap_or_default();
                // The others ask the database too, so they miss nothing by a failure.
                let _told = remote.set(&key(&token.id), "1", Duration::from_millis(left_ms)).await;
            }
        }
    }

    async fn knows(&self, token: &str) -> bool {
        if self.seen.get(token).is_some() {
            return true;
        }
        let Some(remote) = &self.remote else { return false };
        let is_revoked = remote.get(&key(token)).await.is_some();
        if is_revoked {
            self.seen.insert(token.to_owned(), ());
        }
        is_revoked
    }
}

fn key(token: &str) -> String {
    format!("revoked:{token}")
}

impl Accounts {
    /// Who has this access token.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, Disbelief> {
        let claims = self.tokens.read(token, now_ms() / 1000)?;
        if self.revocations.knows(&claims.jti).await {
            return Err(Disbelief::Revoked);
        }
        let standing = self.store.fetch_optional(&storage::standing(&claims.sub, &claims.jti)).await?;
        // Without a row the user is gone.
        let Some(row) = standing else { return Err(Disbelief::Revoked) };
        if row.get("revoked")? {
            self.revocations.seen.insert(claims.jti, ());
            return Err(Disbelief::Revoked);
        }
        Ok(Caller { user: claims.sub, session: claims.sid, version: row.get("version")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::profile::Newcomer;
    use crate::accounts::{Cost, Key};
    use crate::metrics::Metrics;
    use crate::store::{Place, Settings, Store};

    async fn accounts(folder: &std::path::Path) -> Accounts {
        let metrics = Metrics::new().unwrap();
        let settings = Settings { place: Place::Folder(folder.to_owned()), patience: Duration::from_millis(50) };
        let store = Store::open(&settings, metrics.clone()).await.unwrap();
        let cost = Cost { memory_kib: 8, passes: 1 };
        Accounts::new(store, None, &Key::new(&"k".repeat(32)).unwrap(), cost, metrics).unwrap()
    }

    /// Registers and signs in; the access token.
    async fn signed_in(accounts: &Accounts, name: &str) -> String {
        let text = |text: &str| text.to_owned();
        let newcomer = Newcomer {
            email: format!("{name}@example.com").try_into().unwrap(),
            user_name: text(name).try_into().unwrap(),
            phone: None,
            display_name: text(name).try_into().unwrap(),
            password: text("correct horse").try_into().unwrap(),
        };
        accounts.register(newcomer).await.unwrap();
        let grant = accounts.sign_in(name, &text("correct horse").try_into().unwrap()).await.unwrap();
        serde_json::to_value(grant).unwrap()["access_token"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn while_the_database_is_away_revoked_tokens_stay_refused_and_no_other_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (accounts(folder.path()).await, accounts(folder.path()).await);
        let (ended, good) = (signed_in(&here, "ada").await, signed_in(&here, "bob").await);
        let caller = here.authenticate(&ended).await.unwrap();
        here.end_session(&caller, &caller.session).await.unwrap();
        // A replica that refused it once remembers.
        assert!(matches!(there.authenticate(&ended).await, Err(Disbelief::Revoked)));

        for accounts in [&here, &there] {
            accounts.store.close().await;
            assert!(matches!(accounts.authenticate(&ended).await, Err(Disbelief::Revoked)));
            assert!(matches!(accounts.authenticate(&good).await, Err(Disbelief::Store(StoreError::Away(_)))));
        }
        // One that never heard of it does not believe it either.
        let late = accounts(folder.path()).await;
        late.store.close().await;
        assert!(matches!(late.authenticate(&ended).await, Err(Disbelief::Store(StoreError::Away(_)))));
    }
}
