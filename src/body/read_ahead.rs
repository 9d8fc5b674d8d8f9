//! Takes a response off its endpoint's hands when the client is slower than the endpoint.
//!
//! As long as the client keeps up, a body is read where it is written and this costs one uncontended lock a
//! frame. Once a tick the worker looks at the bodies in progress; one that nobody has asked for a frame
//! since the last look is read ahead by a task of its own, up to a bound, until it ends or its client asks
//! again. So slow clients hold memory, which is bounded, and not an endpoint.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{BodyError, Source};
use crate::lock::lock;
use crate::splice::Pipe;

/// The bodies of one worker that may fall behind.
#[derive(Debug, Default)]
pub struct ReadAhead {
    watched: RefCell<Vec<Weak<Shared>>>,
}

/// A body that two may read: its client, and the task that reads ahead for it.
#[derive(Debug)]
pub struct Ahead(Arc<Shared>);

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    source: Option<Source>,
    frames: VecDeque<Frame<Bytes>>,
    buffered: usize,
    buffered_max: usize,
    error: Option<BodyError>,
    /// The client has asked for a frame since the last look.
    asked: bool,
    /// The client waits for a frame; it is the source that is slow.
    waiting: bool,
    /// Set while a task reads ahead.
    reader: Option<Waker>,
}

impl ReadAhead {
    /// Wraps a body whose client may be slow; at most `buffered_max` bytes, and what one read brings, are
    /// kept for it.
    pub fn watch(&self, source: Source, buffered_max: usize) -> Ahead {
        let state = State {
            source: Some(source),
            frames: VecDeque::new(),
            buffered: 0,
            buffered_max,
            error: None,
            asked: true,
            waiting: false,
            reader: None,
        };
        let shared = Arc::new(Shared(Mutex::new(state)));
        self.watched.borrow_mut().push(Arc::downgrade(&shared));
        Ahead(shared)
    }

    /// To be called once a tick, on a worker.
    pub fn look(&self) {
        self.watched.borrow_mut().retain(|body| {
            let Some(shared) = body.upgrade() else { return false };
            let mut state = shared.lock();
            if state.falls_behind() {
                // Until the task is polled, this stands for its waker.
                state.reader = Some(Waker::noop().clone());
                tokio::task::spawn_local(read_ahead(Weak::clone(body)));
            }
            true
        });
    }
}

impl Ahead {
    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.lock().poll_client(cx)
    }

    /// Moves data into `pipe`; false if what comes next is to be had as a frame.
    pub fn poll_splice(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<bool> {
        self.0.lock().poll_splice(cx, pipe)
    }

    pub fn is_end_stream(&self) -> bool {
        let state = self.0.lock();
        let source_ended = state.source.as_ref().is_none_or(Source::is_end_stream);
        state.frames.is_empty() && state.error.is_none() && source_ended
    }

    pub fn size_hint(&self) -> SizeHint {
        let state = self.0.lock();
        let ahead: u64 = state.frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        match &state.source {
            // What was lost at an error is not announced as complete.
            None if state.error.is_some() => SizeHint::default(),
            None => SizeHint::with_exact(ahead),
            Some(source) => {
                source.size_hint().exact().map_or_else(SizeHint::default, |left| SizeHint::with_exact(ahead + left))
            }
        }
    }
}

/// The client has left, or has all: a task that reads ahead for it is told.
impl Drop for Ahead {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.source = None;
        state.wake_reader();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl State {
    fn falls_behind(&mut self) -> bool {
        let asked = std::mem::take(&mut self.asked);
        let has_work = |source: &Source| self.buffered < self.buffered_max || source.is_uploading();
        !asked && !self.waiting && self.reader.is_none() && self.source.as_ref().is_some_and(has_work)
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.asked = true;
        self.waiting = false;
        if let Some(frame) = self.frames.pop_front() {
            self.buffered -= cost(&frame);
            return Poll::Ready(Some(Ok(frame)));
        }
        // The client has caught up and reads for itself again.
        self.wake_reader();
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        let polled = source.poll_frame(cx);
        self.waiting = polled.is_pending();
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.source = None;
        }
        polled
    }

    /// What has been read ahead goes first. An error is kept for who asks for a frame then.
    fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<bool> {
        if !self.frames.is_empty() {
            return Poll::Ready(false);
        }
        self.asked = true;
        self.wake_reader();
        let Some(source) = &mut self.source else { return Poll::Ready(false) };
        let polled = source.poll_splice(cx, pipe);
        self.waiting = polled.is_pending();
        Poll::Ready(ready!(polled).unwrap_or_else(|error| {
            self.error = Some(error);
            self.source = None;
            false
        }))
    }

    /// Ready when there is nothing left to do for the task: the body has ended, the client reads again or is
    /// gone, or the buffer is full.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reader.is_none() {
            return Poll::Ready(());
        }
        while let Some(source) = &mut self.source {
            let is_full = self.buffered >= self.buffered_max;
            // A client may send all of its request before it reads, so that goes on also when the buffer is full.
            let polled =
                if is_full { source.poll_upload(cx).map(|sent| sent.err().map(Err)) } else { source.poll_frame(cx) };
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    self.buffered += cost(&frame);
                    self.frames.push_back(frame);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.error = Some(error);
                    self.source = None;
                }
                Poll::Ready(None) if is_full => break,
                Poll::Ready(None) => self.source = None,
                Poll::Pending => {
                    self.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        self.reader = None;
        Poll::Ready(())
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// What a frame takes of the memory: many small ones cost more than what they say.
fn cost(frame: &Frame<Bytes>) -> usize {
    size_of::<Frame<Bytes>>() + frame.data_ref().map_or(0, Bytes::len)
}

async fn read_ahead(body: Weak<Shared>) {
    poll_fn(|cx| body.upgrade().map_or(Poll::Ready(()), |shared| shared.lock().poll_ahead(cx))).await;
}
