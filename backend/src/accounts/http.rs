//! The routes of accounts: what is read from a request, and which answer each outcome becomes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::fields::{DisplayName, Email, NewPassword, Phone, TypedPassword, UserName};
use super::profile::{Newcomer, Profile, Ready};
use super::session::{Grant, Seen};
use super::standing::Disbelief;
use super::storage::Changes;
use super::token::TokenError;
use super::{AccountError, PasswordError};
use crate::App;
use crate::api::conditional::{has_already, is_of_another_state};
use crate::api::{Body, Caller, Page, PageQuery, Parameters, Path, Policy, Problem, Route};

const ME: &str = "/api/v1/users/me";
/// Tokens are for the one who asked.
const NO_STORE: [(axum::http::HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(routes!(register)).policy(Policy::Anonymous),
        Route::new(routes!(login)).policy(Policy::Anonymous),
        Route::new(routes!(refresh)).policy(Policy::Anonymous),
        Route::new(routes!(logout)).policy(Policy::User),
        Route::new(routes!(profile)).policy(Policy::User),
        Route::new(routes!(change_profile)).policy(Policy::User),
        Route::new(routes!(sessions)).policy(Policy::User),
        Route::new(routes!(end_session)).policy(Policy::Owner),
    ]
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Registration {
    email: Email,
    user_name: UserName,
    #[serde(default)]
    phone: Option<Phone>,
    display_name: DisplayName,
    password: NewPassword,
}

/// Makes an account. It is not signed in by that.
#[utoipa::path(
    post, path = "/api/v1/auth/register", tag = "accounts", request_body = Registration,
    responses((status = 201, body = Profile), (status = 409, description = "Somebody has the address, name or number")),
)]
async fn register(State(app): State<Arc<App>>, Body(registration): Body<Registration>) -> Result<Response, Problem> {
    let newcomer = Newcomer {
        email: registration.email,
        user_name: registration.user_name,
        phone: registration.phone,
        display_name: registration.display_name,
        password: registration.password,
    };
    let profile = app.accounts.register(newcomer).await?;
    Ok((StatusCode::CREATED, NO_STORE, [(LOCATION, ME)], Json(profile)).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Credentials {
    /// An e-mail address, a user name or a phone number.
    #[schema(example = "ada@example.com")]
    login: String,
    password: TypedPassword,
}

/// Begins a session.
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "accounts", request_body = Credentials,
    responses((status = 200, body = Grant), (status = 401, description = "Nobody has this login with this password")),
)]
async fn login(State(app): State<Arc<App>>, Body(credentials): Body<Credentials>) -> Result<Response, Problem> {
    answer(&app, app.accounts.sign_in(&credentials.login, &credentials.password).await)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Renewal {
    refresh_token: String,
}

/// Gives the next pair of tokens. A refresh token that comes a second time ends its session.
#[utoipa::path(
    post, path = "/api/v1/auth/refresh", tag = "accounts", request_body = Renewal,
    responses((status = 200, body = Grant), (status = 401, description = "It is not good, or not any more")),
)]
async fn refresh(State(app): State<Arc<App>>, Body(renewal): Body<Renewal>) -> Result<Response, Problem> {
    answer(&app, app.accounts.renew(&renewal.refresh_token).await)
}

fn answer(app: &App, outcome: Result<Grant, AccountError>) -> Result<Response, Problem> {
    match outcome {
        Ok(grant) => Ok((NO_STORE, Json(grant)).into_response()),
        Err(error) => {
            let problem = Problem::from(error);
            app.metrics.refused(problem.code());
            Err(problem)
        }
    }
}

/// Ends the session: none of its tokens counts any more.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "accounts", responses((status = 204)))]
async fn logout(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    match app.accounts.end_session(&caller, &caller.session).await {
        // It ended while this was on its way, which is what is asked for.
        Ok(()) | Err(AccountError::Gone) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The sessions of the caller, the newest first.
#[utoipa::path(
    get, path = "/api/v1/users/me/sessions", tag = "accounts", params(PageQuery),
    responses((status = 200, body = Page<Seen>)),
)]
async fn sessions(
    State(app): State<Arc<App>>,
    caller: Caller,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    Ok(Json(app.accounts.sessions(&caller, &query).await?).into_response())
}

