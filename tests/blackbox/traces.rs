//! Traces: whose a request belongs to, what its spans say, what is named to both sides, and what a collector that
//! fails costs.

use std::sync::Arc;

use http::HeaderMap;
use http::request::Builder;
use http_body::Frame;
use http_body_util::BodyExt as _;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::harness::app::Person;
use crate::harness::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
/// Loopback is trusted if nothing else is said.
const TRUST: &str = "";
const DISTRUST: &str = "[client]\ntrusted = []\n";

fn route(origin: &Origin) -> String {
    upstream(&[origin.address()], "") + ROUTE
}

fn claiming(flags: &str) -> Builder {
    let parent = format!("00-{TRACE}-{SPAN}-{flags}");
    request("GET", "/").header("traceparent", parent).header("tracestate", "them=1").header("x-trace-id", "theirs")
}

async fn ask(edge: &Edge, head: Builder) -> Answer {
    Client::connect(edge, Via::H1).await.ask(head, "").await
}

#[tokio::test]
async fn response_upstream_request_log_and_spans_name_the_same() {
    let (collector, origin) = (Collector::start().await, Origin::replies(ok("").field("x-span-id", "theirs")).await);
    let edge = Collector::edge(collector.table("sample = 1") + &route(&origin)).await;
    let answer = edge.get("/a?token=secret").await;
    let spans = collector.trace(answer.field("x-trace-id"), 2).await;
    let server = spans.iter().find(|span| span.is(SpanKind::Server)).unwrap();
    let client = spans.iter().find(|span| span.is(SpanKind::Client)).unwrap();
    assert_eq!((server.span_id.as_str(), server.parent.as_str()), (answer.field("x-span-id"), ""));
    assert_eq!(client.parent, server.span_id);

    let seen = origin.take();
    let parent = format!("00-{}-{}-01", server.trace_id, client.span_id);
    assert_eq!(seen.fields.get("traceparent"), parent);
    assert_eq!((seen.fields.get("x-trace-id"), seen.fields.get("x-span-id")), (&*server.trace_id, &*client.span_id));

    let line = edge.logged("/a").await;
    assert_eq!((&line["trace_id"], &line["span_id"]), (&json!(server.trace_id), &json!(server.span_id)));

    assert_eq!((server.service.as_str(), server.span.name.as_str()), ("tollgate", "GET /"));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/a"),
        ("url.scheme", "http"),
        ("http.route", "/"),
        ("http.response.status_code", "200"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("tollgate.upstream", "app"),
    ] {
        assert_eq!(server.get(name), value, "{name}");
    }
    assert_eq!(client.get("server.port"), origin.address().port().to_string());
    assert_eq!(client.get("url.full"), format!("http://{}/a", origin.address()));
    assert!(!format!("{spans:?}").contains("secret"));
    edge.counts("tollgate_spans_exported_total", 2.0).await;
}

