//! The one body of the proxy, for requests and responses alike, over the few sources there are.
//!
//! A body counts what passes, keeps its size limit and its limit of silence, and carries what must end
//! with it: the connection and the in-flight count of the source, the log entry of the receiver. It never
//! decides what a failure means.

mod gather;
mod growing;
mod paced;
mod payload;
mod read_ahead;
mod recoded;
mod source;

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

pub use self::gather::{Gathered, gather};
pub use self::growing::{Demand, Growing, Reader};
pub use self::paced::{Paced, Taking};
pub use self::payload::Payload;
use self::read_ahead::Ahead;
pub use self::read_ahead::ReadAhead;
pub use self::recoded::Codec;
use self::recoded::Recoded;
pub use self::source::{Arrival, Source};
use crate::pace::Stalled;
use crate::splice::Pipe;

/// How a body ended.
#[derive(Debug)]
pub enum End<'a> {
    /// Its last frame was passed on.
    Complete,
    /// Its source failed.
    Failed(&'a BodyError),
    /// Its receiver let go of it.
    Abandoned,
    /// Its receiver took nothing, or too little.
    Stalled(Stalled),
}

/// Something that ends when its body does, which is told once.
pub trait Guard: Send {
    /// These fields come after the content.
    fn trailers(&mut self, _fields: &HeaderMap) {}

    fn ended(self: Box<Self>, passed: u64, end: End<'_>);
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("too many fields come after the body")]
    TrailersTooLarge,
    #[error("the peer sent nothing for {0:?}")]
    Silence(Duration),
    #[error("the peer sends too slowly")]
    TooSlow,
    #[error("the body ended early: {0}")]
    Peer(#[source] Arc<dyn std::error::Error + Send + Sync>),
    #[error("no more of the body is wanted")]
    Stopped,
    /// Others read the same body faster than its reader, and it is not kept.
    #[error("the reader fell behind the others")]
    FellBehind,
    /// Of a response, whose request could not be sent to its end.
    #[error("the request's body failed: {0}")]
    Upload(#[source] Arc<BodyError>),
    #[error("the content cannot be coded or decoded: {0}")]
    Coding(#[source] Arc<std::io::Error>),
}

pub struct Body {
    kind: Kind,
    guard: Option<Box<dyn Guard>>,
    passed: u64,
    /// Held back for a turn.
    failure: Option<BodyError>,
    /// Told whether its source is what is waited for; None if nobody asks.
    awaited: Option<Arc<AtomicBool>>,
}

enum Kind {
    Empty,
    Whole(Bytes),
    Peer(Source),
    Buffered(Box<Buffered>),
    /// Read ahead while its client falls behind.
    Ahead(Ahead),
    /// Received once, for many.
    Growing(Reader),
    Recoded(Box<Recoded>),
}

/// What was buffered, and the rest if there is one.
struct Buffered {
    chunks: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    rest: Option<Body>,
}

impl Body {
    pub fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(if bytes.is_empty() { Kind::Empty } else { Kind::Whole(bytes) })
    }

    /// Nothing but trailers.
    pub fn trailing(trailers: HeaderMap) -> Self {
        Self::buffered(VecDeque::new(), Some(trailers), None)
    }

    /// The same body, with what was read of it put back.
    pub fn preceded(self, read: Bytes) -> Self {
        debug_assert!(self.guard.is_none(), "nobody is told of it yet");
        if read.is_empty() {
            return self;
        }
        let rest = (!self.is_end_stream()).then_some(self);
        match rest {
            None => Self::whole(read),
            rest => Self::buffered([read].into(), None, rest),
        }
    }

    /// What `codec` makes of a body; `read` has been read of it already.
    pub fn recoded(self, read: Bytes, codec: Box<dyn Codec>) -> Self {
        Self::of(Kind::Recoded(Box::new(Recoded::new(self, read, codec))))
    }

    fn buffered(chunks: VecDeque<Bytes>, trailers: Option<HeaderMap>, rest: Option<Self>) -> Self {
        Self::of(Kind::Buffered(Box::new(Buffered { chunks, trailers, rest })))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, guard: None, passed: 0, failure: None, awaited: None }
    }

    /// Lets `guard` end with the delivery of this body; a body has one such guard.
    pub fn end_with(&mut self, guard: Box<dyn Guard>) {
        debug_assert!(self.guard.is_none(), "a body is delivered once");
        self.guard = Some(guard);
    }

    /// Lets go of it, even if all of it was taken: it did not arrive.
    pub fn abandon(mut self) {
        self.end(End::Abandoned);
    }

    /// Pieces that are at hand.
    pub fn pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut chunks: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        match chunks.len() {
            0 | 1 => Self::whole(chunks.pop_front().unwrap_or_default()),
            _ => Self::buffered(chunks, None, None),
        }
    }

    pub fn reading(reader: Reader) -> Self {
        Self::of(Kind::Growing(reader))
    }

