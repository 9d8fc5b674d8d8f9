//! The two sides of a guarded connection: the stream for hyper, and the handle for what runs hyper.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::machine::Refusal;
use super::reject::Reason;
use super::state::{Deadlines, Limits, State};

/// How much is thrown away of what a client still sends when its connection is over.
const DISCARD_MAX: usize = 256 * 1024;

/// Puts a guard around the stream of a client that speaks HTTP/1.
pub fn guarded<S>(stream: S, limits: Limits, deadlines: Deadlines) -> (GuardedStream<S>, GuardHandle<S>) {
    let state = Rc::new(RefCell::new(State::new(stream, limits, deadlines)));
    (GuardedStream(Rc::clone(&state)), GuardHandle(state))
}

/// The side that hyper reads and writes, and a tunnel once one is open.
pub struct GuardedStream<S>(Rc<RefCell<State<S>>>);

/// The side of the connection that owns the guard. It keeps the stream open, too.
pub struct GuardHandle<S>(Rc<RefCell<State<S>>>);

impl<S> Clone for GuardHandle<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S> fmt::Debug for GuardedStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuardedStream").field(&self.0.borrow().machine()).finish()
    }
}

impl<S> fmt::Debug for GuardHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuardHandle").field(&self.0.borrow().machine()).finish()
    }
}

impl<S> GuardHandle<S> {
    /// The verdict on a bad head, if there was one: hyper's call of that number is its marker.
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.borrow().refusal()
    }

    /// Why a read or a write was made to fail, if one was.
    pub fn violation(&self) -> Option<Reason> {
        self.0.borrow().violation()
    }

    /// Good requests so far, those that hyper has not asked for yet included.
    pub fn requests(&self) -> u64 {
        self.0.borrow().machine().requests()
    }

    /// Lets everything pass unparsed and without time limits, for a 101. False, and nothing changes, when the
    /// last request did not ask for an upgrade or has not been read to its end: then there must be no tunnel.
    pub fn open_tunnel(&self) -> bool {
        self.0.borrow_mut().open_tunnel()
    }
}

impl<S: AsyncRead + Unpin> GuardHandle<S> {
    /// Ready once the client has closed its side or is gone, for the time in which hyper awaits a response and
    /// does not read. Takes in a bounded part of what else comes; it is inspected when hyper reads again.
    /// To be polled by the task that runs the connection, for there is one waker.
    ///
    /// A client that closes its side only and still wants its answer looks the same.
    pub fn poll_vanished(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().poll_vanished(cx)
    }

    /// Throws away what the client still sends, until it has closed or a bound is reached. Closing a socket on
    /// unread bytes resets it, which can destroy the response on its way (RFC 9112 §9.6). The caller bounds
    /// the time.
    pub async fn discard(&self) {
        let mut discarded = 0;
        while discarded < DISCARD_MAX {
            match poll_fn(|cx| self.0.borrow_mut().poll_discard(cx)).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => discarded += bytes,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for GuardedStream<S> {
    #[allow(unsafe_code)]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut out: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        // SAFETY: `ReadBuf` never makes a byte uninitialized that was initialized.
        let room = unsafe { out.as_mut() };
        let read_max = state.read_max().min(room.len());
        let mut read = ReadBuf::uninit(&mut room[..read_max]);
        ready!(state.poll_read(cx, &mut read))?;
        let bytes = read.filled().len();
        // SAFETY: these are the bytes that `ReadBuf` counts as filled, and it fills none without writing it.
        unsafe { out.advance(bytes) };
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for GuardedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write_vectored(cx, slices)
    }
}

/// The bytes of a tunnel: those that came early, then the stream. Before a tunnel is open there are none.
impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_tunnel(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write_vectored(cx, slices)
    }
}
