//! The rows of known attacks against the machine, and the machine against a second reading of its rules.

use proptest::prelude::*;

use super::machine::{Machine, Phase, Step, Stop};
use super::reference::{self, End};
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

#[test]
fn a1_content_length_and_transfer_encoding() {
    check_fields("A1", "Content-Length: 5\r\nTransfer-Encoding: chunked", ClAndTe);
    check_fields("A1", "Transfer-Encoding: chunked\r\nContent-Length: 5", ClAndTe);
    check_fields("A1", "transfer-encoding: chunked\r\nCONTENT-LENGTH: 0", ClAndTe);
    check_fields("A1", "Content-Length: 5\r\nTransfer-Encoding: identity", ClAndTe);
}

#[test]
fn a2_transfer_codings() {
    for coding in ["xchunked", "identity", "gzip"] {
        check_fields("A2", &format!("Transfer-Encoding: {coding}"), UnknownTe);
    }
    for coding in
        ["chunked, identity", "chunked, chunked", "gzip, chunked", "chunked;a=b", "", ",chunked", "\"chunked\""]
    {
        check_fields("A2", &format!("Transfer-Encoding: {coding}"), BadTe);
    }
    check_fields("A2", "Transfer-Encoding: \x0bchunked", ControlByte);
    check_fields("A2", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", RepeatedTe);
    check_fields("A2", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", RepeatedTe);
}

#[test]
fn a3_field_lines() {
    check_fields("A3", "Content-Length : 5", SpaceBeforeColon);
    check_fields("A3", "Transfer-Encoding\t: chunked", SpaceBeforeColon);
    check_fields("A3", "A: b\r\n c", ObsFold);
    check_fields("A3", "Content-Type:\r\n\ttext/plain", ObsFold);
    check_fields("A3", ": b", EmptyFieldName);
    check_fields("A3", "no colon", SpaceBeforeColon);
    check_fields("A3", "nocolon", BadFieldName);
    check_fields("A3", "a(b: c", BadFieldName);
    check_fields("A3", "Content\u{2010}Length: 5", BadFieldName);
    check_refused("A3", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", ObsFold);
    check_refused("A3", "GET / HTTP/1.1\r\n\tX: a\r\nHost: a\r\n\r\n", ObsFold);
}

#[test]
fn a4_http10_bodies() {
    check_refused("A4", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", TeInHttp10);
    check_refused("A4", "POST / HTTP/1.0\r\nHost: a\r\n\r\nuntil I close", NoContentLength);
    check_refused("A4", "PUT / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", NoContentLength);
}

#[test]
fn a5_content_lengths() {
    for length in ["+5", "-1", "", "0x5", "5, 5", "5 5", "18446744073709551616", "9223372036854775808", "5;", "\"5\""] {
        check_fields("A5", &format!("Content-Length: {length}"), BadContentLength);
    }
    check_fields("A5", "Content-Length: 5\r\nContent-Length: 5", RepeatedContentLength);
    check_fields("A5", "Content-Length: 5\r\ncontent-length: 6", RepeatedContentLength);
}

#[test]
fn a6_bare_line_ends_and_nul() {
    check_refused("A6", "GET / HTTP/1.1\nHost: a\r\n\r\n", BareLf);
    check_refused("A6", "GET / HTTP/1.1\r\nHost: a\n\r\n", BareLf);
    check_refused("A6", "GET / HTTP/1.1\r\nHost: a\r\n\n", BareLf);
    check_refused("A6", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareCr);
    check_fields("A6", "A: b\rContent-Length: 5", BareCr);
    check_fields("A6", "A\r: b", BareCr);
    check_fields("A6", "A: b\r", BareCr);
    check_fields("A6", "A: b\0", ControlByte);
    check_fields("A6", "A: \x7f", ControlByte);
    check_fields("A6", "A\0: b", BadFieldName);
    check_request_line("A6", "GET /\0 HTTP/1.1", BadTarget);
    check_request_line("A6", "GET /\r HTTP/1.1", BadTarget);
    check_request_line("A6", "GET / HTTP/1.1\r", BadVersion);
}

#[test]
fn a7_ends_of_chunk_lines_and_of_chunks() {
    check_body("A7", "5\nhello\r\n0\r\n\r\n", BadChunkSize);
    check_body("A7", "5\rhello\r\n0\r\n\r\n", BadChunkSize);
    check_body("A7", "5\r\nhello!\r\n0\r\n\r\n", BadChunkEnd);
    check_body("A7", "5\r\nhello\n0\r\n\r\n", BadChunkEnd);
    check_body("A7", "5\r\nhello\r0\r\n\r\n", BadChunkEnd);
    check_body("A7", "5\r\nhello0\r\n\r\n", BadChunkEnd);
}

#[test]
fn a8_chunk_extensions() {
    check_body("A8", "5;a\nhello\r\n0\r\n\r\n", BadChunkExtension);
    check_body("A8", "5;a\rb\r\nhello\r\n0\r\n\r\n", BadChunkSize);
    check_body("A8", "5;a\0\r\nhello\r\n0\r\n\r\n", BadChunkExtension);
    check_body("A8", "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", BadChunkExtension);
    check_body("A8", "5;a=\"\\\r\n\"\r\nhello\r\n0\r\n\r\n", BadChunkExtension);
    check_body("A8", "5;a=\"b\r\nhello\r\n0\r\n\r\n", BadChunkExtension);
    let extension = ";".to_owned() + &"a".repeat(1023) + "\r\nhello\r\n";
    let long = chunked("5".to_owned().as_bytes());
    let outcome = feed([&long[..], extension.as_bytes(), format!("5{extension}").repeat(16).as_bytes()]);
    assert_eq!(outcome.stop, Some(Stop::Violated(ChunkExtensionsTooLarge)));
}

#[test]
fn a9_chunk_sizes() {
    for size in ["0x5", "0_5", "+5", "-5", " 5", "5 ", "", ";a", "g", "10000000000000000", "00000000000000005"] {
        check_body("A9", format!("{size}\r\nhello\r\n0\r\n\r\n"), BadChunkSize);
    }
    check_body("A9", "ffffffffffffffff\r\nhello", BadChunkSize);
    check_body("A9", "8000000000000000\r\nhello", BadChunkSize);
}

#[test]
fn a10_many_tiny_chunks_are_cut_off_and_small_ones_are_not() {
    let stop_of = |chunk: &str| feed([&chunked(b"")[..], chunk.repeat(100_000).as_bytes()]).stop;
    assert_eq!(stop_of("1\r\nx\r\n"), Some(Stop::Violated(ChunkOverhead)));
    assert_eq!(stop_of("1;abcdefgh\r\nx\r\n"), Some(Stop::Violated(ChunkOverhead)));
    assert_eq!(stop_of("3\r\nxyz\r\n"), None);
    assert_eq!(stop_of("10\r\ndata: 123456789\n\r\n"), None);
}

#[test]
fn a11_trailers() {
    for trailers in [
        "A: b\n\r\n",
        "A: b\r\n\n",
        "A: b\r\n c\r\n\r\n",
        " A: b\r\n\r\n",
        ": b\r\n\r\n",
        "A : b\r\n\r\n",
        "A: \0\r\n\r\n",
        "A\r\n\r\n",
        "A: b\rC\r\n\r\n",
    ] {
        check_body("A11", format!("1\r\nx\r\n0\r\n{trailers}"), BadTrailer);
    }
    let stop_of = |trailers: String| feed([&chunked(b"0\r\n")[..], trailers.as_bytes()]).stop;
    assert_eq!(stop_of("a: b\r\n".repeat(101)), Some(Stop::Violated(TrailersTooLarge)));
    assert_eq!(stop_of(format!("a: {}", "b".repeat(32 * 1024))), Some(Stop::Violated(TrailersTooLarge)));
    assert_eq!(stop_of("a: b\r\n".repeat(100) + "\r\n"), None);
}

#[test]
fn a12_bytes_after_the_last_request_are_never_parsed() {
    for head in ["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let outcome = feed_all_ways(format!("{head}\0 GET smuggled").as_bytes());
        assert_eq!((&outcome.released[..], outcome.stop, outcome.phase), (head.as_bytes(), None, Phase::Ended));
    }
}

#[test]
fn a13_expectations() {
    for value in ["", "100-continue, x", "200-ok", "100-continue;a"] {
        check_fields("A13", &format!("Expect: {value}"), BadExpect);
    }
    check_fields("A13", "Expect: 100-continue\r\nExpect: x", BadExpect);
}

#[test]
fn a14_bytes_behind_an_upgrade_wait_for_the_tunnel() {
    const HEAD: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi";
    let input = [HEAD, b"\0\0GET / HTTP/1.1\r\n"].concat();
    let outcome = feed_all_ways(&input);
    assert_eq!((&outcome.released[..], outcome.phase), (HEAD, Phase::Held));

    let whole_but_one = feed([&HEAD[..HEAD.len() - 1]]);
    assert_eq!(whole_but_one.phase, Phase::Body, "the request is not whole");
}

#[test]
fn a17_authority_of_an_absolute_target() {
    for (target, host) in [("http://a/", "b"), ("http://a:80/", "a"), ("https://a", "a.b"), ("http://[::1]/", "[::2]")]
    {
        check_refused("A17", format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"), AuthorityMismatch);
    }
}

#[test]
fn a18_hosts() {
    check_host("A18", "X: y", NoHost);
    check_host("A18", "Host: a\r\nHost: a", RepeatedHost);
    for host in [
        "", "a,b", "a, b", "a b", "u@a", "a/b", "a:65536", "a:", ":80", "a:+80", "a:8o", "a:b:c", "a?b", "a#b", "a%41",
        "a\\b",
    ] {
        check_host("A18", &format!("Host: {host}"), BadHost);
    }
    for host in
        ["[::1", "::1", "[]", "[::1]80", "[::1]:", "[::1%25eth0]", "[v1.a]", "[1.2.3.4]", "[::1]]", "\u{e4}.example"]
    {
        check_host("A18", &format!("Host: {host}"), BadHost);
    }
    check_refused("A18", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", RepeatedHost);
}

#[test]
fn a20_targets() {
    check_request_line("A20", "GET /a#b HTTP/1.1", FragmentInTarget);
    check_request_line("A20", "GET /a?b#c HTTP/1.1", FragmentInTarget);
    check_request_line("A20", "GET http://a#b HTTP/1.1", FragmentInTarget);
    for target in [
        "*",
        "a",
        "a:80",
        "ftp://a/",
        "http://",
        "http:///b",
        "http://u@a/",
        "http://a:/",
        "https:/a",
        "/<",
        "/\u{e9}",
        "?a",
        "/`",
        "/a?\"",
    ] {
        check_request_line("A20", &format!("GET {target} HTTP/1.1"), BadTarget);
    }
}

#[test]
fn a21_request_lines() {
    for version in ["http/1.1", "HTTP/1.2", "HTTP/0.9", "HTTP/1.10", "HTTP/1", "HTTP/11", "HTTP/1.1 ", "XTTP/1.1", ""] {
        check_request_line("A21", &format!("GET / {version}"), BadVersion);
    }
    for version in ["HTTP/2.0", "HTTP/3.0"] {
        check_request_line("A21", &format!("GET / {version}"), UnsupportedVersion);
    }
    for line in ["GET /", "GET", "GET  / HTTP/1.1", "GET /  HTTP/1.1", " GET / HTTP/1.1", "\r\n\r\nGET / HTTP/1.1"] {
        check_request_line("A21", line, BadRequestLine);
    }
    for line in ["G(T / HTTP/1.1", "G\tT / HTTP/1.1", "GET/ HTTP/1.1 x", "(GET / HTTP/1.1"] {
        check_request_line("A21", line, BadMethod);
    }
    check_request_line("A21", &format!("{} / HTTP/1.1", "M".repeat(33)), BadMethod);
    // A TLS hello on a plain port, and a line that HTTP/0.9 ends a request with, are not waited for.
    check_refused("A21", "\u{16}\u{3}\u{1}", BadMethod);
    check_refused("A21", "GET /\r\n", BadRequestLine);
}

#[test]
fn a22_methods_that_are_not_served() {
    check_request_line("A22", "CONNECT a:443 HTTP/1.1", MethodNotAllowed);
    check_request_line("A22", "TRACE / HTTP/1.1", MethodNotAllowed);
}

#[test]
fn a23_sizes_of_heads() {
    let head = |field_count: usize, bytes: usize| {
        let mut head = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned() + &"a: b\r\n".repeat(field_count - 2);
        let pad = bytes.saturating_sub(head.len() + "c: \r\n\r\n".len());
        head += &format!("c: {}\r\n\r\n", "d".repeat(pad));
        head.into_bytes()
    };
    let line = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(bytes - 1)).into_bytes();
    let rows = [
        (head(100, 0), None),
        (head(101, 0), refused(TooManyFields)),
        (head(3, 32 * 1024), None),
        (head(3, 32 * 1024 + 1), refused(HeadTooLarge)),
        (vec![b'a'; 40_000], refused(TargetTooLong)),
        (line(8 * 1024), None),
        (line(8 * 1024 + 1), refused(TargetTooLong)),
        (line(40_000), refused(TargetTooLong)),
    ];
    for (input, stop) in rows {
        let whole = feed([&input[..]]);
        assert_eq!(whole.stop, stop, "A23: {} bytes", input.len());
        for piece_bytes in [1, 1000, 8192] {
            assert_eq!(feed(input.chunks(piece_bytes)), whole, "A23: {} bytes by {piece_bytes}", input.len());
        }
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a?b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET http://a:80/ HTTP/1.1\r\nHost: A:80\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0A\r\n0123456789\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "\r\n",
    ]);
    known.prop_map(|text| text.as_bytes().to_vec())
}

/// Good messages with some bytes put in, taken out or changed.
pub fn client_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![prop::sample::select(b"\r\n \t:;,\"\\/?#*@[]=-0159aAfFzZ\0\x7f\x80%+".to_vec()), any::<u8>()];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, byte), 0..3);
    (prop::collection::vec(piece(), 1..4), edits).prop_map(|(pieces, edits)| {
        let mut bytes = pieces.concat();
        for (place, kind, byte) in edits {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes.insert(at, byte),
                1 => bytes[at] = byte,
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        bytes
    })
}

/// Where messages end, found by feeding byte by byte.
fn message_ends(bytes: &[u8]) -> Vec<usize> {
    let (mut machine, mut done, mut ends) = (Machine::default(), 0, Vec::new());
    for read in 1..=bytes.len() {
        loop {
            match machine.step(&bytes[done..read]) {
                Ok(Step::Wait) => break,
                Ok(Step::End) => ends.push(read),
                Ok(step) => done += step.bytes(),
                Err(_) => return ends,
            }
        }
    }
    ends
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_machine_agrees_with_the_reference(bytes in client_bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let whole = feed([&bytes[..]]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&feed(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), &whole);

        let expected = reference::read(&bytes);
        prop_assert_eq!(message_ends(&bytes), expected.message_ends);
        match expected.end {
            End::Open => prop_assert_eq!(whole.stop, None),
            End::PartialLine => {}
            End::Refused => prop_assert!(matches!(whole.stop, Some(Stop::Refused(_)))),
            End::Violated => prop_assert!(matches!(whole.stop, Some(Stop::Violated(_)))),
            End::Held => prop_assert_eq!((whole.stop, whole.phase), (None, Phase::Held)),
            End::Ended => prop_assert_eq!((whole.stop, whole.phase), (None, Phase::Ended)),
        }
    }

    #[test]
    fn every_target_that_passes_is_a_uri(target in r"(/|http://a|https://\[::1\]:80/?|\*)[!-~]{0,12}", method in "GET|OPTIONS") {
        if super::target::check_target(method.as_bytes(), target.as_bytes()).is_ok() {
            prop_assert!(target.parse::<http::Uri>().is_ok(), "{}", target);
        }
    }
}
