//! Dialogues with the codec alone: what becomes of bytes, and of time.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::body::{Arrival, BodyError, Source};
use crate::guard::{Violation, client_bytes};
use crate::pace::{Stalled, Terms};
use crate::timers::{Deadline, Sweep, TICK};

const LIMITS: Limits = Limits {
    idle_timeout: Duration::from_secs(15),
    header_timeout: Duration::from_secs(12),
    body: Terms { silence: Duration::from_secs(5), rate_min: 0 },
    sending: Terms { silence: Duration::from_secs(10), rate_min: 0 },
    h2_streams_max: 1,
};

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// What the server's side of a dialogue saw.
#[derive(Debug, Default)]
struct Seen {
    calls: Vec<String>,
    violation: Option<Reason>,
    end: Option<Broken>,
}

async fn with_sweep<T>(test: impl AsyncFnOnce(Rc<Sweep>) -> T) -> T {
    let sweep = Sweep::new();
    tokio::select! {
        () = sweep.run() => unreachable!("a sweep never ends"),
        result = test(Rc::clone(&sweep)) => result,
    }
}

fn codec(stream: DuplexStream, limits: Limits, sweep: &Sweep) -> Codec<DuplexStream> {
    Codec::new(stream, limits, sweep.deadline(), sweep.deadline())
}

/// Serves one end of a stream until both it and the client at the other are done.
async fn dialogue<T>(client: impl AsyncFnOnce(DuplexStream) -> T) -> (T, Seen) {
    dialogue_within(LIMITS, client).await
}

async fn dialogue_within<T>(limits: Limits, client: impl AsyncFnOnce(DuplexStream) -> T) -> (T, Seen) {
    with_sweep(async |sweep| {
        let (near, far) = duplex(1024);
        let server = async {
            let mut codec = codec(far, limits, &sweep);
            let seen = serve(&mut codec).await;
            if matches!(seen.end, None | Some(Broken::Cut)) {
                codec.discard(&sweep.deadline(), Duration::from_secs(2)).await;
            }
            seen
        };
        let (seen, said) = tokio::join!(server, client(near));
        (said, seen)
    })
    .await
}

async fn serve(codec: &mut Codec<DuplexStream>) -> Seen {
    let calls = RefCell::new(Vec::new());
    let mut end = None;
    loop {
        let response = match codec.next(&mut |_| false).await {
            Next::Request(request) => codec.during(pin!(answer(request, &calls))).await,
            Next::Refused(reason) => {
                calls.borrow_mut().push(format!("refused: {reason}"));
                Ok(Response::builder().status(reason.status()).body(Body::empty()).unwrap())
            }
            Next::End => break,
        };
        let answered = match response {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let mut body = Some(body);
                codec.respond(head, &mut body, false, DATE).await
            }
            Err(broken) => Err(broken),
        };
        match answered {
            Ok(true) => {}
            Ok(false) => break,
            Err(broken) => {
                end = Some(broken);
                break;
            }
        }
    }
    Seen { calls: calls.take(), violation: codec.violation(), end }
}

async fn answer(request: Request<Option<Source>>, calls: &RefCell<Vec<String>>) -> Response<Body> {
    let (head, source) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = source.map_or_else(Body::empty, Source::into_body);
    let call = match body.collect().await {
        Ok(body) => format!("{path} {}", body.to_bytes().escape_ascii()),
        Err(BodyError::Peer(error)) => match error.downcast_ref::<Violation>() {
            Some(Violation(reason)) => format!("{path} cut off: {reason}"),
            None => format!("{path} ended early"),
        },
        Err(error) => panic!("{error}"),
    };
    calls.borrow_mut().push(call);
    if path == "/waits" {
        std::future::pending::<()>().await;
    }
    let body = match path.as_str() {
        "/large" => Body::whole(vec![b'x'; 100_000]),
        "/cut" => frames([Ok(Frame::data("a part".into())), Err(BodyError::Silence(Duration::ZERO))], None),
        "/known" => frames([Ok(Frame::data("all".into()))], Some(3)),
        "/unknown" => frames([Ok(Frame::data("all".into())), Ok(Frame::trailers(trailers()))], None),
        _ => Body::empty(),
    };
    Response::builder().header("trailer", "x-sum").body(body).unwrap()
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())])
}

