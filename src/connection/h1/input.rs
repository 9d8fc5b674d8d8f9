//! What a client sends: read when it is wanted, judged by the guard's machine, and held to time limits.
//!
//! A limit is armed when there is nothing to read, so a client that sends promptly never touches one. What an
//! idle connection holds is nothing: a head is read into a buffer of its size, a body into one of the worker's.

use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use super::upload;
use crate::body::BodyError;
use crate::connection::Limits;
use crate::guard::{Complete, Lines, Machine, Phase, Reason, Step, Stop, Violation};
use crate::spare;
use crate::timers::Deadline;

/// One read of what is not known to be a body.
const PIECE_BYTES: usize = 8 * 1024;
/// One read of a body.
const BODY_READ_BYTES: usize = 64 * 1024;
/// Data up to this size is copied, so that a slow client holds no more memory than what it sent.
const COPIED_BYTES_MAX: usize = 4 * 1024;
/// How much of a client's next requests is taken in while it waits for a response.
const PIPELINE_BYTES_MAX: usize = 16 * 1024;

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
    violation: Option<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Request,
    /// The end of a head that has begun: one limit for all of it.
    Head,
    Body,
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
        Self { machine, unread, is_borrowed: false, is_at_end: false, limits, silence, awaited: None, violation: None }
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
                ready!(self.poll_late(cx, Awaited::Head));
                self.machine.end();
                return Poll::Ready(Next::Refused(Reason::HeaderTimeout));
            }
            ready!(self.poll_late(cx, Awaited::Request));
            return Poll::Ready(Next::End);
        }
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
                self.stop_waiting();
                continue;
            } else {
                ready!(self.poll_late(cx, Awaited::Body));
                self.machine.end();
                self.violate(Reason::BodyTimeout, upload);
            }
            break;
        }
        self.release();
        upload.wake_reader(cx);
        Poll::Ready(())
    }

    /// Ready once the client has closed its side or is gone, for the time in which nothing is read from it. Takes
    /// in a bounded part of what else comes. A client that closes its side only and still wants its answer looks
    /// the same.
    pub fn poll_vanished(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Unpin)) -> Poll<()> {
        while !self.is_at_end {
            if self.unread.len() >= PIPELINE_BYTES_MAX {
                return Poll::Pending;
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
    fn poll_late(&mut self, cx: &mut Context<'_>, awaited: Awaited) -> Poll<()> {
        if self.awaited != Some(awaited) {
            self.awaited = Some(awaited);
            match awaited {
                Awaited::Request => self.silence.arm_idle(self.limits.idle_timeout),
                Awaited::Head => self.silence.arm(self.limits.header_timeout),
                Awaited::Body => self.silence.arm(self.limits.body_timeout),
            }
        }
        ready!(self.silence.poll_expired(cx));
        self.stop_waiting();
        Poll::Ready(())
    }

    fn stop_waiting(&mut self) {
        if self.awaited.take().is_some() {
            self.silence.disarm();
        }
    }
}
