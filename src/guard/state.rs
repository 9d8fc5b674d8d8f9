//! What a guarded stream and its handle share: reads, withholds, releases, and keeps the client's time limits.
//!
//! A whole head and all body bytes are inspected where hyper wants them and never copied. Only what is
//! withheld is, into a buffer that exists no longer than it holds something. A time limit is armed when there
//! is nothing to read, so a client that sends promptly never touches one.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::machine::{Machine, Phase, Progress, Refusal, Stop};
use super::reject::Reason;
use crate::timers::Deadline;

/// What hyper gets in place of a refused request. It closes the connection after the answer.
const MARKER: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// How far a read may go beyond the data of the current body: it bounds what can be withheld of one read.
const READ_AHEAD_MAX: usize = 32 * 1024;

/// How much of a client's next requests is taken in while it waits for a response.
const PIPELINE_MAX: usize = 16 * 1024;

/// One read into the withheld bytes.
const PIECE: usize = 4096;

/// The time limits of a client; all but `header_timeout` count silence.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the first byte of a request. Then the stream ends as if the client had closed it.
    pub idle_timeout: Duration,
    /// From the first byte of a head to its end. It is refused with 408 then.
    pub header_timeout: Duration,
    /// Between two reads of a body.
    pub body_timeout: Duration,
    /// Between two successful writes.
    pub send_timeout: Duration,
}

#[derive(Debug)]
pub struct Deadlines {
    pub read: Deadline,
    pub write: Deadline,
}

/// The error of a read or write that the guard itself makes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client was cut off: {0}")]
pub struct Violation(pub Reason);

/// One guarded connection.
pub struct State<S> {
    stream: S,
    machine: Machine,
    /// Read from the stream and not passed on yet.
    withheld: BytesMut,
    /// How many from the front of `withheld` may be passed on.
    released: usize,
    /// Whether `withheld` has grown since it was last inspected.
    is_news: bool,
    is_at_end: bool,
    refusal: Option<Refusal>,
    violation: Option<Reason>,
    limits: Limits,
    deadlines: Deadlines,
    /// What the read limit is armed for.
    awaited: Option<Awaited>,
    is_write_blocked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Request,
    /// The end of the head after so many requests.
    Head(u64),
    Body,
}

impl<S> State<S> {
    pub fn new(stream: S, limits: Limits, deadlines: Deadlines) -> Self {
        Self {
            stream,
            machine: Machine::default(),
            withheld: BytesMut::new(),
            released: 0,
            is_news: false,
            is_at_end: false,
            refusal: None,
            violation: None,
            limits,
            deadlines,
            awaited: None,
            is_write_blocked: false,
        }
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    pub fn violation(&self) -> Option<Reason> {
        self.violation
    }

    pub fn open_tunnel(&mut self) -> bool {
        let is_open = self.machine.open_tunnel();
        if is_open {
            self.released = self.withheld.len();
            self.deadlines.read.disarm();
            self.deadlines.write.disarm();
        }
        is_open
    }

    /// Passes on what is released of the withheld bytes.
    fn deliver(&mut self, out: &mut ReadBuf<'_>) {
        let bytes = self.released.min(out.remaining());
        out.put_slice(self.withheld.get(..bytes).unwrap_or_default());
        self.withheld.advance(bytes);
        self.released -= bytes;
        if self.withheld.is_empty() {
            self.withheld = BytesMut::new();
        }
    }

    /// Inspects bytes that were read where hyper wants them, and leaves those there that may pass.
    fn inspect_in_place(&mut self, out: &mut ReadBuf<'_>) {
        let progress = self.machine.inspect(out.filled());
        let rest = out.filled().get(progress.released..).unwrap_or_default();
        if !rest.is_empty() && self.machine.phase() != Phase::Ended {
            self.withheld.extend_from_slice(rest);
        }
        out.set_filled(progress.released);
        self.conclude(progress);
    }

    fn inspect_withheld(&mut self) {
        let progress = self.machine.inspect(&self.withheld);
        self.is_news = false;
        self.released = progress.released;
        self.conclude(progress);
    }

    fn conclude(&mut self, progress: Progress) {
        match progress.stop {
            Some(Stop::Refused(refusal)) => self.refuse(refusal),
            Some(Stop::Violated(reason)) => self.violation = Some(reason),
            None => {}
        }
        let is_same_head =
            self.machine.phase() == Phase::Head && self.awaited == Some(Awaited::Head(self.machine.requests()));
        if self.awaited.is_some() && !is_same_head {
            self.awaited = None;
            self.deadlines.read.disarm();
        }
    }

    /// Puts the marker in the place of the bad request, which is gone already or is dropped here.
    fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
        self.withheld.truncate(self.released);
        self.withheld.extend_from_slice(MARKER);
        self.released += MARKER.len();
    }

