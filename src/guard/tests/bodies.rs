//! Attacks on the body of a request and on what follows it, by their rows.

use super::*;

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
fn a14_bytes_behind_an_upgrade_wait_for_the_tunnel() {
    const HEAD: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi";
    let input = [HEAD, b"\0\0GET / HTTP/1.1\r\n"].concat();
    let outcome = feed_all_ways(&input);
    assert_eq!((&outcome.released[..], outcome.phase), (HEAD, Phase::Held));

    let whole_but_one = feed([&HEAD[..HEAD.len() - 1]]);
    assert_eq!(whole_but_one.phase, Phase::Body, "the request is not whole");
}
