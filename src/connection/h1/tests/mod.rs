//! Dialogues with the codec alone: what becomes of bytes, and of time.

mod bodies;
mod pace;
mod requests;
mod responses;

use std::cell::RefCell;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::Instant;

use super::*;
use crate::body::{Arrival, BodyError, Source};
use crate::guard::Violation;
use crate::pace::Terms;
use crate::timers::{Sweep, TICK, with_sweep};

const LIMITS: Limits = Limits {
    idle_timeout: Duration::from_secs(15),
    header_timeout: Duration::from_secs(12),
    body: Terms { silence: Duration::from_secs(5), rate_min: 0 },
    sending: Terms { silence: Duration::from_secs(10), rate_min: 0 },
    h2_streams_max: 1,
};

const STAMP: Stamp<'_> = Stamp { date: b"Sun, 06 Nov 1994 08:49:37 GMT", names: None, prepared: None };

/// What the server's side of a dialogue saw.
#[derive(Debug, Default)]
struct Seen {
    calls: Vec<String>,
    violation: Option<Reason>,
    end: Option<Broken>,
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

/// The next one, which is to be good.
async fn request(codec: &mut Codec<DuplexStream>) -> Request<Option<Source>> {
    let mut request = Request::new(None);
    assert!(matches!(codec.next(&mut request, &mut |_| false).await, Next::Request));
    request
}

async fn serve(codec: &mut Codec<DuplexStream>) -> Seen {
    let calls = RefCell::new(Vec::new());
    let mut end = None;
    loop {
        let mut request = Request::new(None);
        let response = match codec.next(&mut request, &mut |_| false).await {
            Next::Request => codec.during(pin!(answer(request, &calls))).await,
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
                codec.respond(head, &mut body, false, STAMP).await
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
