//! Signing in, renewing, and ending sessions. It decides who gets a pair of tokens; that they are believed later is not
//! decided here.

use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::fields::{Login, TypedPassword};
use super::password::Verdict;
use super::storage::{self, Pair, Revoked, Session, User};
use super::token::{Claims, LIFETIME_S};
use super::{AccountError, Accounts};
use crate::api::{Caller, Page, PageQuery};
use crate::clock::{now_ms, rfc3339};
use crate::secret::{new_id, random_hex, sha256_hex};
use crate::store::{Query, Repeat, Row, StoreError, Transaction};

/// However often it is renewed, a session ends after this.
const SESSION_LIFETIME_S: i64 = 30 * 24 * 60 * 60;

/// Refusals are given out at multiples of this time only. A hash of bcrypt takes several times as long to compare as one of
/// argon2id, and one with another cost than today's takes another time: each would tell that there is an account.
const REFUSAL_INTERVAL: Duration = Duration::from_millis(500);

/// What signing in and renewing give.
#[derive(Debug, Serialize, ToSchema)]
pub struct Grant {
    /// For `Authorization: Bearer …`.
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds until the access token is over.
    expires_in: i64,
    /// Good once, for the next pair of tokens.
    refresh_token: String,
    /// Seconds until the session is over, however often it is renewed.
    refresh_expires_in: i64,
}

/// A session as its user sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct Seen {
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057")]
    id: String,
    /// Whether it is the one that asks.
    current: bool,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    renewed_at: String,
    #[schema(format = "date-time")]
    expires_at: String,
}

impl Seen {
    fn new(session: Session, caller: &Caller) -> Self {
        Self {
            current: session.id == caller.session,
            id: session.id,
            created_at: rfc3339(session.begins_ms),
            renewed_at: rfc3339(session.renewed_ms),
            expires_at: rfc3339(session.expires_ms),
        }
    }
}

/// What came of a refresh token.
enum Renewal {
    Renewed(Session),
    Reused(Vec<Revoked>),
    Wrong,
}

/// Tokens that are not given out yet.
struct Next {
    refresh: String,
    digest: String,
    access: String,
    now_ms: i64,
}

impl Next {
    fn new(now_ms: i64) -> Result<Self, AccountError> {
        let refresh = random_hex::<32>()?;
        Ok(Self { digest: sha256_hex(refresh.as_bytes()), access: new_id(), refresh, now_ms })
    }

    fn pair(&self, session: &str) -> Pair {
        Pair {
            session: session.to_owned(),
            digest: self.digest.clone(),
            access: self.access.clone(),
            access_expires_ms: self.now_ms + LIFETIME_S * 1000,
        }
    }
}

impl Accounts {
    /// Begins a session. Who does not exist and who has another password are answered alike, and after the same time.
    pub async fn sign_in(&self, login: &str, password: &TypedPassword) -> Result<Grant, AccountError> {
        let asked = Instant::now();
        let (user, verdict) = self.prove(login, password).await?;
        let Some(user) = user.filter(|_user| verdict != Verdict::Wrong) else {
            tokio::time::sleep(until_refusal(asked.elapsed())).await;
            return Err(AccountError::WrongLogin);
        };
        let rehash = match verdict {
            Verdict::RightButOld => {
                let hash = self.passwords.hash(password.as_str()).await?;
                Some(storage::rehash(&user.id, &user.password_hash, &hash))
            }
            Verdict::Right | Verdict::Wrong => None,
        };
        let next = Next::new(now_ms())?;
        let session = Session {
            id: new_id(),
            user: user.id,
            begins_ms: next.now_ms,
            renewed_ms: next.now_ms,
            expires_ms: next.now_ms + SESSION_LIFETIME_S * 1000,
        };
        let mut attempts = self.store.attempts(Repeat::Safe);
        loop {
            let mut transaction = attempts.begin().await?;
            let outcome = begin(&mut transaction, rehash.as_ref(), &session, &next.pair(&session.id)).await;
            if attempts.end(transaction, outcome).await?.is_some() {
                break;
            }
        }
        self.metrics.signed_in("password");
        self.grant(&next, &session)
    }

    /// Who has the login, and whether the password is his. Where there is nobody, it is compared all the same.
    async fn prove(&self, login: &str, password: &TypedPassword) -> Result<(Option<User>, Verdict), AccountError> {
        // What cannot be anybody's login is not looked up; that it cannot, whoever sends it knows as well.
        let user = match Login::parse(login) {
            Some(login) => self.store.fetch_optional(&storage::user_by_login(&login)).await?,
            None => None,
        };
        let user = user.as_ref().map(User::try_from).transpose()?;
        let stored = user.as_ref().map(|user| user.password_hash.as_str());
        let verdict = self.passwords.compare(password.as_str(), stored).await?;
        Ok((user, verdict))
    }

