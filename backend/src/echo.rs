//! `/echo`: what arrived here after the proxy had its hands on it.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;

use crate::App;
use crate::replica::Replica;

const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Serialize)]
struct Echo<'a> {
    method: &'a str,
    version: String,
    path: &'a str,
    query: Option<&'a str>,
    /// In the order in which the names first came; a repeated name has its values together.
    fields: Vec<(&'a str, String)>,
    body: Content,
    trailers: Vec<(&'a str, String)>,
    replica: &'a Replica,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Content {
    bytes: usize,
    #[serde(flatten)]
    text: Text,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "encoding", content = "content", rename_all = "lowercase")]
enum Text {
    Utf8(String),
    Hex(String),
}

pub async fn echo(State(app): State<Arc<App>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (body, trailers) = match collect(body).await {
        Ok(collected) => collected,
        Err(refusal) => return refusal.into_response(),
    };
    Json(Echo {
        method: head.method.as_str(),
        version: format!("{:?}", head.version),
        path: head.uri.path(),
        query: head.uri.query(),
        fields: fields(&head.headers),
        body: content(&body),
        trailers: fields(&trailers),
        replica: &app.replica,
    })
    .into_response()
}

async fn collect(body: Body) -> Result<(Bytes, HeaderMap), (StatusCode, String)> {
    let collected = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("at most {BODY_BYTES_MAX} bytes are echoed\n"))
        } else {
            (StatusCode::BAD_REQUEST, format!("the body ended early: {error}\n"))
        }
    })?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok((collected.to_bytes(), trailers))
}

fn fields(map: &HeaderMap) -> Vec<(&str, String)> {
    map.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}

fn content(body: &[u8]) -> Content {
    let text = match std::str::from_utf8(body) {
        Ok(text) => Text::Utf8(text.to_owned()),
        Err(_) => Text::Hex(hex(body)),
    };
    Content { bytes: body.len(), text }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &[u8], expected: Text) {
        assert_eq!(content(body), Content { bytes: body.len(), text: expected });
    }

    #[test]
    fn a_body_is_shown_as_text_where_it_is_text() {
        check(b"", Text::Utf8(String::new()));
        check("grüezi".as_bytes(), Text::Utf8("grüezi".to_owned()));
        check(b"\xff\x00a", Text::Hex("ff0061".to_owned()));
    }
}
