//! What `/metrics` says: all of it stands in docs/metrics.md, and a request moves the figures that it should and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric, metric, number_data_point};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::harness::*;

/// One page of metrics, read as Prometheus reads it.
struct Page {
    /// By name: kind and help.
    families: BTreeMap<String, (String, String)>,
    /// By name and labels, as they are written.
    values: BTreeMap<String, f64>,
}

impl Page {
    async fn of(edge: &Edge) -> Self {
        Self::read(edge.admin("/metrics").await.text())
    }

    fn read(text: &str) -> Self {
        let (mut families, mut values) = (BTreeMap::<String, (String, String)>::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(line) = line.strip_prefix("# HELP ") {
                let (name, help) = line.split_once(' ').unwrap();
                families.entry(name.to_owned()).or_default().1 = help.to_owned();
            } else if let Some(line) = line.strip_prefix("# TYPE ") {
                let (name, kind) = line.split_once(' ').unwrap();
                families.entry(name.to_owned()).or_default().0 = kind.to_owned();
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert_eq!(values.insert(series.to_owned(), value), None, "twice: {series}");
            }
        }
        Self { families, values }
    }

    /// The family that a series is of, and its labels.
    fn family_of<'a>(&self, series: &'a str) -> (&'a str, Vec<&'a str>) {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = base.filter(|base| self.families.contains_key(*base)).unwrap_or(name);
        let labels =
            labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        (name, labels.filter(|label| *label != "le").collect())
    }

    /// What counts and has changed since `before`, but for what the process does by itself and for how long things took.
    fn changes_since(&self, before: &Self) -> Vec<(String, f64)> {
        let counts = |series: &&String| {
            let name = series.split('{').next().unwrap();
            let took = name.ends_with("_duration_seconds_sum") || name.ends_with("_bucket");
            let counts = name.ends_with("_total") || name.ends_with("_count") || name.ends_with("_sum");
            counts && !took && !name.starts_with("process_")
        };
        let change = |series: &String| self.values[series] - before.values.get(series).unwrap_or(&0.0);
        let changed = self.values.keys().filter(counts).map(|series| (series.clone(), change(series)));
        changed.filter(|(_, change)| *change != 0.0).collect()
    }
}

/// What docs/metrics.md says there is: kind, labels and help by name.
fn documented() -> BTreeMap<String, (String, Vec<String>, String)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let rows = text.split("\n## ").skip(1).flat_map(|section| section.lines().filter(|line| line.starts_with("| `")));
    let read = |row: &str| {
        let cells: Vec<_> = row.trim_matches('|').split(" |").map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("{row}") };
        let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (name.trim_matches('`').to_owned(), (kind.to_owned(), labels, help.to_owned()))
    };
    rows.map(read).collect()
}

/// All that may be there and is not before something bad has happened.
const ONLY_AFTER_TROUBLE: [&str; 1] = ["tollgate_h2_connections_cut_total"];

#[tokio::test]
async fn every_series_is_in_the_document_and_the_other_way_round() {
    let origin = Origin::replies(ok("hello").field("cache-control", "max-age=60")).await;
    let keys = "requests_max = 100\nqueue = {}\nbreaker = {}\nretry = { attempts = 2 }\n";
    let edge = Edge::start(
        upstream(&[origin.address()], keys)
            + "[rate_limit.a]\nrequests = 1000\nwindow = \"60s\"\n\
               [[route]]\npath = \"/\"\nupstream = \"app\"\ncache = {}\nrate_limit = [\"a\"]\ncompress = {}\n",
    )
    .await;
    for via in Via::ALL {
        assert_eq!(Client::connect(&edge, via).await.get("/").await.status, 200);
    }
    let mut wire = edge.raw().await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n").await.unwrap();
    assert_eq!(edge.get("/%").await.status, 400);
    let document = documented();
    let page = until("the refused request to be counted", async || {
        let page = Page::of(&edge).await;
        page.families.contains_key("tollgate_guard_refusals_total").then_some(page)
    })
    .await;
    for series in page.values.keys() {
        let (name, labels) = page.family_of(series);
        let (kind, known, help) = document.get(name).unwrap_or_else(|| panic!("{name} is not in docs/metrics.md"));
        assert_eq!(page.families.get(name), Some(&(kind.clone(), help.clone())), "{name}");
        assert!(labels.iter().all(|label| known.iter().any(|known| known == label)), "{series}: {known:?}");
    }
    let seen: BTreeSet<_> = page.values.keys().map(|series| page.family_of(series).0).collect();
    let missing: Vec<_> = document.keys().filter(|name| !seen.contains(name.as_str())).collect();
    assert_eq!(missing, ONLY_AFTER_TROUBLE);
}

