//! HTTP/1.1 as it is spoken to an endpoint: one request and its response at a time on a connection that
//! belongs to whoever waits for it.
//!
//! hyper's client runs a connection as a task of its own, and each request and each frame crosses to it and
//! back. Here the task of the request writes and reads itself, the head of a request stays with its owner
//! for the next attempt, and buffers stay on the worker. A response whose end could be read in two ways is none;
//! of a head, lines that end in a bare LF are taken, as every proxy does.
//!
//! `head`, `lines` and `decoder` are pure; `body` is a response after its head, `upload` is a request on its way, `stream` the bytes beneath.

mod body;
pub mod decoder;
pub mod head;
pub mod lines;
mod stream;
mod upload;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::task::unconstrained;

use self::decoder::Decoder;
use self::head::{Framing, InPlace, Received};
pub use self::lines::{AsLines, Lines};
pub use self::stream::{Stream, Upgraded};
use self::upload::{Upload, UploadError};
use super::{Fate, HEAD_BYTES_MAX, Head, Limits, UpstreamError};
use crate::body::{Body, Payload};
use crate::header::framing;
use crate::interim::{INTERIM_MAX, Relay};
use crate::spare;
use crate::timed::WriteLimit;
use crate::timers::Deadline;

/// What one read may bring. It grows while reads fill it.
const READ_BYTES_MIN: usize = 8 * 1024;
const READ_BYTES_MAX: usize = 72 * 1024;

/// A body up to this size is copied, so that the buffer is free for the next response; a larger one takes the
/// buffer along.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// A connection to an endpoint.
pub struct Connection {
    stream: Stream,
    /// What has been read and belongs to nobody yet.
    read: BytesMut,
    read_next: usize,
    /// What the first read of a response may bring.
    early_max: usize,
    /// How far the end of the next head has been looked for.
    searched: usize,
    /// What heads are written into.
    heads: Vec<u8>,
    upload: Option<Upload>,
    /// The rest of the request was not sent, or not taken.
    is_upload_broken: bool,
    decoder: Decoder,
    keeps_alive: bool,
    pub(super) silence: Deadline,
    writing: WriteLimit,
}

/// Why there is no response, and what that means for the request.
pub struct SendFailed {
    pub error: UpstreamError,
    pub request: Fate,
}

impl SendFailed {
    fn unknown(error: UpstreamError) -> Self {
        Self { error, request: Fate::Unknown }
    }
}

/// A request, and how long its endpoint may be silent after it.
struct Sending<'a> {
    method: &'a Method,
    /// What is sent once the head has gone out: a body that could not be had again is not begun before.
    rest: &'a mut Payload,
    read_timeout: Duration,
    interim: u32,
    relay: Option<Relay<'a>>,
    as_lines: Option<AsLines<'a>>,
}

