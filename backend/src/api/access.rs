//! Who may ask for what. A policy is declared with each route and enforced before its handler runs; which objects are
//! whose, storage decides, by asking for those of the caller alone.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use serde::Serialize;

use super::Problem;

/// For whom a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// For everyone. Who asks is not looked at: a client that sends its token everywhere must be able to renew it.
    Anonymous,
    /// For everyone. Whoever sends a token is known by it, and may see more; a bad one is refused, because who believes
    /// himself signed in must not be taken for a stranger. The handler takes `Option<Caller>`.
    Anyone,
    /// For everyone who is signed in; it is about things of all, or about the caller.
    User,
    /// For everyone who is signed in, about a thing that the path names. For those whom it does not belong to it is
    /// not there.
    Owner,
}

/// Who asks, as proved by an access token that is neither over nor revoked.
#[derive(Debug, Clone)]
pub struct Caller {
    pub user: String,
    /// The session that the token was given out for.
    pub session: String,
    /// Of the user's row.
    pub version: i64,
}

#[derive(Debug, thiserror::Error)]
#[error("the handler asks who calls, on a route for everyone")]
struct NotAsked;

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::internal(&NotAsked))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}