#[tokio::test]
async fn a_request_moves_its_series_and_no_others() {
    let origin = Origin::answers(|request| async move {
        let status = if request.target == "/missing" { 404 } else { 200 };
        ok("hello").status(status)
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut client = Client::connect(&edge, Via::H1).await;
    assert_eq!(client.get("/").await.status, 200);
    let endpoint = origin.address();
    let before = until("the connection to be back", async || {
        let page = Page::of(&edge).await;
        let idle =
            format!("tollgate_upstream_pool_connections{{endpoint=\"{endpoint}\",state=\"idle\",upstream=\"app\"}}");
        (page.values.get(&idle) == Some(&1.0)).then_some(page)
    })
    .await;
    assert_eq!(client.ask(request("POST", "/missing"), "abc").await.status, 404);
    edge.counts("http_requests_total{protocol=\"h1\",route=\"/\",status=\"404\"}", 1.0).await;
    let port = endpoint.port();
    let of_endpoint = format!("{{endpoint=\"{endpoint}\",upstream=\"app\"}}");
    let expected = [
        (
            format!(
                "http_client_request_duration_seconds_count{{error_type=\"404\",http_request_method=\"POST\",\
                 http_response_status_code=\"404\",network_protocol_version=\"1.1\",server_address=\"127.0.0.1\",\
                 server_port=\"{port}\",upstream=\"app\",url_scheme=\"http\"}}"
            ),
            1.0,
        ),
        ("http_request_duration_seconds_count{route=\"/\"}".to_owned(), 1.0),
        ("http_requests_total{protocol=\"h1\",route=\"/\",status=\"404\"}".to_owned(), 1.0),
        ("http_server_request_body_size_bytes_count{http_route=\"/\",route=\"/\"}".to_owned(), 1.0),
        ("http_server_request_body_size_bytes_sum{http_route=\"/\",route=\"/\"}".to_owned(), 3.0),
        (
            "http_server_request_duration_seconds_count{http_request_method=\"POST\",http_response_status_code=\"404\",\
             http_route=\"/\",network_protocol_version=\"1.1\",route=\"/\",url_scheme=\"http\"}"
                .to_owned(),
            1.0,
        ),
        ("http_server_response_body_size_bytes_count{http_route=\"/\",route=\"/\"}".to_owned(), 1.0),
        ("http_server_response_body_size_bytes_sum{http_route=\"/\",route=\"/\"}".to_owned(), 5.0),
        (format!("tollgate_endpoint_requests_total{of_endpoint}"), 1.0),
        ("tollgate_response_codings_total{outcome=\"type\"}".to_owned(), 1.0),
        ("tollgate_upstream_requests_total{outcome=\"answered\",upstream=\"app\"}".to_owned(), 1.0),
    ];
    assert_eq!(Page::of(&edge).await.changes_since(&before), expected);
}

/// Whether its route keeps its name or gets another one.
#[tokio::test]
async fn a_request_that_outlives_a_reload_is_counted_where_it_began() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::holds(&allowed, |request| request.target == "/held", |_| ok("")).await;
    let route = |keys: &str| upstream(&[origin.address()], "") + "[[route]]\npath = \"/\"\nupstream = \"app\"\n" + keys;
    let series = |name: &str| format!("http_requests_total{{protocol=\"h1\",route=\"{name}\",status=\"200\"}}");
    let (kept, renamed) = (series("kept"), series("renamed"));
    let edge = Edge::start(route("name = \"kept\"")).await;
    assert_eq!(edge.get("/").await.status, 200);
    let mut client = Client::connect(&edge, Via::H1).await;
    let to_be_held = || request("GET", "/held").body(Body::whole("")).unwrap();
    let let_go = async |answer: Pending| {
        allowed.add_permits(1);
        assert_eq!(within("an answer", async { Answer::read(answer.await.unwrap()).await.unwrap() }).await.status, 200);
    };
    let reload = async |keys: &str| {
        edge.write_config(&Edge::standard(route(keys)));
        edge.reload().await;
        assert_eq!(edge.get("/").await.status, 200);
    };

    let held = client.send(to_be_held()).await;
    within("the held request", origin.has(2)).await;
    reload("name = \"kept\"\naccess_log = false").await;
    edge.counts(&kept, 2.0).await;
    let_go(held).await;
    edge.counts(&kept, 3.0).await;

    let held = client.send(to_be_held()).await;
    within("the held request", origin.has(4)).await;
    reload("name = \"renamed\"").await;
    edge.counts(&renamed, 1.0).await;
    edge.counts(&kept, 3.0).await;
    let_go(held).await;
    until("the series to be gone", async || (!Page::of(&edge).await.values.contains_key(&kept)).then_some(())).await;
    edge.counts(&renamed, 1.0).await;
}

#[tokio::test]
async fn a_hit_asks_no_endpoint() {
    let origin = Origin::replies(ok("hello").field("cache-control", "max-age=60")).await;
    let edge =
        Edge::start(upstream(&[origin.address()], "") + "[[route]]\npath = \"/\"\nupstream = \"app\"\ncache = {}\n")
            .await;
    let mut client = Client::connect(&edge, Via::TlsH2).await;
    let requests = "http_requests_total{protocol=\"h2\",route=\"/\",status=\"200\"}";
    assert_eq!(client.get("/").await.status, 200);
    edge.counts(requests, 1.0).await;
    let before = Page::of(&edge).await;
    assert_eq!(client.get("/").await.status, 200);
    edge.counts(requests, 2.0).await;
    let changes = Page::of(&edge).await.changes_since(&before);
    let expected = [
        ("http_request_duration_seconds_count{route=\"/\"}", 1.0),
        (requests, 1.0),
        ("http_server_request_body_size_bytes_count{http_route=\"/\",route=\"/\"}", 1.0),
        (
            "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_response_status_code=\"200\",\
             http_route=\"/\",network_protocol_version=\"2\",route=\"/\",url_scheme=\"https\"}",
            1.0,
        ),
        ("http_server_response_body_size_bytes_count{http_route=\"/\",route=\"/\"}", 1.0),
        ("http_server_response_body_size_bytes_sum{http_route=\"/\",route=\"/\"}", 5.0),
        ("tollgate_cache_requests_total{outcome=\"hit\",route=\"/\"}", 1.0),
        ("tollgate_response_codings_total{outcome=\"type\"}", 1.0),
    ];
    assert_eq!(changes, expected.map(|(series, change)| (series.to_owned(), change)));
}

#[tokio::test]
async fn what_is_in_flight_and_what_idles_is_seen() {
    let allowed = Arc::new(Semaphore::new(0));
    let origin = Origin::held(&allowed).await;
    let edge = Edge::before(&origin).await;
    let pool = |state: &str| {
        format!(
            "tollgate_upstream_pool_connections{{endpoint=\"{}\",state=\"{state}\",upstream=\"app\"}}",
            origin.address()
        )
    };
    let in_flight = format!("tollgate_upstream_in_flight{{endpoint=\"{}\",upstream=\"app\"}}", origin.address());
    let asking = async {
        assert_eq!(edge.get("/").await.status, 200);
    };
    let looking = async {
        edge.counts(&pool("used"), 1.0).await;
        assert_eq!(edge.metric(&pool("idle")).await, 0.0);
        assert_eq!(edge.metric("tollgate_requests_in_flight").await, 1.0);
        assert_eq!(edge.metric("tollgate_connections_busy").await, 1.0);
        assert_eq!(edge.metric(&in_flight).await, 1.0);
        allowed.add_permits(1);
    };
    tokio::join!(asking, looking);
    edge.counts(&pool("idle"), 1.0).await;
    assert_eq!(edge.metric(&pool("used")).await, 0.0);
    edge.counts("tollgate_requests_in_flight", 0.0).await;
    assert_eq!(edge.metric(&in_flight).await, 0.0);
}

#[tokio::test]
async fn failures_and_handshakes_are_told_apart() {
    let edge = Edge::start(upstream(&["127.0.0.1:1".parse().unwrap()], "retry = { attempts = 1 }") + ROUTE).await;
    assert_eq!(Client::connect(&edge, Via::TlsH1).await.get("/").await.status, 502);
    let server = "http_server_request_duration_seconds_count{error_type=\"connect-refused\",http_request_method=\"GET\",\
                  http_response_status_code=\"502\",http_route=\"/\",network_protocol_version=\"1.1\",route=\"/\",url_scheme=\"https\"}";
    edge.counts(server, 1.0).await;
    let client = "http_client_request_duration_seconds_count{error_type=\"connect_failed\",http_request_method=\"GET\",\
                  network_protocol_version=\"1.1\",server_address=\"127.0.0.1\",server_port=\"1\",upstream=\"app\",\
                  url_scheme=\"http\"}";
    assert_eq!(edge.metric(client).await, 1.0);
    assert_eq!(edge.metric("tollgate_request_failures_total{reason=\"connect-refused\"}").await, 1.0);
    assert_eq!(edge.metric("tollgate_tls_handshakes_total{result=\"completed\",version=\"1.3\"}").await, 1.0);
    assert_eq!(edge.metric("tollgate_tls_handshakes_total{result=\"failed\",version=\"none\"}").await, 0.0);
}

/// Prometheus asks for gzip, and takes the text format beside others.
#[tokio::test]
async fn the_page_comes_as_it_is_asked_for() {
    let edge = Edge::start("[[route]]\npath = \"/\"\ntext = \"in\"\n").await;
    let ask = async |codings: &str| {
        let stream = TcpStream::connect(edge.admin_address()).await.unwrap();
        let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let head = request("GET", "/metrics").header("accept", accept).header("accept-encoding", codings);
        Client::over(Via::H1, stream).await.unwrap().ask(head, "").await
    };
    for codings in ["gzip", "gzip, deflate, br", "*"] {
        let answer = ask(codings).await;
        assert_eq!(answer.field("content-encoding"), "gzip", "{codings}");
        assert_eq!(answer.field("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(answer.field("vary"), "accept-encoding");
        assert_eq!(&answer.body[..2], [0x1f, 0x8b]);
    }
    for codings in ["", "identity", "gzip;q=0", "br"] {
        let answer = ask(codings).await;
        assert_eq!(answer.field("content-encoding"), "", "{codings}");
        assert!(answer.text().contains("\ntollgate_config_generation 1\n"));
    }
}

/// The newest of what was pushed, by name.
fn pushed(origin: &Origin) -> Option<BTreeMap<String, Metric>> {
    let requests = origin.requests();
    let newest = requests.iter().rfind(|request| request.target == "/v1/metrics")?;
    let message = ExportMetricsServiceRequest::decode(&*newest.body).unwrap();
    let [resource] = &message.resource_metrics[..] else { panic!("{message:?}") };
    let service =
        resource.resource.as_ref().unwrap().attributes.iter().find(|name| name.key == "service.name").unwrap();
    let name = any_value::Value::StringValue("tollgate".to_owned());
    assert_eq!(service.value.as_ref().unwrap().value, Some(name));
    let metrics = resource.scope_metrics.iter().flat_map(|scope| scope.metrics.iter().cloned());
    Some(metrics.map(|metric| (metric.name.clone(), metric)).collect())
}

/// One truth: what is pushed is what a scrape shows.
#[tokio::test]
async fn a_collector_is_pushed_what_a_scrape_shows() {
    let (collector, origin) = (Origin::replies(ok("")).await, Origin::replies(ok("hello")).await);
    let table =
        format!("[telemetry]\notlp = \"http://{}\"\nsample = 0\nmetrics_interval = \"100ms\"\n", collector.address());
    let edge = Edge::start(table + &upstream(&[origin.address()], "") + ROUTE + "name = \"shop\"\n").await;
    assert_eq!(edge.get("/").await.status, 200);
    let metrics = until("the request to be pushed", async || {
        pushed(&collector).filter(|metrics| metrics.contains_key("http.server.request.duration"))
    })
    .await;
    let page = Page::of(&edge).await;
    let standard = ["http.server.", "http.client."];
    for name in metrics.keys().filter(|name| !standard.iter().any(|start| name.starts_with(start))) {
        assert!(page.families.contains_key(name), "{name} is pushed and not shown");
    }
    for name in
        page.families.keys().filter(|name| !name.starts_with("http_server_") && !name.starts_with("http_client_"))
    {
        assert!(metrics.contains_key(name), "{name} is shown and not pushed");
    }
    let Some(metric::Data::Histogram(histogram)) = &metrics["http.server.request.duration"].data else { panic!() };
    assert_eq!(metrics["http.server.request.duration"].unit, "s");
    assert_eq!(histogram.aggregation_temporality, AggregationTemporality::Cumulative as i32);
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.bucket_counts.len(), point.explicit_bounds.len()), (1, 15, 14));
    let attribute = |name: &str| {
        let found = point.attributes.iter().find(|attribute| attribute.key == name);
        found.and_then(|attribute| attribute.value.clone()?.value)
    };
    assert_eq!(attribute("http.request.method"), Some(any_value::Value::StringValue("GET".to_owned())));
    assert_eq!(attribute("http.response.status_code"), Some(any_value::Value::IntValue(200)));
    assert_eq!(attribute("error.type"), None);
    // As spans tell them.
    assert_eq!(attribute("http.route"), Some(any_value::Value::StringValue("/".to_owned())));
    assert_eq!(attribute("tollgate.route"), Some(any_value::Value::StringValue("shop".to_owned())));
    let Some(metric::Data::Sum(sum)) = &metrics["http_requests_total"].data else { panic!() };
    assert!(sum.is_monotonic && sum.data_points[0].start_time_unix_nano > 0);
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(1)));
    assert!(sum.data_points[0].attributes.iter().any(|attribute| attribute.key == "route"));
    let Some(metric::Data::Histogram(attempts)) = &metrics["http.client.request.duration"].data else { panic!() };
    let mut names = attempts.data_points[0].attributes.iter().map(|attribute| attribute.key.as_str());
    assert!(names.any(|name| name == "tollgate.upstream"), "{attempts:?}");
    let Some(metric::Data::Gauge(gauge)) = &metrics["tollgate_config_generation"].data else { panic!() };
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsInt(1)));
}

