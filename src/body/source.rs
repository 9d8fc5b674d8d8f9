//! A body as a peer sends it: counted, limited in size and in silence, with the guard of who sends it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::read_ahead::ReadAhead;
use super::{Body, BodyError, End, Guard, Kind};
use crate::header::trailers;
use crate::pace::{Pace, Stalled, Terms};
use crate::splice::Pipe;
use crate::timers::Deadline;

/// Of a body that nobody wants any more, over HTTP/2.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(5);
/// What came in pieces and is no more than this goes on as one.
const JOINED_BYTES_MAX: usize = 64 * 1024;

/// Takes and drops a bounded part of a body over HTTP/2 after its final answer. Resetting the stream at once is
/// allowed (RFC 9113 §8.1), but many a client takes it for a failure before it has looked at the answer.
fn linger(mut unread: Incoming) {
    let discard = async move {
        let mut discarded = 0;
        while discarded < LINGER_BYTES_MAX {
            match poll_fn(|cx| Pin::new(&mut unread).poll_frame(cx)).await {
                Some(Ok(frame)) => discarded += frame.data_ref().map_or(0, Bytes::len),
                None | Some(Err(_)) => return,
            }
        }
    };
    tokio::task::spawn_local(tokio::time::timeout(LINGER, discard));
}

/// A body as a codec of our own receives it.
pub trait Arrival: Send {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;
    /// Moves data into `pipe`, which is empty, and says so; false if what comes next can only be had as a frame.
    fn poll_splice(&mut self, _cx: &mut Context<'_>, _pipe: &mut Pipe) -> Poll<Result<bool, BodyError>> {
        Poll::Ready(Ok(false))
    }
    fn has_ended(&self) -> bool;
    /// Whether the request is still being sent beside it.
    fn is_uploading(&self) -> bool;
    /// Sends on what can be sent, while nothing is received; ready when that is over.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>>;
    fn size_hint(&self) -> SizeHint;
    /// Called when it has been received to its end.
    fn complete(self: Box<Self>);
}

enum Wire {
    Hyper(Incoming),
    Own(Box<dyn Arrival>),
    Ended,
}

/// A body as a peer sends it.
pub struct Source {
    wire: Wire,
    silence: Option<Silence>,
    bytes_max: u64,
    trailers_max: usize,
    received: u64,
    /// A body that is found too large is taken on for a while.
    lingers: bool,
    guard: Option<Box<dyn Guard>>,
}

struct Silence {
    deadline: Deadline,
    limit: Duration,
    waiting: bool,
    /// None: any byte is enough.
    rate: Option<Rate>,
}

struct Rate {
    terms: Terms,
    pace: Pace,
    /// Set when the answer begins. The body may be one side of a dialogue from then on, which has its pauses.
    is_lifted: Arc<AtomicBool>,
}

impl Silence {
    /// Ready when a peer that has sent so many bytes is given up.
    fn poll_expired(&mut self, cx: &mut Context<'_>, received: u64) -> Poll<BodyError> {
        let Self { deadline, limit, waiting, rate } = self;
        let has_begun = !std::mem::replace(waiting, true);
        let Some(Rate { terms, pace, is_lifted }) = rate else {
            if has_begun {
                deadline.arm(*limit);
            }
            ready!(deadline.poll_expired(cx));
            return Poll::Ready(BodyError::Silence(*limit));
        };
        if has_begun {
            deadline.resume(terms.step());
        }
        let rate_min = if is_lifted.load(Ordering::Relaxed) { 0 } else { terms.rate_min };
        let received = || i64::try_from(received).unwrap_or(i64::MAX);
        Poll::Ready(match ready!(deadline.poll_stalled(cx, pace, &Terms { rate_min, ..*terms }, received)) {
            Stalled::Silent => BodyError::Silence(*limit),
            Stalled::TooSlow => BodyError::TooSlow,
        })
    }
}

impl Source {
    /// Over HTTP/2.
    pub fn incoming(incoming: Incoming) -> Self {
        Self::of(Wire::Hyper(incoming))
    }

    pub fn arriving(arrival: Box<dyn Arrival>) -> Self {
        Self::of(Wire::Own(arrival))
    }

