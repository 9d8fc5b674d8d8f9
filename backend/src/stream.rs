//! `/bytes/{n}` and `/upload`: bodies that are longer than anyone should hold in memory.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::json;

use crate::App;

const BYTES_MAX: u64 = 10 << 30;

/// One line of the content of `/bytes`: the byte at offset `i` is `LINE[i % 64]`.
const LINE: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n";

/// A whole number of lines, so that each block starts where a line does.
static BLOCK: [u8; 64 << 10] = block();

#[derive(Deserialize)]
pub struct Framing {
    chunked: Option<u8>,
}

pub async fn bytes(Path(length): Path<u64>, Query(framing): Query<Framing>) -> Response {
    if length > BYTES_MAX {
        return (StatusCode::BAD_REQUEST, format!("at most {BYTES_MAX} bytes are sent\n")).into_response();
    }
    let body = Body::from_stream(stream::iter(Blocks { left: length }.map(Ok::<_, Infallible>)));
    let mut response = body.into_response();
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if framing.chunked.unwrap_or(0) == 0 {
        fields.insert(CONTENT_LENGTH, length.into());
    }
    response
}

pub async fn upload(State(app): State<Arc<App>>, body: Body) -> Response {
    let mut data = body.into_data_stream();
    let mut count: u64 = 0;
    while let Some(chunk) = data.next().await {
        match chunk {
            Ok(chunk) => count += chunk.len() as u64,
            Err(error) => {
                let reason = format!("the body ended after {count} bytes: {error}\n");
                return (StatusCode::BAD_REQUEST, reason).into_response();
            }
        }
    }
    Json(json!({ "bytes": count, "replica": app.replica })).into_response()
}

/// The content of `/bytes`, by blocks that share one static buffer.
struct Blocks {
    left: u64,
}

impl Iterator for Blocks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let block = Bytes::from_static(&BLOCK);
        let size = usize::try_from(self.left).map_or(block.len(), |left| left.min(block.len()));
        self.left -= size as u64;
        (size > 0).then(|| block.slice(..size))
    }
}

const fn block() -> [u8; 64 << 10] {
    let mut block = [0; 64 << 10];
    let mut i = 0;
    while i < block.len() {
        block[i] = LINE[i % LINE.len()];
        i += 1;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_line_over_and_over() {
        for length in [0, 1, 63, 64, 65, 65_535, 65_536, 65_537, 200_000] {
            let content = Blocks { left: length }.flatten().collect::<Vec<u8>>();
            assert_eq!(content.len() as u64, length);
            assert!(content.iter().enumerate().all(|(i, byte)| *byte == LINE[i % 64]), "{length}");
        }
    }
}
