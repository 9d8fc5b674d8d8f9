//! Every route of the bench, asked over real sockets by both protocol versions.

// The helpers below stand outside of test functions, where clippy does not see that they belong to a test.
#![allow(clippy::unwrap_used)]

mod server;

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use server::{BOTH, Protocol, Server};

#[tokio::test]
async fn the_page_names_the_replica() {
    let server = Server::start().await;
    let page = server.get("/").await;
    assert_eq!(page.field("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.field("cache-control"), "no-store");
    assert!(page.text().contains(&server.address.to_string()));
    assert!(page.text().contains(&format!("Process {}", std::process::id())));
}

#[tokio::test]
async fn health_reports_each_check() {
    let server = Server::start().await;
    let report = server.get("/health").await.json();
    assert_eq!(report["replica"], json!({ "name": server.address.to_string(), "pid": std::process::id() }));
    assert!(report["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(report["uptime_s"].is_f64() && report["response_time_ms"].is_f64());
    for check in ["memory", "disk"] {
        assert!(report["checks"][check]["status"].is_string(), "{report}");
        assert!(report["checks"][check]["used_bytes"].is_u64(), "{report}");
    }
    let limits =
        [("memory", 80, "percent"), ("cpu", 70, "percent"), ("disk", 90, "percent"), ("database", 100, "milliseconds")];
    for (check, degraded, unit) in limits {
        let found = &report["checks"][check];
        assert_eq!(
            (&found["limits"]["degraded"], &found["limits"]["unit"]),
            (&json!(degraded), &json!(unit)),
            "{report}"
        );
        assert!(found["duration_ms"].is_f64(), "{report}");
    }
}

#[tokio::test]
async fn the_metrics_say_what_the_process_uses() {
    let server = Server::start().await;
    for _ in 0..2 {
        let page = server.get("/metrics").await;
        let value = |name: &str| -> f64 {
            let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
            line.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6, "{}", page.text());
        assert!(value("process_cpu_seconds_total") >= 0.0 && value("process_start_time_seconds") > 1.7e9);
    }
}

#[tokio::test]
async fn echo_shows_what_arrived() {
    let server = Server::start().await;
    for protocol in BOTH {
        let echo = server.ask(protocol, "PATCH", "/echo/a%2Fb?x=1&y", "grüezi").await.json();
        assert_eq!(echo["method"], "PATCH");
        assert_eq!(echo["path"], "/echo/a%2Fb");
        assert_eq!(echo["query"], "x=1&y");
        assert_eq!(echo["body"], json!({ "bytes": 7, "encoding": "utf8", "content": "grüezi" }));
        assert_eq!(echo["replica"]["name"], server.address.to_string());
        let fields = echo["fields"].as_array().unwrap();
        let place = |name: &str| fields.iter().position(|field| field[0] == name).unwrap();
        assert!(place("x-second") < place("x-first"), "{echo}");
        assert_eq!(echo["version"], ["HTTP/1.1", "HTTP/2.0"][protocol as usize]);
    }
    let empty = server.get("/echo").await.json();
    assert_eq!(empty["query"], Value::Null);
    assert_eq!(empty["body"]["bytes"], 0);
}

#[tokio::test]
async fn echo_takes_one_mebibyte_and_no_more() {
    let server = Server::start().await;
    for (bytes, expected) in [(1 << 20, 200), ((1 << 20) + 1, 413)] {
        let answer = server.ask(Protocol::H1, "POST", "/echo", vec![b'a'; bytes]).await;
        assert_eq!(answer.status, expected, "{bytes}");
    }
}

#[tokio::test]
async fn slow_answers_after_the_wait() {
    let server = Server::start().await;
    let begin = Instant::now();
    assert_eq!(server.get("/slow?ms=30").await.json()["waited_ms"], 30);
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn bytes_come_with_or_without_their_length() {
    let server = Server::start().await;
    for protocol in BOTH {
        for (path, length) in [("/bytes/0", "0"), ("/bytes/100000", "100000"), ("/bytes/100000?chunked=1", "")] {
            let answer = server.ask(protocol, "GET", path, "").await;
            assert_eq!(answer.field("content-length"), length, "{path}");
            assert_eq!(answer.body.len(), if path == "/bytes/0" { 0 } else { 100_000 }, "{path}");
        }
    }
    let head = server.ask(Protocol::H1, "HEAD", "/bytes/10737418240", "").await;
    assert_eq!((head.field("content-length"), head.body.len()), ("10737418240", 0));
    assert_eq!(server.get("/bytes/10737418241").await.status, 400);
    assert_eq!(server.get("/bytes/many").await.status, 400);
}

#[tokio::test]
async fn upload_counts_beyond_every_limit_of_a_buffer() {
    let server = Server::start().await;
    for protocol in BOTH {
        let answer = server.ask(protocol, "POST", "/upload", vec![0; 5_000_000]).await;
        assert_eq!(answer.json()["bytes"], 5_000_000);
    }
    assert_eq!(server.get("/upload").await.status, 405);
}

#[tokio::test]
async fn a_status_is_given_as_asked() {
    let server = Server::start().await;
    for (code, expected) in [("200", 200), ("204", 204), ("304", 304), ("418", 418), ("503", 503), ("599", 599)] {
        assert_eq!(server.get(&format!("/status/{code}")).await.status, expected);
    }
    for refused in ["100", "101", "99", "1000", "70000", "x"] {
        assert_eq!(server.get(&format!("/status/{refused}")).await.status, 400, "{refused}");
    }
    assert_eq!(server.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn events_come_one_by_one_and_end() {
    let server = Server::start().await;
    let answer = server.get("/events?count=3&interval_ms=1").await;
    assert_eq!(answer.field("content-type"), "text/event-stream");
    assert_eq!(answer.text().matches("event: tick\n").count(), 3);
    assert!(answer.text().contains("id: 2\n"), "{}", answer.text());
    assert_eq!(server.get("/events?count=0").await.body.len(), 0);
}

#[tokio::test]
async fn a_socket_sends_back_what_it_gets() {
    let server = Server::start().await;
    let mut socket = server.open_socket().await;
    // The masked and the plain "Hello" of RFC 6455 §5.7.
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    socket.write_all(&hello).await.unwrap();
    let mut frame = [0; 7];
    socket.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\x81\x05Hello");
}

#[tokio::test]
async fn stopping_ends_streams_and_sockets_in_order() {
    let server = Server::start().await;
    let mut socket = server.open_socket().await;
    let mut events = server.send(Protocol::H1, "GET", "/events?count=1000&interval_ms=60000", "").await;
    let first = events.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"id: 0\n"), "{first:?}");

    server.stop().await;

    assert!(events.body_mut().frame().await.is_none(), "the stream ends, and it ends whole");
    let mut close = [0; 4];
    socket.read_exact(&mut close).await.unwrap();
    // A close frame whose code is 1001, going away (RFC 6455 §7.4.1).
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1001));
}