/// D4: what a stranger says of a trace is not believed.
#[tokio::test]
async fn d4_only_a_trusted_peer_continues_its_trace() {
    let (collector, origin) = (Collector::start().await, Origin::replies(ok("")).await);
    for (trust, flags, is_continued, recorded) in
        [(DISTRUST, "01", false, 0), (TRUST, "01", true, 2), (TRUST, "00", true, 0), (TRUST, "x1", false, 0)]
    {
        // Nothing that begins here is recorded.
        let edge = Collector::edge(collector.table("sample = 0") + trust + &route(&origin)).await;
        let answer = ask(&edge, claiming(flags)).await;
        let trace_id = answer.field("x-trace-id").to_owned();
        assert_eq!(trace_id == TRACE, is_continued, "{trust} {flags}");
        assert_ne!(answer.field("x-span-id"), SPAN);
        let seen = origin.take();
        let flags = if recorded > 0 { "01" } else { "00" };
        assert!(seen.fields.get("traceparent").starts_with(&format!("00-{trace_id}-")));
        assert!(seen.fields.get("traceparent").ends_with(flags), "{:?}", seen.fields);
        assert_eq!(seen.fields.all("tracestate").count(), usize::from(is_continued), "{trust} {flags}");
        assert_eq!(seen.fields.get("x-trace-id"), trace_id);
        let spans = collector.trace(TRACE, if is_continued { 2 } else { 0 }).await;
        if recorded > 0 {
            let server = spans.iter().find(|span| span.is(SpanKind::Server)).unwrap();
            assert_eq!((server.parent.as_str(), server.span.trace_state.as_str()), (SPAN, "them=1"));
        }
    }
    // Those of the one request that its peer had sampled.
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn options_have_no_trace_and_nor_has_anything_without_the_table() {
    let named = ok("").field("x-trace-id", "theirs").field("x-span-id", "theirs");
    let (collector, origin) = (Collector::start().await, Origin::replies(named).await);
    let traced = Collector::edge(collector.table("sample = 1") + &route(&origin)).await;
    let answer = ask(&traced, request("OPTIONS", "/")).await;
    assert_eq!((answer.status, origin.take().fields.has("traceparent")), (200, false));
    // The name of somebody else's trace would be taken for one of the edge's.
    assert_eq!((answer.field("x-trace-id"), answer.field("x-span-id")), ("", ""));
    let explained = traced.cli(&["explain", "OPTIONS", "http://localhost/", "--json"]).await;
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(explained["response"]["removed"], json!(["x-trace-id", "x-span-id"]), "{explained}");
    let untraced = Edge::start(route(&origin)).await;
    let answer = untraced.get("/").await;
    assert_eq!((answer.field("x-trace-id"), origin.take().fields.has("traceparent")), ("theirs", false));
    // A later one has come, so the first would have.
    let answer = traced.get("/").await;
    collector.trace(answer.field("x-trace-id"), 2).await;
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn each_attempt_has_a_span_of_its_own() {
    let (collector, origin) = (Collector::start().await, Origin::replies(ok("")).await);
    let broken = Origin::replies(ok("").status(503)).await;
    let keys = "balance = \"round-robin\"\nretry = { attempts = 2, status = \"503\", backoff = \"0s\" }\n";
    let config = collector.table("sample = 1") + &upstream(&[broken.address(), origin.address()], keys) + ROUTE;
    let edge = Collector::edge(config).await;
    // One of the two begins with the broken one.
    let answers = [edge.get("/").await, edge.get("/").await];
    assert!(answers.iter().all(|answer| answer.status == 200));
    let again = collector.has(1, |span| span.get("http.request.resend_count") == "1").await.remove(0);
    let spans = collector.trace(&again.trace_id, 3).await;
    let failed = spans.iter().find(|span| span.is_error()).unwrap();
    assert_eq!((failed.get("http.response.status_code"), failed.get("error.type")), ("503".into(), "503".into()));
    assert_eq!(again.parent, failed.parent);
    assert_ne!(again.span_id, failed.span_id);
    let server = spans.iter().find(|span| span.span_id == failed.parent).unwrap();
    assert_eq!((server.get("tollgate.attempts"), server.is_error()), ("2".into(), false));
}

/// What an origin says to a call: `only-14` is a status with the head, `end-14` one in trailers, `cut` never ends.
fn called(path: &str) -> http::Response<Body> {
    let kind = if path == "/web" { "application/grpc-web" } else { "application/grpc" };
    let head = http::Response::builder().header("content-type", kind);
    if let Some(status) = path.strip_prefix("/only-") {
        return head.header("grpc-status", status).body(Body::whole("")).unwrap();
    }
    let (feed, body) = Body::fed();
    let path = path.to_owned();
    tokio::spawn(async move {
        feed.send(Frame::data("message".into())).await.unwrap();
        match path.strip_prefix("/end-") {
            Some(status) => {
                let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
                feed.send(Frame::trailers(trailers)).await.unwrap();
            }
            None if path == "/cut" => feed.closed().await,
            None => {}
        }
    });
    head.body(body).unwrap()
}

/// HTTP says 200 of a call of gRPC that failed.
#[tokio::test]
async fn a_call_of_grpc_that_failed_is_an_error() {
    let collector = Collector::start().await;
    let origin = H2Origin::answers(|request| std::future::ready(called(request.uri().path()))).await;
    let config = collector.table("sample = 1") + &upstream(&[origin.address()], "protocol = \"h2\"") + ROUTE;
    let edge = Collector::edge(config).await;
    let mut client = Client::connect(&edge, Via::H2).await;
    let call = |path: &str| request("POST", path).header("content-type", "application/grpc").header("te", "trailers");
    for (path, status, error) in [
        ("/only-0", "OK", ""),
        ("/only-14", "UNAVAILABLE", "UNAVAILABLE"),
        ("/end-0", "OK", ""),
        ("/end-5", "NOT_FOUND", ""),
        ("/end-13", "INTERNAL", "INTERNAL"),
        ("/end-x", "UNKNOWN", "UNKNOWN"),
        ("/without-one", "UNKNOWN", "UNKNOWN"),
        // Its status stands in the body.
        ("/web", "", ""),
    ] {
        let answer = client.ask(call(path), "").await;
        assert_eq!(answer.status, 200);
        let spans = collector.trace(answer.field("x-trace-id"), 2).await;
        let [server, attempt] =
            [SpanKind::Server, SpanKind::Client].map(|kind| spans.iter().find(|s| s.is(kind)).unwrap());
        let said = ["rpc.response.status_code", "error.type", "http.response.status_code"].map(|name| server.get(name));
        assert_eq!(said, [status, error, "200"], "{path}");
        // It ends with the head.
        assert_eq!((server.is_error(), attempt.is_error()), (!error.is_empty(), false), "{path}");
    }
    let counted = |error: &str| {
        format!(
            "http_server_request_duration_seconds_count{{{error}http_request_method=\"POST\",\
             http_response_status_code=\"200\",http_route=\"/\",network_protocol_version=\"2\",route=\"/\",\
             url_scheme=\"http\"}}"
        )
    };
    edge.counts(&counted("error_type=\"INTERNAL\","), 1.0).await;
    edge.counts(&counted("error_type=\"UNKNOWN\","), 2.0).await;
    edge.counts(&counted(""), 4.0).await;
    // One that breaks off has no status.
    let head = within("a head", client.send(call("/cut").body(Body::whole("")).unwrap()).await).await.unwrap();
    drop(origin);
    assert!(within("the end", head.into_body().collect()).await.is_err());
    let cut = collector.has(1, |span| span.get("url.path") == "/cut" && span.is(SpanKind::Server)).await.remove(0);
    assert_eq!((cut.get("error.type"), cut.is_error()), (cut.get("tollgate.reason"), true));
    assert_eq!((cut.get("rpc.response.status_code"), cut.get("tollgate.reason").is_empty()), (String::new(), false));
}

#[tokio::test]
async fn what_is_kept_carries_the_name_of_nobody_else() {
    let (collector, origin) = (Collector::start().await, Origin::replies(ok("x").field("x-trace-id", "theirs")).await);
    let cached = "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = { default_ttl = \"60s\" }\n";
    let config = collector.table("sample = 1") + &upstream(&[origin.address()], "") + cached;
    let edge = Collector::edge(&config).await;
    let (first, second) = (edge.get("/").await, edge.get("/").await);
    assert!(second.field("cache-status").contains("hit"), "{second:?}");
    assert_ne!(first.field("x-trace-id"), second.field("x-trace-id"));
    let hit = collector.trace(second.field("x-trace-id"), 1).await;
    assert_eq!((hit[0].get("tollgate.cache"), hit[0].span_id.as_str()), ("hit".into(), second.field("x-span-id")));
    // Also when nobody is named any more.
    edge.write_config(&Edge::standard(config.replace(&collector.table("sample = 1"), "")));
    edge.reload().await;
    let third = edge.get("/").await;
    assert_eq!((third.field("x-trace-id"), origin.count()), ("", 1));
}

#[tokio::test]
async fn who_waits_for_the_fetch_of_another_links_to_it() {
    let allowed = Arc::new(Semaphore::new(0));
    let (collector, origin) = (Collector::start().await, Origin::held(&allowed).await);
    let cached = "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = { default_ttl = \"60s\" }\n";
    let stub = "[[route]]\npath_exact = \"/stub\"\nstatus = \"stub\"\n";
    let edge =
        Collector::edge(collector.table("sample = 1") + &upstream(&[origin.address()], "") + cached + stub).await;
    let ask = async || edge.get("/").await;
    let release = async {
        origin.has(1).await;
        // Both, and the one that asks.
        until("the other", async || edge.get("/stub").await.text().contains("Writing: 3").then_some(())).await;
        allowed.add_permits(1);
    };
    let (first, second, ()) = tokio::join!(ask(), ask(), release);
    let spans = collector.has(3, |span| span.get("http.route") != "/stub").await;
    let fetch = spans.iter().find(|span| span.is(SpanKind::Client)).unwrap();
    let server = |answer: &Answer| spans.iter().find(|span| span.span_id == answer.field("x-span-id")).unwrap();
    let (one, other) = (server(&first), server(&second));
    let (leader, follower) = if fetch.parent == one.span_id { (one, other) } else { (other, one) };
    assert_eq!(fetch.parent, leader.span_id);
    assert_eq!((follower.get("tollgate.cache"), follower.links()), ("collapsed".into(), vec![leader.span_id.clone()]));
    assert_eq!(leader.links(), Vec::<String>::new());
}

#[tokio::test]
async fn a_failure_is_an_error_of_the_server_if_it_is_the_servers() {
    let collector = Collector::start().await;
    let nobody = deserted();
    let forbidden = "[[route]]\npath = \"/secret\"\ntext = \"x\"\ndeny = [\"127.0.0.0/8\"]\n";
    let config = collector.table("sample = 1") + &upstream(&[nobody], "") + ROUTE + forbidden;
    let edge = Collector::edge(config).await;
    let failed = edge.get("/").await;
    // It may be tried more than once.
    let is_of_it = |span: &Span, kind| span.trace_id == failed.field("x-trace-id") && span.is(kind);
    let reason = failed.field("x-tollgate-reason").to_owned();
    let server = collector.has(1, |span| is_of_it(span, SpanKind::Server)).await.remove(0);
    assert!(server.is_error() && server.get("error.type") == reason, "{server:?} {reason}");
    let client = collector.has(1, |span| is_of_it(span, SpanKind::Client)).await.remove(0);
    assert_eq!((client.is_error(), client.get("error.type")), (true, "connect_failed".into()));
    let refused = edge.get("/secret").await;
    let spans = collector.trace(refused.field("x-trace-id"), 1).await;
    assert_eq!((refused.status, spans[0].is_error()), (403, false));
    assert_eq!(spans[0].get("tollgate.reason"), refused.field("x-tollgate-reason"));
    assert_eq!(spans[0].get("error.type"), "");
}

#[tokio::test]
async fn a_reload_takes_spans_elsewhere() {
    let (first, second) = (Collector::start().await, Collector::start().await);
    let origin = Origin::replies(ok("")).await;
    let edge = Collector::edge(first.table("sample = 1") + &route(&origin)).await;
    let answer = edge.get("/").await;
    first.trace(answer.field("x-trace-id"), 2).await;
    edge.write_config(&Edge::standard(second.table("sample = 1\nservice = \"edge\"") + &route(&origin)));
    edge.reload().await;
    let answer = edge.get("/").await;
    let spans = second.trace(answer.field("x-trace-id"), 2).await;
    assert_eq!(spans[0].service, "edge");
    assert_eq!(first.spans().len(), 2);
}

/// Requests go on, memory is bounded, and what is lost is counted.
#[tokio::test]
async fn a_collector_that_is_dead_or_frozen_costs_requests_nothing() {
    let dead = deserted();
    // It accepts, by its backlog, and never answers.
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin::replies(ok("")).await;
    for address in [dead, frozen.local_addr().unwrap()] {
        let table = format!("[telemetry]\notlp = \"http://{address}\"\nsample = 1\ntimeout = \"100ms\"\n");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), Edge::standard(table + &route(&origin))).unwrap();
        let before = "export OTEL_BSP_SCHEDULE_DELAY=20 OTEL_BSP_MAX_QUEUE_SIZE=10;";
        let mut edge = Edge::try_start(folder, before).await.unwrap();
        let mut client = Client::connect(&edge, Via::H1).await;
        for _ in 0..50 {
            assert_eq!(client.get("/").await.status, 200);
        }
        // 100 spans, of which 10 wait, or have been given up.
        let full = edge.metric("tollgate_spans_dropped_total{reason=\"queue_full\"}").await;
        assert!((50.0..=90.0).contains(&full), "{full} spans were dropped");
        until("a word of it", async || edge.stderr().contains("spans are not exported").then_some(())).await;
        client.leave();
        edge.signal(rustix::process::Signal::TERM);
        assert!(edge.exit().await.success());
        assert_eq!(edge.stderr().matches("spans are not exported").count(), 1, "{}", edge.stderr());
    }
}

