//! Two streams that speak to each other after 101: bytes pass both ways until both sides have ended or
//! nothing has passed for too long: not long at all once a side has ended.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::spare;
use crate::timers::Deadline;

const CHUNK_BYTES: usize = 16 * 1024;
/// Silence after the endpoint has ended. A client that has been told and does not close has nobody left to speak with.
const AFTER_ENDPOINT: Duration = Duration::from_secs(10);
/// Silence after the client has ended. It may wait for the outcome of what it sent, so this is longer.
const AFTER_CLIENT: Duration = Duration::from_secs(60);

/// A stream that goes on as another protocol: what came with the last message, then what comes.
#[derive(Debug)]
pub struct Resumed<S> {
    pub early: BytesMut,
    pub stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, out);
        }
        let length = this.early.len().min(out.remaining());
        out.put_slice(this.early.get(..length).unwrap_or_default());
        this.early.advance(length);
        if this.early.is_empty() {
            this.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Resumed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    Closed,
    Idle,
    Failed,
}

/// Bytes that passed, and why no more do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    pub to_upstream: u64,
    pub to_client: u64,
    pub end: TunnelEnd,
}

pub async fn relay<C, U>(client: C, upstream: U, idle: Deadline, idle_timeout: Duration) -> Passed
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let silence = Silence { deadline: idle, limit: idle_timeout, has_ended: false };
    silence.begins();
    let mut relay = Relay::new(client, upstream, silence);
    let end = poll_fn(|cx| relay.poll(cx)).await;
    Passed { to_upstream: relay.up.passed, to_client: relay.down.passed, end }
}

struct Relay<C, U> {
    client: C,
    upstream: U,
    up: Way,
    down: Way,
    silence: Silence,
    is_up_first: bool,
}

impl<C, U> Relay<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    fn new(client: C, upstream: U, silence: Silence) -> Self {
        let (up, down) = (Way::new(AFTER_CLIENT), Way::new(AFTER_ENDPOINT));
        Self { client, upstream, up, down, silence, is_up_first: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TunnelEnd> {
        // In turns: one that is always ready takes all that a task may do at a time.
        self.is_up_first = !self.is_up_first;
        let early = self.is_up_first.then(|| self.poll_up(cx));
        let down = self.poll_down(cx);
        let up = early.unwrap_or_else(|| self.poll_up(cx));
        match (up, down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(TunnelEnd::Closed),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                // Who takes no more may have said why, before it went.
                let _last_words = (self.poll_down(cx), self.poll_up(cx));
                Poll::Ready(TunnelEnd::Failed)
            }
            _ => {
                ready!(self.silence.deadline.poll_expired(cx));
                Poll::Ready(if self.silence.has_ended { TunnelEnd::Closed } else { TunnelEnd::Idle })
            }
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.up.poll(cx, (&mut self.client, &mut self.upstream), &mut self.silence)
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.down.poll(cx, (&mut self.upstream, &mut self.client), &mut self.silence)
    }
}

/// How long nothing may pass in either direction.
struct Silence {
    deadline: Deadline,
    limit: Duration,
    /// One side has.
    has_ended: bool,
}

impl Silence {
    fn begins(&self) {
        self.deadline.arm(self.limit);
    }

    fn after_end(&mut self, limit: Duration) {
        self.limit = self.limit.min(limit);
        self.has_ended = true;
        self.begins();
    }
}

/// One direction. It has memory of its own only while the receiver is slower than the sender: most tunnels are silent most of
/// the time.
struct Way {
    stage: Stage,
    /// What the receiver has not taken yet.
    held: BytesMut,
    /// That lies in a buffer of the worker.
    is_borrowed: bool,
    needs_flush: bool,
    passed: u64,
    /// How long nothing may pass once its sender has ended.
    after_end: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Passing,
    /// The sender has ended; the receiver is to be told.
    Ending,
    Over,
}

impl Way {
    fn new(after_end: Duration) -> Self {
        Self {
            stage: Stage::Passing,
            held: BytesMut::new(),
            is_borrowed: false,
            needs_flush: false,
            passed: 0,
            after_end,
        }
    }