    /// Keeps the limit of what is awaited, and does what its end asks for. Ready when there is something
    /// to go on with.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (awaited, limit) = match self.machine.phase() {
            Phase::Between => (Awaited::Request, self.limits.idle_timeout),
            Phase::Head => (Awaited::Head(self.machine.requests()), self.limits.header_timeout),
            Phase::Body => (Awaited::Body, self.limits.body_timeout),
            Phase::Held | Phase::Tunnel | Phase::Ended => return Poll::Pending,
        };
        if self.awaited != Some(awaited) {
            self.awaited = Some(awaited);
            self.deadlines.read.arm(limit);
        }
        ready!(self.deadlines.read.poll_expired(cx));
        self.awaited = None;
        self.deadlines.read.disarm();
        match awaited {
            Awaited::Request => self.is_at_end = true,
            Awaited::Head(_) => {
                let refusal = self.machine.refuse(Reason::HeaderTimeout);
                self.refuse(refusal);
            }
            Awaited::Body => self.violation = Some(Reason::BodyTimeout),
        }
        Poll::Ready(())
    }

    /// Bytes that a read may bring: all the data of the current body, and some more.
    pub fn read_max(&self) -> usize {
        usize::try_from(self.machine.data_left()).unwrap_or(usize::MAX).saturating_add(READ_AHEAD_MAX)
    }

    /// The time in which the end of a response is still on its way is none in which the client is idle.
    fn put_off_idle(&mut self, has_written: bool) {
        if has_written && self.awaited == Some(Awaited::Request) {
            self.deadlines.read.arm(self.limits.idle_timeout);
        }
    }

    /// Keeps the limit of a write that made progress or did not.
    fn after_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.machine.phase() == Phase::Tunnel {
            return result;
        }
        if result.is_ready() {
            if self.is_write_blocked {
                self.is_write_blocked = false;
                self.deadlines.write.disarm();
            }
            return result;
        }
        if !self.is_write_blocked {
            self.is_write_blocked = true;
            self.deadlines.write.arm(self.limits.send_timeout);
        }
        ready!(self.deadlines.write.poll_expired(cx));
        self.violation = Some(Reason::SendTimeout);
        Poll::Ready(Err(cut_off(Reason::SendTimeout)))
    }
}

impl<S: AsyncRead + Unpin> State<S> {
    /// Reads what may pass into `out`, which is empty.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.released > 0 {
                self.deliver(out);
                return Poll::Ready(Ok(()));
            }
            if let Some(reason) = self.violation {
                return Poll::Ready(Err(cut_off(reason)));
            }
            // hyper reads again when it has answered, so a tunnel that is still closed stays closed.
            if matches!(self.machine.phase(), Phase::Held | Phase::Ended) {
                return Poll::Ready(Ok(()));
            }
            if self.is_news {
                self.inspect_withheld();
                continue;
            }
            if self.is_at_end {
                return Poll::Ready(Ok(()));
            }
            match self.poll_more(cx, out) {
                Poll::Ready(result) => result?,
                Poll::Pending => ready!(self.poll_late(cx)),
            }
            if !out.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.withheld.is_empty() {
            return self.poll_withhold(cx);
        }
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        if out.filled().is_empty() {
            self.is_at_end = true;
        } else {
            self.inspect_in_place(out);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads some bytes into the withheld ones.
    fn poll_withhold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        self.withheld.extend_from_slice(piece.filled());
        self.is_news = true;
        self.is_at_end = piece.filled().is_empty();
        Poll::Ready(Ok(()))
    }

    /// Reads a tunnel: what came early, then the stream. Before it is open there is nothing in it.
    pub fn poll_tunnel(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.machine.phase() != Phase::Tunnel {
            return Poll::Ready(Ok(()));
        }
        if self.released > 0 {
            self.deliver(out);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, out)
    }

    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.withheld.clear();
        self.released = 0;
        ready!(self.poll_withhold(cx))?;
        Poll::Ready(Ok(self.withheld.len()))
    }

    pub fn poll_vanished(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // hyper itself waits for bytes, and will see the end.
        while !self.is_at_end {
            let is_tunnel = self.machine.phase() == Phase::Tunnel;
            if is_tunnel || self.awaited.is_some() || self.withheld.len() >= PIPELINE_MAX {
                return Poll::Pending;
            }
            if ready!(self.poll_withhold(cx)).is_err() {
                self.is_at_end = true;
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.put_off_idle(result.is_ready());
        self.after_write(cx, result)
    }

    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.put_off_idle(result.is_ready());
        self.after_write(cx, result)
    }

    pub fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.after_write(cx, result)
    }

    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.after_write(cx, result)
    }
}

fn cut_off(reason: Reason) -> io::Error {
    let kind = match reason {
        Reason::BodyTimeout | Reason::SendTimeout => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, Violation(reason))
}
