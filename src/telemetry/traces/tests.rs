//! Rows of which requests have a trace and are recorded, and of what their spans say.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderValue, Request, StatusCode, Version};
use tollgate_otlp::{Counts, Dropped, Kind, Name, Root, Span, Value};

use super::*;
use crate::telemetry::UpstreamEntry;
use crate::telemetry::access_log::testing;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn tracing(root: Root) -> Tracing {
    let queue = Arc::new(Queue::new(10, 10, Arc::<Counts>::default()));
    Tracing { sampler: Sampler { follows_parent: true, root }, queue: Some(queue) }
}

fn parent(flags: &str) -> HeaderMap {
    let field = HeaderValue::try_from(format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
    HeaderMap::from_iter([(context::TRACEPARENT, field), (context::TRACESTATE, HeaderValue::from_static("a=1"))])
}

#[test]
fn which_requests_are_recorded_and_whose_trace_they_continue() {
    let none = HeaderMap::new();
    for (root, fields, is_believed, is_continued, is_recorded) in [
        (Root::All, &none, true, false, true),
        (Root::None, &none, true, false, false),
        (Root::None, &parent("01"), true, true, true),
        (Root::All, &parent("00"), true, true, false),
        (Root::None, &parent("01"), false, false, false),
        (Root::All, &parent("00"), false, false, true),
        (Root::All, &parent("zz"), true, false, true),
    ] {
        let trace = tracing(root).begin(&Method::GET, fields, || is_believed).unwrap();
        assert_eq!((trace.is_continued, trace.is_recorded()), (is_continued, is_recorded), "{root:?} {fields:?}");
        assert_eq!(trace.trace_id.to_string() == TRACE, is_continued);
        assert_ne!(trace.span_id.to_string(), SPAN);
        assert_eq!(trace.is_sampled, is_recorded);
    }
    assert!(tracing(Root::All).begin(&Method::OPTIONS, &parent("01"), || true).is_none());
}

/// Below a span that is said to be recorded and never arrives, a trace has a hole.
#[test]
fn who_exports_nothing_names_no_parent_of_its_own() {
    let begun = crate::clock::now();
    let endpoint = SocketAddr::from(([10, 0, 0, 1], 3000));
    let sent = Sent { endpoint, upstream: "app", is_tls: false, version: Version::HTTP_11, resent: 0, begun };
    let exporting = |follows_parent, root| {
        let Tracing { queue, .. } = tracing(root);
        Tracing { sampler: Sampler { follows_parent, root }, queue }
    };
    let silent = Tracing { queue: None, ..tracing(Root::All) };
    // What goes upstream: as it came, or a span of ours with these flags.
    for (tracing, flags, ours) in [
        (&silent, Some("01"), None),
        (&silent, Some("00"), None),
        (&silent, Some("ff"), None),
        (&silent, None, Some(false)),
        (&exporting(true, Root::All), Some("01"), Some(true)),
        (&exporting(true, Root::All), Some("00"), None),
        // Its own sampler overrules the peer.
        (&exporting(false, Root::None), Some("01"), Some(false)),
        (&exporting(false, Root::All), None, Some(true)),
    ] {
        let fields = flags.map(parent).unwrap_or_default();
        let trace = tracing.begin(&Method::GET, &fields, || true).unwrap();
        let (mut head, ()) = Request::get("/x").body(()).unwrap().into_parts();
        head.headers.clone_from(&fields);
        let (added, _span) = trace.begin_attempt(&head, sent);
        added.insert(&mut head.headers);
        let came = fields.get(context::TRACEPARENT);
        let (line, read) = (&head.headers[context::TRACEPARENT], context::parent(&head.headers).unwrap());
        assert_eq!(Some(line) == came, ours.is_none(), "{tracing:?} {flags:?}");
        assert!(ours.is_none_or(|is_sampled| is_sampled == read.is_sampled), "{tracing:?} {flags:?}");
        assert_eq!(head.headers.contains_key(context::TRACESTATE), flags.is_some());
        assert_eq!(head.headers[context::X_TRACE_ID].to_str().unwrap(), trace.trace_id.to_string());
        assert!(head.headers.contains_key(context::X_SPAN_ID));
    }
}

#[test]
fn nobody_is_asked_whether_to_believe_who_says_nothing() {
    assert!(tracing(Root::All).begin(&Method::GET, &HeaderMap::new(), || unreachable!()).is_some());
}

fn entry<'a>() -> Entry<'a> {
    Entry {
        path: "/x/y",
        port: Some(8443),
        query: Some("token=secret"),
        version: Version::HTTP_2,
        cache: Some("hit"),
        duration: Duration::from_millis(3),
        route: Some("things"),
        path_of_route: Some("/x"),
        request_id: Some(b"id"),
        user_agent: Some(b"curl"),
        ..testing::entry()
    }
}

/// Of a request that continues [`TRACE`].
fn with_span(entry: &Entry<'_>, check: impl FnOnce(&Span<'_>)) {
    let trace = tracing(Root::All).begin(&Method::GET, &parent("01"), || true).unwrap();
    let recording = trace.recording.as_ref().unwrap();
    let now = Moment { at: crate::clock::now(), wall: UNIX_EPOCH + Duration::from_secs(1) };
    check(&server::span(entry, (&trace, recording), None, now));
}

fn attribute<'a>(span: &'a Span<'_>, name: &str) -> Option<&'a Value<'a>> {
    span.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[test]
