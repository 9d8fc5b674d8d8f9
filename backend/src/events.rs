//! `/events`: server-sent events, one at a time, so that a proxy that holds answers back is seen.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, Sse};
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use crate::{App, stopped};

const COUNT_MAX: u64 = 1_000_000;
const INTERVAL_MS_MAX: u64 = 60_000;

#[derive(Deserialize)]
pub struct Pace {
    count: Option<u64>,
    interval_ms: Option<u64>,
}

/// Sends `?count=` events (10 if none is named) with `?interval_ms=` (1000) between two.
/// Ends early when the server stops.
pub async fn events(
    State(app): State<Arc<App>>,
    Query(pace): Query<Pace>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let count = pace.count.unwrap_or(10).min(COUNT_MAX);
    let interval = Duration::from_millis(pace.interval_ms.unwrap_or(1000).min(INTERVAL_MS_MAX));
    let replica = app.replica.name.clone();
    Sse::new(stream::unfold((0, app.stopping.clone()), move |(sent, mut stopping)| {
        let replica = replica.clone();
        async move {
            if sent == count || (sent > 0 && !wait(interval, &mut stopping).await) {
                return None;
            }
            let event = Event::default()
                .id(sent.to_string())
                .event("tick")
                .data(json!({ "n": sent, "replica": replica }).to_string());
            Some((Ok(event), (sent + 1, stopping)))
        }
    }))
}

/// Waits for `interval`; false if the server stopped before it was over.
async fn wait(interval: Duration, stopping: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        () = stopped(stopping) => false,
        () = tokio::time::sleep(interval) => true,
    }
}
