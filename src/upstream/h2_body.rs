//! The body of a request over HTTP/2, and what is known of it while its response is awaited and after.
//!
//! hyper writes it in a task of its own, so what that sees is noted here: whether the body has ended, whether
//! the endpoint takes it, and, the other way, that it is to stop.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::body::{Body, BodyError};
use crate::timers::Deadline;

/// How far a request has got.
pub struct Upload {
    /// Runs from the end of the request until its endpoint says something.
    pub silence: Deadline,
    pub read_timeout: Duration,
    /// Passes when the endpoint, given a frame, has not taken it in time.
    pub stalled: Deadline,
    pub send_timeout: Duration,
    outcome: OnceLock<Result<(), BodyError>>,
    is_stopped: AtomicBool,
    writer: AtomicWaker,
}

impl Upload {
    pub fn new(silence: Deadline, read_timeout: Duration, stalled: Deadline, send_timeout: Duration) -> Arc<Self> {
        let (outcome, is_stopped, writer) = (OnceLock::new(), AtomicBool::new(false), AtomicWaker::new());
        Arc::new(Self { silence, read_timeout, stalled, send_timeout, outcome, is_stopped, writer })
    }

    /// The fault of the client, if it is one that ended the request.
    pub fn failure(&self) -> Option<BodyError> {
        self.outcome.get()?.as_ref().err().cloned()
    }

    /// Sends no more of a request whose response is over; hyper resets the stream.
    pub fn stop(&self) {
        if self.outcome.get().is_none() {
            self.is_stopped.store(true, Ordering::Release);
            self.writer.wake();
        }
    }

    fn end(&self, outcome: Result<(), BodyError>) {
        let _first = self.outcome.set(outcome);
        self.stalled.disarm();
        self.silence.arm(self.read_timeout);
    }
}

/// The body as hyper gets it.
pub struct Uploading {
    body: Body,
    /// None for a request without a body.
    upload: Option<Arc<Upload>>,
}

impl Uploading {
    pub fn new(body: Body, upload: Option<Arc<Upload>>) -> Self {
        Self { body, upload }
    }

    pub fn into_body(self) -> Body {
        self.body
    }
}

impl http_body::Body for Uploading {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self { body, upload } = self.get_mut();
        let Some(upload) = upload else { return Pin::new(body).poll_frame(cx) };
        upload.writer.register(cx.waker());
        if upload.is_stopped.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(BodyError::Stopped)));
        }
        // The frame before has been taken, and the client is what is waited for.
        upload.stalled.disarm();
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        match &frame {
            Some(Err(error)) => upload.end(Err(error.clone())),
            Some(Ok(_)) if !body.is_end_stream() => upload.stalled.arm(upload.send_timeout),
            // Whether the last frame is taken shows in the answer to it.
            None | Some(Ok(_)) => upload.end(Ok(())),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
