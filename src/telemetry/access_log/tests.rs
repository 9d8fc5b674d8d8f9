//! Rows and properties of the lines, and the way of lines to a file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use http::Version;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::Value;
use tollgate_otlp::{SpanId, TraceId};

use super::testing::entry;
use super::*;
use crate::clock::Wall;
use crate::config::{AccessFormat, TlsVersion};

const TIMELY: Duration = Duration::from_secs(10);

fn wall() -> Wall {
    Clock::in_zone(TimeZone::UTC).at(UNIX_EPOCH + Duration::from_millis(1_795_233_091_042))
}

fn config(format: AccessFormat, target: LogTarget) -> config::AccessLog {
    config::AccessLog { format, target, redact: vec!["token".to_owned()] }
}

fn format(format: AccessFormat, entry: &Entry<'_>) -> String {
    let mut out = Vec::new();
    Formatter::new(&config(format, LogTarget::Off)).write(entry, &wall(), &mut out);
    let mut line = String::from_utf8(out).unwrap();
    assert_eq!(line.pop(), Some('\n'));
    assert!(!line.contains(char::is_control), "{line:?}");
    line
}

#[test]
fn lines_in_the_format_line() {
    let check = |entry: Entry<'_>, expected: &str| {
        assert_eq!(format(AccessFormat::Line, &entry), format!("2026-11-21T03:51:31.042+00:00 {expected}"));
    };
    let ok = entry();
    check(ok, "INFO GET /x 200 OK - 1.234ms - 512 bytes");
    check(Entry { query: Some("a=1&token=s"), ..ok }, "INFO GET /x?a=1&token=*** 200 OK - 1.234ms - 512 bytes");
    check(Entry { query: Some(""), status: 304, ..ok }, "INFO GET /x? 304 Not Modified - 1.234ms - 512 bytes");
    check(Entry { status: 399, duration: Duration::ZERO, ..ok }, "INFO GET /x 399 - 0.000ms - 512 bytes");
    check(Entry { status: 404, bytes_sent: 0, ..ok }, "WARN GET /x 404 Not Found - 1.234ms - 0 bytes");
    check(
        Entry { trace: Some((TraceId::of(0xabc), SpanId::of(0xd))), ..ok },
        "INFO GET /x 200 OK - 1.234ms - 512 bytes - trace 00000000000000000000000000000abc",
    );
    check(
        Entry { status: 499, reason: Some("client_left"), ..ok },
        "WARN GET /x 499 - 1.234ms - 512 bytes - client_left",
    );
    let slow = Duration::new(60, 50_999);
    check(
        Entry { status: 500, duration: slow, ..ok },
        "ERROR GET /x 500 Internal Server Error - 60000.050ms - 512 bytes",
    );
    check(
        Entry { method: "P\x1bT", path: "/a\r\n200 OK é", ..ok },
        r"INFO P\x1BT /a\x0D\x0A200 OK \xC3\xA9 200 OK - 1.234ms - 512 bytes",
    );
}

