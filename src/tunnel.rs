//! Two streams that speak to each other after 101: bytes pass both ways until both sides have ended or
//! nothing has passed for too long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::timers::Deadline;

const CHUNK_BYTES: usize = 16 * 1024;

/// A stream that goes on as another protocol: what came with the last message, then what comes.
#[derive(Debug)]
pub struct Resumed<S> {
    pub early: BytesMut,
    pub stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, out);
        }
        let length = this.early.len().min(out.remaining());
        out.put_slice(this.early.get(..length).unwrap_or_default());
        this.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Resumed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    Closed,
    Idle,
    Failed,
}

/// Bytes that passed, and why no more do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    pub to_upstream: u64,
    pub to_client: u64,
    pub end: TunnelEnd,
}

pub async fn relay<C, U>(client: C, upstream: U, idle: Deadline, idle_timeout: Duration) -> Passed
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let (mut sent_up, mut sent_down) = (0, 0);
    idle.arm(idle_timeout);
    let both = async {
        tokio::try_join!(
            pass(&mut from_client, &mut to_upstream, &mut sent_up, (&idle, idle_timeout)),
            pass(&mut from_upstream, &mut to_client, &mut sent_down, (&idle, idle_timeout)),
        )
    };
    let end = tokio::select! {
        outcome = both => if outcome.is_ok() { TunnelEnd::Closed } else { TunnelEnd::Failed },
        () = idle.expired() => TunnelEnd::Idle,
    };
    Passed { to_upstream: sent_up, to_client: sent_down, end }
}

async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    sent: &mut u64,
    (idle, idle_timeout): (&Deadline, Duration),
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await?;
        idle.arm(idle_timeout);
        let Some(data) = chunk.get(..read).filter(|data| !data.is_empty()) else {
            // One side has ended; the other may still have something to say.
            return to.shutdown().await;
        };
        to.write_all(data).await?;
        to.flush().await?;
        *sent += data.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timers::{Sweep, with_sweep};

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_both_ways_until_both_sides_end() {
        let sweep = Sweep::new();
        let ((mut client, near), (far, mut upstream)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let dialogue = async {
            client.write_all(b"ping").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            upstream.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "ping");
            upstream.write_all(b"pong!").await.unwrap();
            upstream.shutdown().await.unwrap();
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "pong!");
        };
        let tunnel = relay(near, far, sweep.deadline(), Duration::from_secs(60));
        let ((), passed) = tokio::join!(dialogue, tunnel);
        assert_eq!(passed, Passed { to_upstream: 4, to_client: 5, end: TunnelEnd::Closed });
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_is_closed() {
        let ((_client, near), (far, _upstream)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let passed = with_sweep(async |sweep| relay(near, far, sweep.deadline(), Duration::from_secs(1)).await).await;
        assert_eq!(passed.end, TunnelEnd::Idle);
    }
}
