//! The tables of accounts: users, their sessions, and the tokens that were revoked. Only statements and their rows; what they
//! are for is decided by those who send them.

use super::fields::{DisplayName, Email, Login, Phone, UserName};
use crate::api::PageQuery;
use crate::store::{Query, Row, StoreError, Transaction};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: String,
    pub email: String,
    pub user_name: String,
    pub phone: Option<String>,
    pub display_name: String,
    pub password_hash: String,
    pub version: i64,
    pub created_ms: i64,
    pub changed_ms: i64,
}

impl TryFrom<&Row> for User {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            email: row.get("email")?,
            user_name: row.get("user_name")?,
            phone: row.get("phone")?,
            display_name: row.get("display_name")?,
            password_hash: row.get("password_hash")?,
            version: row.get("version")?,
            created_ms: row.get("created_ms")?,
            changed_ms: row.get("changed_ms")?,
        })
    }
}

pub fn user_by_id(id: &str) -> Query {
    Query::new("user_by_id", "select * from users where id = $1").bind(id)
}

pub fn user_by_login(login: &Login) -> Query {
    match login {
        Login::Email(email) => Query::new("user_by_email", "select * from users where email = $1").bind(email.as_str()),
        Login::UserName(name) => {
            Query::new("user_by_name", "select * from users where user_name = $1").bind(name.as_str())
        }
        Login::Phone(phone) => Query::new("user_by_phone", "select * from users where phone = $1").bind(phone.as_str()),
    }
}

/// Adds a user, unless this very one is there already because an earlier attempt was committed.
pub async fn add_user(transaction: &mut Transaction, user: &User) -> Result<(), StoreError> {
    if transaction.fetch_optional(&user_by_id(&user.id)).await?.is_some() {
        return Ok(());
    }
    let insert = Query::new(
        "user_add",
        "insert into users (id, email, user_name, phone, display_name, password_hash, version, created_ms, changed_ms) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(user.id.as_str())
    .bind(user.email.as_str())
    .bind(user.user_name.as_str())
    .bind(user.phone.clone())
    .bind(user.display_name.as_str())
    .bind(user.password_hash.as_str())
    .bind(user.version)
    .bind(user.created_ms)
    .bind(user.changed_ms);
    transaction.execute(&insert).await.map(drop)
}

/// What is to be other in a profile. None leaves it as it is.
#[derive(Debug, Default)]
pub struct Changes {
    pub email: Option<Email>,
    pub user_name: Option<UserName>,
    /// The inner one takes the number away.
    pub phone: Option<Option<Phone>>,
    pub display_name: Option<DisplayName>,
}

/// The statement that makes `changes`, with `version` only while the row has that one, and gives the row as it is then.
pub fn change_user(id: &str, version: Option<i64>, changes: &Changes, now_ms: i64) -> Query {
    let text = |value: Option<&str>| value.map(str::to_owned);
    Query::new(
        "user_change",
        "update users set email = coalesce($3, email), user_name = coalesce($4, user_name), \
         display_name = coalesce($5, display_name), phone = case when $6 then $7 else phone end, \
         version = version + 1, changed_ms = $8 where id = $1 and version = coalesce($2, version) returning *",
    )
    .bind(id)
    .bind(version)
    .bind(text(changes.email.as_ref().map(Email::as_str)))
    .bind(text(changes.user_name.as_ref().map(UserName::as_str)))
    .bind(text(changes.display_name.as_ref().map(DisplayName::as_str)))
    .bind(changes.phone.is_some())
    .bind(text(changes.phone.as_ref().and_then(Option::as_ref).map(Phone::as_str)))
    .bind(now_ms)
}

/// Puts a newer hash of the same password in the place of `old`.
pub fn rehash(id: &str, old: &str, new: &str) -> Query {
    Query::new("user_rehash", "update users set password_hash = $3 where id = $1 and password_hash = $2")
        .bind(id)
        .bind(old)
        .bind(new)
}

/// A pair of tokens as it is remembered.
#[derive(Debug, Clone)]
pub struct Pair {
    pub session: String,
    /// Of the refresh token.
    pub digest: String,
    pub access: String,
    pub access_expires_ms: i64,
}

/// A session as it is remembered.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: String,
    pub user: String,
    pub begins_ms: i64,
    /// When its newest token was made.
    pub renewed_ms: i64,
    pub expires_ms: i64,
}

impl TryFrom<&Row> for Session {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            user: row.get("user_id")?,
            begins_ms: row.get("created_ms")?,
            renewed_ms: row.get("renewed_ms")?,
            expires_ms: row.get("expires_ms")?,
        })
    }
}

pub fn add_session(session: &Session) -> Query {
    Query::new(
        "session_add",
        "insert into sessions (id, user_id, created_ms, renewed_ms, expires_ms) values ($1, $2, $3, $4, $5) \
         on conflict (id) do nothing",
    )
    .bind(session.id.as_str())
    .bind(session.user.as_str())
    .bind(session.begins_ms)
    .bind(session.renewed_ms)
    .bind(session.expires_ms)
}

