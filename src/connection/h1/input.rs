//! What a client sends: read when it is wanted, judged by the guard's machine, and held to time limits.
//!
//! A limit is armed when there is nothing to read, so a client that sends promptly never touches one. Of a body its
//! data counts: framing alone wins no time, and less than the lowest rate ends it. What an
//! idle connection holds is nothing: a head is read into a buffer of its size, a body into one of the worker's.

use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use super::upload;
use crate::body::BodyError;
use crate::connection::Limits;
use crate::guard::{Complete, Lines, Machine, Phase, Reason, Step, Stop, Violation};
use crate::pace::{Pace, Stalled, Terms};
use crate::spare;
use crate::tcp::Peer;
use crate::timers::Deadline;

/// One read of what is not known to be a body.
const PIECE_BYTES: usize = 8 * 1024;
/// One read of a body.
const BODY_READ_BYTES: usize = 64 * 1024;
/// Data up to this size is copied, so that a slow client holds no more memory than what it sent.
const COPIED_BYTES_MAX: usize = 4 * 1024;
/// How much of a client's next requests is taken in while it waits for a response.
const PIPELINE_BYTES_MAX: usize = 16 * 1024;
/// How often the end of the connection is looked for behind more than that.
const END_INTERVAL: Duration = Duration::from_millis(500);

pub struct Input {
    machine: Machine,
    /// Read and not done with.
    unread: BytesMut,
    /// That is in a buffer of the worker.
    is_borrowed: bool,
    is_at_end: bool,
    limits: Limits,
    silence: Deadline,
    /// What the limit is armed for.
    awaited: Option<Awaited>,
    pace: Pace,
    /// Data of the body so far.
    received: i64,
    /// The answer to the body has begun. It may be a dialogue from then on, which has its pauses.
    has_no_rate: bool,
    violation: Option<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Request,
    /// The end of a head that has begun: one limit for all of it.
    Head,
    Body,
    /// That the client leaves.
    End,
}

/// What a client sends next.
pub enum Next {
    Head(Complete, Bytes),
    Refused(Reason),
    /// It has left, or has been silent for too long.
    End,
}

impl Input {
    pub fn new(limits: Limits, silence: Deadline) -> Self {
        let (machine, unread) = (Machine::default(), BytesMut::new());
        Self {
            machine,
            unread,
            is_borrowed: false,
            is_at_end: false,
            limits,
            silence,
            awaited: None,
            pace: Pace::default(),
            received: 0,
            has_no_rate: false,
            violation: None,
        }
    }

    /// Where the parts of the last head stand.
    pub fn lines(&self) -> &Lines {
        self.machine.lines()
    }

    pub fn phase(&self) -> Phase {
        self.machine.phase()
    }

    /// Why a body was cut off.
    pub fn violation(&self) -> Option<Reason> {
        self.violation
    }

    /// Whether anything came behind the last request.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// What came behind the last request.
    pub fn into_unread(self) -> BytesMut {
        self.unread
    }

