//! Makes connections to endpoints: TCP, TLS where the upstream asks for it, then HTTP/1.1 or HTTP/2.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::pool::{Connections, Exclusive, SharedH2};
use super::{Upstream, UpstreamError};
use crate::balance::Endpoint;
use crate::body::Body;
use crate::config::{Timeouts, UpstreamProtocol};
use crate::local_executor::LocalExecutor;
use crate::timed::Timed;

/// More than a page of head is no answer to a proxied request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const H2_STREAM_WINDOW: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Until the peer's SETTINGS say otherwise (RFC 9113 §6.5.2 recommends no less than 100).
const H2_STREAMS_AT_FIRST: usize = 100;

/// A connection as its protocol is used.
pub enum Dialled {
    Exclusive(Exclusive),
    Shared(SharedH2),
}

/// Connects within `limits.connect`, the TLS hand-shake included.
pub async fn dial(
    upstream: &Upstream,
    endpoint: &Endpoint,
    connections: &Connections,
    limits: &Timeouts,
) -> Result<Dialled, UpstreamError> {
    let connecting = async {
        let stream = tcp(endpoint.address).await.map_err(UpstreamError::Connect)?;
        match &upstream.tls {
            None => speak(upstream.protocol, stream, connections, limits.send).await,
            Some(tls) => {
                let stream = tls.connect(&endpoint.name, stream).await.map_err(UpstreamError::Tls)?;
                speak(upstream.protocol, stream, connections, limits.send).await
            }
        }
    };
    match tokio::time::timeout(limits.connect, connecting).await {
        Ok(dialled) => {
            if dialled.is_ok() {
                upstream.metrics.connection_opened();
            }
            dialled
        }
        Err(_elapsed) => Err(UpstreamError::ConnectTimeout(limits.connect)),
    }
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn speak<S>(
    protocol: UpstreamProtocol,
    stream: S,
    connections: &Connections,
    send_timeout: Duration,
) -> Result<Dialled, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let sweep = connections.sweep();
    let stream = Timed::new(stream, sweep.deadline(), send_timeout);
    match protocol {
        UpstreamProtocol::H1 => {
            let (sender, connection) = http1::Builder::new()
                .max_header_size(HEAD_BYTES_MAX)
                .handshake(stream)
                .await
                .map_err(UpstreamError::Protocol)?;
            // Its end shows in the sender; its error reaches the request that waits.
            tokio::task::spawn_local(connection.with_upgrades());
            Ok(Dialled::Exclusive(Exclusive::new(sender, sweep.deadline())))
        }
        UpstreamProtocol::H2 => {
            let (sender, connection) = http2::Builder::new(LocalExecutor)
                .initial_stream_window_size(H2_STREAM_WINDOW)
                .initial_connection_window_size(H2_CONNECTION_WINDOW)
                .initial_max_send_streams(H2_STREAMS_AT_FIRST)
                .max_header_list_size(HEAD_BYTES_MAX as u32)
                .handshake(stream)
                .await
                .map_err(UpstreamError::Protocol)?;
            let streams_max = Arc::new(AtomicUsize::new(H2_STREAMS_AT_FIRST));
            tokio::task::spawn_local(drive_h2(connection, Arc::clone(&streams_max)));
            Ok(Dialled::Shared(SharedH2 { sender, streams: Arc::default(), streams_max }))
        }
    }
}

/// Runs a connection and keeps what its peer allows in sight.
async fn drive_h2<S>(mut connection: http2::Connection<Timed<S>, Body, LocalExecutor>, streams_max: Arc<AtomicUsize>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // Its error reaches the requests that wait.
    let _ended = poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        streams_max.store(connection.current_max_send_streams(), Ordering::Relaxed);
        ended
    })
    .await;
}
