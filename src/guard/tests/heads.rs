//! Attacks on the head of a request, by their rows.

use super::*;

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
fn a13_expectations() {
    for value in ["", "100-continue, x", "200-ok", "100-continue;a"] {
        check_fields("A13", &format!("Expect: {value}"), BadExpect);
    }
    check_fields("A13", "Expect: 100-continue\r\nExpect: x", BadExpect);
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
