//! A stream whose writes have a time limit: between tokio's traits and hyper's.
//!
//! It limits how long and how slowly the peer takes what is written, and nothing else; reading is limited
//! where it is known what is being waited for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::pace::{Pace, Terms};
use crate::tcp::Peer;
use crate::timers::Deadline;

/// How a peer may take data. What the kernel holds for it was not taken: a socket is writable again when a third of
/// its buffer is free, which is megabytes, and a peer that reads slowly is not silent until then.
#[derive(Debug)]
pub struct WriteLimit {
    waited: Deadline,
    terms: Terms,
    blocked: bool,
    pace: Pace,
    written: i64,
}

impl WriteLimit {
    pub fn new(waited: Deadline, terms: Terms) -> Self {
        Self { waited, terms, blocked: false, pace: Pace::default(), written: 0 }
    }

    /// Counts what was written.
    pub fn wrote(&mut self, bytes: usize) {
        self.written = self.written.wrapping_add_unsigned(bytes as u64);
    }

    /// Whether the peer has refused data since it last took some.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Keeps the limit on a write's outcome. The peer is waited for from a refusal to the next success.
    pub fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
        peer: &impl Peer,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            if std::mem::take(&mut self.blocked) {
                self.waited.disarm();
            }
            return outcome;
        }
        if !std::mem::replace(&mut self.blocked, true) {
            self.waited.resume(self.terms.step());
        }
        let Self { waited, terms, pace, written, .. } = self;
        let taken = || written.wrapping_sub_unsigned(peer.unacknowledged().unwrap_or_default());
        let stalled = ready!(waited.poll_stalled(cx, pace, terms, taken));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, stalled)))
    }
}

#[derive(Debug)]
pub struct Timed<S> {
    stream: TokioIo<S>,
    writing: WriteLimit,
}

impl<S> Timed<S> {
    pub fn new(stream: S, waited: Deadline, terms: Terms) -> Self {
        Self { stream: TokioIo::new(stream), writing: WriteLimit::new(waited, terms) }
    }
}

impl<S: AsyncRead + Unpin> Read for Timed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Peer> Timed<S> {
    fn wrote(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.writing.wrote(bytes);
        }
        self.writing.watch(cx, outcome, self.stream.inner())
    }
}

impl<S: AsyncWrite + Peer + Unpin> Write for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        let Self { stream, writing } = &mut *self;
        writing.watch(cx, outcome, stream.inner())
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
        self.wrote(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;
    use crate::timers::with_sweep;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(16);
        let error = with_sweep(async |sweep| {
            let mut timed = Timed::new(near, sweep.deadline(), Terms::of_silence(Duration::from_millis(200)));
            loop {
                if let Err(error) = poll_fn(|cx| Pin::new(&mut timed).poll_write(cx, b"0123456789")).await {
                    return error;
                }
            }
        })
        .await;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
