//! The one body of the proxy, for requests and responses alike, over the few sources there are.
//!
//! A body counts what passes, keeps its size limit and its limit of silence, and carries what must end
//! with it: the connection and the in-flight count of the source, the log entry of the receiver. It never
//! decides what a failure means.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::header::trailers;
use crate::read_ahead::{Ahead, ReadAhead};
use crate::timers::Deadline;

/// How a body ended.
#[derive(Debug)]
pub enum End<'a> {
    /// Its last frame was passed on.
    Complete,
    /// Its source failed.
    Failed(&'a BodyError),
    /// Its receiver let go of it.
    Abandoned,
}

/// Something that ends when its body does; called once.
pub trait Guard: Send {
    fn ended(self: Box<Self>, passed: u64, end: End<'_>);
}

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the peer sent nothing for {0:?}")]
    Silence(Duration),
    #[error("the body ended early: {0}")]
    Peer(#[source] hyper::Error),
}

pub struct Body {
    kind: Kind,
    guard: Option<Box<dyn Guard>>,
    passed: u64,
}

enum Kind {
    Empty,
    Whole(Bytes),
    Peer(Source),
    /// What was buffered, and the rest if there is one.
    Buffered(VecDeque<Bytes>, Option<Source>),
    /// Read ahead while its client falls behind.
    Ahead(Ahead),
}

/// A body as a peer sends it.
pub struct Source {
    incoming: Incoming,
    silence: Option<Silence>,
    bytes_max: u64,
    received: u64,
    guard: Option<Box<dyn Guard>>,
}

struct Silence {
    deadline: Deadline,
    limit: Duration,
    waiting: bool,
}

impl Body {
    pub fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(if bytes.is_empty() { Kind::Empty } else { Kind::Whole(bytes) })
    }

    fn of(kind: Kind) -> Self {
        Self { kind, guard: None, passed: 0 }
    }

    /// Lets `guard` end with the delivery of this body; a body has one such guard.
    pub fn guarded(mut self, guard: Box<dyn Guard>) -> Self {
        debug_assert!(self.guard.is_none(), "a body is delivered once");
        self.guard = Some(guard);
        self
    }

    /// The same body once more, if all of it is at hand.
    pub fn replay(&self) -> Option<Self> {
        match &self.kind {
            Kind::Empty => Some(Self::empty()),
            Kind::Whole(bytes) => Some(Self::whole(bytes.clone())),
            Kind::Buffered(chunks, None) => Some(Self::of(Kind::Buffered(chunks.clone(), None))),
            Kind::Buffered(_, Some(_)) | Kind::Peer(_) | Kind::Ahead(_) => None,
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Peer(source) => source.poll_frame(cx),
            Kind::Ahead(ahead) => ahead.poll_frame(cx),
            Kind::Buffered(chunks, rest) => match (chunks.pop_front(), rest) {
                (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                (None, Some(source)) => source.poll_frame(cx),
                (None, None) => Poll::Ready(None),
            },
        }
    }

    fn end(&mut self, end: End<'_>) {
        if let Some(guard) = self.guard.take() {
            guard.ended(self.passed, end);
        }
    }
}

impl Source {
    /// `bytes_max` is the largest body that is let through.
    pub fn new(incoming: Incoming, bytes_max: u64) -> Self {
        Self { incoming, silence: None, bytes_max, received: 0, guard: None }
    }

    /// Gives up when the peer is silent for `limit` while it is being waited for.
    pub fn silent_at_most(mut self, deadline: Deadline, limit: Duration) -> Self {
        deadline.disarm();
        self.silence = Some(Silence { deadline, limit, waiting: false });
        self
    }

    /// Lets `guard` end with the last frame that the peer sends.
    pub fn guarded(mut self, guard: Box<dyn Guard>) -> Self {
        self.guard = Some(guard);
        self.release_at_end();
        self
    }

    pub fn into_body(self) -> Body {
        Body::of(if self.has_ended() { Kind::Empty } else { Kind::Peer(self) })
    }

    fn has_ended(&self) -> bool {
        self.guard.is_none() && self.incoming.is_end_stream()
    }

