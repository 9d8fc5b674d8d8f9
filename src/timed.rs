//! A stream whose writes have a time limit: between tokio's traits and hyper's.
//!
//! It limits the silence between two writes that the peer accepts, and nothing else; reading is limited
//! where it is known what is being waited for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::timers::Deadline;

/// How long a peer may refuse to take data.
#[derive(Debug)]
pub struct WriteLimit {
    silence: Deadline,
    limit: Duration,
    blocked: bool,
}

impl WriteLimit {
    pub fn new(silence: Deadline, limit: Duration) -> Self {
        Self { silence, limit, blocked: false }
    }

    /// Whether the peer has refused data since it last took some.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Keeps the limit on a write's outcome: it runs from the first refusal to the next success.
    pub fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            if std::mem::take(&mut self.blocked) {
                self.silence.disarm();
            }
            return outcome;
        }
        if !std::mem::replace(&mut self.blocked, true) {
            self.silence.arm(self.limit);
        }
        match self.silence.poll_expired(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no data"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[derive(Debug)]
pub struct Timed<S> {
    stream: TokioIo<S>,
    writing: WriteLimit,
}

impl<S> Timed<S> {
    pub fn new(stream: S, silence: Deadline, limit: Duration) -> Self {
        Self { stream: TokioIo::new(stream), writing: WriteLimit::new(silence, limit) }
    }
}

impl<S: AsyncRead + Unpin> Read for Timed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> Write for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.writing.watch(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.writing.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.writing.watch(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::timers::Sweep;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let sweep = Sweep::new();
        let (near, _far) = tokio::io::duplex(16);
        let mut timed = Timed::new(near, sweep.deadline(), Duration::from_millis(200));
        let write_all = async {
            loop {
                if let Err(error) = poll_fn(|cx| Pin::new(&mut timed).poll_write(cx, b"0123456789")).await {
                    return error;
                }
            }
        };
        tokio::select! {
            () = sweep.run() => unreachable!("a sweep never ends"),
            error = write_all => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
        }
    }
}
