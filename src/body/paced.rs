//! A body over HTTP/2, whose client must take it at some pace.
//!
//! Over HTTP/1.1 the socket shows that a client takes nothing. A stream whose window stays shut shows it in no
//! way but that the next frame is not asked for.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Body, BodyError, End};
use crate::timers::Deadline;

/// A frame is handed on in pieces of this size, so that a slow client makes visible progress.
const PIECE_BYTES_MAX: usize = 8 * 1024;

/// Lets a deadline pass when the receiver, given a piece, does not ask for the next one in time. Who waits for
/// the deadline is to drop the body then.
#[derive(Debug)]
pub struct Paced {
    body: Body,
    deadline: Deadline,
    limit: Duration,
    /// Of the last frame, what has not been handed on.
    rest: Bytes,
}

impl Paced {
    pub fn new(body: Body, deadline: Deadline, limit: Duration) -> Self {
        Self { body, deadline, limit, rest: Bytes::new() }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        self.deadline.arm(self.limit);
        Frame::data(self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX)))
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        if self.deadline.is_expired() {
            self.body.end(End::Stalled);
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
        self.deadline.disarm();
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
