//! A body over HTTP/2, whose client must take it at some pace.
//!
//! Over HTTP/1.1 the socket shows that a client takes nothing. A stream whose window stays shut shows it in no
//! way but that the next frame is not asked for.

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Body, BodyError, End};
use crate::pace::{Pace, Stalled, Terms};
use crate::timers::{Deadline, Sweep};

/// A frame is handed on in pieces of this size, so that a slow client makes visible progress.
const PIECE_BYTES_MAX: usize = 8 * 1024;

/// How a client takes a response: noted by the body, and judged by who drives the stream.
#[derive(Debug)]
pub struct Taking {
    sweep: Rc<Sweep>,
    /// Once a client was waited for; most responses are over before.
    waited: OnceCell<Deadline>,
    terms: Terms,
    moved: Cell<i64>,
    /// The client has been given a piece, and has not asked for the next.
    is_given: Cell<bool>,
    stalled: Cell<Option<Stalled>>,
}

impl Taking {
    pub fn new(sweep: Rc<Sweep>, terms: Terms) -> Rc<Self> {
        let (waited, moved, is_given) = (OnceCell::new(), Cell::new(0), Cell::new(false));
        Rc::new(Self { sweep, waited, terms, moved, is_given, stalled: Cell::new(None) })
    }

    fn gave(&self, bytes: usize) {
        self.moved.set(self.moved.get().saturating_add_unsigned(bytes as u64));
        self.is_given.set(true);
        if let Some(waited) = self.waited.get() {
            waited.resume(self.terms.step());
        }
    }

    fn is_asked(&self) {
        self.is_given.set(false);
        if let Some(waited) = self.waited.get() {
            waited.disarm();
        }
    }

    /// Ready when the client has stalled: then the body is to be dropped. To be asked whenever the next piece is not.
    pub async fn stalled(&self) {
        let mut pace = Pace::default();
        let stalled = poll_fn(|cx| match self.waited.get() {
            None if !self.is_given.get() => Poll::Pending,
            _ => self.waited().poll_stalled(cx, &mut pace, &self.terms, || self.moved.get()),
        });
        self.stalled.set(Some(stalled.await));
    }

    fn waited(&self) -> &Deadline {
        self.waited.get_or_init(|| {
            let waited = self.sweep.deadline();
            waited.resume(self.terms.step());
            waited
        })
    }
}

/// A body whose client is waited for from when it is given a piece until it asks for the next.
#[derive(Debug)]
pub struct Paced {
    body: Body,
    taking: Rc<Taking>,
    /// Of the last frame, what has not been handed on.
    rest: Bytes,
}

impl Paced {
    pub fn new(body: Body, taking: Rc<Taking>) -> Self {
        Self { body, taking, rest: Bytes::new() }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX));
        self.taking.gave(piece.len());
        Frame::data(piece)
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        if let Some(stalled) = self.taking.stalled.get() {
            self.body.end(End::Stalled(stalled));
        }
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        // From here on the source is what is waited for.
        self.taking.is_asked();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    self.piece()
                }
                Err(trailers) => trailers,
            })),
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.body.size_hint().exact().map(|left| left + self.rest.len() as u64);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
