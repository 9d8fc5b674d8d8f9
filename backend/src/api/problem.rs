//! The one shape of a failure that a client sees: problem details (RFC 9457). Each subject has its own error, and says
//! in one `match` which of these it becomes. What only an operator may know goes to the log.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::secret::NoRandomness;
use crate::store::StoreError;

/// A failure on its way to the client.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// In a box, because every handler's outcome has the room for one.
    details: Box<Details>,
    retry_after_s: Option<u32>,
    cause: Option<Cause>,
}

/// Problem details (RFC 9457). `type` is left out, which means "about:blank": `title` is that of the status.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Details {
    #[schema(example = "Bad Request")]
    title: &'static str,
    #[schema(example = 400)]
    status: u16,
    /// What programs tell problems apart by.
    #[schema(example = "invalid-input")]
    code: &'static str,
    /// For people.
    detail: Cow<'static, str>,
    /// The parts of the request that are at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Fault {
    /// A field of the body or a parameter: `items[0].count`.
    #[schema(example = "email")]
    field: String,
    detail: String,
}

/// Why it happened, for the log. It rides in the response and is not sent.
#[derive(Debug, Clone)]
pub struct Cause(pub String);

impl Problem {
    /// Something in the request is not as it must be.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-input", "the request is not as it must be").at(field, detail)
    }

    /// There is something already that must not be there twice.
    pub fn taken(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "taken", "something else has this already").at(field, detail)
    }

    /// It does not exist, or it is not for this caller: an answer that told these apart would say that it exists.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here, or nothing for you")
    }

    /// Who asks is not known. `code` says what is wrong with the proof.
    pub fn unauthenticated(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// It cannot be done now, and can be later.
    pub fn unavailable(code: &'static str, detail: &'static str) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// A fault of this program or of what it stands on.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this is our fault; it has been written down")
            .because(cause)
    }

    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let details = Details { title, status: status.as_u16(), code, detail: detail.into(), errors: Vec::new() };
        Self { status, details: Box::new(details), retry_after_s: None, cause: None }
    }

    /// Names one more part of the request that is at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.details.errors.push(Fault { field: field.into(), detail: detail.into() });
        self
    }

    /// Leaves for the log what it came from.
    #[must_use]
    pub fn because(mut self, cause: &dyn std::error::Error) -> Self {
        let mut chain = cause.to_string();
        let mut next = cause.source();
        while let Some(source) = next {
            chain = format!("{chain}: {source}");
            next = source.source();
        }
        self.cause = Some(Cause(chain));
        self
    }

    pub fn code(&self) -> &'static str {
        self.details.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = [(CONTENT_TYPE, "application/problem+json"), (CACHE_CONTROL, "no-store")];
        let mut response = (self.status, kind, Json(self.details)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Away(_) | StoreError::Busy(_) => {
                Self::unavailable("database-away", "the database does not answer").because(&error)
            }
            StoreError::Unknown(_) => {
                Self::unavailable("outcome-unknown", "whether it was done is not known; look before you repeat it")
                    .because(&error)
            }
            StoreError::Taken { column } => Self::taken(column.clone(), "is taken"),
            _ => Self::internal(&error),
        }
    }
}

impl From<NoRandomness> for Problem {
    fn from(error: NoRandomness) -> Self {
        Self::internal(&error)
    }
}