    /// Waits for a whole head.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Unpin)) -> Poll<Next> {
        loop {
            match self.machine.step(&self.unread) {
                Ok(Step::Head(complete)) => {
                    self.stop_waiting();
                    let head = self.take(complete.bytes).freeze();
                    return Poll::Ready(Next::Head(complete, head));
                }
                Err(Stop::Refused(reason) | Stop::Violated(reason)) => return Poll::Ready(Next::Refused(reason)),
                Ok(_) if self.is_at_end => return Poll::Ready(Next::End),
                Ok(_) => {}
            }
            if self.poll_piece(cx, stream).is_ready() {
                continue;
            }
            self.move_out();
            if self.machine.phase() == Phase::Head {
                ready!(self.poll_late(cx, Awaited::Head, self.limits.header_timeout));
                self.machine.end();
                return Poll::Ready(Next::Refused(Reason::HeaderTimeout));
            }
            ready!(self.poll_late(cx, Awaited::Request, self.limits.idle_timeout));
            return Poll::Ready(Next::End);
        }
    }

    /// The message that has begun has a body.
    pub fn begin_body(&mut self) {
        (self.pace, self.received, self.has_no_rate) = (Pace::default(), 0, false);
        // The time that was waited for it counts from here.
        self.silence.arm(self.limits.body.step());
        self.silence.disarm();
    }

    /// From here on the body may come at any rate.
    pub fn lift_rate(&mut self) {
        self.has_no_rate = true;
    }

    /// The message that has begun has no body.
    pub fn end_message(&mut self) {
        let _is_end = self.machine.step(&[]);
    }

    /// Reads on until there is something for the reader of the body.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
        upload: &mut upload::State,
    ) -> Poll<()> {
        while !self.decode(upload) {
            if self.is_at_end {
                upload.cut_short();
            } else if self.poll_data(cx, stream).is_ready() {
                continue;
            } else {
                let reason = ready!(self.poll_stalled(cx));
                self.machine.end();
                self.violate(reason, upload);
            }
            break;
        }
        self.stop_waiting();
        self.release();
        upload.wake_reader(cx);
        Poll::Ready(())
    }

    /// Ready once the client has closed its side or is gone, for the time in which nothing is read from it. Takes
    /// in a bounded part of what else comes. A client that closes its side only and still wants its answer looks
    /// the same.
    pub fn poll_vanished(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Peer + Unpin)) -> Poll<()> {
        while !self.is_at_end {
            if self.unread.len() >= PIPELINE_BYTES_MAX {
                ready!(self.poll_late(cx, Awaited::End, END_INTERVAL));
                self.is_at_end = stream.has_hung_up();
                continue;
            }
            ready!(self.poll_piece(cx, stream));
        }
        Poll::Ready(())
    }

    /// Takes in some bytes that nobody will look at; none at the end.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Unpin)) -> Poll<usize> {
        self.unread.clear();
        if !self.is_at_end {
            ready!(self.poll_piece(cx, stream));
        }
        Poll::Ready(self.unread.len())
    }

    /// Takes data for the reader off what is unread, with the framing around it. Says whether there is something for
    /// the reader.
    fn decode(&mut self, upload: &mut upload::State) -> bool {
        // Behind the last data its end is looked for, so that the reader need not ask for that alone.
        while !(upload.has_data() && self.machine.is_at_data()) {
            match self.machine.step(&self.unread) {
                Ok(Step::Data(bytes)) => {
                    self.received = self.received.saturating_add_unsigned(bytes as u64);
                    let data = self.take_data(bytes);
                    upload.put(data);
                }
                Ok(Step::Trailers(bytes)) => upload.put_trailers(&self.take(bytes)),
                Ok(Step::End) => {
                    upload.finish();
                    return true;
                }
                Ok(Step::Framing(bytes)) => self.unread.advance(bytes),
                Ok(Step::Wait | Step::Head(_)) => return upload.has_data(),
                Err(Stop::Violated(reason) | Stop::Refused(reason)) => {
                    self.violate(reason, upload);
                    return true;
                }
            }
        }
        true
    }

    fn violate(&mut self, reason: Reason, upload: &mut upload::State) {
        self.violation = Some(reason);
        upload.fail(BodyError::Peer(Arc::new(Violation(reason))));
    }

    fn take(&mut self, bytes: usize) -> BytesMut {
        if bytes < self.unread.len() {
            return self.unread.split_to(bytes);
        }
        self.is_borrowed = false;
        std::mem::take(&mut self.unread)
    }

    fn take_data(&mut self, bytes: usize) -> Bytes {
        if bytes > COPIED_BYTES_MAX {
            return self.unread.split_to(bytes).freeze();
        }
        let data = Bytes::copy_from_slice(self.unread.get(..bytes).unwrap_or_default());
        self.unread.advance(bytes);
        data
    }

    /// Gives the worker's buffer back, unless there is something in it.
    fn release(&mut self) {
        if self.unread.is_empty() {
            let buffer = std::mem::take(&mut self.unread);
            if std::mem::take(&mut self.is_borrowed) {
                spare::keep_buffer(buffer);
            }
        }
    }

    /// Leaves a large buffer in which a little waits for more.
    fn move_out(&mut self) {
        if std::mem::take(&mut self.is_borrowed) {
            let own = BytesMut::from(&*self.unread);
            spare::keep_buffer(std::mem::replace(&mut self.unread, own));
        }
    }

    /// Reads what comes behind what is unread.
    fn poll_piece(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        let mut room = [MaybeUninit::uninit(); PIECE_BYTES];
        let mut piece = ReadBuf::uninit(&mut room);
        // A connection that is broken has ended, too.
        let _broken = ready!(Pin::new(stream).poll_read(cx, &mut piece));
        self.is_at_end = piece.filled().is_empty();
        self.unread.extend_from_slice(piece.filled());
        Poll::Ready(())
    }

    /// Reads more of a body, of which nothing is unread.
    fn poll_data(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        let mut buffer = spare::buffer();
        if buffer.capacity() < BODY_READ_BYTES / 2 {
            buffer.reserve(BODY_READ_BYTES);
        }
        let read = pin!(stream.read_buf(&mut buffer)).poll(cx);
        if read.is_pending() {
            spare::keep_buffer(buffer);
            return Poll::Pending;
        }
        self.is_at_end = buffer.is_empty();
        self.unread = buffer;
        self.is_borrowed = true;
        Poll::Ready(())
    }

    /// Keeps the limit of what is awaited; ready when it has passed.
    fn poll_late(&mut self, cx: &mut Context<'_>, awaited: Awaited, limit: Duration) -> Poll<()> {
        if self.awaited.replace(awaited) != Some(awaited) {
            match awaited {
                Awaited::Request => self.silence.arm_idle(limit),
                Awaited::Head | Awaited::Body | Awaited::End => self.silence.arm(limit),
            }
        }
        ready!(self.silence.poll_expired(cx));
        self.stop_waiting();
        Poll::Ready(())
    }

    /// Ready when the body is given up: nothing of it came for too long, or too little.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        let rate_min = if self.has_no_rate { 0 } else { self.limits.body.rate_min };
        let terms = Terms { rate_min, ..self.limits.body };
        if self.awaited.replace(Awaited::Body) != Some(Awaited::Body) {
            self.silence.resume(terms.step());
        }
        let Self { silence, pace, received, .. } = self;
        let stalled = ready!(silence.poll_stalled(cx, pace, &terms, || *received));
        self.stop_waiting();
        Poll::Ready(match stalled {
            Stalled::Silent => Reason::BodyTimeout,
            Stalled::TooSlow => Reason::BodyTooSlow,
        })
    }

    fn stop_waiting(&mut self) {
        if self.awaited.take().is_some() {
            self.silence.disarm();
        }
    }
}