#[test]
fn lines_in_the_format_combined() {
    let check = |entry: Entry<'_>, expected: &str| assert_eq!(format(AccessFormat::Combined, &entry), expected);
    let ok = entry();
    check(ok, r#"203.0.113.7 - - [21/Nov/2026:03:51:31 +0000] "GET /x HTTP/1.1" 200 512 "-" "-""#);
    check(
        Entry { referer: Some(b""), user_agent: Some(b""), version: Version::HTTP_2, ..ok },
        r#"203.0.113.7 - - [21/Nov/2026:03:51:31 +0000] "GET /x HTTP/2.0" 200 512 "" """#,
    );
    check(
        Entry {
            client: "2001:db8::1".parse().unwrap(),
            query: Some("token=s"),
            referer: Some(b"https://a/?token=s&\"b"),
            user_agent: Some(b"\\ \" \x7f \xff"),
            ..ok
        },
        concat!(
            r#"2001:db8::1 - - [21/Nov/2026:03:51:31 +0000] "GET /x?token=*** HTTP/1.1" 200 512 "#,
            r#""https://a/?token=***&\x22b" "\x5C \x22 \x7F \xFF""#
        ),
    );
}

#[test]
fn lines_in_the_format_json() {
    let check = |entry: Entry<'_>, expected: &str| assert_eq!(format(AccessFormat::Json, &entry), expected);
    let ok = entry();
    check(
        ok,
        concat!(
            r#"{"time":"2026-11-21T03:51:31.042+00:00","level":"info","client":"203.0.113.7","peer":"10.0.0.1:40312","#,
            r#""method":"GET","host":"example.com","path":"/x","protocol":"HTTP/1.1","status":200,"#,
            r#""duration_ms":1.234,"bytes_sent":512,"bytes_received":0}"#
        ),
    );
    check(
        Entry {
            peer: "[2001:db8::1]:9".parse().unwrap(),
            query: Some("q=\"&token=s"),
            status: 502,
            reason: Some("connect_refused"),
            rate_limit: Some("per-ip"),
            route: Some("api"),
            upstream: Some(UpstreamEntry {
                name: "app",
                endpoint: Some(SocketAddr::from(([10, 0, 0, 9], 3000))),
                attempts: 2,
                queued: Some(Duration::from_micros(2_500)),
                head_after: Some(Duration::from_micros(10)),
            }),
            request_id: Some(b"r1"),
            referer: Some(b"https://a/?token=s"),
            user_agent: Some(b"\xff"),
            tls: Some(TlsVersion::Tls13),
            ..ok
        },
        concat!(
            r#"{"time":"2026-11-21T03:51:31.042+00:00","level":"error","client":"203.0.113.7","peer":"[2001:db8::1]:9","#,
            r#""method":"GET","host":"example.com","path":"/x","query":"q=\"&token=***","protocol":"HTTP/1.1","#,
            r#""status":502,"reason":"connect_refused","rate_limit":"per-ip","duration_ms":1.234,"bytes_sent":512,"#,
            r#""bytes_received":0,"#,
            r#""route":"api","upstream":"app","endpoint":"10.0.0.9:3000","attempts":2,"queued_ms":2.500,"upstream_ms":0.010,"#,
            r#""request_id":"r1","referer":"https://a/?token=***","user_agent":"\\xFF","tls":"TLSv1.3"}"#
        ),
    );
}

proptest! {
    #[test]
    fn json_gives_every_value_back(
        (method, host, path, route) in any::<(String, String, String, String)>(),
        (query, id, agent) in any::<(Option<String>, Option<String>, Option<String>)>(),
        (client, port, status, attempts) in any::<(std::net::IpAddr, u16, u16, u32)>(),
        (sent, received, micros) in any::<(u64, u64, u32)>(),
    ) {
        let entry = Entry {
            client, peer: SocketAddr::new(client, port), method: &method, host: &host, port: None, path: &path,
            query: query.as_deref(), status, duration: Duration::from_micros(micros.into()),
            bytes_sent: sent, bytes_received: received, route: Some(&route),
            upstream: Some(UpstreamEntry { name: &route, endpoint: None, attempts, queued: None, head_after: None }),
            request_id: id.as_ref().map(String::as_bytes), user_agent: agent.as_ref().map(String::as_bytes),
            ..entry()
        };
        let line = format(AccessFormat::Json, &entry);
        let value: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(value["client"].as_str().unwrap(), client.to_string());
        prop_assert_eq!(value["peer"].as_str().unwrap().parse::<SocketAddr>().unwrap(), entry.peer);
        prop_assert_eq!(value["method"].as_str(), Some(method.as_str()));
        prop_assert_eq!(value["host"].as_str(), Some(host.as_str()));
        prop_assert_eq!(value["path"].as_str(), Some(path.as_str()));
        prop_assert_eq!(value["query"].as_str(), query.as_deref());
        prop_assert_eq!(value["status"].as_u64(), Some(status.into()));
        prop_assert_eq!(value["bytes_sent"].as_u64(), Some(sent));
        prop_assert_eq!(value["bytes_received"].as_u64(), Some(received));
        prop_assert_eq!((value["duration_ms"].as_f64().unwrap() * 1000.0).round() as u32, micros);
        prop_assert_eq!(value["route"].as_str(), Some(route.as_str()));
        prop_assert_eq!(value["attempts"].as_u64(), Some(attempts.into()));
        prop_assert_eq!(value["request_id"].as_str(), id.as_deref());
        prop_assert_eq!(value["user_agent"].as_str(), agent.as_deref());
    }

    #[test]
    fn combined_can_be_taken_apart_again(referer: Vec<u8>, agent: Vec<u8>, path: String, sent: u64) {
        let entry = Entry { referer: Some(&referer), user_agent: Some(&agent), path: &path, bytes_sent: sent, ..entry() };
        let line = format(AccessFormat::Combined, &entry);
        // Whatever was sent, the quotes of the format are the only ones.
        let parts: Vec<_> = line.split('"').collect();
        prop_assert_eq!(parts.len(), 7);
        prop_assert!(parts[1].starts_with("GET ") && parts[1].ends_with(" HTTP/1.1"));
        prop_assert_eq!(parts[2], format!(" 200 {sent} "));
        prop_assert_eq!(parts[3].matches("\\x").count(), referer.iter().filter(|byte| must_be_escaped(**byte)).count());
        prop_assert_eq!(parts[5].matches("\\x").count(), agent.iter().filter(|byte| must_be_escaped(**byte)).count());
    }
}

fn must_be_escaped(byte: u8) -> bool {
    !(0x20..0x7f).contains(&byte) || byte == b'"' || byte == b'\\'
}

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn target(&self, name: &str) -> LogTarget {
        LogTarget::File(self.path(name))
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_line_of_every_worker_arrives_in_order() {
    let files = Files::new();
    let log = AccessLog::start(&config(AccessFormat::Json, files.target("a"))).unwrap();
    let workers: Vec<_> = ["w0", "w1", "w2"]
        .map(|worker| {
            let log = log.clone();
            thread::spawn(move || {
                let writer = log.writer();
                for n in 0..1000 {
                    writer.record(&Entry { host: worker, bytes_sent: n, ..entry() });
                }
            })
        })
        .into();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!(log.close(TIMELY));
    assert_eq!(log.dropped(), 0);

    let mut next = std::collections::HashMap::new();
    for line in lines(&files.path("a")) {
        let value: Value = serde_json::from_str(&line).unwrap();
        let expected = next.entry(value["host"].as_str().unwrap().to_owned()).or_insert(0);
        assert_eq!(value["bytes_sent"].as_u64(), Some(*expected));
        *expected += 1;
    }
    assert_eq!(next.into_values().collect::<Vec<_>>(), [1000; 3]);
}

#[test]
fn a_changed_config_takes_effect_without_losing_a_line() {
    let files = Files::new();
    let log = AccessLog::start(&config(AccessFormat::Line, files.target("a"))).unwrap();
    let (busy, idle) = (log.writer(), log.writer());
    busy.record(&entry());
    idle.record(&Entry { path: "/idle", ..entry() });
    log.install(log.open(&config(AccessFormat::Combined, files.target("b"))).unwrap());
    busy.record(&entry());
    log.install(log.open(&config(AccessFormat::Json, files.target("b"))).unwrap());
    busy.record(&entry());
    log.install(log.open(&config(AccessFormat::Json, LogTarget::Off)).unwrap());
    busy.record(&entry());
    // A worker that saw none of the changes in time still writes to where its lines belong.
    drop((busy, idle));
    assert!(log.close(TIMELY));
    assert_eq!(log.dropped(), 0);

    let old = lines(&files.path("a"));
    assert_eq!(old.len(), 2);
    assert!(old[0].contains(" INFO GET /x 200") && old[1].contains("/idle"));
    let new = lines(&files.path("b"));
    assert_eq!(new.len(), 2);
    assert!(new[0].starts_with("203.0.113.7 - - [") && new[1].starts_with("{\"time\""));
}

#[test]
fn a_bad_path_at_a_reload_keeps_the_old_log() {
    let files = Files::new();
    let log = AccessLog::start(&config(AccessFormat::Line, files.target("a"))).unwrap();
    assert!(log.open(&config(AccessFormat::Json, files.target("missing/b"))).is_err());
    log.writer().record(&entry());
    assert!(log.close(TIMELY));
    assert!(lines(&files.path("a"))[0].contains("GET /x"));
}

#[test]
fn a_log_that_is_closed_or_full_counts_what_it_drops() {
    let files = Files::new();
    let log = AccessLog::start(&config(AccessFormat::Line, files.target("a"))).unwrap();
    let late = log.writer();
    late.record(&entry());
    late.record(&entry());
    assert!(log.close(TIMELY));
    late.flush();
    assert_eq!(log.dropped(), 2);

    let log = AccessLog::start(&config(AccessFormat::Line, LogTarget::File("/dev/full".into()))).unwrap();
    log.writer().record(&entry());
    assert!(log.close(TIMELY));
    assert_eq!(log.dropped(), 1);
}