pub fn add_pair(pair: &Pair) -> Query {
    Query::new(
        "refresh_token_add",
        "insert into refresh_tokens (digest, session_id, access_id, access_expires_ms) values ($1, $2, $3, $4) \
         on conflict (digest) do nothing",
    )
    .bind(pair.digest.as_str())
    .bind(pair.session.as_str())
    .bind(pair.access.as_str())
    .bind(pair.access_expires_ms)
}

/// The sessions of a user, the newest first, that are behind `after`.
pub fn sessions_of(user: &str, now_ms: i64, page: &PageQuery) -> Query {
    Query::new(
        "sessions_of_user",
        "select * from sessions where user_id = $1 and expires_ms > $2 and id < coalesce($3, 'g') \
         order by id desc limit $4",
    )
    .bind(user)
    .bind(now_ms)
    .bind(page.after().map(str::to_owned))
    .bind(page.rows())
}

/// A session, if it is this user's. Nobody else renews or ends it until the end of the transaction.
pub fn session_of(user: &str, session: &str) -> Query {
    Query::by_database(
        "session_of_user",
        "select * from sessions where user_id = $1 and id = $2",
        "select * from sessions where user_id = $1 and id = $2 for update",
    )
    .bind(user)
    .bind(session)
}

/// The session of a refresh token. Nobody else renews or ends it until the end of the transaction: whoever ends it has to
/// see every token that was given out for it.
pub fn session_by_digest(digest: &str) -> Query {
    Query::by_database(
        "session_by_token",
        "select s.* from refresh_tokens t join sessions s on s.id = t.session_id where t.digest = $1",
        "select s.* from refresh_tokens t join sessions s on s.id = t.session_id where t.digest = $1 for update of s",
    )
    .bind(digest)
}

pub fn pair_exists(digest: &str) -> Query {
    Query::new("refresh_token_exists", "select session_id from refresh_tokens where digest = $1").bind(digest)
}

/// Marks a refresh token as used. Of two who use it at once it changes a row for one.
pub fn use_token(digest: &str, now_ms: i64) -> Query {
    Query::new("refresh_token_use", "update refresh_tokens set used_ms = $2 where digest = $1 and used_ms is null")
        .bind(digest)
        .bind(now_ms)
}

pub fn renew_session(session: &str, now_ms: i64) -> Query {
    Query::new("session_renew", "update sessions set renewed_ms = $2 where id = $1").bind(session).bind(now_ms)
}

/// Revokes the access tokens of a session that are not over yet, and ends it. Gives the names of those tokens.
pub async fn end_session(
    transaction: &mut Transaction,
    session: &str,
    now_ms: i64,
) -> Result<Vec<Revoked>, StoreError> {
    let revoke = Query::new(
        "session_revoke",
        "insert into revoked_tokens (id, expires_ms) select access_id, access_expires_ms from refresh_tokens \
         where session_id = $1 and access_expires_ms > $2 on conflict (id) do nothing returning id, expires_ms",
    );
    let rows = transaction.fetch(&revoke.bind(session).bind(now_ms)).await?;
    let end = Query::new("session_end", "delete from sessions where id = $1").bind(session);
    transaction.execute(&end).await?;
    rows.iter().map(|row| Ok(Revoked { id: row.get("id")?, expires_ms: row.get("expires_ms")? })).collect()
}

/// An access token that must not be believed until its own time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    pub id: String,
    pub expires_ms: i64,
}

/// What has to be known of a token's user at each request, in one statement: the version of the row, and whether the
/// token is revoked. No row: there is no such user any more.
pub fn standing(user: &str, token: &str) -> Query {
    Query::new(
        "token_standing",
        "select version, exists (select 1 from revoked_tokens where id = $2) as revoked from users where id = $1",
    )
    .bind(user)
    .bind(token)
}

/// Those who signed in or renewed since then.
pub fn active_users(since_ms: i64) -> Query {
    Query::new("active_users", "select count(distinct user_id) as users from sessions where renewed_ms > $1")
        .bind(since_ms)
}

/// Removes what can no longer matter. Refresh tokens go with their session, or a week after they were used.
pub fn sweep(now_ms: i64) -> [Query; 3] {
    let week_ms = 7 * 24 * 60 * 60 * 1000;
    [
        Query::new("sweep_refresh_tokens", "delete from refresh_tokens where used_ms <= $1").bind(now_ms - week_ms),
        Query::new("sweep_revoked", "delete from revoked_tokens where expires_ms <= $1").bind(now_ms),
        Query::new("sweep_sessions", "delete from sessions where expires_ms <= $1").bind(now_ms),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{After, Limit};
    use crate::store::plan;

    #[tokio::test]
    async fn a_page_far_behind_is_found_by_an_index() {
        let page = PageQuery::new(Limit::default(), After::try_from("x".to_owned()).ok());
        let plan = plan(&sessions_of("ada", 0, &page)).await;
        assert!(plan.contains("sessions_by_user (user_id=? AND id<?)") && !plan.contains("TEMP"), "{plan}");
    }
}