fn a_server_span_says_what_the_conventions_ask_for() {
    let upstream = UpstreamEntry { name: "app", endpoint: None, attempts: 2, queued: None, head_after: None };
    with_span(&Entry { upstream: Some(upstream), ..entry() }, |span| {
        assert_eq!((span.name, span.kind, &span.error), (Name("GET", Some("/x")), Kind::Server, &None));
        assert_eq!((span.trace_id.to_string().as_str(), span.trace_state), (TRACE, "a=1"));
        assert_eq!(span.parent.map(|parent| parent.to_string()).as_deref(), Some(SPAN));
        assert!(span.parent_is_remote);
        assert_eq!(span.end.duration_since(span.start).unwrap(), Duration::from_millis(3));
        for (name, value) in [
            ("http.request.method", Some("GET".into())),
            ("url.path", Some("/x/y".into())),
            ("url.query", None),
            ("url.scheme", Some("http".into())),
            ("http.route", Some("/x".into())),
            ("http.response.status_code", Some(Value::Integer(200))),
            ("error.type", None),
            ("client.address", Some(Value::Address([203, 0, 113, 7].into()))),
            ("server.address", Some("example.com".into())),
            ("server.port", Some(Value::Integer(8443))),
            ("network.protocol.version", Some("2".into())),
            ("user_agent.original", Some("curl".into())),
            ("tollgate.cache", Some("hit".into())),
            ("tollgate.route", Some("things".into())),
            ("tollgate.attempts", Some(Value::Integer(2))),
        ] {
            assert_eq!(attribute(span, name), value.as_ref(), "{name}");
        }
    });
}

/// HTTP says nothing of it.
#[test]
fn a_call_of_grpc_says_what_it_came_to() {
    for (status, error) in [("OK", None), ("NOT_FOUND", None), ("UNAVAILABLE", Some("UNAVAILABLE"))] {
        with_span(&Entry { rpc_status: Some(status), ..entry() }, |span| {
            assert_eq!(attribute(span, "rpc.system.name"), Some(&"grpc".into()));
            assert_eq!(attribute(span, "rpc.response.status_code"), Some(&status.into()));
            assert_eq!(attribute(span, "error.type"), error.map(Value::from).as_ref());
            assert_eq!(span.error.is_some(), error.is_some(), "{status}");
        });
    }
    with_span(&entry(), |span| assert_eq!(attribute(span, "rpc.system.name"), None));
}

#[test]
fn what_the_client_did_wrong_is_no_error_of_the_server() {
    for (status, reason, error, kind) in [
        (200, None, None, None),
        (429, Some("rate-limited"), None, None),
        (502, Some("connect-failed"), Some(""), Some("connect-failed")),
        (500, None, Some(""), Some("500")),
        // The response broke off.
        (200, Some("body-truncated"), Some(""), Some("body-truncated")),
    ] {
        with_span(&Entry { status, reason, ..entry() }, |span| {
            let read = (span.error.as_deref(), attribute(span, "error.type"));
            assert_eq!(read, (error, kind.map(Value::from).as_ref()), "{status}");
            assert_eq!(attribute(span, "tollgate.reason"), reason.map(Value::from).as_ref());
        });
    }
}

#[test]
fn odd_methods_and_long_paths_are_bounded() {
    with_span(&Entry { method: "BREW", path: &"é".repeat(2000), ..entry() }, |span| {
        assert_eq!(span.name, Name("HTTP", Some("/x")));
        assert_eq!(attribute(span, "http.request.method"), Some(&"_OTHER".into()));
        assert_eq!(attribute(span, "http.request.method_original"), Some(&"BREW".into()));
        assert_eq!(attribute(span, "url.path"), Some(&"é".repeat(512).into()));
    });
}

#[tokio::test]
async fn each_attempt_has_a_span_and_is_named_upstream() {
    let counts = Arc::<Counts>::default();
    // No room: what is pushed is counted.
    let tracing = Tracing { queue: Some(Arc::new(Queue::new(0, 1, Arc::clone(&counts)))), ..tracing(Root::All) };
    let trace = tracing.begin(&Method::GET, &parent("01"), || true).unwrap();
    let (mut head, ()) = Request::get("/x?token=secret").body(()).unwrap().into_parts();
    let begun = crate::clock::now();
    let endpoint = SocketAddr::from(([10, 0, 0, 1], 3000));
    let sent = Sent { endpoint, upstream: "app", is_tls: false, version: Version::HTTP_11, resent: 0, begun };
    let mut named = Vec::new();
    for resent in 0..3 {
        let (added, span) = trace.begin_attempt(&head, Sent { resent, ..sent });
        added.insert(&mut head.headers);
        let mut span = span.unwrap();
        named.push(context::parent(&head.headers).unwrap().span_id);
        match resent {
            0 => span.answered(StatusCode::BAD_GATEWAY),
            1 => span.failed("broken", &"why"),
            _ => {}
        }
        drop(span);
        assert_eq!(counts.dropped(Dropped::QueueFull), u64::from(resent) + 1);
    }
    assert!(!named.contains(&trace.span_id) && named[0] != named[1]);

    let unsampled = tracing.begin(&Method::GET, &parent("00"), || true).unwrap();
    let (added, span) = unsampled.begin_attempt(&head, sent);
    assert!(span.is_none());
    added.insert(&mut head.headers);
    assert_eq!(head.headers[context::X_SPAN_ID].to_str().unwrap(), unsampled.span_id.to_string());
}