impl Connection {
    pub fn new(stream: Stream, silence: Deadline, writing: WriteLimit) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            read_next: READ_BYTES_MIN,
            early_max: READ_BYTES_MAX,
            searched: 0,
            heads: Vec::new(),
            upload: None,
            is_upload_broken: false,
            decoder: Decoder::Ended,
            keeps_alive: true,
            silence,
            writing,
        }
    }

    /// Sends a request and waits for the head of its response; interim ones go to `relay`. A 101 comes back like any
    /// other.
    pub async fn send(
        &mut self,
        head: Head<'_>,
        payload: &mut Payload,
        (limits, relay): (Limits<'_>, Option<Relay<'_>>),
    ) -> Result<Response<Option<Lines>>, SendFailed> {
        let framing = match payload.size() {
            Some(0) => Framing::of_none(&head.parts.method),
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let mut bytes = std::mem::take(&mut self.heads);
        head::write(head, framing, &mut bytes);
        let body = if framing != Framing::None && payload.is_at_hand() { payload.take() } else { None };
        self.upload = Some(Upload::new(bytes, body, framing));
        self.silence.disarm();
        self.early_max = limits.early_max;
        let read_timeout = limits.timeouts.read;
        let as_lines = limits.as_lines;
        let mut sending =
            Sending { method: &head.parts.method, rest: payload, read_timeout, interim: 0, relay, as_lines };
        poll_fn(|cx| self.poll_response(cx, &mut sending)).await
    }

    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending<'_>,
    ) -> Poll<Result<Response<Option<Lines>>, SendFailed>> {
        if let Err(failed) = self.poll_request(cx, sending) {
            return Poll::Ready(Err(failed));
        }
        loop {
            if let Some(received) = self.next_head(sending.as_lines).map_err(SendFailed::unknown)? {
                match self.accept(received, sending).map_err(SendFailed::unknown)? {
                    Some(response) => return Poll::Ready(Ok(response)),
                    None => continue,
                }
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => {
                    let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Err(SendFailed::unknown(UpstreamError::Closed(error.into()))));
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(SendFailed::unknown(UpstreamError::Closed(error.into()))));
                }
                Poll::Pending => {
                    ready!(self.silence.poll_expired(cx));
                    let error = UpstreamError::ReadTimeout(sending.read_timeout);
                    return Poll::Ready(Err(SendFailed::unknown(error)));
                }
            }
        }
    }

    /// Sends what can be sent of the request. That it cannot be sent to its end is no error while a response may
    /// still come: an endpoint that refuses an upload answers and closes.
    fn poll_request(&mut self, cx: &mut Context<'_>, sending: &mut Sending<'_>) -> Result<(), SendFailed> {
        while let Some(upload) = &mut self.upload {
            let Poll::Ready(outcome) = upload.poll(cx, &mut self.stream, &mut self.writing) else { return Ok(()) };
            match outcome {
                Ok(()) => match sending.rest.take_streamed() {
                    Some(body) => upload.go_on_with(body),
                    None => {
                        self.end_upload();
                        // From now on the endpoint is what is waited for.
                        self.silence.arm(sending.read_timeout);
                    }
                },
                Err(UploadError::Body(error)) => return Err(SendFailed::unknown(UpstreamError::RequestBody(error))),
                Err(UploadError::Io(error)) => {
                    let request = if upload.has_begun() { Fate::Unknown } else { Fate::Unsent };
                    if error.kind() == io::ErrorKind::TimedOut {
                        return Err(SendFailed { error: UpstreamError::SendTimeout, request });
                    }
                    if matches!(request, Fate::Unsent) {
                        return Err(SendFailed { error: UpstreamError::Closed(error.into()), request });
                    }
                    self.upload = None;
                    self.is_upload_broken = true;
                    self.silence.arm(sending.read_timeout);
                }
            }
        }
        Ok(())
    }

    /// The next head, if it has come whole.
    fn next_head(&mut self, as_lines: Option<AsLines<'_>>) -> Result<Option<Received>, UpstreamError> {
        // Most come with one read. Those that pass as lines need not be looked through for their end then.
        let is_new = self.searched == 0 && as_lines.is_some();
        let mut end = if is_new { None } else { head::end(&self.read, &mut self.searched) };
        if let Some(wanted) = as_lines.filter(|_| is_new || end.is_some()) {
            end = match head::read_in_place(&self.read, wanted) {
                InPlace::Lines(received, bytes) if bytes <= HEAD_BYTES_MAX => {
                    self.read.advance(bytes);
                    self.searched = 0;
                    return Ok(Some(received));
                }
                InPlace::Lines(_, bytes) | InPlace::ForMap(bytes) => Some(bytes),
                InPlace::Unclear => end.or_else(|| head::end(&self.read, &mut self.searched)),
            };
        }
        if end.unwrap_or(self.read.len()) > HEAD_BYTES_MAX {
            return Err(UpstreamError::HeadTooLarge);
        }
        let Some(end) = end else {
            let may_begin = head::may_begin(&self.read);
            let error = head::HeadError::Syntax(httparse::Error::Version);
            return if may_begin { Ok(None) } else { Err(UpstreamError::Protocol(error.into())) };
        };
        let head = self.read.split_to(end).freeze();
        self.searched = 0;
        head::read(&head, spare::fields).map(Some).map_err(|error| UpstreamError::Protocol(error.into()))
    }

    /// None for an interim response, which ends here.
    fn accept(
        &mut self,
        received: Received,
        sending: &mut Sending<'_>,
    ) -> Result<Option<Response<Option<Lines>>>, UpstreamError> {
        let mut response = received.response;
        let status = response.status();
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            sending.interim += 1;
            if sending.interim > INTERIM_MAX {
                return Err(UpstreamError::InterimLimit);
            }
            // The edge itself tells a client to go on.
            if status != StatusCode::CONTINUE
                && let Some(relay) = sending.relay
            {
                relay.pass_on(response.map(drop));
            }
            return Ok(None);
        }
        // The first bytes of the tunnel would be taken for the rest of the request.
        if status == StatusCode::SWITCHING_PROTOCOLS && self.is_uploading() {
            return Err(UpstreamError::UnaskedUpgrade);
        }
        let length = received.length.map_err(UpstreamError::Framing)?;
        self.decoder = Decoder::new(sending.method, &response, length).map_err(UpstreamError::Framing)?;
        self.keeps_alive = received.keeps_alive;
        framing::settle_response(&mut response);
        Ok(Some(response))
    }

    /// The body, if all of it has come with its head: there is nothing left to wait for.
    pub fn take_whole(&mut self, bytes_max: usize) -> Option<Body> {
        let length = match self.decoder {
            Decoder::Ended => 0,
            Decoder::Length(length) => usize::try_from(length).ok()?,
            _ => return None,
        };
        if length > bytes_max || length > self.read.len() {
            return None;
        }
        self.decoder = Decoder::Ended;
        if length > COPIED_BYTES_MAX {
            return Some(Body::whole(self.read.split_to(length).freeze()));
        }
        let body = Bytes::copy_from_slice(self.read.get(..length)?);
        self.read.advance(length);
        Some(Body::whole(body))
    }

    /// The stream of another protocol, after a 101.
    pub fn into_upgraded(mut self) -> Upgraded {
        self.stream.lift_send_limit();
        let early = BytesMut::from(&*self.read);
        self.leave_buffer();
        Upgraded { early, stream: self.stream }
    }

    /// Whether another request may be sent: the last one has ended on both sides.
    pub fn may_be_kept(&self) -> bool {
        self.keeps_alive
            && self.decoder == Decoder::Ended
            && self.upload.is_none()
            && !self.is_upload_broken
            && self.read.is_empty()
    }

    /// Whether an idle connection can be used: bytes that nobody asked for are as bad as its end.
    pub fn is_open(&mut self) -> bool {
        let mut byte = [0];
        let read = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)));
        // A task that has had its share of the turn would be told that there is nothing, whatever there is.
        pin!(unconstrained(read)).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Gives up the memory that the next request would need at once, and that an idle connection does without.
    pub fn shrink(&mut self) {
        self.heads = Vec::new();
    }

    /// Leaves the buffer to whoever reads next: it is in the cache of this core.
    pub fn leave_buffer(&mut self) {
        spare::keep_buffer(std::mem::take(&mut self.read));
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = match self.decoder {
            Decoder::Ended => self.read_next.min(self.early_max),
            // A body of known size that has begun.
            Decoder::Length(left) => usize::try_from(left).map_or(READ_BYTES_MAX, |left| left.min(READ_BYTES_MAX)),
            _ => self.read_next,
        };
        if self.read.capacity() == 0 {
            self.read = spare::buffer();
        }
        if self.read.is_empty() && self.read.capacity() > 0 {
            // What was read last has been taken: from its beginning on, the buffer is in the cache of this core.
            let _is_larger = self.read.try_reclaim(self.read.capacity() + 1);
        }
        let room = self.read.capacity() - self.read.len();
        // One byte needs room as well: without any, a read says what it says at the end.
        if room < wanted.div_ceil(2) {
            self.read.reserve(wanted);
        }
        // Of content that may be moved, as little as possible is to come with its head.
        let most = if self.decoder == Decoder::Ended { wanted } else { usize::MAX };
        let room = (self.read.capacity() - self.read.len()).min(most);
        let read = pin!(self.stream.read_buf(&mut (&mut self.read).limit(room))).poll(cx);
        // Who waits needs no memory: others read meanwhile.
        if read.is_pending() && self.read.is_empty() {
            self.leave_buffer();
        }
        let bytes = ready!(read)?;
        if bytes == room {
            self.read_next = (self.read_next * 2).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(bytes))
    }

    fn end_upload(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.heads = upload.into_buffer();
        }
    }
}
