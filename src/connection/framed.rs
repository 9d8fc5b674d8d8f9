//! A client's stream under HTTP/2, between the socket or TLS and the codec.
//!
//! Passes bytes on as the guard says: no head before it is whole, and none before the last one was taken, since what
//! the codec has unpacked and nobody has taken counts in no budget. So a request that is taken is the one whose head was
//! passed on last, if that became a request at all. When the guard has had enough the client hears
//! GOAWAY, if it can, and the codec gets an error.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::heads::{Heads, Room};
use crate::frames::{self, Cut, Frames, Run, SentHead};
use crate::guard::{self, HeadCost};
use crate::tcp::Peer;
use crate::timers::{Deadline, Sweep};

/// So many heads are passed on before those who answer them have had a turn.
const HEADS_A_TURN: u32 = 8;

/// What a stream and who serves its connection tell each other.
#[derive(Debug, Default)]
pub struct Turn {
    heads_left: Cell<u32>,
    /// The head that was passed on last, or is about to be.
    head: Cell<SentHead>,
    /// Streams that are to be reset for want of room, since bytes were written last.
    refused: Cell<u32>,
    cut: Cell<Option<Cut>>,
    /// A request has come since this was asked last.
    asked: Cell<bool>,
}

impl Turn {
    /// The connection is about to be polled.
    pub fn begin(&self) {
        self.heads_left.set(HEADS_A_TURN);
    }

    /// The head of the request that the codec hands out. No other is passed on before: the next one is not looked at
    /// until the codec has waited for it, and it hands out what it has before it waits again.
    pub fn head(&self) -> SentHead {
        self.head.get()
    }

    /// A request has come.
    pub fn ask(&self) {
        self.asked.set(true);
    }

    /// Whether one has come since this was called last.
    pub fn take_asked(&self) -> bool {
        self.asked.take()
    }

    /// A stream is about to be reset for want of room.
    pub fn refuse(&self) {
        self.refused.set(self.refused.get() + 1);
    }

    /// Why it was cut off, if it was.
    pub fn cut(&self) -> Option<Cut> {
        self.cut.get()
    }
}

pub struct Framed<S> {
    stream: S,
    frames: Frames,
    sweep: Rc<Sweep>,
    held: Held,
    /// A head was passed on that the codec may not have handed out yet.
    is_full: bool,
    /// Runs while a head is not whole.
    head: Deadline,
    head_timeout: Duration,
    is_in_head: bool,
    turn: Rc<Turn>,
    heads: Rc<Heads>,
}

/// Bytes that were read and may not be passed on yet.
struct Held {
    bytes: BytesMut,
    /// So many at the front may be by now.
    ready: usize,
    /// So many have been looked at; the last of them belong to a head that is not whole.
    seen: usize,
    room: Room,
}

impl<S> Framed<S> {
    pub fn new(stream: S, sweep: Rc<Sweep>, head_timeout: Duration, heads: Rc<Heads>) -> Self {
        Self {
            stream,
            frames: Frames::new(sweep.last_tick().into_std()),
            held: Held { bytes: BytesMut::new(), ready: 0, seen: 0, room: Room::none(&heads) },
            is_full: false,
            head: sweep.deadline(),
            head_timeout,
            is_in_head: false,
            turn: Rc::default(),
            heads,
            sweep,
        }
    }

    pub fn turn(&self) -> Rc<Turn> {
        Rc::clone(&self.turn)
    }

    /// How many bytes at the front of `bytes` may be passed on, and how many were looked at.
    fn look(&mut self, bytes: &[u8]) -> Result<(usize, usize), Cut> {
        let now = self.sweep.last_tick().into_std();
        let (mut ready, mut seen) = (0, 0);
        while let Some(rest) = bytes.get(seen..).filter(|rest| !rest.is_empty()) {
            match self.frames.read(rest, now)? {
                Run::Plain(length) => {
                    seen += length;
                    ready = seen;
                }
                Run::InHead(length) => seen += length,
                Run::HeadEnd(length) => {
                    self.is_full = true;
                    self.take_note(self.frames.head())?;
                    self.turn.heads_left.set(self.turn.heads_left.get().saturating_sub(1));
                    return Ok((seen + length, seen + length));
                }
            }
        }
        Ok((ready, seen))
    }

    /// Nobody judges trailers before they are read, which may be late, so they count before they are unpacked.
    fn take_note(&self, head: SentHead) -> Result<(), Cut> {
        self.turn.head.set(head);
        self.heads.trail(head.stream, || guard::trailers_cost(head.bytes)).map_err(|_| Cut::HeadMemory)
    }

