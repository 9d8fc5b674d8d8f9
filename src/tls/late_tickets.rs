//! Keeps the tickets of TLS 1.3 back until there is something else to send.
//!
//! A hand-shake would send them by themselves, one more packet for each connection, which wakes its client for
//! nothing: they are for its next connection. So they go out with the first answer. For the same reason the last records
//! go out with the end of the stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first byte of a record of TLS 1.3 that is encrypted (RFC 8446 §5.2).
const ENCRYPTED_RECORD: u8 = 23;

/// A stream that is shut down right behind its last bytes.
pub trait Ending {
    /// Takes some of these, which go out with the end. None if it takes none, or knows no such way.
    fn write_ending(&self, _parts: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        None
    }
}

/// The stream that TLS writes its records to.
#[derive(Debug)]
pub struct LateTickets<S> {
    stream: S,
    held: Vec<u8>,
    hand_shake: HandShake,
    /// What is written from here on is the last.
    is_last: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandShake {
    /// The client has said nothing since something was written, so what is written belongs to the same flight.
    Answered,
    /// What is written from here on begins a new flight. If all of that is encrypted, it is tickets, or an alert:
    /// who fails sends what is held. An answer to a ClientHello, and all of TLS 1.2, begins with a record in cleartext.
    Heard,
    /// The stream did not take all of a flight at once, or the hand-shake is over. Nothing is held.
    Over,
}

impl<S> LateTickets<S> {
    /// For a hand-shake whose ClientHello has been read.
    pub fn new(stream: S) -> Self {
        Self { stream, held: Vec::new(), hand_shake: HandShake::Answered, is_last: false }
    }

    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// What is written from here on goes out with the end of the stream, which is shut down when it is written.
    pub fn end(&mut self) {
        self.is_last = true;
    }

    /// What is held goes out with what is written next.
    pub fn end_hand_shake(&mut self) {
        self.hand_shake = HandShake::Over;
    }
}

impl<S: AsyncWrite + Ending + Unpin> LateTickets<S> {
    /// Sends what is held, as far as the stream takes it at once.
    pub fn poll_let_go(&mut self, cx: &mut Context<'_>) {
        self.end_hand_shake();
        if !self.held.is_empty() {
            let _as_far_as_it_goes = Pin::new(&mut self.stream).poll_write(cx, &self.held);
        }
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.hand_shake != HandShake::Over {
            return self.poll_in_hand_shake(cx, parts);
        }
        while !self.held.is_empty() {
            let mut all = Vec::with_capacity(1 + parts.len());
            all.push(IoSlice::new(&self.held));
            all.extend_from_slice(parts);
            let written = ready!(poll_stream(&mut self.stream, self.is_last, cx, &all))?;
            let of_held = written.min(self.held.len());
            self.held.drain(..of_held);
            if self.held.is_empty() {
                self.held = Vec::new();
            }
            if written == 0 || written > of_held {
                return Poll::Ready(Ok(written - of_held));
            }
        }
        poll_stream(&mut self.stream, self.is_last, cx, parts)
    }

    fn poll_in_hand_shake(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        let first = parts.iter().find_map(|part| part.first());
        if self.hand_shake == HandShake::Heard && first == Some(&ENCRYPTED_RECORD) || !self.held.is_empty() {
            parts.iter().for_each(|part| self.held.extend_from_slice(part));
            return Poll::Ready(Ok(length));
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        let is_whole = matches!(outcome, Poll::Ready(Ok(written)) if written == length);
        self.hand_shake = if is_whole { HandShake::Answered } else { HandShake::Over };
        outcome
    }
}

fn poll_stream<S: AsyncWrite + Ending + Unpin>(
    stream: &mut S,
    is_last: bool,
    cx: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match is_last.then(|| stream.write_ending(parts)).flatten() {
        Some(written) => Poll::Ready(written),
        None => Pin::new(stream).poll_write_vectored(cx, parts),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LateTickets<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        if self.hand_shake == HandShake::Answered {
            self.hand_shake = HandShake::Heard;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Ending + Unpin> AsyncWrite for LateTickets<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_parts(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_parts(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
impl Ending for tokio::io::DuplexStream {}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const HELLO: &[u8] = b"\x16 server hello \x17 certificate";
    const TICKETS: &[u8] = b"\x17 one ticket \x17 another";

    /// A hand-shake over a stream that takes so many bytes at once, up to its tickets; what the client has seen of it.
    async fn shake_hands(step: usize, flights: &[&[u8]]) -> (LateTickets<tokio::io::DuplexStream>, Vec<u8>) {
        let (near, mut far) = tokio::io::duplex(step);
        let mut server = LateTickets::new(near);
        let mut seen = Vec::new();
        for (number, flight) in flights.iter().enumerate() {
            if number > 0 {
                far.write_all(b"!").await.unwrap();
                server.read_u8().await.unwrap();
            }
            let mut sent = vec![0; flight.len()];
            tokio::select! {
                biased;
                read = far.read_exact(&mut sent) => { read.unwrap(); }
                () = async { server.write_all(flight).await.unwrap(); std::future::pending().await } => {}
                () = async { for _ in 0..10 { tokio::task::yield_now().await; } } => continue,
            }
            seen.extend(sent);
        }
        server.end_hand_shake();
        tokio::spawn(async move { far.read_to_end(&mut Vec::new()).await });
        (server, seen)
    }

    #[tokio::test]
    async fn tickets_wait_for_what_is_sent_next() {
        let (server, seen) = shake_hands(1024, &[HELLO, TICKETS]).await;
        assert_eq!(seen, HELLO);
        assert_eq!(server.held, TICKETS);
    }

    #[tokio::test]
    async fn a_second_answer_to_a_hello_waits_for_nothing() {
        let (server, seen) = shake_hands(1024, &[b"\x16 another hello, please", HELLO, TICKETS]).await;
        assert_eq!(seen, [b"\x16 another hello, please", HELLO].concat());
        assert_eq!(server.held, TICKETS);
    }

    #[tokio::test]
    async fn nothing_is_held_once_a_flight_was_cut() {
        let (server, seen) = shake_hands(7, &[HELLO, TICKETS]).await;
        assert_eq!(seen, [HELLO, TICKETS].concat());
        assert!(server.held.is_empty());
    }

    #[tokio::test]
    async fn what_is_held_comes_first_however_little_is_taken() {
        for step in [1, 5, TICKETS.len(), 1024] {
            let (near, mut far) = tokio::io::duplex(step);
            let mut server =
                LateTickets { held: TICKETS.to_vec(), hand_shake: HandShake::Over, ..LateTickets::new(near) };
            let write = async {
                server.write_all(b"answer").await.unwrap();
                assert!(server.held.is_empty());
                server.write_all(b", and more").await.unwrap();
                drop(server);
            };
            let mut seen = Vec::new();
            let (_, read) = tokio::join!(write, far.read_to_end(&mut seen));
            read.unwrap();
            assert_eq!(seen, [TICKETS, b"answer, and more"].concat(), "{step}");
        }
    }
}
