//! The exporter before a collector of a few lines.

use std::convert::Infallible;
use std::sync::mpsc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest};
use tokio::net::TcpListener;

use super::*;
use crate::grpc;
use crate::settings::{Given, Protocol, Settings};
use crate::span::testing::named;

type Answer = Response<Full<Bytes>>;

struct Collector {
    settings: Settings,
    /// The names of the spans of each message.
    seen: mpsc::Receiver<Vec<String>>,
}

impl Collector {
    /// Over HTTP/1.1.
    async fn start(answer: impl FnMut(usize) -> Answer + Send + 'static) -> Self {
        let (tell, seen) = mpsc::channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new((0, answer)));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, tell) = (Arc::clone(&answer), tell.clone());
                let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (answer, tell) = (Arc::clone(&answer), tell.clone());
                    async move {
                        assert_eq!(request.uri().path(), "/v1/traces");
                        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        tell.send(names(&body)).unwrap();
                        let (number, answer) = &mut *answer.lock().unwrap();
                        *number += 1;
                        Ok::<_, Infallible>(answer(*number))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
                );
            }
        });
        Self { settings: settings(address, Protocol::HttpProtobuf), seen }
    }

    fn exporter(&self, counts: &Arc<Counts>) -> (Exporter, Arc<Mutex<Vec<Health>>>) {
        start(&self.settings, counts)
    }
}

fn settings(address: std::net::SocketAddr, protocol: Protocol) -> Settings {
    let endpoint = Some(format!("http://{address}").parse().unwrap());
    let given =
        Given { endpoint, protocol: Some(protocol), timeout: Some(Duration::from_millis(300)), ..Given::default() };
    let mut settings = Settings::resolve(&given, &|_| None).0;
    settings.batching = Batching { queue_max: 10, batch_max: 2, delay: Duration::from_millis(20) };
    settings
}

fn start(settings: &Settings, counts: &Arc<Counts>) -> (Exporter, Arc<Mutex<Vec<Health>>>) {
    let said = Arc::<Mutex<Vec<Health>>>::default();
    let told = Arc::clone(&said);
    let tell = move |health| told.lock().unwrap().push(health);
    let exporter = Exporter::start(settings.batching, "test", Arc::clone(counts), tell, &Handle::current());
    exporter.apply(settings.traces.clone(), &[("service.name".to_owned(), "edge".to_owned())]);
    (exporter, said)
}

fn names(message: &[u8]) -> Vec<String> {
    let message = ExportTraceServiceRequest::decode(message).unwrap();
    let scope = message.resource_spans[0].scope_spans[0].scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("test", env!("CARGO_PKG_VERSION")));
    let resource = &message.resource_spans[0].resource.as_ref().unwrap().attributes;
    assert_eq!(resource.first().map(|member| member.key.as_str()), Some("service.name"));
    let spans = message.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    spans.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

fn push(exporter: &Exporter, names: &[&str]) {
    names.iter().for_each(|name| exporter.queue().push(&named(name)));
}

fn status(status: u16) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

#[tokio::test]
async fn spans_go_in_batches_and_the_rest_at_the_end() {
    let collector = Collector::start(|_| status(200)).await;
    let counts = Arc::<Counts>::default();
    let (exporter, said) = collector.exporter(&counts);
    push(&exporter, &["a", "b", "c"]);
    exporter.close(Duration::from_secs(5)).await;
    let mut seen: Vec<_> = collector.seen.try_iter().collect();
    assert!(seen.iter().all(|batch| batch.len() <= 2), "{seen:?}");
    seen.sort();
    assert_eq!(seen.concat().len(), 3);
    assert_eq!((counts.exported(), said.lock().unwrap().len()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_said_once_and_its_batch_offered_again() {
    let collector = Collector::start(|number| status(if number < 3 { 503 } else { 200 })).await;
    let counts = Arc::<Counts>::default();
    let (exporter, said) = collector.exporter(&counts);
    push(&exporter, &["a"]);
    while counts.exported() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let failing = Health::Failing("status 503 Service Unavailable".to_owned());
    assert_eq!(*said.lock().unwrap(), [failing, Health::Recovered]);
    assert_eq!(collector.seen.try_iter().count(), 3);
    exporter.close(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_is_refused_for_good_or_in_part_is_counted() {
    let rejected = ExportTracePartialSuccess { rejected_spans: 1, error_message: String::new() };
    let partial = ExportTraceServiceResponse { partial_success: Some(rejected) }.encode_to_vec();
    let answer = move |number| if number == 1 { status(400) } else { Response::new(Full::from(partial.clone())) };
    let collector = Collector::start(answer).await;
    let counts = Arc::<Counts>::default();
    let (exporter, _) = collector.exporter(&counts);
    push(&exporter, &["a", "b", "c", "d"]);
    exporter.close(Duration::from_secs(5)).await;
    assert_eq!((counts.dropped(Dropped::Failed), counts.dropped(Dropped::Rejected), counts.exported()), (2, 1, 1));
}

#[tokio::test]
async fn a_frozen_collector_costs_no_more_than_the_queue() {
    // It accepts by its backlog, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = settings(listener.local_addr().unwrap(), Protocol::HttpProtobuf);
    let counts = Arc::<Counts>::default();
    let (exporter, said) = start(&settings, &counts);
    for _ in 0..100 {
        push(&exporter, &["a"]);
    }
    assert_eq!(counts.dropped(Dropped::QueueFull), 90);
    while said.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*said.lock().unwrap(), [Health::Failing("no answer within 300ms".to_owned())]);
    exporter.close(Duration::from_millis(50)).await;
    let dropped: u64 = Dropped::ALL.into_iter().map(|why| counts.dropped(why)).sum();
    assert_eq!((dropped, counts.exported()), (100, 0));
}

#[tokio::test]
async fn spans_go_by_grpc() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = settings(listener.local_addr().unwrap(), Protocol::Grpc);
    let (tell, seen) = mpsc::channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let tell = tell.clone();
            async move {
                assert_eq!(request.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
                assert_eq!(request.headers()["content-type"], "application/grpc");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let seen = names(&grpc::unframe(body));
                let code = if seen == ["bad"] { "3" } else { "0" };
                tell.send(seen).unwrap();
                let trailers = HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static(code),
                )]);
                let frames = [Ok::<_, Infallible>(Frame::data(grpc::frame(b""))), Ok(Frame::trailers(trailers))];
                Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
            }
        });
        let executor = hyper_util::rt::TokioExecutor::new();
        hyper::server::conn::http2::Builder::new(executor)
            .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
            .await
            .unwrap();
    });
    let counts = Arc::<Counts>::default();
    let (exporter, said) = start(&settings, &counts);
    push(&exporter, &["a"]);
    while counts.exported() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    push(&exporter, &["bad"]);
    exporter.close(Duration::from_secs(5)).await;
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [["a"], ["bad"]]);
    assert_eq!((counts.exported(), counts.dropped(Dropped::Failed)), (1, 1));
    assert_eq!(*said.lock().unwrap(), [Health::Failing("gRPC status 3: ".to_owned())]);
}