    fn of(wire: Wire) -> Self {
        Self {
            wire,
            silence: None,
            bytes_max: u64::MAX,
            trailers_max: usize::MAX,
            received: 0,
            lingers: false,
            guard: None,
        }
    }

    /// Lets no larger body through.
    pub fn at_most(mut self, bytes_max: u64) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Lets no more fields come after it.
    pub fn trailers_at_most(mut self, fields_max: usize) -> Self {
        self.trailers_max = fields_max;
        self
    }

    /// Over HTTP/2 there is no end but a reset for a body that is too large, so that one lingers.
    pub fn lingering(mut self) -> Self {
        self.lingers = true;
        self
    }

    /// Gives up when the peer is silent for `limit` while it is being waited for.
    pub fn silent_at_most(mut self, deadline: Deadline, limit: Duration) -> Self {
        deadline.disarm();
        self.silence = Some(Silence { deadline, limit, waiting: false, rate: None });
        self
    }

    /// Gives up when the peer is silent, or too slow, while it is being waited for. The rate is lifted later on.
    pub fn paced(mut self, deadline: Deadline, terms: Terms, is_lifted: Arc<AtomicBool>) -> Self {
        let rate = Some(Rate { terms, pace: Pace::default(), is_lifted });
        self.silence = Some(Silence { deadline, limit: terms.silence, waiting: false, rate });
        self
    }

    /// Lets `guard` end with the last frame that the peer sends.
    pub fn guarded(mut self, guard: Box<dyn Guard>) -> Self {
        self.guard = Some(guard);
        self.release_at_end();
        self
    }

    /// Ends it in the way that its peer takes best, when nobody wants it.
    pub fn linger(mut self) {
        if let Wire::Hyper(incoming) = std::mem::replace(&mut self.wire, Wire::Ended) {
            linger(incoming);
        }
    }

    pub fn into_body(self) -> Body {
        Body::of(if self.has_ended() { Kind::Empty } else { Kind::Peer(self) })
    }

    fn has_ended(&self) -> bool {
        self.guard.is_none() && self.is_end_stream()
    }

    /// A body that is read ahead for a client that falls behind.
    pub fn into_body_ahead(self, ahead: &ReadAhead, buffered_max: usize) -> Body {
        Body::of(if self.has_ended() { Kind::Empty } else { Kind::Ahead(ahead.watch(self, buffered_max)) })
    }

    /// Reads until the body ends or `ahead` bytes are at hand, so that the other side is not held meanwhile.
    pub async fn buffer(mut self, ahead: usize) -> Result<Body, BodyError> {
        let mut chunks = VecDeque::new();
        let mut buffered = 0;
        while buffered < ahead && !self.is_end_stream() {
            let Some(frame) = poll_fn(|cx| self.poll_frame(cx)).await else {
                return Ok(Body::buffered(chunks, None, None));
            };
            match frame?.into_data() {
                Ok(data) => {
                    buffered += data.len();
                    chunks.push_back(data);
                }
                Err(last) => {
                    let trailers = last.into_trailers().ok().filter(|fields| !fields.is_empty());
                    return Ok(Body::buffered(chunks, trailers, None));
                }
            }
        }
        let rest = (!self.is_end_stream()).then(|| self.into_body());
        Ok(match (chunks.len(), rest) {
            (0, None) => Body::empty(),
            (1, None) => Body::whole(chunks.pop_front().unwrap_or_default()),
            // Another write for each piece would cost more than to copy them.
            (_, None) if buffered <= JOINED_BYTES_MAX => Body::whole(joined(chunks, buffered)),
            (_, rest) => Body::buffered(chunks, None, rest),
        })
    }

    pub fn is_end_stream(&self) -> bool {
        match &self.wire {
            Wire::Hyper(incoming) => incoming.is_end_stream(),
            Wire::Own(arrival) => arrival.has_ended(),
            Wire::Ended => true,
        }
    }

    pub fn size_hint(&self) -> SizeHint {
        match &self.wire {
            Wire::Hyper(incoming) => incoming.size_hint(),
            Wire::Own(arrival) => arrival.size_hint(),
            Wire::Ended => SizeHint::with_exact(0),
        }
    }