    /// All of it, if it is at hand in one piece and nobody is told how it ends. It is empty then.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        if self.guard.is_some() {
            return None;
        }
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Empty => Some(Bytes::new()),
            Kind::Whole(bytes) => Some(bytes),
            other => {
                self.kind = other;
                None
            }
        }
    }

    /// The same body once more, if all of it is at hand.
    fn replay(&self) -> Option<Self> {
        match &self.kind {
            Kind::Empty => Some(Self::empty()),
            Kind::Whole(bytes) => Some(Self::whole(bytes.clone())),
            Kind::Buffered(buffered) if buffered.rest.is_none() => {
                Some(Self::buffered(buffered.chunks.clone(), buffered.trailers.clone(), None))
            }
            Kind::Buffered(_) | Kind::Peer(_) | Kind::Ahead(_) | Kind::Growing(_) | Kind::Recoded(_) => None,
        }
    }

    /// Whether the same body can be had once more.
    fn is_at_hand(&self) -> bool {
        match &self.kind {
            Kind::Empty | Kind::Whole(_) => true,
            Kind::Buffered(buffered) => buffered.rest.is_none(),
            Kind::Peer(_) | Kind::Ahead(_) | Kind::Growing(_) | Kind::Recoded(_) => false,
        }
    }

    /// Whether trailers are known to come after the last byte.
    pub fn has_trailers(&self) -> bool {
        matches!(&self.kind, Kind::Buffered(buffered) if buffered.trailers.is_some())
    }

    /// Whether its content may come straight from an endpoint.
    pub fn may_splice(&self) -> bool {
        matches!(self.kind, Kind::Ahead(_))
    }

    /// Moves content that nobody has seen into `pipe`, which is empty; false if what comes next is to be had as a frame.
    pub fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<bool> {
        let Kind::Ahead(ahead) = &self.kind else { return Poll::Ready(false) };
        let moved = ready!(ahead.poll_splice(cx, pipe));
        self.passed += pipe.held() as u64;
        Poll::Ready(moved)
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
            Kind::Growing(reader) => reader.poll_data(cx).map_ok(Frame::data),
            Kind::Recoded(recoded) => recoded.poll_frame(cx),
            Kind::Buffered(buffered) => match (buffered.chunks.pop_front(), &mut buffered.rest) {
                (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                (None, Some(rest)) => Pin::new(rest).poll_frame(cx),
                (None, None) => Poll::Ready(buffered.trailers.take().map(|fields| Ok(Frame::trailers(fields)))),
            },
        }
    }

    fn poll_noted(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_source(cx);
        if let Some(awaited) = &self.awaited {
            awaited.store(polled.is_pending(), Ordering::Relaxed);
        }
        polled
    }

    fn end(&mut self, end: End<'_>) {
        if let Some(guard) = self.guard.take() {
            guard.ended(self.passed, end);
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(error) = self.failure.take() {
            return self.end(End::Failed(&error));
        }
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
        let frame = match self.failure.take() {
            Some(error) => Some(Err(error)),
            None => match ready!(self.poll_noted(cx)) {
                // hyper drops what it has not written when it is told, and the peer would not see even the head.
                Some(Err(error)) => {
                    self.failure = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                frame => frame,
            },
        };
        match &frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) => self.passed += data.len() as u64,
                None => {
                    if let (Some(guard), Some(fields)) = (&mut self.guard, frame.trailers_ref()) {
                        guard.trailers(fields);
                    }
                }
            },
            Some(Err(error)) => self.end(End::Failed(error)),
            None => self.end(End::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        match &self.kind {
            Kind::Empty => true,
            Kind::Whole(_) => false,
            Kind::Peer(source) => source.is_end_stream(),
            Kind::Ahead(ahead) => ahead.is_end_stream(),
            Kind::Growing(reader) => reader.is_end(),
            Kind::Recoded(recoded) => recoded.is_end_stream(),
            Kind::Buffered(buffered) => {
                let Buffered { chunks, trailers, rest } = &**buffered;
                chunks.is_empty() && trailers.is_none() && rest.as_ref().is_none_or(Self::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.kind {
            Kind::Empty => Some(0),
            Kind::Whole(bytes) => Some(bytes.len() as u64),
            Kind::Peer(source) => source.size_hint().exact(),
            Kind::Ahead(ahead) => ahead.size_hint().exact(),
            Kind::Growing(reader) => reader.size_hint().exact(),
            // It shows at its end.
            Kind::Recoded(_) => None,
            Kind::Buffered(buffered) => match &**buffered {
                // HTTP/1.1 sends trailers after chunks alone.
                Buffered { trailers: Some(_), .. } => None,
                Buffered { chunks, rest, .. } => {
                    let ahead: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
                    match rest {
                        None => Some(ahead),
                        Some(rest) => rest.size_hint().exact().map(|left| ahead + left),
                    }
                }
            },
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("passed", &self.passed).field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
