//! Content on its way from an endpoint's socket to a client's that is not read: splice(2) moves it from one to the
//! other inside the kernel, through a pipe.
//!
//! To read and to write copies each byte twice. Moving it takes two calls more, so it pays for long content alone,
//! between bare sockets, and only where nobody needs to see the bytes: not for the cache, not for a coding, not for TLS.
//!
//! A worker has one pipe, and it is empty. It is filled from one socket and emptied into the other within one turn of a
//! task; what the client does not take at once is read out of it and waits like other data. So a client that is slow
//! holds no pipe, and pipes take two descriptors a worker, however many the responses. Where there is none to be
//! had, everything is read and written.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Shorter content is read and written.
const BYTES_MIN: u64 = 16 * 1024;
/// Of content that may be long and that nobody needs to see, no more is to be read with its head.
pub const EARLY_BYTES_MAX: usize = 16 * 1024;
/// As much goes at a time, so that no more waits in memory for a client that stops reading.
const BYTES_MAX: u64 = 64 * 1024;
/// A pipe has a slot for each page of this, and a packet from the network takes at least one, however little it brings.
const PIPE_BYTES: usize = 256 * 1024;

thread_local! {
    /// The one of this worker, while it is not in use.
    static IDLE: Cell<Option<Ends>> = const { Cell::new(None) };
}

struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

/// A pipe that is in use. It goes back if it is empty, and is closed otherwise: what is in it belongs to one response.
pub struct Pipe {
    ends: Option<Ends>,
    held: usize,
    room: usize,
}

/// Whether content of which so many bytes are left is worth it.
pub fn is_worth(left: u64) -> bool {
    left >= BYTES_MIN
}

impl Pipe {
    /// The worker's pipe, for at most so many bytes. None if there is none to be had.
    pub fn take(bytes_max: u64) -> Option<Self> {
        let ends = IDLE.take().or_else(|| open().ok())?;
        let room = usize::try_from(bytes_max.min(BYTES_MAX)).unwrap_or_default();
        Some(Self { ends: Some(ends), held: 0, room })
    }

    /// How many bytes are in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves what has come at `socket` into the pipe, which is empty; of the body there are `left` bytes to come. None
    /// come at the socket's end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, socket: &TcpStream, left: u64) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        let bytes_max = usize::try_from(left).map_or(self.room, |left| left.min(self.room));
        loop {
            ready!(socket.poll_read_ready(cx))?;
            match socket.try_io(Interest::READABLE, || transfer(socket, &ends.into, bytes_max)) {
                // It only seemed to be readable, and is waited for now.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(bytes) => {
                    self.held = bytes;
                    return Poll::Ready(Ok(bytes));
                }
            }
        }
    }

    /// Moves what is in the pipe to `socket`, as far as that takes it at once. What it refuses for good it refuses again
    /// when the rest is written.
    pub fn empty_into(&mut self, socket: &TcpStream) {
        let Some(ends) = &self.ends else { return };
        while self.held > 0
            && let Ok(bytes @ 1..) = socket.try_io(Interest::WRITABLE, || transfer(&ends.out, socket, self.held))
        {
            self.held -= bytes;
        }
    }

    /// Takes out what is left.
    pub fn read_out(mut self) -> io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(self.held);
        if let Some(ends) = &self.ends {
            while self.held > 0 {
                match rustix::io::read(&ends.out, spare_capacity(&mut bytes))? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => self.held -= read,
                }
            }
        }
        Ok(bytes.into())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.held == 0 {
            IDLE.set(self.ends.take());
        }
    }
}

fn open() -> io::Result<Ends> {
    let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A user has a limit for all of his pipes; one of the usual size does, too.
    if let Err(error) = fcntl_setpipe_size(&into, PIPE_BYTES) {
        tracing::debug!("the pipe stays as it is: {error}");
    }
    Ok(Ends { out, into })
}

fn transfer(from: impl AsFd, to: impl AsFd, bytes_max: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, bytes_max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Two ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// A pipe with so many bytes of a longer content in it.
    async fn filled(bytes: &[u8], room: u64) -> (Pipe, TcpStream) {
        let (mut origin, endpoint) = pair().await;
        origin.write_all(bytes).await.unwrap();
        let mut pipe = Pipe::take(room).unwrap();
        let came = poll_fn(|cx| pipe.poll_fill(cx, &endpoint, u64::MAX)).await.unwrap();
        assert_eq!((came, pipe.held()), (bytes.len().min(room as usize), came));
        (pipe, endpoint)
    }

    #[test]
    fn short_content_is_read_and_written() {
        for (left, expected) in [(0, false), (BYTES_MIN - 1, false), (BYTES_MIN, true), (u64::MAX, true)] {
            assert_eq!(is_worth(left), expected, "{left}");
        }
    }

    #[tokio::test]
    async fn what_is_filled_in_comes_out() {
        let (mut pipe, _endpoint) = filled(b"content", BYTES_MAX).await;
        let (mut client, socket) = pair().await;
        socket.writable().await.unwrap();
        pipe.empty_into(&socket);
        assert_eq!(pipe.held(), 0);
        drop((pipe, socket));
        let mut came = String::new();
        client.read_to_string(&mut came).await.unwrap();
        assert_eq!(came, "content");
        let (pipe, _endpoint) = filled(b"content", 4).await;
        assert_eq!(pipe.read_out().unwrap(), "cont");
    }

    #[tokio::test]
    async fn the_end_of_a_socket_fills_nothing_in() {
        let (origin, endpoint) = pair().await;
        drop(origin);
        let mut pipe = Pipe::take(BYTES_MAX).unwrap();
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &endpoint, 5)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_pipe_is_used_again_once_it_is_empty_and_never_before() {
        IDLE.take();
        let (pipe, _endpoint) = filled(b"somebody's", BYTES_MAX).await;
        drop(pipe);
        assert!(IDLE.take().is_none(), "its content would be in the next response");
        let (pipe, _endpoint) = filled(b"somebody's", BYTES_MAX).await;
        pipe.read_out().unwrap();
        assert!(IDLE.take().is_some());
    }

    #[tokio::test]
    async fn what_a_client_does_not_take_is_left() {
        let (_client, socket) = pair().await;
        // What is not known to be writable is not tried.
        socket.writable().await.unwrap();
        let content = [b'x'; 1000];
        loop {
            let (mut pipe, _endpoint) = filled(&content, BYTES_MAX).await;
            pipe.empty_into(&socket);
            match pipe.held() {
                0 => {}
                left => break assert_eq!(pipe.read_out().unwrap(), &content[..left]),
            }
        }
    }
}