#[tokio::test]
async fn edges_with_one_collector_push_each_as_itself_and_across_a_reload() {
    let (collector, origin) = (Origin::replies(ok("")).await, Origin::replies(ok("hello")).await);
    let table =
        format!("[telemetry]\notlp = \"http://{}\"\nsample = 0\nmetrics_interval = \"50ms\"\n", collector.address());
    let config = table + &upstream(&[origin.address()], "") + ROUTE;
    let count = |wanted: usize| {
        let collector = &collector;
        until("the ids", async move || Some(instances(collector)).filter(|ids| ids.len() >= wanted))
    };
    let first = Edge::start(&config).await;
    let ids = count(1).await;
    assert_eq!(ids.first().unwrap().len(), 36, "{ids:?}");
    let _second = Edge::start(&config).await;
    count(2).await;
    first.write_config(&Edge::standard(config.replace("sample = 0", "sample = 1")));
    first.reload().await;
    let seen = collector.count();
    until("further pushes", async || (collector.count() > seen + 6).then_some(())).await;
    assert_eq!(instances(&collector).len(), 2);
}

/// The ids of all who have pushed.
fn instances(collector: &Origin) -> BTreeSet<String> {
    let requests = collector.requests();
    let messages = requests.iter().filter(|request| request.target == "/v1/metrics");
    let resources =
        messages.flat_map(|request| ExportMetricsServiceRequest::decode(&*request.body).unwrap().resource_metrics);
    let attributes = resources.flat_map(|resource| resource.resource.unwrap().attributes);
    let ids = attributes.filter(|attribute| attribute.key == "service.instance.id");
    ids.map(|id| match id.value.unwrap().value {
        Some(any_value::Value::StringValue(id)) => id,
        other => panic!("{other:?}"),
    })
    .collect()
}

