//! A body whose bytes are made from another's as they come: coded, or decoded.
//!
//! What came in is on its way out before the source is waited for again, so that events are never held back. It
//! knows no coding; it holds one piece of the source and what is made of it.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use super::{Body, BodyError};

/// Makes other bytes of the bytes of a body.
pub trait Codec: Send {
    /// Bytes, of input and output together, that take as long as a worker may be held.
    fn share(&self) -> usize;
    /// Works off `input`, as much as makes up a share; true if it can go on without more of it.
    fn step(&mut self, input: &mut Bytes, output: &mut Vec<u8>) -> Result<bool, BodyError>;
    /// Gives all that the input so far stands for.
    fn flush(&mut self, output: &mut Vec<u8>) -> Result<(), BodyError>;
    /// Gives what belongs after the last byte.
    fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), BodyError>;
    /// Takes out of trailers what holds of the bytes before alone.
    fn settle_trailers(&self, trailers: &mut HeaderMap);
}

/// Smaller frames are not worth their writing, while more is at hand.
const OUTPUT_BYTES_MIN: usize = 16 * 1024;

pub struct Recoded {
    source: Body,
    codec: Box<dyn Codec>,
    input: Bytes,
    /// The codec can go on without more input.
    goes_on: bool,
    /// The codec has bytes that it has not given yet.
    holds_back: bool,
    /// Bytes worked off since others of the worker had their turn.
    worked: usize,
    output: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Streaming,
    /// The last byte is given or in `output`.
    Finished {
        trailers: Option<HeaderMap>,
    },
}

impl Recoded {
    pub fn new(source: Body, read: Bytes, codec: Box<dyn Codec>) -> Self {
        Self {
            source,
            codec,
            input: read,
            goes_on: false,
            holds_back: false,
            worked: 0,
            output: Vec::new(),
            stage: Stage::Streaming,
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.poll_data(cx) {
            Poll::Ready(Ok(())) if !self.output.is_empty() => {
                let data = std::mem::take(&mut self.output);
                Poll::Ready(Some(Ok(Frame::data(data.into()))))
            }
            Poll::Ready(Ok(())) => match &mut self.stage {
                Stage::Finished { trailers } => Poll::Ready(trailers.take().map(|fields| Ok(Frame::trailers(fields)))),
                Stage::Streaming => Poll::Pending,
            },
            Poll::Ready(Err(error)) => {
                self.output = Vec::new();
                self.stage = Stage::Finished { trailers: None };
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready when there is output to hand on, or no more will come.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while matches!(self.stage, Stage::Streaming) && self.output.len() < OUTPUT_BYTES_MIN {
            if self.goes_on || !self.input.is_empty() {
                if self.worked >= self.codec.share() {
                    if self.output.is_empty() {
                        self.worked = 0;
                        return rest(cx);
                    }
                    return Poll::Ready(Ok(()));
                }
                let before = (self.input.len(), self.output.len());
                self.goes_on = self.codec.step(&mut self.input, &mut self.output)?;
                self.worked += (before.0 - self.input.len()) + (self.output.len() - before.1);
                self.holds_back = true;
                continue;
            }
            match Pin::new(&mut self.source).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.take(frame)?,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => self.finish(None)?,
                Poll::Pending => {
                    self.worked = 0;
                    if std::mem::take(&mut self.holds_back) {
                        self.codec.flush(&mut self.output)?;
                    }
                    return if self.output.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) };
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), BodyError> {
        match frame.into_data() {
            Ok(data) => {
                self.input = data;
            }
            Err(frame) => {
                let mut trailers = frame.into_trailers().ok();
                trailers.iter_mut().for_each(|fields| self.codec.settle_trailers(fields));
                self.finish(trailers.filter(|fields| !fields.is_empty()))?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError> {
        self.stage = Stage::Finished { trailers };
        self.codec.finish(&mut self.output)
    }

    pub fn is_end_stream(&self) -> bool {
        self.output.is_empty() && matches!(self.stage, Stage::Finished { trailers: None })
    }
}

/// Lets everything else on this worker go first, its sockets too: a task that merely wakes itself is polled dozens of
/// times before they are looked at.
fn rest<T>(cx: &mut Context<'_>) -> Poll<T> {
    let yields = pin!(tokio::task::yield_now()).poll(cx);
    debug_assert!(yields.is_pending(), "nobody else has had a turn");
    Poll::Pending
}