    /// What was written, as the guard has to know it.
    fn wrote<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) {
        self.frames.refuse(self.turn.refused.take());
        parts.into_iter().for_each(|bytes| self.frames.wrote(bytes));
    }

    /// The limit of a head counts from its first byte to its last.
    fn watch_head(&mut self) {
        let is_in_head = self.frames.is_in_head();
        if is_in_head == self.is_in_head {
            return;
        }
        self.is_in_head = is_in_head;
        if is_in_head {
            self.head.arm(self.head_timeout);
        } else {
            self.head.disarm();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<S> {
    /// Looks at bytes that were read into `out`, and keeps those of them that have to wait.
    fn pass(&mut self, out: &mut ReadBuf<'_>, before: usize) -> Result<(), Cut> {
        let new = out.filled().get(before..).unwrap_or_default();
        let (ready, seen) = self.look(new)?;
        let rest = new.get(ready..).unwrap_or_default();
        if !rest.is_empty() {
            let is_in_head = self.frames.is_in_head();
            self.held.keep(rest, seen - ready, is_in_head)?;
            out.set_filled(before + ready);
        }
        Ok(())
    }

    fn look_at_held(&mut self) -> Result<(), Cut> {
        let bytes = std::mem::take(&mut self.held.bytes);
        let looked = self.look(bytes.get(self.held.seen..).unwrap_or_default());
        self.held.bytes = bytes;
        let (ready, seen) = looked?;
        if ready > 0 {
            self.held.ready = self.held.seen + ready;
        }
        self.held.seen += seen;
        Ok(())
    }

    /// Says why, as far as the socket takes it at once, and fails.
    fn cut(&mut self, cx: &mut Context<'_>, cut: Cut) -> Poll<io::Result<()>> {
        if self.turn.cut.replace(Some(cut)).is_none()
            && let Some(goodbye) = self.frames.goodbye(cut)
            && Pin::new(&mut self.stream).poll_write(cx, &goodbye).is_ready()
        {
            let _as_far_as_it_goes = Pin::new(&mut self.stream).poll_flush(cx);
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, cut)))
    }

    /// What the stream has; false if it has ended.
    fn poll_more(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        Poll::Ready(Ok(out.filled().len() > before))
    }

    /// What was passed on last is the end of a head. Ready once the codec may have more.
    fn poll_taken(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turn.heads_left.get() == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_full = false;
        if self.held.bytes.is_empty() {
            let before = out.filled().len();
            // Mostly there is no more, and then nothing is lost by having looked.
            if !ready!(self.poll_more(cx, out))? {
                return Poll::Ready(Ok(()));
            }
            self.held.bytes.extend_from_slice(out.filled().get(before..).unwrap_or_default());
            out.set_filled(before);
        }
        // The codec hands the head out when it is told to wait, and then asks again.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Held {
    /// `seen` of them have been looked at. What waits behind a whole head is one read at most, and not counted.
    fn keep(&mut self, bytes: &[u8], seen: usize, is_in_head: bool) -> Result<(), Cut> {
        if is_in_head {
            self.room.grow(HeadCost::of_memory(bytes.len())).map_err(|_| Cut::HeadMemory)?;
        }
        self.bytes.extend_from_slice(bytes);
        self.seen += seen;
        Ok(())
    }

    fn pass(&mut self, out: &mut ReadBuf<'_>) {
        let length = self.ready.min(out.remaining());
        out.put_slice(self.bytes.get(..length).unwrap_or_default());
        self.bytes.advance(length);
        (self.ready, self.seen) = (self.ready - length, self.seen - length);
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
        if self.ready == 0 {
            self.room.shrink(self.bytes.len());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Framed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(cut) = this.frames.cut() {
            return this.cut(cx, cut);
        }
        loop {
            if this.held.ready > 0 {
                this.held.pass(out);
                return Poll::Ready(Ok(()));
            }
            if this.is_full {
                return this.poll_taken(cx, out);
            }
            let before = out.filled().len();
            let looked = if this.held.seen < this.held.bytes.len() {
                this.look_at_held()
            } else {
                match this.poll_more(cx, out) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(ended) => return Poll::Ready(ended.map(drop)),
                    Poll::Pending if this.is_in_head && this.head.poll_expired(cx).is_ready() => {
                        return this.cut(cx, Cut::HeaderTimeout);
                    }
                    Poll::Pending => return Poll::Pending,
                }
                if this.held.bytes.is_empty() {
                    this.pass(out, before)
                } else {
                    let kept = this.held.keep(out.filled().get(before..).unwrap_or_default(), 0, true);
                    out.set_filled(before);
                    kept
                }
            };
            this.watch_head();
            if let Err(cut) = looked {
                out.set_filled(before);
                return this.cut(cx, cut);
            }
            if out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: Peer> Peer for Framed<S> {
    fn tcp(&self) -> Option<&TcpStream> {
        self.stream.tcp()
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.wrote([bytes.get(..written).unwrap_or_default()]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, parts))?;
        this.wrote(frames::written(parts, written));
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