/// The value of a counter without labels, or of its first series.
fn count(metrics: &BTreeMap<String, Metric>, name: &str) -> Option<number_data_point::Value> {
    let Some(metric::Data::Sum(sum)) = &metrics.get(name)?.data else { panic!("{name} is no counter") };
    sum.data_points[0].value
}

#[tokio::test]
async fn the_last_metrics_are_pushed_at_the_end() {
    let (collector, origin) = (Origin::replies(ok("")).await, Origin::replies(ok("hello")).await);
    let table =
        format!("[telemetry]\notlp = \"http://{}\"\nsample = 1\nmetrics_interval = \"1h\"\n", collector.address());
    let mut edge = Edge::start(table + &upstream(&[origin.address()], "") + ROUTE).await;
    assert_eq!(edge.get("/").await.status, 200);
    edge.signal(rustix::process::Signal::TERM);
    assert!(edge.exit().await.success());
    let metrics = pushed(&collector).expect("metrics");
    assert_eq!(count(&metrics, "http_requests_total"), Some(number_data_point::Value::AsInt(1)));
    // The spans went before.
    assert_eq!(count(&metrics, "tollgate_spans_exported_total"), Some(number_data_point::Value::AsInt(2)));
}

#[tokio::test]
async fn metrics_that_a_collector_rejects_are_said_once_and_counted() {
    let rejected = ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "too old".to_owned() };
    let answer = ExportMetricsServiceResponse { partial_success: Some(rejected) }.encode_to_vec();
    let (collector, origin) = (Origin::replies(ok(answer)).await, Origin::replies(ok("hello")).await);
    let table =
        format!("[telemetry]\notlp = \"http://{}\"\nsample = 0\nmetrics_interval = \"20ms\"\n", collector.address());
    let edge = Edge::start(table + &upstream(&[origin.address()], "") + ROUTE).await;
    let result = |result: &str| format!("tollgate_metrics_pushes_total{{result=\"{result}\"}}");
    until("three pushes", async || (edge.metric(&result("partial")).await >= 3.0).then_some(())).await;
    assert_eq!(edge.metric(&result("success")).await, 0.0);
    let said = "metrics are exported, but 2 were rejected: too old";
    assert_eq!(edge.stderr().matches(said).count(), 1, "{}", edge.stderr());
}

#[tokio::test]
async fn a_dead_collector_is_said_once_and_counted() {
    let origin = Origin::replies(ok("hello")).await;
    let table = "[telemetry]\notlp = \"http://127.0.0.1:1\"\nsample = 0\nmetrics_interval = \"20ms\"\n";
    let edge = Edge::start(table.to_owned() + &upstream(&[origin.address()], "") + ROUTE).await;
    let failures = "tollgate_metrics_pushes_total{result=\"failure\"}";
    until("three pushes to fail", async || (edge.metric(failures).await >= 3.0).then_some(())).await;
    assert_eq!(edge.get("/").await.status, 200);
    assert_eq!(edge.stderr().matches("metrics are not exported").count(), 1, "{}", edge.stderr());
}