    /// A body that is read ahead for a client that falls behind.
    pub fn into_body_ahead(self, ahead: &ReadAhead, buffered_max: usize) -> Body {
        Body::of(if self.has_ended() { Kind::Empty } else { Kind::Ahead(ahead.watch(self, buffered_max)) })
    }

    /// Reads until the body ends or `ahead` bytes are at hand, so that the other side is not held meanwhile.
    pub async fn buffer(mut self, ahead: usize) -> Result<Body, BodyError> {
        let mut chunks = VecDeque::new();
        let mut buffered = 0;
        while buffered < ahead && !self.incoming.is_end_stream() {
            let Some(frame) = std::future::poll_fn(|cx| self.poll_frame(cx)).await else {
                return Ok(Body::of(Kind::Buffered(chunks, None)));
            };
            match frame?.into_data() {
                Ok(data) => {
                    buffered += data.len();
                    chunks.push_back(data);
                }
                // Trailers of a request that is buffered whole carry nothing an endpoint waits for.
                Err(_trailers) => break,
            }
        }
        let rest = (!self.incoming.is_end_stream()).then_some(self);
        Ok(match (chunks.len(), rest) {
            (0, None) => Body::empty(),
            (1, None) => Body::whole(chunks.pop_front().unwrap_or_default()),
            (_, rest) => Body::of(Kind::Buffered(chunks, rest)),
        })
    }

    pub fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending() {
            return self.poll_silence(cx);
        }
        if let Some(silence) = &mut self.silence
            && std::mem::take(&mut silence.waiting)
        {
            silence.deadline.disarm();
        }
        let frame = match ready!(polled) {
            None => {
                self.end(End::Complete);
                return Poll::Ready(None);
            }
            Some(Ok(frame)) => self.accept(frame),
            Some(Err(error)) => Err(BodyError::Peer(error)),
        };
        match &frame {
            Ok(_) => self.release_at_end(),
            Err(error) => self.end(End::Failed(error)),
        }
        Poll::Ready(Some(frame))
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(silence) = &mut self.silence else { return Poll::Pending };
        if !std::mem::replace(&mut silence.waiting, true) {
            silence.deadline.arm(silence.limit);
        }
        ready!(silence.deadline.poll_expired(cx));
        let error = BodyError::Silence(silence.limit);
        self.end(End::Failed(&error));
        Poll::Ready(Some(Err(error)))
    }

    fn accept(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        match frame.into_data() {
            Ok(data) => {
                self.received += data.len() as u64;
                if self.received > self.bytes_max {
                    return Err(BodyError::TooLarge { limit: self.bytes_max });
                }
                Ok(Frame::data(data))
            }
            Err(frame) => Ok(match frame.into_trailers() {
                Ok(mut fields) => {
                    trailers::filter(&mut fields);
                    Frame::trailers(fields)
                }
                Err(frame) => frame,
            }),
        }
    }

    /// The source is done with its last frame, not with the poll that finds nothing after it.
    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.end(End::Complete);
        }
    }

    fn end(&mut self, end: End<'_>) {
        if let Some(guard) = self.guard.take() {
            guard.ended(self.received, end);
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.end(End::Abandoned);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let end = if self.is_end_stream() { End::Complete } else { End::Abandoned };
        self.end(end);
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(self.poll_source(cx));
        match &frame {
            Some(Ok(frame)) => self.passed += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(error)) => self.end(End::Failed(error)),
            None => self.end(End::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Whole(_) => false,
            Kind::Peer(source) => source.is_end_stream(),
            Kind::Ahead(ahead) => ahead.is_end_stream(),
            Kind::Buffered(chunks, rest) => chunks.is_empty() && rest.as_ref().is_none_or(Source::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Peer(source) => source.size_hint(),
            Kind::Ahead(ahead) => ahead.size_hint(),
            Kind::Buffered(chunks, rest) => {
                let ahead: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
                match rest.as_ref().map(|source| source.size_hint().exact()) {
                    None => SizeHint::with_exact(ahead),
                    Some(Some(left)) => SizeHint::with_exact(ahead + left),
                    Some(None) => SizeHint::default(),
                }
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("received", &self.received).finish_non_exhaustive()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("passed", &self.passed).field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