    /// Gives the next pair of tokens for a refresh token that was not used before.
    pub async fn renew(&self, refresh: &str) -> Result<Grant, AccountError> {
        let digest = sha256_hex(refresh.as_bytes());
        let next = Next::new(now_ms())?;
        let mut attempts = self.store.attempts(Repeat::Safe);
        let renewal = loop {
            let mut transaction = attempts.begin().await?;
            let outcome = renew(&mut transaction, &digest, &next).await;
            if let Some(renewal) = attempts.end(transaction, outcome).await? {
                break renewal;
            }
        };
        match renewal {
            Renewal::Renewed(session) => {
                self.metrics.signed_in("refresh");
                self.grant(&next, &session)
            }
            Renewal::Reused(revoked) => {
                self.revocations.announce(&revoked, next.now_ms).await;
                Err(AccountError::Reused)
            }
            Renewal::Wrong => Err(AccountError::WrongRefresh),
        }
    }

    /// The sessions of the caller, the newest first.
    pub async fn sessions(&self, caller: &Caller, query: &PageQuery) -> Result<Page<Seen>, AccountError> {
        let rows = self.store.fetch(&storage::sessions_of(&caller.user, now_ms(), query)).await?;
        let seen = |row: &Row| Session::try_from(row).map(|session| Seen::new(session, caller));
        let sessions = rows.iter().map(seen).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::new(sessions, query, |seen| seen.id.clone()))
    }

    /// Ends a session of the caller: none of its tokens counts any more.
    pub async fn end_session(&self, caller: &Caller, session: &str) -> Result<(), AccountError> {
        let now_ms = now_ms();
        let mut attempts = self.store.attempts(Repeat::Safe);
        let revoked = loop {
            let mut transaction = attempts.begin().await?;
            let outcome = end(&mut transaction, &caller.user, session, now_ms).await;
            if let Some(revoked) = attempts.end(transaction, outcome).await? {
                break revoked;
            }
        };
        self.revocations.announce(&revoked, now_ms).await;
        Ok(())
    }

    fn grant(&self, next: &Next, session: &Session) -> Result<Grant, AccountError> {
        let claims = Claims::new(&session.user, &session.id, &next.access, next.now_ms / 1000);
        Ok(Grant {
            access_token: self.tokens.sign(&claims)?,
            token_type: "Bearer",
            expires_in: LIFETIME_S,
            refresh_token: next.refresh.clone(),
            refresh_expires_in: (session.expires_ms - next.now_ms) / 1000,
        })
    }
}

/// How long a refusal waits that took so long to find.
fn until_refusal(elapsed: Duration) -> Duration {
    let into = elapsed.as_nanos() % REFUSAL_INTERVAL.as_nanos();
    REFUSAL_INTERVAL - Duration::from_nanos(u64::try_from(into).unwrap_or_default())
}

async fn begin(
    transaction: &mut Transaction,
    rehash: Option<&Query>,
    session: &Session,
    pair: &Pair,
) -> Result<(), StoreError> {
    if let Some(rehash) = rehash {
        transaction.execute(rehash).await?;
    }
    transaction.execute(&storage::add_session(session)).await?;
    transaction.execute(&storage::add_pair(pair)).await?;
    Ok(())
}

async fn end(
    transaction: &mut Transaction,
    user: &str,
    session: &str,
    now_ms: i64,
) -> Result<Vec<Revoked>, AccountError> {
    match transaction.fetch_optional(&storage::session_of(user, session)).await? {
        Some(_its_own) => Ok(storage::end_session(transaction, session, now_ms).await?),
        None => Err(AccountError::Gone),
    }
}

async fn renew(transaction: &mut Transaction, digest: &str, next: &Next) -> Result<Renewal, StoreError> {
    let Some(row) = transaction.fetch_optional(&storage::session_by_digest(digest)).await? else {
        return Ok(Renewal::Wrong);
    };
    let session = Session::try_from(&row)?;
    if session.expires_ms <= next.now_ms {
        return Ok(Renewal::Wrong);
    }
    // An earlier attempt of this very renewal may have been committed without our hearing of it.
    if transaction.fetch_optional(&storage::pair_exists(&next.digest)).await?.is_none() {
        if transaction.execute(&storage::use_token(digest, next.now_ms)).await? == 0 {
            return Ok(Renewal::Reused(storage::end_session(transaction, &session.id, next.now_ms).await?));
        }
        transaction.execute(&storage::add_pair(&next.pair(&session.id))).await?;
        transaction.execute(&storage::renew_session(&session.id, next.now_ms)).await?;
    }
    Ok(Renewal::Renewed(session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_given_out_at_multiples_of_one_time() {
        for (elapsed_ms, wait_ms) in [(0, 500), (1, 499), (30, 470), (499, 1), (500, 500), (1700, 300)] {
            let wait = until_refusal(Duration::from_millis(elapsed_ms));
            assert_eq!(wait, Duration::from_millis(wait_ms), "{elapsed_ms}");
        }
    }
}