    pub fn is_uploading(&self) -> bool {
        matches!(&self.wire, Wire::Own(arrival) if arrival.is_uploading())
    }

    pub fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match &mut self.wire {
            Wire::Own(arrival) => arrival.poll_upload(cx),
            Wire::Hyper(_) | Wire::Ended => Poll::Ready(Ok(())),
        }
    }

    fn poll_wire(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.wire {
            Wire::Hyper(incoming) => Poll::Ready(match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                // hyper takes a reset by NO_ERROR for an end. It may follow one, and is none (RFC 9113 §8.1).
                None if !incoming.is_end_stream() => {
                    Some(Err(BodyError::Peer(Arc::new(io::Error::from(io::ErrorKind::UnexpectedEof)))))
                }
                frame => frame.map(|frame| frame.map_err(|error| BodyError::Peer(Arc::new(error)))),
            }),
            Wire::Own(arrival) => arrival.poll_frame(cx),
            Wire::Ended => Poll::Ready(None),
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_wire(cx);
        if polled.is_pending() {
            return self.poll_silence(cx).map(|silence| Some(Err(silence)));
        }
        self.end_silence();
        let frame = match ready!(polled) {
            None => {
                self.end(End::Complete);
                return Poll::Ready(None);
            }
            Some(Ok(frame)) => self.accept(frame),
            Some(Err(error)) => Err(error),
        };
        match &frame {
            // Nothing comes after trailers.
            Ok(frame) if frame.is_trailers() => self.end(End::Complete),
            Ok(_) => self.release_at_end(),
            Err(error) => self.end(End::Failed(error)),
        }
        Poll::Ready(Some(frame))
    }

    /// Moves data into `pipe`, which is empty; false if what comes next is to be had as a frame.
    pub fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<bool, BodyError>> {
        let Wire::Own(arrival) = &mut self.wire else { return Poll::Ready(Ok(false)) };
        let Poll::Ready(moved) = arrival.poll_splice(cx, pipe) else {
            return self.poll_silence(cx).map(Err);
        };
        match &moved {
            // The wait goes on, for a frame.
            Ok(false) => {}
            Ok(true) => {
                self.end_silence();
                self.received += pipe.held() as u64;
                self.release_at_end();
            }
            Err(error) => self.end(End::Failed(error)),
        }
        Poll::Ready(moved)
    }

    fn end_silence(&mut self) {
        if let Some(silence) = &mut self.silence
            && std::mem::take(&mut silence.waiting)
        {
            silence.deadline.disarm();
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(silence) = &mut self.silence else { return Poll::Pending };
        let error = ready!(silence.poll_expired(cx, self.received));
        self.end(End::Failed(&error));
        Poll::Ready(error)
    }

    fn accept(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        match frame.into_data() {
            Ok(data) => {
                self.received += data.len() as u64;
                if self.received > self.bytes_max {
                    if self.lingers
                        && let Wire::Hyper(incoming) = std::mem::replace(&mut self.wire, Wire::Ended)
                    {
                        linger(incoming);
                    }
                    return Err(BodyError::TooLarge { limit: self.bytes_max });
                }
                Ok(Frame::data(data))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(fields) if fields.len() > self.trailers_max => Err(BodyError::TrailersTooLarge),
                Ok(mut fields) => {
                    trailers::filter(&mut fields);
                    Ok(Frame::trailers(fields))
                }
                Err(frame) => Ok(frame),
            },
        }
    }

    /// The source is done with its last frame, not with the poll that finds nothing after it.
    fn release_at_end(&mut self) {
        if self.is_end_stream() {
            self.end(End::Complete);
        }
    }

    fn end(&mut self, end: End<'_>) {
        // A connection that has brought everything is free; any other is closed by being dropped.
        if matches!((&self.wire, &end), (Wire::Own(_), End::Complete))
            && let Wire::Own(arrival) = std::mem::replace(&mut self.wire, Wire::Ended)
        {
            arrival.complete();
        }
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

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("received", &self.received).finish_non_exhaustive()
    }
}

fn joined(pieces: VecDeque<Bytes>, length: usize) -> Bytes {
    let mut all = BytesMut::with_capacity(length);
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}
