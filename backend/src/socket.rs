//! `/ws`: a WebSocket that sends back what it gets.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio::sync::watch;

use crate::{App, stopped};

const MESSAGE_BYTES_MAX: usize = 1 << 20;

pub async fn upgrade(State(app): State<Arc<App>>, upgrade: WebSocketUpgrade) -> Response {
    let stopping = app.stopping.clone();
    upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(|socket| echo(socket, stopping))
}

async fn echo(mut socket: WebSocket, mut stopping: watch::Receiver<bool>) {
    loop {
        let received = tokio::select! {
            received = socket.recv() => received,
            () = stopped(&mut stopping) => {
                let frame = CloseFrame { code: close_code::AWAY, reason: "the server stops".into() };
                // The peer may be gone already, and then there is no one to tell.
                drop(socket.send(Message::Close(Some(frame))).await);
                return;
            }
        };
        // The library answers pings and the peer's close by itself.
        let sent = match received {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => socket.send(message).await,
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => return,
        };
        if sent.is_err() {
            return;
        }
    }
}
