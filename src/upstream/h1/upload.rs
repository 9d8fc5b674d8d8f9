//! A request on its way to the endpoint: its head, and its body as the client sends it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::head::Framing;
use crate::body::{Body, BodyError};
use crate::header::write_field;
use crate::tcp::Peer;
use crate::timed::WriteLimit;

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The fault is the client's.
    #[error(transparent)]
    Body(BodyError),
}

/// What is still to be written of a request.
pub struct Upload {
    /// A head, or what stands before the data of a chunk.
    front: Vec<u8>,
    front_sent: usize,
    data: Bytes,
    /// What stands after the data of a chunk.
    back: &'static [u8],
    has_begun: bool,
    /// None once the last byte of it is at hand.
    body: Option<Body>,
    framing: Framing,
}

impl Upload {
    /// `head` is written and says the same of the framing.
    pub fn new(head: Vec<u8>, body: Option<Body>, framing: Framing) -> Self {
        Self { front: head, front_sent: 0, data: Bytes::new(), back: &[], has_begun: false, body, framing }
    }

    /// Hands the body over after the head has gone out.
    pub fn go_on_with(&mut self, body: Body) {
        self.body = Some(body);
    }

    /// Whether a byte has been written.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The buffer, for the next head.
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.front.clear();
        self.front
    }

    /// Writes until all is written and flushed.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Peer + Unpin),
        limit: &mut WriteLimit,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            // A head and the first of its body go out together.
            let waits_for_body = self.data.is_empty() && self.back.is_empty() && self.poll_body(cx)?.is_pending();
            if !self.is_written() {
                let written = self.poll_write(cx, stream);
                let written = ready!(limit.watch(cx, written, stream))?;
                limit.wrote(written);
                self.advance(written);
            } else if waits_for_body || self.body.is_none() {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                ready!(limit.watch(cx, flushed, stream))?;
                return if waits_for_body { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
        }
    }

    /// Takes in the next frame, if there is to be one.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, UploadError> {
        let Some(body) = &mut self.body else { return Ok(Poll::Ready(())) };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return Ok(Poll::Pending) };
        let has_ended = frame.is_none() || body.is_end_stream();
        match frame.transpose().map_err(UploadError::Body)?.map(http_body::Frame::into_data) {
            Some(Ok(data)) => self.take(data),
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                self.finish(trailers.iter());
                return Ok(Poll::Ready(()));
            }
            None => {}
        }
        if has_ended {
            self.finish(std::iter::empty());
        }
        Ok(Poll::Ready(()))
    }

    fn take(&mut self, data: Bytes) {
        // A chunk without data would end the body.
        if self.framing == Framing::Chunked && !data.is_empty() {
            self.reuse_front();
            self.front.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            self.back = b"\r\n";
        }
        self.data = data;
    }

    fn finish<'a>(&mut self, trailers: impl Iterator<Item = (&'a http::HeaderName, &'a http::HeaderValue)>) {
        self.body = None;
        if self.framing != Framing::Chunked {
            return;
        }
        let mut trailers = trailers.peekable();
        if trailers.peek().is_none() {
            self.back = if self.data.is_empty() { b"0\r\n\r\n" } else { b"\r\n0\r\n\r\n" };
            return;
        }
        // Trailers come in a frame of their own, when the data before has been written.
        self.reuse_front();
        self.front.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            write_field(name, value, &mut self.front);
        }
        self.back = b"\r\n";
    }

    fn reuse_front(&mut self) {
        if self.front_sent == self.front.len() {
            self.front.clear();
            self.front_sent = 0;
        }
    }

    fn is_written(&self) -> bool {
        self.front_sent == self.front.len() && self.data.is_empty() && self.back.is_empty()
    }

    fn poll_write(&self, cx: &mut Context<'_>, stream: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<usize>> {
        let front = self.front.get(self.front_sent..).unwrap_or_default();
        let written = if self.data.is_empty() && self.back.is_empty() {
            ready!(Pin::new(stream).poll_write(cx, front))?
        } else {
            let slices = [IoSlice::new(front), IoSlice::new(&self.data), IoSlice::new(self.back)];
            ready!(Pin::new(stream).poll_write_vectored(cx, &slices))?
        };
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    fn advance(&mut self, mut written: usize) {
        self.has_begun = true;
        let front = written.min(self.front.len() - self.front_sent);
        self.front_sent += front;
        written -= front;
        let data = written.min(self.data.len());
        self.data.advance(data);
        self.back = self.back.get(written - data..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::pace::Terms;
    use crate::timers::Sweep;

    async fn check(body: Option<Body>, framing: Framing, expected: &str) {
        let sweep = Sweep::new();
        // So small that each write takes a part.
        let (mut near, mut far) = tokio::io::duplex(3);
        let mut limit = WriteLimit::new(sweep.deadline(), Terms::of_silence(Duration::from_secs(5)));
        let mut upload = Upload::new(b"head\r\n".to_vec(), body, framing);
        let write = async {
            poll_fn(|cx| upload.poll(cx, &mut near, &mut limit)).await.unwrap();
            drop(near);
        };
        let mut seen = String::new();
        let (_, read) = tokio::join!(write, far.read_to_string(&mut seen));
        read.unwrap();
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn a_body_follows_its_head() {
        check(None, Framing::None, "head\r\n").await;
        check(Some(Body::whole("hello")), Framing::Length(5), "head\r\nhello").await;
        check(Some(Body::whole("hello")), Framing::Chunked, "head\r\n5\r\nhello\r\n0\r\n\r\n").await;
        check(Some(Body::empty()), Framing::Chunked, "head\r\n0\r\n\r\n").await;
    }
}