#[tokio::test]
async fn a_trace_goes_through_edge_app_and_job() {
    let collector = Collector::start().await;
    let url = collector.url();
    let app = format!(
        "[upstream.app]\nrun = {{ command = [\"{{self}}\", \"backend\", \"--listen\", \"{{address}}\", \"--otlp\", \
         \"{url}\"], replicas = 1 }}\nhealth = {{ path = \"/health\", interval = \"100ms\", timeout = \"2s\" }}\n{ROUTE}"
    );
    let edge = Collector::edge(collector.table("sample = 1") + &app).await;
    until("a replica", async || (edge.status().await["upstreams"][0]["usable"] == 1).then_some(())).await;
    let mut ada = Person::new(&edge, "ada").await;
    let added = ada.ask("POST", "/api/v1/media", &json!({ "title": "Song", "content_type": "audio/ogg" })).await;
    assert_eq!(added.status, 201, "{}", added.text());
    let trace_id = added.field("x-trace-id").to_owned();
    let of_trace = |span: &Span| span.trace_id == trace_id;
    collector.has(1, |span| of_trace(span) && span.is(SpanKind::Consumer) && span.get("job.result") == "done").await;
    let server = |service: &'static str| {
        let wanted = move |span: &Span| of_trace(span) && span.is(SpanKind::Server) && span.service == service;
        collector.has(1, wanted)
    };
    let (at_edge, at_app) = (server("tollgate").await.remove(0), server("tollgate-backend").await.remove(0));
    assert_eq!(at_edge.span_id, added.field("x-span-id"));
    let client = collector.has(1, |span| span.span_id == at_app.parent).await.remove(0);
    assert_eq!((client.parent, client.service), (at_edge.span_id, "tollgate".into()));
    assert_eq!(
        (at_app.get("http.route"), at_app.get("http.response.status_code")),
        ("/api/v1/media".into(), "201".into())
    );
    assert!(!at_app.get("user.id").is_empty());
    let of_app = |span: &Span| span.parent == at_app.span_id;
    let statement = collector.has(1, |span| of_app(span) && span.is(SpanKind::Client)).await.remove(0);
    assert_eq!(statement.get("db.system.name"), "sqlite");
    assert!(!statement.get("db.operation.name").is_empty());
    let job = collector.has(1, |span| of_app(span) && span.is(SpanKind::Consumer)).await.remove(0);
    assert_eq!(job.get("user.id"), at_app.get("user.id"));
    let counted = edge.get("/metrics").await;
    let exported = counted.text().lines().find_map(|line| line.strip_prefix("tollgate_spans_exported_total "));
    assert!(exported.is_some_and(|count| count != "0"), "{}", counted.text());
}