    /// Ready when its sender has ended and its receiver has been told.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&mut (impl AsyncRead + Unpin), &mut (impl AsyncWrite + Unpin)),
        silence: &mut Silence,
    ) -> Poll<io::Result<()>> {
        while self.stage == Stage::Passing {
            ready!(self.poll_pass_on(cx, to))?;
            match ready!(self.poll_read(cx, from))? {
                0 => {
                    // The other side may still have something to say.
                    silence.after_end(self.after_end);
                    self.stage = Stage::Ending;
                }
                _ => silence.begins(),
            }
        }
        if self.stage == Stage::Ending {
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.stage = Stage::Over;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what comes next, and says how much; nothing at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, from: &mut (impl AsyncRead + Unpin)) -> Poll<io::Result<usize>> {
        let mut buffer = spare::buffer();
        if buffer.capacity() < CHUNK_BYTES / 2 {
            buffer.reserve(CHUNK_BYTES);
        }
        let read = pin!(from.read_buf(&mut (&mut buffer).limit(CHUNK_BYTES))).poll(cx);
        if matches!(read, Poll::Ready(Ok(1..))) {
            self.held = buffer;
            self.is_borrowed = true;
        } else {
            spare::keep_buffer(buffer);
        }
        read
    }

    fn poll_pass_on(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let Poll::Ready(written) = Pin::new(&mut *to).poll_write(cx, &self.held)? else {
                self.move_out();
                return Poll::Pending;
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
            self.passed += written as u64;
            self.needs_flush = true;
        }
        if self.needs_flush {
            self.leave_buffer();
            ready!(Pin::new(to).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// What waits for the receiver takes as much memory as it is long.
    fn move_out(&mut self) {
        if self.is_borrowed {
            let own = BytesMut::from(&*self.held);
            self.leave_buffer();
            self.held = own;
        }
    }

    fn leave_buffer(&mut self) {
        let held = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.is_borrowed) {
            spare::keep_buffer(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::timers::{Sweep, with_sweep};

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_both_ways_until_both_sides_end() {
        let sweep = Sweep::new();
        let ((mut client, near), (far, mut upstream)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let dialogue = async {
            client.write_all(b"ping").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            upstream.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "ping");
            upstream.write_all(b"pong!").await.unwrap();
            upstream.shutdown().await.unwrap();
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "pong!");
        };
        let tunnel = relay(near, far, sweep.deadline(), Duration::from_secs(60));
        let ((), passed) = tokio::join!(dialogue, tunnel);
        assert_eq!(passed, Passed { to_upstream: 4, to_client: 5, end: TunnelEnd::Closed });
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_receiver_gets_all_of_it() {
        let sweep = Sweep::new();
        let ((mut client, near), (far, mut upstream)) = (tokio::io::duplex(100_000), tokio::io::duplex(7));
        let sent: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        let dialogue = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = Vec::new();
            upstream.read_to_end(&mut heard).await.unwrap();
            assert!(heard == sent);
            upstream.shutdown().await.unwrap();
        };
        let ((), passed) = tokio::join!(dialogue, relay(near, far, sweep.deadline(), Duration::from_secs(60)));
        assert_eq!(passed, Passed { to_upstream: 100_000, to_client: 0, end: TunnelEnd::Closed });
    }

    /// Says one thing, when it is asked for the second time.
    struct Late(u8);

    impl AsyncRead for Late {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.0 += 1;
            match self.0 {
                1 => return Poll::Pending,
                2 => out.put_slice(b"too large"),
                _ => {}
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_endpoint_says_before_it_takes_no_more_is_heard() {
        let ((mut client, near), (broken, _)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        client.write_all(b"an upload").await.unwrap();
        let upstream = tokio::io::join(Late(0), broken);
        let passed = relay(near, upstream, Sweep::new().deadline(), Duration::from_secs(60)).await;
        assert_eq!(passed, Passed { to_upstream: 0, to_client: 9, end: TunnelEnd::Failed });
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "too large");
    }

    #[tokio::test(start_paused = true)]
    async fn who_speaks_without_end_leaves_the_other_its_turn() {
        let endless = || tokio::io::join(tokio::io::repeat(1), tokio::io::sink());
        let silence = Silence { deadline: Sweep::new().deadline(), limit: AFTER_CLIENT, has_ended: false };
        let mut relay = Relay::new(endless(), endless(), silence);
        for _ in 0..2 {
            assert!(poll_fn(|cx| Poll::Ready(relay.poll(cx))).await.is_pending());
            // With the next turn of the task comes another budget.
            tokio::task::yield_now().await;
        }
        assert!(relay.up.passed > 0 && relay.down.passed > 0, "{} {}", relay.up.passed, relay.down.passed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_early_leaves_no_memory_behind() {
        let mut resumed = Resumed { early: BytesMut::from(&b"early"[..]), stream: tokio::io::empty() };
        let mut heard = String::new();
        resumed.read_to_string(&mut heard).await.unwrap();
        assert_eq!((heard.as_str(), resumed.early.capacity()), ("early", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_has_no_memory_of_its_own_and_a_slow_one_as_much_as_waits() {
        let ((mut sender, mut from), (mut to, mut receiver)) = (tokio::io::duplex(1000), tokio::io::duplex(100));
        let mut silence = Silence { deadline: Sweep::new().deadline(), limit: AFTER_CLIENT, has_ended: false };
        let mut way = Way::new(AFTER_CLIENT);
        let mut poll = async |way: &mut Way| {
            poll_fn(|cx| Poll::Ready(way.poll(cx, (&mut from, &mut to), &mut silence))).await.map(Result::unwrap)
        };
        assert!(poll(&mut way).await.is_pending());
        assert_eq!(way.held.capacity(), 0);
        sender.write_all(&[1; 300]).await.unwrap();
        assert!(poll(&mut way).await.is_pending());
        assert_eq!((way.held.len(), way.passed), (200, 100));
        assert!(way.held.capacity() < 300, "{}", way.held.capacity());
        for passed in [200, 300] {
            receiver.read_exact(&mut [0; 100]).await.unwrap();
            assert!(poll(&mut way).await.is_pending());
            assert_eq!(way.passed, passed);
        }
        assert_eq!(way.held.capacity(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_is_closed() {
        let ((_client, near), (far, _upstream)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let passed = with_sweep(async |sweep| relay(near, far, sweep.deadline(), Duration::from_secs(1)).await).await;
        assert_eq!(passed.end, TunnelEnd::Idle);
    }

    /// How a tunnel ends, and after how many seconds, if the other side says so much, a byte every eight seconds.
    async fn check(endpoint_ends: bool, idle_s: u64, bytes: u64, expected: (TunnelEnd, u64)) {
        let ((client, near), (far, upstream)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let (mut silent, mut other) = if endpoint_ends { (upstream, client) } else { (client, upstream) };
        let begun = tokio::time::Instant::now();
        let idle = Duration::from_secs(idle_s);
        let passed = with_sweep(async |sweep| {
            let dialogue = async {
                silent.shutdown().await.unwrap();
                for _ in 0..bytes {
                    tokio::time::sleep(Duration::from_secs(8)).await;
                    other.write_all(b"x").await.unwrap();
                }
            };
            tokio::join!(relay(near, far, sweep.deadline(), idle), dialogue).0
        })
        .await;
        let sent = if endpoint_ends { passed.to_upstream } else { passed.to_client };
        assert_eq!((passed.end, begun.elapsed().as_secs(), sent), (expected.0, expected.1, bytes));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_with_one_end_lasts_while_the_other_speaks() {
        check(true, 3600, 0, (TunnelEnd::Closed, 10)).await;
        check(true, 3600, 5, (TunnelEnd::Closed, 50)).await;
        check(false, 3600, 0, (TunnelEnd::Closed, 60)).await;
        check(false, 3600, 5, (TunnelEnd::Closed, 100)).await;
        check(true, 5, 0, (TunnelEnd::Closed, 5)).await;
    }
}
