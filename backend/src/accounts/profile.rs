//! Profiles: made by registering, read, changed. A profile is kept ready under its version for 24 hours, in Redis if there is
//! one, else in memory. The version that a caller may see comes with the look at his token, so nothing old is shown.

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use serde::Serialize;
use utoipa::ToSchema;

use super::fields::{DisplayName, Email, NewPassword, Phone, UserName};
use super::storage::{self, Changes, User};
use super::{AccountError, Accounts};
use crate::api::Caller;
use crate::clock::{now_ms, rfc3339};
use crate::remote::Remote;
use crate::secret::new_id;
use crate::store::Repeat;

const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Of some hundred bytes each.
const KEPT_MAX: usize = 10_000;

/// What a user sees of himself.
#[derive(Debug, Serialize, ToSchema)]
pub struct Profile {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    id: String,
    #[schema(example = "ada@example.com")]
    email: String,
    #[schema(example = "ada")]
    user_name: String,
    #[schema(example = "+41446681800")]
    phone: Option<String>,
    #[schema(example = "Ada Lovelace")]
    display_name: String,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    changed_at: String,
}

impl From<&User> for Profile {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.clone(),
            email: user.email.clone(),
            user_name: user.user_name.clone(),
            phone: user.phone.clone(),
            display_name: user.display_name.clone(),
            created_at: rfc3339(user.created_ms),
            changed_at: rfc3339(user.changed_ms),
        }
    }
}

/// A profile as it is sent.
#[derive(Debug, Clone)]
pub struct Ready {
    pub version: i64,
    pub json: String,
}

/// Whom to register.
pub struct Newcomer {
    pub email: Email,
    pub user_name: UserName,
    pub phone: Option<Phone>,
    pub display_name: DisplayName,
    pub password: NewPassword,
}

/// The profiles that are ready.
pub enum Profiles {
    Here(Cache<String, (String, Instant)>),
    Remote(Remote),
}

impl Profiles {
    pub fn new(remote: Option<Remote>) -> Self {
        remote.map_or_else(|| Self::Here(Cache::new(KEPT_MAX)), Self::Remote)
    }

    async fn get(&self, user: &str, version: i64) -> Option<Ready> {
        let key = key(user, version);
        let json = match self {
            Self::Here(kept) => kept.get(&key).filter(|(_, since)| since.elapsed() < LIFETIME).map(|(json, _)| json),
            Self::Remote(remote) => remote.get(&key).await,
        };
        Some(Ready { version, json: json? })
    }

    async fn put(&self, user: &str, ready: &Ready) {
        let key = key(user, ready.version);
        match self {
            Self::Here(kept) => kept.insert(key, (ready.json.clone(), Instant::now())),
            // It is made again if this fails.
            Self::Remote(remote) => drop(remote.set(&key, &ready.json, LIFETIME).await),
        }
    }

    /// Nobody asks for an old version again, so this only makes room.
    async fn remove(&self, user: &str, version: i64) {
        let key = key(user, version);
        match self {
            Self::Here(kept) => drop(kept.remove(&key)),
            Self::Remote(remote) => drop(remote.remove(&key).await),
        }
    }
}

fn key(user: &str, version: i64) -> String {
    format!("profile:{user}:{version}")
}

impl Accounts {
    pub async fn register(&self, newcomer: Newcomer) -> Result<Profile, AccountError> {
        let now_ms = now_ms();
        let user = User {
            id: new_id(),
            email: newcomer.email.as_str().to_owned(),
            user_name: newcomer.user_name.as_str().to_owned(),
            phone: newcomer.phone.map(|phone| phone.as_str().to_owned()),
            display_name: newcomer.display_name.as_str().to_owned(),
            password_hash: self.passwords.hash(newcomer.password.as_str()).await?,
            version: 1,
            created_ms: now_ms,
            changed_ms: now_ms,
        };
        let mut attempts = self.store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = storage::add_user(&mut transaction, &user).await;
            if attempts.end(transaction, outcome).await?.is_some() {
                return Ok(Profile::from(&user));
            }
        }
    }

    pub async fn profile(&self, caller: &Caller) -> Result<Ready, AccountError> {
        if let Some(ready) = self.profiles.get(&caller.user, caller.version).await {
            return Ok(ready);
        }
        let row = self.store.fetch_optional(&storage::user_by_id(&caller.user)).await?.ok_or(AccountError::Gone)?;
        let ready = ready(&User::try_from(&row)?);
        self.profiles.put(&caller.user, &ready).await;
        Ok(ready)
    }

    /// Changes the caller's profile; with `version`, only while it is still that one.
    pub async fn change(
        &self,
        caller: &Caller,
        version: Option<i64>,
        changes: &Changes,
    ) -> Result<Ready, AccountError> {
        let change = storage::change_user(&caller.user, version, changes, now_ms());
        // A second run of a change to one version would find another version.
        let repeat = if version.is_some() { Repeat::UnlessCommitted } else { Repeat::Safe };
        let mut attempts = self.store.attempts(repeat);
        let row = loop {
            let mut transaction = attempts.begin().await?;
            let outcome = transaction.fetch_optional(&change).await;
            if let Some(row) = attempts.end(transaction, outcome).await? {
                break row;
            }
        };
        let Some(row) = row else {
            return Err(if version.is_some() { AccountError::Changed } else { AccountError::Gone });
        };
        let ready = ready(&User::try_from(&row)?);
        self.profiles.remove(&caller.user, caller.version).await;
        self.profiles.put(&caller.user, &ready).await;
        Ok(ready)
    }
}

fn ready(user: &User) -> Ready {
    // Of texts alone, so it can always be written.
    let json = serde_json::to_string(&Profile::from(user)).unwrap_or_default();
    Ready { version: user.version, json }
}
