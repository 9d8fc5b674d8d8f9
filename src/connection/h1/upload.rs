//! The body of a request between the connection, which reads it, and whoever takes it.
//!
//! There is one piece of it at a time: the next is read from the socket when somebody has asked for it, so that a
//! client is not faster than what it uploads to.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::head;
use crate::body::{Arrival, BodyError};
use crate::guard::{Body, Reason, Violation};
use crate::lock::lock;

/// The connection's side.
#[derive(Debug)]
pub struct Upload(Arc<Shared>);

/// The side of who takes it.
struct Arriving(Arc<Shared>);

#[derive(Debug)]
struct Shared(Mutex<State>);

/// What is known of the body, and who waits.
#[derive(Debug, Default)]
pub struct State {
    data: Option<Bytes>,
    /// Data that was not taken yet, if that is known.
    left: Option<u64>,
    trailer_section: BytesMut,
    trailers: Option<HeaderMap>,
    failure: Option<BodyError>,
    has_ended: bool,
    /// Set while the next piece is asked for.
    reader: Option<Waker>,
    connection: Option<Waker>,
}

impl Upload {
    pub fn new(body: Body) -> Self {
        let left = match body {
            Body::Length(length) => Some(length),
            Body::Chunked => None,
        };
        Self(Arc::new(Shared(Mutex::new(State { left, ..State::default() }))))
    }

    pub fn arrival(&self) -> Box<dyn Arrival> {
        Box::new(Arriving(Arc::clone(&self.0)))
    }

    /// The state, if somebody asks for more of the body. In any case the task of `cx` is woken when somebody does.
    pub fn wanted(&self, cx: &Context<'_>) -> Option<MutexGuard<'_, State>> {
        let mut state = self.0.lock();
        if state.reader.is_some() {
            return Some(state);
        }
        if !state.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.connection = Some(cx.waker().clone());
        }
        None
    }

    /// Whether all of it has come.
    pub fn has_ended(&self) -> bool {
        self.0.lock().has_ended
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl State {
    pub fn has_data(&self) -> bool {
        self.data.is_some()
    }

    pub fn put(&mut self, data: Bytes) {
        self.data = Some(data);
    }

    pub fn put_trailers(&mut self, section: &[u8]) {
        self.trailer_section.extend_from_slice(section);
    }

    /// All of it has come.
    pub fn finish(&mut self) {
        let section = std::mem::take(&mut self.trailer_section).freeze();
        if !section.is_empty() {
            match head::trailers(&section) {
                Some(fields) => self.trailers = Some(fields).filter(|fields| !fields.is_empty()),
                None => return self.fail(BodyError::Peer(Arc::new(Violation(Reason::BadTrailer)))),
            }
        }
        self.has_ended = true;
    }

    /// No more will come.
    pub fn fail(&mut self, error: BodyError) {
        self.failure = Some(error);
    }

    pub fn cut_short(&mut self) {
        self.fail(BodyError::Peer(Arc::new(io::Error::from(io::ErrorKind::UnexpectedEof))));
    }

    /// Tells the reader, unless it is in the task of `cx`, which asks it again by itself.
    pub fn wake_reader(&mut self, cx: &Context<'_>) {
        if let Some(reader) = self.reader.take()
            && !reader.will_wake(cx.waker())
        {
            reader.wake();
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(data) = self.data.take() {
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(fields) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(fields))));
        }
        if let Some(error) = self.failure.take() {
            self.has_ended = true;
            return Poll::Ready(Some(Err(error)));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        self.reader = Some(cx.waker().clone());
        // While the connection is what is polling, it looks by itself.
        if let Some(connection) = self.connection.take_if(|connection| !connection.will_wake(cx.waker())) {
            connection.wake();
        }
        Poll::Pending
    }
}

impl Arrival for Arriving {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.lock().poll_frame(cx)
    }

    fn has_ended(&self) -> bool {
        let state = self.0.lock();
        state.has_ended && state.data.is_none() && state.trailers.is_none() && state.failure.is_none()
    }

    fn is_uploading(&self) -> bool {
        false
    }

    fn poll_upload(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(Ok(()))
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn complete(self: Box<Self>) {}
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.reader = None;
        state.data = None;
    }
}
