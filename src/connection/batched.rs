//! What the codec of HTTP/2 writes in one turn of its connection, in as few writes as may be.
//!
//! The codec writes and flushes at the end of each body, which would be a record of TLS and a system call for each
//! response. Here its bytes are gathered, and flushing is nothing: who serves the connection sends them when the codec
//! has had its turn. Between two turns nothing is held that the peer would take.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::spare;

/// Two records of TLS. What is more is sent before the turn ends.
const BYTES_MAX: usize = 32 * 1024;

/// A stream whose writes are gathered. Clones are the same stream.
pub struct Batched<S>(Rc<RefCell<Batch<S>>>);

struct Batch<S> {
    stream: S,
    /// Written by the codec, and not yet to the stream.
    bytes: BytesMut,
    needs_flush: bool,
}

impl<S> Batched<S> {
    pub fn new(stream: S) -> Self {
        Self(Rc::new(RefCell::new(Batch { stream, bytes: BytesMut::new(), needs_flush: false })))
    }
}

impl<S> Clone for Batched<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: Write + Unpin> Batched<S> {
    /// Sends what was gathered; ready when all of it is sent.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }
}

impl<S: Write + Unpin> Batch<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes.advance(written);
            self.needs_flush = true;
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.needs_flush = false;
            spare::keep_buffer(std::mem::take(&mut self.bytes));
        }
        Poll::Ready(Ok(()))
    }

    fn room(&self) -> usize {
        BYTES_MAX.saturating_sub(self.bytes.len())
    }

    fn poll_put(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.room() == 0 {
            ready!(self.poll_send(cx))?;
        }
        if self.bytes.capacity() == 0 {
            self.bytes = spare::buffer();
            self.bytes.reserve(BYTES_MAX);
        }
        let before = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part.get(..part.len().min(self.room())).unwrap_or_default());
        }
        Poll::Ready(Ok(self.bytes.len() - before))
    }
}

impl<S: Read + Unpin> Read for Batched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl<S: Write + Unpin> Write for Batched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_put(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_put(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut batch = self.0.borrow_mut();
        ready!(batch.poll_send(cx))?;
        Pin::new(&mut batch.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes until it is told to take more.
    #[derive(Default)]
    struct Peer {
        takes: usize,
        taken: Vec<u8>,
        writes: usize,
        flushed: usize,
        is_shut: bool,
    }

    impl Write for Peer {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let length = bytes.len().min(self.takes);
            if length == 0 {
                return Poll::Pending;
            }
            self.takes -= length;
            self.writes += 1;
            self.taken.extend_from_slice(&bytes[..length]);
            Poll::Ready(Ok(length))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed = self.taken.len();
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    fn batched(takes: usize) -> Batched<Peer> {
        Batched::new(Peer { takes, ..Peer::default() })
    }

    /// Writes as the codec does; says how much was taken.
    fn write(codec: &mut Batched<Peer>, parts: &[&[u8]]) -> Poll<usize> {
        let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut cx = Context::from_waker(Waker::noop());
        let written = Pin::new(&mut *codec).poll_write_vectored(&mut cx, &parts).map(Result::unwrap);
        assert!(Pin::new(codec).poll_flush(&mut cx).is_ready());
        written
    }

    fn send(codec: &Batched<Peer>) -> Poll<()> {
        codec.poll_send(&mut Context::from_waker(Waker::noop())).map(Result::unwrap)
    }

    #[test]
    fn what_is_written_in_a_turn_is_one_write() {
        let mut codec = batched(usize::MAX);
        for _ in 0..16 {
            assert_eq!(write(&mut codec, &[b"head", &[b'x'; 1000]]), Poll::Ready(1004));
        }
        assert_eq!(codec.0.borrow().stream.writes, 0);
        assert_eq!(send(&codec), Poll::Ready(()));
        assert_eq!(send(&codec), Poll::Ready(()));
        let Peer { taken, writes, flushed, .. } = &codec.0.borrow().stream;
        assert_eq!((taken.len(), *writes, *flushed), (16 * 1004, 1, 16 * 1004));
    }

    #[test]
    fn much_is_sent_in_between_and_a_peer_that_takes_nothing_stops_the_codec() {
        let data: Vec<u8> = (0..BYTES_MAX * 5 / 2).map(|n| n as u8).collect();
        let mut codec = batched(0);
        let (mut at, mut turns) = (0, 0);
        while at < data.len() {
            match write(&mut codec, &[&data[at..data.len().min(at + 100)], &data[data.len().min(at + 100)..]]) {
                Poll::Ready(written) => at += written,
                Poll::Pending => {
                    assert!(at - codec.0.borrow().stream.taken.len() <= BYTES_MAX);
                    codec.0.borrow_mut().stream.takes = 1001;
                    turns += 1;
                }
            }
        }
        assert!(turns > 40, "{turns}");
        assert_eq!(send(&codec), Poll::Pending);
        codec.0.borrow_mut().stream.takes = usize::MAX;
        assert_eq!(send(&codec), Poll::Ready(()));
        assert_eq!(codec.0.borrow().stream.taken, data);
    }

    #[test]
    fn it_ends_behind_what_was_written() {
        let mut codec = batched(0);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(write(&mut codec, &[b"goaway"]), Poll::Ready(6));
        assert!(Pin::new(&mut codec).poll_shutdown(&mut cx).is_pending());
        assert!(!codec.0.borrow().stream.is_shut);
        codec.0.borrow_mut().stream.takes = 100;
        assert!(Pin::new(&mut codec).poll_shutdown(&mut cx).is_ready());
        let Peer { taken, is_shut, .. } = &codec.0.borrow().stream;
        assert_eq!((taken.as_slice(), *is_shut), (b"goaway".as_slice(), true));
    }
}
