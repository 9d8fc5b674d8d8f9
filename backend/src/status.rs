//! `/slow` and `/status/{code}`: answers that come late or that are not what was hoped for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::App;

const WAIT_MS_MAX: u64 = 60_000;

#[derive(Deserialize)]
pub struct Wait {
    ms: Option<u64>,
}

/// Answers after `?ms=`, one second if none is named, a minute at most.
pub async fn slow(State(app): State<Arc<App>>, Query(wait): Query<Wait>) -> Response {
    let ms = wait.ms.unwrap_or(1000).min(WAIT_MS_MAX);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Json(json!({ "waited_ms": ms, "replica": app.replica })).into_response()
}

/// Answers with that status; 1xx is no final answer and is refused.
pub async fn status(State(app): State<Arc<App>>, Path(code): Path<u16>) -> Response {
    match StatusCode::from_u16(code) {
        // These have no content (RFC 9110 §15.3.5, §15.3.6, §15.4.5).
        Ok(status @ (StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)) => {
            status.into_response()
        }
        Ok(status) if !status.is_informational() => {
            (status, Json(json!({ "status": code, "reason": status.canonical_reason(), "replica": app.replica })))
                .into_response()
        }
        _ => (StatusCode::BAD_REQUEST, "the status is one of 200 to 999\n").into_response(),
    }
}
