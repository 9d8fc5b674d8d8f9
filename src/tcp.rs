//! What the kernel knows of a connection beside the bytes that are read and written.
//!
//! The buffers of a socket hold megabytes. That a write was taken says little of the peer, and its end stands
//! behind what was not read. Each question is one system call, so it is asked when somebody has been waited for.

use std::ffi::c_int;
use std::io::{self, IoSlice, Write as _};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use crate::tls::{Ending, LateTickets};

/// As asm-generic/ioctls.h has it. Where it is another number the call fails, and nothing is known.
const SIOCOUTQ: Opcode = 0x5411;

/// A stream over a socket.
pub trait Peer {
    /// None in tests, which have no socket.
    fn tcp(&self) -> Option<&TcpStream>;

    /// The socket, if nothing lies between: what is written there is what the peer reads.
    fn bare(&self) -> Option<&TcpStream> {
        None
    }

    /// Takes some of the last bytes, which go out with what ends the stream, if that is shut down at once. None if it takes
    /// none.
    fn write_last(&mut self, _bytes: &[u8]) -> Option<io::Result<usize>> {
        None
    }

    /// Bytes that were written and that the peer has not acknowledged.
    fn unacknowledged(&self) -> Option<u64> {
        self.tcp().and_then(unacknowledged)
    }

    /// Whether the peer has closed, or broken off, behind what was not read.
    fn has_hung_up(&self) -> bool {
        self.tcp().is_some_and(has_hung_up)
    }

    /// Lets the connection end with a reset, so that the peer sees that something is missing.
    fn reset_at_end(&self) {
        if let Some(tcp) = self.tcp()
            && let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!("the connection ends in order: {error}");
        }
    }
}

impl Peer for TcpStream {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn bare(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn write_last(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        self.write_ending(&[IoSlice::new(bytes)])
    }
}

impl Ending for TcpStream {
    fn write_ending(&self, parts: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let written = send_beginning(self, parts);
        let takes_none = written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        (!takes_none).then_some(written)
    }
}

impl Peer for server::TlsStream<LateTickets<TcpStream>> {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0.get_ref())
    }

    fn write_last(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        let (records, session) = self.get_mut();
        let taken = session.writer().write(bytes);
        if taken.as_ref().is_ok_and(|taken| *taken == bytes.len()) {
            session.send_close_notify();
            records.end();
        }
        (!matches!(taken, Ok(0))).then_some(taken)
    }
}

impl Peer for client::TlsStream<TcpStream> {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0)
    }
}

impl<P: Peer> Peer for Box<P> {
    fn tcp(&self) -> Option<&TcpStream> {
        (**self).tcp()
    }

    fn write_last(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        (**self).write_last(bytes)
    }
}

#[cfg(test)]
impl Peer for tokio::io::DuplexStream {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

#[expect(unsafe_code, reason = "no crate has a call for it")]
fn unacknowledged(tcp: &TcpStream) -> Option<u64> {
    // SAFETY: SIOCOUTQ writes one `int` for every socket of TCP (tcp(7)), which is what the getter has room for.
    let queued = unsafe { ioctl(tcp, Getter::<SIOCOUTQ, c_int>::new()) };
    queued.ok().and_then(|queued| u64::try_from(queued).ok())
}

/// Writes the beginning of what goes on at once: it is held back for the rest of its packet.
pub fn send_beginning(socket: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    socket.try_io(Interest::WRITABLE, || Ok(sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags)?))
}

fn has_hung_up(tcp: &TcpStream) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut asked = [PollFd::new(tcp, PollFlags::RDHUP)];
    let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    poll(&mut asked, Some(&at_once)).is_ok() && asked.iter().any(|socket| socket.revents().intersects(ends))
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::version::TLS13;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::tls::testing::{Authority, LIMIT, acceptor, serving};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    async fn until(holds: impl Fn() -> bool) {
        while !holds() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_kernel_knows_what_was_not_taken() {
        let (near, mut far) = pair().await;
        assert_eq!(near.unacknowledged(), Some(0));
        let mut written = 0;
        while let Ok(bytes) = near.try_write(&[0; 65536]) {
            written += bytes as u64;
        }
        let waiting = near.unacknowledged().unwrap();
        assert!(waiting > 0 && waiting < written, "{waiting} of {written}");
        tokio::io::copy(&mut (&mut far).take(written), &mut tokio::io::sink()).await.unwrap();
        until(|| near.unacknowledged() == Some(0)).await;
    }

    #[tokio::test]
    async fn the_last_bytes_go_out_with_the_end() {
        let (mut near, mut far) = pair().await;
        near.writable().await.unwrap();
        assert_eq!(near.write_last(b"last").unwrap().unwrap(), 4);
        let nothing = SockRef::from(&far).peek(&mut [MaybeUninit::uninit(); 8]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        near.shutdown().await.unwrap();
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"last");
        // A socket that takes no more takes no last bytes either.
        let (mut near, _far) = pair().await;
        while near.try_write(&[0; 65536]).is_ok() {}
        assert!(near.write_last(b"last").is_none());
    }

    /// Whether a hand-shake has left tickets, which go first.
    #[tokio::test]
    async fn the_last_records_go_out_with_the_end() {
        for tickets in [&b""[..], b"\x17 tickets "] {
            let (near, mut far) = pair().await;
            near.writable().await.unwrap();
            let mut near = LateTickets::new(near);
            far.write_all(b"!").await.unwrap();
            near.read_u8().await.unwrap();
            near.write_all(tickets).await.unwrap();
            near.end_hand_shake();
            near.end();
            near.write_all(b"last").await.unwrap();
            let nothing = SockRef::from(&far).peek(&mut [MaybeUninit::uninit(); 8]).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            near.shutdown().await.unwrap();
            let mut seen = Vec::new();
            far.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, [tickets, b"last"].concat());
        }
    }

    /// The answer, what says that nothing was cut off, and the end of the socket.
    #[tokio::test]
    async fn tls_says_its_last_with_the_end() {
        let authority = Authority::new();
        authority.issue("a", &["a.example"]);
        let acceptor = acceptor(&serving(&[authority.configured("a", &["a.example"])]));
        let connector = TlsConnector::from(Arc::new(authority.client(&[&TLS13])));
        let (near, far) = pair().await;
        let name = ServerName::try_from("a.example").unwrap();
        let (near, far) = tokio::join!(acceptor.accept(near, LIMIT), connector.connect(name, far));
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        near.tcp().unwrap().writable().await.unwrap();
        assert_eq!(near.write_last(b"last").unwrap().unwrap(), 4);
        near.flush().await.unwrap();
        let nothing = SockRef::from(far.get_ref().0).peek(&mut [MaybeUninit::uninit(); 8]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        near.shutdown().await.unwrap();
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"last");
    }

    #[tokio::test]
    async fn an_end_is_seen_behind_what_was_not_read() {
        let (near, mut far) = pair().await;
        far.write_all(b"unread").await.unwrap();
        assert!(!near.has_hung_up());
        drop(far);
        until(|| near.has_hung_up()).await;
    }

    #[tokio::test]
    async fn a_reset_is_no_end_in_order() {
        let (near, mut far) = pair().await;
        near.reset_at_end();
        drop(near);
        assert_eq!(far.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}
