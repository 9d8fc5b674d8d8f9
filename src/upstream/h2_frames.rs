//! An endpoint's stream under HTTP/2, between the socket or TLS and the codec.
//!
//! Passes bytes on and counts the frames in them. When the endpoint says too much it hears GOAWAY, if it can, and the
//! codec gets an error, which ends all requests on this connection and no other. What that means for the endpoint is
//! decided elsewhere.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::h2_connection::Usage;
use crate::frames::{self, Cut, EndpointFrames};
use crate::tcp::Peer;
use crate::timers::Sweep;

pub struct Framed<S> {
    stream: S,
    frames: EndpointFrames,
    sweep: Rc<Sweep>,
    /// Where it is told what becomes of the connection.
    usage: Arc<Usage>,
}

impl<S> Framed<S> {
    pub fn new(stream: S, sweep: &Rc<Sweep>, usage: Arc<Usage>) -> Self {
        let frames = EndpointFrames::new(sweep.last_tick().into_std());
        Self { stream, frames, sweep: Rc::clone(sweep), usage }
    }
}

impl<S: AsyncWrite + Unpin> Framed<S> {
    /// Says why, as far as the socket takes it at once, and fails.
    fn cut(&mut self, cx: &mut Context<'_>, cut: Cut) -> Poll<io::Result<()>> {
        if self.usage.cut(cut, self.usage.is_idle())
            && let Some(goodbye) = self.frames.goodbye(cut)
            && Pin::new(&mut self.stream).poll_write(cx, &goodbye).is_ready()
        {
            let _as_far_as_it_goes = Pin::new(&mut self.stream).poll_flush(cx);
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, cut)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Framed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
        let new = out.filled().get(before..).unwrap_or_default();
        if !new.is_empty() {
            this.usage.note_read();
        }
        match this.frames.read(new, this.sweep.last_tick().into_std()) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(cut) => {
                out.set_filled(before);
                this.cut(cx, cut)
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
        this.frames.wrote(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, parts))?;
        frames::written(parts, written).for_each(|bytes| this.frames.wrote(bytes));
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