/// Ends one of the caller's sessions, also one on another device.
#[utoipa::path(
    delete, path = "/api/v1/users/me/sessions/{id}", tag = "accounts", params(("id" = String, Path)),
    responses((status = 204), (status = 404, description = "The caller has no such session")),
)]
async fn end_session(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    app.accounts.end_session(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The caller's profile.
#[utoipa::path(
    get, path = "/api/v1/users/me", tag = "accounts",
    responses((status = 200, body = Profile), (status = 304, description = "It is what `If-None-Match` names")),
)]
async fn profile(State(app): State<Arc<App>>, caller: Caller, fields: HeaderMap) -> Result<Response, Problem> {
    let ready = app.accounts.profile(&caller).await?;
    if has_already(&fields, &tag(&caller, ready.version)) {
        return Ok((StatusCode::NOT_MODIFIED, about(&caller, &ready)).into_response());
    }
    Ok(whole(&caller, ready))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProfileChange {
    #[serde(default)]
    email: Option<Email>,
    #[serde(default)]
    user_name: Option<UserName>,
    /// `null` takes the number away.
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<Phone>)]
    phone: Option<Option<Phone>>,
    #[serde(default)]
    display_name: Option<DisplayName>,
}

/// Tells a field that is null from one that is not there.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Phone>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Changes what is named and leaves the rest. With `If-Match`, only if nobody else changed it meanwhile.
#[utoipa::path(
    patch, path = "/api/v1/users/me", tag = "accounts", request_body = ProfileChange,
    responses(
        (status = 200, body = Profile),
        (status = 409, description = "Somebody has the address, name or number"),
        (status = 412, description = "It is not what `If-Match` names"),
    ),
)]
async fn change_profile(
    State(app): State<Arc<App>>,
    caller: Caller,
    fields: HeaderMap,
    Body(change): Body<ProfileChange>,
) -> Result<Response, Problem> {
    if is_of_another_state(&fields, &tag(&caller, caller.version)) {
        return Err(AccountError::Changed.into());
    }
    let ProfileChange { email, user_name, phone, display_name } = change;
    if email.is_none() && user_name.is_none() && phone.is_none() && display_name.is_none() {
        return Err(Problem::invalid("", "names nothing to change"));
    }
    let version = fields.contains_key(axum::http::header::IF_MATCH).then_some(caller.version);
    let changes = Changes { email, user_name, phone, display_name };
    Ok(whole(&caller, app.accounts.change(&caller, version, &changes).await?))
}

fn whole(caller: &Caller, ready: Ready) -> Response {
    (about(caller, &ready), [(CONTENT_TYPE, "application/json")], ready.json).into_response()
}

/// A browser may keep it for five minutes, and nobody in between may.
fn about(caller: &Caller, ready: &Ready) -> [(axum::http::HeaderName, String); 2] {
    [(CACHE_CONTROL, "private, max-age=300".to_owned()), (ETAG, tag(caller, ready.version))]
}

/// Everybody asks for his profile at the same address, so the tag says whose it is: nobody's 304 may be about another's.
fn tag(caller: &Caller, version: i64) -> String {
    format!("\"{}.{version}\"", caller.user)
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Store(error) => error.into(),
            AccountError::Password(error @ PasswordError::Busy) => {
                Self::unavailable("busy", "too many sign in at this moment").because(&error)
            }
            AccountError::Random(error) => error.into(),
            AccountError::WrongLogin => {
                Self::unauthenticated("wrong-login", "nobody has this login with this password")
            }
            AccountError::WrongRefresh => {
                Self::unauthenticated("wrong-refresh-token", "the refresh token is not good, or not any more")
            }
            AccountError::Reused => {
                let detail = "the refresh token was used before; its session has ended, sign in again";
                Self::unauthenticated("refresh-token-reused", detail)
            }
            AccountError::Changed => {
                let detail = "the profile is not the one that If-Match names";
                Self::new(StatusCode::PRECONDITION_FAILED, "changed", detail)
            }
            AccountError::Gone => Self::not_found(),
            error @ (AccountError::Password(PasswordError::Failed(_)) | AccountError::Signing(_)) => {
                Self::internal(&error)
            }
        }
    }
}

impl From<Disbelief> for Problem {
    fn from(disbelief: Disbelief) -> Self {
        match disbelief {
            Disbelief::Token(TokenError::Wrong) => {
                Self::unauthenticated("wrong-token", "the access token is not one of this app's")
            }
            Disbelief::Token(TokenError::Over) => {
                Self::unauthenticated("token-over", "the time of the access token is over; renew it")
            }
            Disbelief::Token(TokenError::Early) => {
                Self::unauthenticated("token-early", "the time of the access token has not come")
            }
            Disbelief::Revoked => {
                Self::unauthenticated("token-revoked", "the session of the access token has ended; sign in again")
            }
            Disbelief::Store(error) => error.into(),
        }
    }
}
