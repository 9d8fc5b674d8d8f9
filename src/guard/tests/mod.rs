//! The rows of known attacks against the machine, and the machine against a second reading of its rules.

mod agreement;
mod bodies;
mod heads;

pub use agreement::client_bytes;

use super::machine::{Machine, Phase, Step, Stop};
use super::reject::Reason::{self, *};

/// What came out of a machine.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    released: Vec<u8>,
    requests: u64,
    phase: Phase,
    stop: Option<Stop>,
}

/// Feeds the pieces as a connection does: what is not done with comes again with the next piece.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut machine = Machine::default();
    let (mut released, mut rest, mut requests, mut stop) = (Vec::new(), Vec::new(), 0, None);
    for piece in pieces {
        rest.extend_from_slice(piece);
        loop {
            match machine.step(&rest) {
                Ok(Step::Wait) => break,
                Ok(step) => {
                    requests += u64::from(matches!(step, Step::Head(_)));
                    released.extend(rest.drain(..step.bytes()));
                }
                Err(found) => stop = stop.or(Some(found)),
            }
        }
    }
    Outcome { released, requests, phase: machine.phase(), stop }
}

/// Feeds the input whole, cut in two at every place, and byte by byte: all must come to the same.
fn feed_all_ways(input: &[u8]) -> Outcome {
    let whole = feed([input]);
    for cut in 0..=input.len() {
        let (first, second) = input.split_at(cut);
        assert_eq!(feed([first, second]), whole, "cut at {cut}: {:?}", input.escape_ascii().to_string());
    }
    assert_eq!(feed(input.chunks(1)), whole, "byte by byte: {:?}", input.escape_ascii().to_string());
    whole
}

fn refused(reason: Reason) -> Option<Stop> {
    Some(Stop::Refused(reason))
}

/// A head is refused, alone and behind a good request, and nothing of it is released.
fn check_refused(row: &str, head: impl AsRef<[u8]>, reason: Reason) {
    const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = head.as_ref();
    let alone = feed_all_ways(head);
    assert_eq!((alone.stop, alone.released.len()), (refused(reason), 0), "{row}: {}", head.escape_ascii());
    let pipelined = feed_all_ways(&[GOOD, head].concat());
    assert_eq!((pipelined.stop, &pipelined.released[..]), (refused(reason), GOOD), "{row}: {}", head.escape_ascii());
    assert_eq!((alone.requests, pipelined.requests), (0, 1));
}

/// The fields stand in a good request.
fn check_fields(row: &str, fields: &str, reason: Reason) {
    check_refused(row, format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"), reason);
    check_refused(row, format!("POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n{fields}\r\nZ: z\r\n\r\n"), reason);
}

fn check_host(row: &str, host: &str, reason: Reason) {
    check_refused(row, format!("GET / HTTP/1.1\r\n{host}\r\n\r\n"), reason);
}

fn check_request_line(row: &str, line: &str, reason: Reason) {
    check_refused(row, format!("{line}\r\nHost: a\r\n\r\n"), reason);
}

/// A chunked body is cut off, and not at its end.
fn check_body(row: &str, body: impl AsRef<[u8]>, reason: Reason) {
    let outcome = feed_all_ways(&chunked(body.as_ref()));
    assert_eq!(outcome.stop, Some(Stop::Violated(reason)), "{row}: {}", body.as_ref().escape_ascii());
    assert!(!outcome.released.ends_with(b"0\r\n\r\n"));
}

fn chunked(body: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", body].concat()
}

/// All of it is released, and so many requests were in it.
fn check_good(row: &str, input: impl AsRef<[u8]>, requests: u64, phase: Phase) {
    let input = input.as_ref();
    let outcome = feed_all_ways(input);
    let expected = Outcome { released: input.to_vec(), requests, phase, stop: None };
    assert_eq!(outcome, expected, "{row}: {}", input.escape_ascii());
}

#[test]
fn good_requests_are_released_whole() {
    let get = "GET /a?b=c HTTP/1.1\r\nHost: a.example:8080\r\nUser-Agent: x\r\n\r\n";
    check_good("one", get, 1, Phase::Between);
    check_good("pipelined", get.repeat(3), 3, Phase::Between);
    check_good("empty line before", format!("\r\n{get}\r\n{get}"), 2, Phase::Between);
    check_good("length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 1, Phase::Between);
    check_good("length 0", format!("PUT / HTTP/1.1\r\nHost: a\r\ncontent-length:0\r\n\r\n{get}"), 2, Phase::Between);
    check_good("no body said", format!("POST / HTTP/1.1\r\nHost: a\r\n\r\n{get}"), 2, Phase::Between);
    check_good("within a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", 1, Phase::Body);
    check_good("chunked", chunked(b"5\r\nhello\r\n0\r\n\r\n"), 1, Phase::Between);
    check_good("within a size", chunked(b"00a"), 1, Phase::Body);
    check_good("extension", chunked(b"5;a=\"b;\\\"c\"; d\r\nhello\r\n0;e\r\n\r\n"), 1, Phase::Between);
    check_good("trailers", chunked(b"1\r\nx\r\n0\r\nX-Sum: 1 2\r\nY:\r\n\r\n"), 1, Phase::Between);
    check_good(
        "coding in capitals",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED \r\n\r\n0\r\n\r\n",
        1,
        Phase::Between,
    );
    check_good(
        "expectation",
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
        1,
        Phase::Between,
    );
    check_good("bytes over 127", b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\t\xff\r\nY:\r\n\r\n", 1, Phase::Between);
    check_good("options", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1, Phase::Between);
    check_good("absolute", "GET HTTP://A.b:80?x HTTP/1.1\r\nHost: a.B:80\r\n\r\n", 1, Phase::Between);
    check_good("IPv6", "GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]:65535\r\n\r\n", 1, Phase::Between);
    check_good("1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 1, Phase::Ended);
    check_good("1.0 kept alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n".repeat(2), 2, Phase::Between);
    check_good(
        "upgrade",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        1,
        Phase::Held,
    );
    check_good("upgrade not asked", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", 1, Phase::Between);
    check_good(
        "upgrade in 1.0",
        "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        1,
        Phase::Ended,
    );
}
