//! The two sides of a guarded connection: the stream for hyper, and the handle for what runs hyper.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::machine::Refusal;
use super::reject::Reason;
use super::state::{Deadlines, Limits, State};
use crate::timers::Deadline;

/// Of what a client still sends when its connection is over, so much within each limit shows that it uploads.
/// One that sends a byte now and then wins no time.
const DISCARD_STEP: usize = 16 * 1024;

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

    /// Whether request number `call` asked for an upgrade that has not been granted: then it was the last.
    pub fn awaits_tunnel(&self, call: u64) -> bool {
        let state = self.0.borrow();
        state.machine().requests() == call && state.machine().awaits_tunnel()
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
}

impl<S: AsyncRead + AsyncWrite + Unpin> GuardHandle<S> {
    /// Ends the connection in order, once hyper is done with it: nothing more is sent, and what the client still
    /// sends is thrown away, until it has closed. Closing a socket on unread bytes resets
    /// it, which can destroy the response on its way (RFC 9112 §9.6). The limit of `silence` begins anew as long as
    /// the client is sending at a good rate; the caller waits for it, and bounds the whole.
    pub async fn discard(&self, silence: &Deadline, limit: Duration) {
        // hyper may have done this before.
        let _ = poll_fn(|cx| self.0.borrow_mut().poll_shutdown(cx)).await;
        let mut discarded = 0;
        while let Ok(bytes @ 1..) = poll_fn(|cx| self.0.borrow_mut().poll_discard(cx)).await {
            discarded += bytes;
            if discarded >= DISCARD_STEP {
                discarded = 0;
                silence.arm(limit);
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::convert::Infallible;
    use std::error::Error;
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::super::tests::client_bytes;
    use super::super::{Violation, reference};
    use super::*;
    use crate::timers::{Sweep, TICK};

    const LIMITS: Limits = Limits {
        idle_timeout: Duration::from_secs(15),
        header_timeout: Duration::from_secs(12),
        body_timeout: Duration::from_secs(5),
        send_timeout: Duration::from_secs(10),
    };

    /// What the server side of a dialogue saw.
    struct Seen {
        calls: Vec<String>,
        result: hyper::Result<()>,
        handle: GuardHandle<DuplexStream>,
    }

    async fn with_sweep<T>(test: impl AsyncFnOnce(Deadlines) -> T) -> T {
        let sweep = Sweep::new();
        let deadlines = Deadlines { read: sweep.deadline(), write: sweep.deadline() };
        tokio::select! {
            () = sweep.run() => unreachable!("a sweep never ends"),
            result = test(deadlines) => result,
        }
    }

    /// Runs hyper behind a guard until both it and the client are done.
    async fn dialogue<T>(client: impl AsyncFnOnce(DuplexStream) -> T) -> (T, Seen) {
        with_sweep(async |deadlines| {
            let (near, far) = duplex(1024);
            let silence = deadlines.write.clone();
            let (stream, handle) = guarded(far, LIMITS, deadlines);
            let calls = RefCell::new(Vec::new());
            let service = service_fn(|request| answer(request, &handle, &calls));
            let connection = http1::Builder::new().half_close(true).serve_connection(stream, service);
            let server = async {
                let result = connection.await;
                handle.discard(&silence, Duration::from_secs(2)).await;
                result
            };
            let (result, said) = tokio::join!(server, client(near));
            (said, Seen { calls: calls.take(), result, handle: handle.clone() })
        })
        .await
    }

    async fn answer(
        request: Request<Incoming>,
        handle: &GuardHandle<DuplexStream>,
        calls: &RefCell<Vec<String>>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let number = calls.borrow().len() as u64 + 1;
        if let Some(refusal) = handle.refusal().filter(|refusal| refusal.request_number == number) {
            calls.borrow_mut().push(format!("refused: {}", refusal.reason));
            return Ok(status(refusal.reason.status().as_u16()));
        }
        let path = request.uri().path().to_owned();
        let bytes = if path == "/large" { 100_000 } else { 0 };
        let call = match request.into_body().collect().await {
            Ok(body) => format!("{path} {}", body.to_bytes().escape_ascii()),
            Err(error) => format!("{path} cut off: {}", cause(&error)),
        };
        calls.borrow_mut().push(call);
        let mut response = status(200);
        *response.body_mut() = Full::from(vec![b'x'; bytes]);
        Ok(response)
    }

    fn status(code: u16) -> Response<Full<Bytes>> {
        Response::builder().status(code).body(Full::default()).unwrap()
    }

    /// The guard's reason in an error of hyper.
    fn cause(error: &(dyn Error + 'static)) -> String {
        let mut next = Some(error);
        while let Some(error) = next {
            let io = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(violation) = io.and_then(|inner| inner.downcast_ref::<Violation>()) {
                return violation.0.to_string();
            }
            next = error.source();
        }
        error.to_string()
    }

    /// Sends all of it and returns the status codes of all responses until the server closes.
    async fn exchange(mut stream: DuplexStream, input: &[u8]) -> Vec<u16> {
        stream.write_all(input).await.unwrap();
        statuses(stream).await
    }

    async fn statuses(mut stream: DuplexStream) -> Vec<u16> {
        let mut output = String::new();
        stream.read_to_string(&mut output).await.unwrap();
        output.split("HTTP/1.1 ").skip(1).map(|response| response[..3].parse().unwrap()).collect()
    }

    fn took(start: Instant, limit: Duration) -> bool {
        (limit..=limit + 3 * TICK).contains(&start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn requests_before_a_bad_one_are_answered_first_and_those_after_it_never() {
        let input = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
            POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\
            GET /3 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n\
            GET /4 HTTP/1.1\r\nHost: a\r\n\r\n";
        let (statuses, seen) = dialogue(async |stream| exchange(stream, input).await).await;
        assert_eq!(statuses, [200, 200, 400]);
        assert_eq!(seen.calls, ["/1 ", "/2 hi", "refused: host-repeated"]);
        assert!(seen.result.is_ok());
        assert_eq!(seen.handle.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_byte_by_byte_is_the_same_request() {
        let input = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n\
            GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let (statuses, seen) = dialogue(async |mut stream| {
            for byte in input {
                stream.write_all(&[*byte]).await.unwrap();
                sleep(Duration::from_millis(10)).await;
            }
            statuses(stream).await
        })
        .await;
        assert_eq!((statuses, seen.calls), (vec![200, 200], vec!["/1 abcde".to_owned(), "/2 ".to_owned()]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_larger_than_one_read_passes() {
        let mut input = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".to_vec();
        for _ in 0..10 {
            input.extend([&b"X: "[..], &[b'y'; 3000], b"\r\n"].concat());
        }
        input.extend(b"\r\n");
        let (statuses, _) = dialogue(async |stream| exchange(stream, &input).await).await;
        assert_eq!(statuses, [200]);
    }

    #[tokio::test(start_paused = true)]
    async fn bad_framing_in_a_body_cuts_the_body_off() {
        let head = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (body, reason) in [("3\r\nabc\r\n0x1\r\n", "bad-chunk-size"), ("3\r\nabcd\r\n0\r\n\r\n", "bad-chunk-end")] {
            let input = format!("{head}{body}");
            let (_, seen) = dialogue(async |stream| exchange(stream, input.as_bytes()).await).await;
            assert_eq!(seen.calls, [format!("/1 cut off: {reason}")]);
            assert_eq!(seen.handle.violation().map(Reason::code), Some(reason));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_one_limit_from_its_first_byte() {
        let (took, seen) = dialogue(async |mut stream| {
            sleep(Duration::from_secs(10)).await;
            let start = Instant::now();
            for byte in b"GET / HTTP" {
                stream.write_all(&[*byte]).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(statuses(stream).await, [408]);
            took(start, LIMITS.header_timeout)
        })
        .await;
        assert!(took);
        assert_eq!(seen.calls, ["refused: header-timeout"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_client_is_closed_without_an_answer() {
        for input in ["", "\r\n", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let (took, seen) = dialogue(async |stream| {
                let start = Instant::now();
                let answers = exchange(stream, input.as_bytes()).await.len();
                assert_eq!(answers, usize::from(input.len() > 2));
                took(start, LIMITS.idle_timeout)
            })
            .await;
            assert!(took && seen.result.is_ok() && seen.handle.refusal().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_and_not_silent() {
        let (took, seen) = dialogue(async |mut stream| {
            stream.write_all(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").await.unwrap();
            for _ in 0..8 {
                sleep(Duration::from_secs(4)).await;
                stream.write_all(b"a").await.unwrap();
            }
            let start = Instant::now();
            statuses(stream).await;
            took(start, LIMITS.body_timeout)
        })
        .await;
        assert!(took);
        assert_eq!(seen.calls, ["/1 cut off: body-read-timeout"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_may_be_read_slowly_and_not_never() {
        let (_, seen) = dialogue(async |mut stream| {
            stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            for _ in 0..5 {
                sleep(Duration::from_secs(9)).await;
                stream.read_exact(&mut [0; 1024]).await.unwrap();
            }
            sleep(LIMITS.send_timeout + 3 * TICK).await;
        })
        .await;
        assert!(seen.result.is_err());
        assert_eq!(seen.handle.violation(), Some(Reason::SendTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_while_it_waits_is_noticed_and_its_next_request_is_kept() {
        with_sweep(async |deadlines| {
            let (mut near, far) = duplex(1024);
            let (mut stream, handle) = guarded(far, LIMITS, deadlines);
            let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            near.write_all(request).await.unwrap();
            assert_eq!(read(&mut stream).await.unwrap(), request);

            near.write_all(request).await.unwrap();
            let vanished = poll_fn(|cx| handle.poll_vanished(cx));
            assert!(tokio::time::timeout(Duration::from_secs(60), vanished).await.is_err());
            drop(near);
            poll_fn(|cx| handle.poll_vanished(cx)).await;
            assert_eq!(handle.requests(), 1, "nothing is inspected before hyper reads");

            assert_eq!(read(&mut stream).await.unwrap(), request);
            assert_eq!(read(&mut stream).await.unwrap(), b"");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_pipelines_while_it_waits_is_bounded() {
        with_sweep(async |deadlines| {
            let (mut near, far) = duplex(1024);
            let (_stream, handle) = guarded(far, LIMITS, deadlines);
            let flood = vec![b'x'; 1024 * 1024];
            tokio::select! {
                () = poll_fn(|cx| handle.poll_vanished(cx)) => panic!("it is still there"),
                result = near.write_all(&flood) => panic!("all was read: {result:?}"),
                () = sleep(Duration::from_secs(60)) => {}
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_carries_what_came_early_and_then_the_stream() {
        with_sweep(async |deadlines| {
            let (mut near, far) = duplex(1024);
            let (mut stream, handle) = guarded(far, LIMITS, deadlines);
            let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
            near.write_all(&[head, &b"\0early"[..]].concat()).await.unwrap();
            assert_eq!(read(&mut stream).await.unwrap(), head);
            assert_eq!(read(&mut stream).await.unwrap(), b"", "hyper sees the end of the stream");

            assert!(handle.open_tunnel());
            near.write_all(b" and late").await.unwrap();
            near.shutdown().await.unwrap();
            let mut carried = Vec::new();
            stream.read_to_end(&mut carried).await.unwrap();
            assert_eq!(carried, b"\0early and late");
            stream.write_all(b"back").await.unwrap();
            near.read_exact(&mut [0; 4]).await.unwrap();
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_upgrade_that_is_not_granted_ends_the_connection_after_its_response() {
        let input = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
        let (statuses, seen) = dialogue(async |stream| exchange(stream, input).await).await;
        assert_eq!((statuses, seen.calls), (vec![200], vec!["/1 ".to_owned()]));
        assert!(seen.result.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_sends_after_its_refusal_is_thrown_away() {
        let (answers, seen) = dialogue(async |mut stream| {
            stream.write_all(b"\0").await.unwrap();
            for _ in 0..100 {
                stream.write_all(&[b'x'; 1000]).await.unwrap();
            }
            statuses(stream).await
        })
        .await;
        assert_eq!(answers, [400]);
        assert_eq!(seen.calls, ["refused: bad-method"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// hyper has no opinion of its own: it calls the service for what the guard took, and for the marker.
        #[test]
        fn hyper_takes_all_that_the_guard_takes(bytes in client_bytes()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let (_, seen) = runtime.block_on(dialogue(async |mut stream| {
                // It may close before it has read all.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }));
            let is_refused = seen.handle.refusal().is_some();
            let whole = reference::read(&bytes).message_ends.len();
            prop_assert_eq!(seen.calls.len() as u64, seen.handle.requests() + u64::from(is_refused), "{:?}", seen.calls);
            let cut_off = seen.calls.iter().filter(|call| call.contains("cut off")).count();
            prop_assert_eq!(seen.calls.len() - cut_off, whole + usize::from(is_refused), "{:?}", seen.calls);
            prop_assert_eq!(seen.calls.last().is_some_and(|call| call.starts_with("refused")), is_refused);
        }
    }

    /// One read as hyper makes it.
    async fn read(stream: &mut GuardedStream<DuplexStream>) -> io::Result<Vec<u8>> {
        let mut room = [0; 8192];
        let mut out = hyper::rt::ReadBuf::new(&mut room);
        poll_fn(|cx| hyper::rt::Read::poll_read(Pin::new(stream), cx, out.unfilled())).await?;
        Ok(out.filled().to_vec())
    }
}
