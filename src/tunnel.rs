//! Two streams that speak to each other after 101: bytes pass both ways until both sides have ended or
//! nothing has passed for too long: not long at all once a side has ended.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::timers::Deadline;

const CHUNK_BYTES: usize = 16 * 1024;
/// Silence after the endpoint has ended. A client that has been told and does not close has nobody left to speak with.
const AFTER_ENDPOINT: Duration = Duration::from_secs(10);
/// Silence after the client has ended. It may wait for the outcome of what it sent, so this is longer.
const AFTER_CLIENT: Duration = Duration::from_secs(60);

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
    let silence = Silence { deadline: &idle, limit: Cell::new(idle_timeout), has_ended: Cell::new(false) };
    silence.begins();
    let both = async {
        tokio::try_join!(
            pass(&mut from_client, &mut to_upstream, &mut sent_up, (&silence, AFTER_CLIENT)),
            pass(&mut from_upstream, &mut to_client, &mut sent_down, (&silence, AFTER_ENDPOINT)),
        )
    };
    let end = tokio::select! {
        outcome = both => if outcome.is_ok() { TunnelEnd::Closed } else { TunnelEnd::Failed },
        () = idle.expired() => if silence.has_ended.get() { TunnelEnd::Closed } else { TunnelEnd::Idle },
    };
    Passed { to_upstream: sent_up, to_client: sent_down, end }
}

/// How long nothing may pass in either direction.
struct Silence<'a> {
    deadline: &'a Deadline,
    limit: Cell<Duration>,
    /// One side has.
    has_ended: Cell<bool>,
}

impl Silence<'_> {
    fn begins(&self) {
        self.deadline.arm(self.limit.get());
    }

    fn after_end(&self, limit: Duration) {
        self.limit.set(self.limit.get().min(limit));
        self.has_ended.set(true);
        self.begins();
    }
}

async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    sent: &mut u64,
    (silence, after_end): (&Silence<'_>, Duration),
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await?;
        silence.begins();
        let Some(data) = chunk.get(..read).filter(|data| !data.is_empty()) else {
            // One side has ended; the other may still have something to say.
            silence.after_end(after_end);
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

    /// How a tunnel ends, and after how many seconds, if the other side says so much, a byte every eight seconds.
    async fn check(endpoint_ends: bool, idle_s: u64, bytes: u64, expected: (TunnelEnd, u64)) {
        let ((client, near), (far, upstream)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let (mut silent, mut other) = if endpoint_ends { (upstream, client) } else { (client, upstream) };
        let begun = tokio::time::Instant::now();
        let idle = Duration::from_secs(idle_s);
        let passed = with_sweep(async |sweep| {
            let dialogue = async {
                silent.shutdown().await.unwrap();
                for _ in 0..bytes {
                    tokio::time::sleep(Duration::from_secs(8)).await;
                    other.write_all(b"x").await.unwrap();
                }
            };
            tokio::join!(relay(near, far, sweep.deadline(), idle), dialogue).0
        })
        .await;
        let sent = if endpoint_ends { passed.to_upstream } else { passed.to_client };
        assert_eq!((passed.end, begun.elapsed().as_secs(), sent), (expected.0, expected.1, bytes));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_with_one_end_lasts_while_the_other_speaks() {
        check(true, 3600, 0, (TunnelEnd::Closed, 10)).await;
        check(true, 3600, 5, (TunnelEnd::Closed, 50)).await;
        check(false, 3600, 0, (TunnelEnd::Closed, 60)).await;
        check(false, 3600, 5, (TunnelEnd::Closed, 100)).await;
        check(true, 5, 0, (TunnelEnd::Closed, 5)).await;
    }
}