/// A body of frames that are all there.
struct Frames(Vec<Result<Frame<Bytes>, BodyError>>, Option<u64>);

fn frames<const N: usize>(frames: [Result<Frame<Bytes>, BodyError>; N], length: Option<u64>) -> Body {
    Source::arriving(Box::new(Frames(frames.into_iter().rev().collect(), length))).into_body()
}

impl Arrival for Frames {
    fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop())
    }

    fn has_ended(&self) -> bool {
        self.0.is_empty()
    }

    fn is_uploading(&self) -> bool {
        false
    }

    fn poll_upload(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(Ok(()))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.1.map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }

    fn complete(self: Box<Self>) {}
}

/// Sends all of it and returns what comes back until the server closes.
async fn exchange(mut stream: DuplexStream, input: &[u8]) -> String {
    stream.write_all(input).await.unwrap();
    rest(stream).await
}

async fn rest(mut stream: DuplexStream) -> String {
    let mut output = String::new();
    stream.read_to_string(&mut output).await.unwrap();
    output
}

fn statuses(output: &str) -> Vec<u16> {
    output.split("HTTP/1.1 ").skip(1).map(|response| response[..3].parse().unwrap()).collect()
}

/// A silence that begins between two looks is noticed a quarter late at most.
fn took_a_little_longer(start: Instant, limit: Duration) -> bool {
    (limit..=limit + limit / 4 + 5 * TICK).contains(&start.elapsed())
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
    let (output, seen) = dialogue(async |stream| exchange(stream, input).await).await;
    assert_eq!(statuses(&output), [200, 200, 400]);
    assert_eq!(seen.calls, ["/1 ", "/2 hi", "refused: host-repeated"]);
    assert_eq!((output.matches("connection: close").count(), seen.end), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_byte_by_byte_is_the_same_request() {
    let input =
        b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n\
        GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (output, seen) = dialogue(async |mut stream| {
        for byte in input {
            stream.write_all(&[*byte]).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
        rest(stream).await
    })
    .await;
    assert_eq!((statuses(&output), seen.calls), (vec![200, 200], vec!["/1 abcde".to_owned(), "/2 ".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_head_larger_than_one_read_passes() {
    let mut input = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".to_vec();
    for _ in 0..10 {
        input.extend([&b"X: "[..], &[b'y'; 3000], b"\r\n"].concat());
    }
    input.extend(b"\r\n");
    let (output, _) = dialogue(async |stream| exchange(stream, &input).await).await;
    assert_eq!(statuses(&output), [200]);
}

#[tokio::test(start_paused = true)]
async fn a_large_body_arrives_whole_and_the_next_request_behind_it() {
    let body = "0123456789".repeat(30_000);
    let chunked: String = body.as_bytes().chunks(7001).fold(String::new(), |all, chunk| {
        all + &format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap())
    });
    for (framing, content) in [
        (format!("Content-Length: {}", body.len()), body.clone()),
        ("Transfer-Encoding: chunked".to_owned(), chunked + "0\r\n\r\n"),
    ] {
        let next = "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let input = format!("POST /1 HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{content}{next}");
        let (output, seen) = dialogue(async |stream| exchange(stream, input.as_bytes()).await).await;
        assert_eq!(statuses(&output), [200, 200]);
        assert!(seen.calls == [format!("/1 {body}"), "/2 ".to_owned()], "{framing}");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_framing_in_a_body_cuts_the_body_off() {
    let head = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, reason) in [("3\r\nabc\r\n0x1\r\n", "bad-chunk-size"), ("3\r\nabcd\r\n0\r\n\r\n", "bad-chunk-end")] {
        let input = format!("{head}{body}GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
        let (output, seen) = dialogue(async |stream| exchange(stream, input.as_bytes()).await).await;
        assert_eq!(seen.calls, [format!("/1 cut off: {reason}")]);
        assert_eq!(seen.violation.map(Reason::code), Some(reason));
        assert!(output.contains("connection: close"), "{output}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_go_on_when_its_body_is_wanted() {
    let (output, seen) = dialogue(async |mut stream| {
        let head =
            b"PUT /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        exchange(stream, b"hi").await
    })
    .await;
    assert_eq!((statuses(&output), seen.calls), (vec![200], vec!["/1 hi".to_owned()]));
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
        assert_eq!(statuses(&rest(stream).await), [408]);
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
            let answers = statuses(&exchange(stream, input.as_bytes()).await).len();
            assert_eq!(answers, usize::from(input.len() > 2));
            took(start, LIMITS.idle_timeout)
        })
        .await;
        assert!(took && seen.end.is_none() && !seen.calls.contains(&"refused".to_owned()));
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
        rest(stream).await;
        took_a_little_longer(start, LIMITS.body.silence)
    })
    .await;
    assert!(took);
    assert_eq!(seen.calls, ["/1 cut off: body-read-timeout"]);
}

/// C2: what frames the data is none.
#[tokio::test(start_paused = true)]
async fn framing_alone_does_not_stand_for_a_body() {
    for dribble in [&b"0"[..], b"1;xxxxxxxxxxxxxxxxxxxxxxxx", b"0\r\na: xxxxxxxxxxxxxxxxxxxx"] {
        let (took, seen) = dialogue(async |mut stream| {
            stream.write_all(b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            let start = Instant::now();
            for byte in dribble.iter().cycle().take(10) {
                stream.write_all(&[*byte]).await.unwrap();
                sleep(Duration::from_millis(450)).await;
            }
            rest(stream).await;
            took_a_little_longer(start, LIMITS.body.silence)
        })
        .await;
        assert!(took, "{}", dribble.escape_ascii());
        assert_eq!(seen.calls, ["/1 cut off: body-read-timeout"], "{}", dribble.escape_ascii());
    }
}

const PACED: Limits = Limits {
    body: Terms { silence: Duration::from_secs(5), rate_min: 100 },
    sending: Terms { silence: Duration::from_secs(10), rate_min: 100 },
    ..LIMITS
};

/// C2: a byte now and then is not silence, and no upload either.
#[tokio::test(start_paused = true)]
async fn a_body_keeps_the_lowest_rate() {
    for (bytes, expected) in [(90, "/1 cut off: body-too-slow"), (110, "/1 ")] {
        let ((), seen) = dialogue_within(PACED, async |mut stream| {
            let piece = vec![b'a'; bytes];
            let head = format!("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 30 * bytes);
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..30 {
                sleep(Duration::from_secs(1)).await;
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
            }
        })
        .await;
        assert!(seen.calls[0].starts_with(expected), "{bytes}: {:?}", seen.calls);
    }
}

/// C3: who takes a byte now and then holds the response as if it took none.
#[tokio::test(start_paused = true)]
async fn a_response_is_taken_at_the_lowest_rate() {
    for (bytes, end) in [(90, Some(Broken::Stalled(Stalled::TooSlow))), (20_000, None)] {
        let ((), seen) = dialogue_within(PACED, async |mut stream| {
            stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut room = vec![0; bytes];
            let mut pace = tokio::time::interval(Duration::from_secs(1));
            while stream.read(&mut room).await.is_ok_and(|bytes| bytes > 0) {
                pace.tick().await;
            }
        })
        .await;
        assert_eq!(seen.end, end, "{bytes} bytes a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_may_be_read_slowly_and_not_never() {
    let (_, seen) = dialogue(async |mut stream| {
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        for _ in 0..5 {
            sleep(Duration::from_secs(9)).await;
            stream.read_exact(&mut [0; 1024]).await.unwrap();
        }
        sleep(LIMITS.sending.silence * 5 / 4 + 5 * TICK).await;
    })
    .await;
    assert_eq!(seen.end, Some(Broken::Stalled(Stalled::Silent)));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_not_ended() {
    let (output, seen) = dialogue(async |stream| exchange(stream, b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n").await).await;
    assert!(output.ends_with("\r\n\r\n6\r\na part\r\n"), "{output}");
    assert_eq!(seen.end, Some(Broken::Cut));
}

#[tokio::test(start_paused = true)]
async fn responses_are_framed_as_the_client_knows_it() {
    let request =
        |path: &str, version: &str, fields: &str| format!("GET {path} HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
    let all = [
        request("/known", "1.0", "Connection: keep-alive\r\n"),
        request("/unknown", "1.1", "TE: trailers\r\n"),
        request("/unknown", "1.1", ""),
        request("/known", "1.1", "").replace("GET", "HEAD"),
        request("/unknown", "1.0", "Connection: keep-alive\r\n"),
        request("/known", "1.1", ""),
    ];
    let (output, seen) = dialogue(async |stream| exchange(stream, all.concat().as_bytes()).await).await;
    let bodies: Vec<_> = output.split("HTTP/1.").skip(1).map(|all| all.split_once("\r\n\r\n").unwrap().1).collect();
    let chunked = "3\r\nall\r\n0\r\n";
    let with_trailers = format!("{chunked}x-sum: 1\r\n\r\n");
    assert_eq!(bodies, ["all", &with_trailers, &format!("{chunked}\r\n"), "", "all"], "{output}");
    assert_eq!(output.matches("connection: keep-alive").count(), 1);
    assert_eq!(seen.calls.len(), 5, "the end of a body of unknown length is the end of the connection");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_it_waits_is_noticed() {
    let (_, seen) = dialogue(async |mut stream| {
        stream.write_all(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    assert_eq!((seen.calls, seen.end), (vec!["/waits ".to_owned()], Some(Broken::Gone)));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sends_while_it_waits_is_bounded() {
    for head in
        ["GET /waits HTTP/1.1\r\nHost: a\r\n\r\n", "POST /waits HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"]
    {
        let flooding = dialogue(async |mut stream| {
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&[b'x'; 1024 * 1024]).await
        });
        assert!(timeout(Duration::from_secs(60), flooding).await.is_err(), "all was read");
    }
}

/// One request whose body another task takes.
async fn hand_over(input: &[u8], take: impl AsyncFnOnce(Source)) {
    with_sweep(async |sweep| {
        let (mut near, far) = duplex(64);
        let mut codec = codec(far, LIMITS, &sweep);
        let write = async {
            near.write_all(input).await.unwrap();
            near
        };
        let serve = async {
            let Next::Request(request) = codec.next(&mut |_| false).await else { panic!("no request") };
            let (given, taken) = tokio::sync::oneshot::channel();
            let answer = async {
                let _ = given.send(request.into_body().expect("it has a body"));
                std::future::pending::<Infallible>().await
            };
            let taking = async { take(taken.await.unwrap()).await };
            // Two tasks in all but name: each is woken for itself.
            let mut both = futures_util::stream::FuturesUnordered::new();
            both.push(futures_util::future::Either::Left(async {
                let _broken = codec.during(pin!(answer)).await;
            }));
            both.push(futures_util::future::Either::Right(taking));
            futures_util::StreamExt::next(&mut both).await;
        };
        let (_open, ()) = tokio::join!(write, serve);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_taken_by_another_task() {
    let body = "x".repeat(5000);
    let input = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    hand_over(input.as_bytes(), async |source| {
        let all = timeout(Duration::from_secs(1), source.into_body().collect()).await.expect("it is woken");
        assert_eq!(all.unwrap().to_bytes(), body);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_takes_ends_the_connection_behind_its_response() {
    with_sweep(async |sweep| {
        let (mut near, far) = duplex(1024);
        let mut codec = codec(far, LIMITS, &sweep);
        near.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\na part").await.unwrap();
        let Next::Request(request) = codec.next(&mut |_| false).await else { panic!("no request") };
        drop(request);
        let more = codec.respond(Response::new(()).into_parts().0, &mut None, false, DATE).await;
        assert_eq!(more, Ok(false));
        drop(codec);
        assert!(rest(near).await.contains("connection: close"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_carries_what_came_early_and_then_the_stream() {
    with_sweep(async |sweep| {
        let (mut near, far) = duplex(1024);
        let mut codec = codec(far, LIMITS, &sweep);
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        near.write_all(&[head, &b"\0early"[..]].concat()).await.unwrap();
        let Next::Request(_) = codec.next(&mut |_| false).await else { panic!("no request") };
        assert!(codec.may_tunnel());
        let mut stream = codec.into_tunnel();
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
    let input =
        b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let (output, seen) = dialogue(async |stream| exchange(stream, input).await).await;
    assert_eq!((statuses(&output), seen.calls), (vec![200], vec!["/1 ".to_owned()]));
    assert!(output.contains("connection: close") && seen.end.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sends_after_its_refusal_is_thrown_away() {
    let (output, seen) = dialogue(async |mut stream| {
        stream.write_all(b"\0").await.unwrap();
        for _ in 0..100 {
            stream.write_all(&[b'x'; 1000]).await.unwrap();
        }
        rest(stream).await
    })
    .await;
    assert_eq!((statuses(&output), seen.calls), (vec![400], vec!["refused: bad-method".to_owned()]));
}

/// Told to end, a connection finishes what has begun.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_to_end_reads_what_has_come() {
    with_sweep(async |sweep| {
        let (mut near, far) = duplex(1024);
        let mut codec = codec(far, LIMITS, &sweep);
        near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HT").await.unwrap();
        assert!(matches!(codec.next(&mut |_| true).await, Next::Request(_)));
        let rest = async {
            sleep(Duration::from_secs(1)).await;
            near.write_all(b"TP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        };
        let mut is_last = |_: &mut Context<'_>| true;
        let (next, ()) = tokio::join!(codec.next(&mut is_last), rest);
        assert!(matches!(next, Next::Request(_)));
        assert!(matches!(codec.next(&mut |_| true).await, Next::End));
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes in whatever pieces: each message is answered, a refusal too, and no more.
    #[test]
    fn each_message_has_one_answer(bytes in client_bytes(), room in 1usize..100) {
        let expected = crate::guard::reference::read(&bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (output, seen) = runtime.block_on(with_sweep(async |sweep| {
            let (near, far) = duplex(room);
            let mut codec = codec(far, LIMITS, &sweep);
            let (mut reading, mut writing) = tokio::io::split(near);
            let client = async {
                // It may close before it has read all.
                let _closed = writing.write_all(&bytes).await;
                // Time to answer: who leaves is answered no more.
                sleep(Duration::from_secs(1)).await;
                let _closed = writing.shutdown().await;
            };
            let mut output = Vec::new();
            let read = async { drop(reading.read_to_end(&mut output).await) };
            let server = async {
                let seen = serve(&mut codec).await;
                codec.discard(&Deadline::clone(&sweep.deadline()), Duration::from_secs(2)).await;
                drop(codec);
                seen
            };
            let (seen, (), ()) = tokio::join!(server, client, read);
            (output, seen)
        }));
        let is_whole = |call: &&String| !["refused", "cut off", "ended early"].iter().any(|other| call.contains(other));
        let whole = seen.calls.iter().filter(is_whole).count();
        prop_assert_eq!(whole, expected.message_ends.len(), "{:?}", seen.calls);
        let finals = String::from_utf8_lossy(&output).replace("HTTP/1.1 100", "").matches("HTTP/1.").count();
        prop_assert_eq!(finals, seen.calls.len(), "{:?}", seen.calls);
        let is_refused = matches!(expected.end, crate::guard::reference::End::Refused);
        prop_assert!(!is_refused || seen.calls.last().is_some_and(|call| call.starts_with("refused")), "{:?}", seen.calls);
    }
}
