//! Makes connections to endpoints: TCP, TLS where the upstream asks for it, then HTTP/1.1 or HTTP/2.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::client::conn::http2;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::h1::{self, Stream};
use super::h2_body::Uploading;
use super::h2_connection::{Ended, SharedH2, Usage};
use super::h2_frames::Framed;
use super::pool::Connections;
use super::{HEAD_BYTES_MAX, Upstream, UpstreamError};
use crate::balance::{Endpoint, Outcome};
use crate::clock;
use crate::frames::{self, Cut};
use crate::local_executor::LocalExecutor;
use crate::pace::Terms;
use crate::tcp::Peer;
use crate::timed::{Timed, WriteLimit};

const H2_STREAM_WINDOW: u32 = 256 * 1024;
/// What bounds the data on its way are the windows of the streams. Half of this is also what the codec lets small
/// frames cost that nobody has read yet, before it gives up the connection with all that is on it.
const H2_CONNECTION_WINDOW: u32 = 256 * 1024 * 1024;
/// Until the peer's SETTINGS say otherwise (RFC 9113 §6.5.2 recommends no less than 100).
const H2_STREAMS_AT_FIRST: usize = 100;
/// What is still on its way on so many streams that were cancelled within a second is dropped without a word. On others
/// the codec answers it with resets, and ends the connection when those are as many.
const H2_RESET_STREAMS: usize = 1024;
/// An idle connection whose peer is gone without a word is found by the kernel after so long, and so often.
const TCP_KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3);

/// Where a connection leads, and what it may take.
pub struct Dial<'a> {
    pub upstream: &'a Arc<Upstream>,
    pub endpoint: &'a Endpoint,
    pub connections: &'a Connections,
    /// Writes that the endpoint does not take fail after so long.
    pub send_timeout: Duration,
}

impl Dial<'_> {
    pub async fn h1(&self) -> Result<h1::Connection, UpstreamError> {
        let stream = self.tcp().await?;
        let stream = match &self.upstream.tls {
            None => Stream::Tcp(stream),
            Some(tls) => {
                Stream::Tls(Box::new(tls.connect(&self.endpoint.name, stream).await.map_err(UpstreamError::Tls)?))
            }
        };
        self.upstream.metrics.connection_opened();
        let sweep = self.connections.sweep();
        let writing = WriteLimit::new(sweep.deadline(), Terms::of_silence(self.send_timeout));
        Ok(h1::Connection::new(stream, sweep.deadline(), writing))
    }

    pub async fn h2(&self) -> Result<SharedH2, UpstreamError> {
        let stream = self.tcp().await?;
        match &self.upstream.tls {
            None => self.speak_h2(stream).await,
            Some(tls) => {
                let stream = tls.connect(&self.endpoint.name, stream).await.map_err(UpstreamError::Tls)?;
                self.speak_h2(stream).await
            }
        }
    }

    async fn tcp(&self) -> Result<TcpStream, UpstreamError> {
        let connecting = async {
            let stream = TcpStream::connect(self.endpoint.address).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            socket.set_tcp_keepalive(&TCP_KEEPALIVE)?;
            // Data that is not acknowledged, or not taken, for so long means the same.
            socket.set_tcp_user_timeout(Some(self.send_timeout))?;
            Ok(stream)
        };
        connecting.await.map_err(UpstreamError::Connect)
    }

    async fn speak_h2<S>(&self, stream: S) -> Result<SharedH2, UpstreamError>
    where
        S: AsyncRead + AsyncWrite + Peer + Unpin + 'static,
    {
        let usage = Usage::new(H2_STREAMS_AT_FIRST);
        let sweep = self.connections.sweep();
        let stream = Framed::new(stream, sweep, Arc::clone(&usage));
        let stream = Timed::new(stream, sweep.deadline(), Terms::of_silence(self.send_timeout));
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .initial_max_send_streams(H2_STREAMS_AT_FIRST)
            .max_concurrent_reset_streams(H2_RESET_STREAMS)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .handshake(stream)
            .await
            .map_err(|error| UpstreamError::Protocol(error.into()))?;
        self.upstream.metrics.connection_opened();
        let (current, endpoint, shared) = (Arc::clone(&self.upstream.current), self.endpoint.id, Arc::clone(&usage));
        tokio::task::spawn_local(async move {
            drive_h2(connection, &shared).await;
            if let Some(ended) = shared.ended()
                && let Some(upstream) = current.get()
            {
                upstream.note_cut(endpoint, ended);
            }
        });
        Ok(SharedH2::new(sender, usage))
    }
}

impl Upstream {
    /// Requests that were under way have failed for themselves. If there were none, it is the connection that has.
    fn note_cut(&self, endpoint: u64, Ended { cut, was_idle }: Ended) {
        self.metrics.connection_cut();
        let members = self.pool.members();
        let Some(endpoint) = members.iter().map(|member| &member.endpoint).find(|known| known.id == endpoint) else {
            return;
        };
        tracing::warn!(endpoint = %endpoint.address, reason = cut.code(), "HTTP/2 connection to an endpoint cut off");
        if was_idle {
            self.pool.report(endpoint, Outcome::Failed(&cut), clock::now().into_std());
        }
    }
}

/// Runs a connection and keeps in sight what its peer allows.
async fn drive_h2<S>(mut connection: http2::Connection<Timed<S>, Uploading, LocalExecutor>, usage: &Usage)
where
    S: AsyncRead + AsyncWrite + Peer + Unpin + 'static,
{
    // Its error reaches the requests that wait.
    let mut was_idle = true;
    let ended = poll_fn(|cx| {
        usage.driver.register(cx.waker());
        was_idle = usage.is_idle_since_read();
        let ended = Pin::new(&mut connection).poll(cx);
        usage.streams_max.store(connection.current_max_send_streams(), Ordering::Relaxed);
        ended
    })
    .await;
    if ended.is_err_and(|error| frames::is_calmed(&error)) {
        usage.cut(Cut::Codec, was_idle);
    }
}
