//! `tollgate upstreams`: who serves, and taking an endpoint out by hand.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::json;

use super::client::Reach;
use super::config_file::ConfigFile;
use super::{Failure, output};

/// Show the endpoints of every upstream; drain one or take it back
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show the endpoints of every upstream as the running proxy sees them, or take one out by hand. A \
                  drained endpoint gets no new requests and finishes those that it has. It stays drained over \
                  reloads, until it is taken back or the proxy restarts.",
    after_help = "Examples:\n  tollgate upstreams\n  tollgate upstreams drain app 10.0.0.1:3000\n  \
                  tollgate upstreams undrain app 10.0.0.1:3000"
)]
pub struct Upstreams {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    reach: Reach,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show them all: the default
    List,
    /// Give an endpoint no new requests
    Drain(Which),
    /// Give it requests again
    Undrain(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Upstream, as the configuration names it
    name: String,
    /// Address and port of the endpoint, as `tollgate upstreams` shows it
    address: SocketAddr,
}

/// One upstream of `/upstreams`.
#[derive(Debug, Deserialize)]
pub struct Upstream {
    name: String,
    breaker: Option<Breaker>,
    queue: Queue,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Breaker {
    state: String,
    open_for_s: Option<f64>,
    opened: u64,
    refused: u64,
}

#[derive(Debug, Deserialize)]
struct Queue {
    requests_max: Option<usize>,
    endpoint_requests_max: Option<usize>,
    waiting: usize,
    waited: u64,
    full: u64,
    timed_out: u64,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    address: SocketAddr,
    name: String,
    state: String,
    out_for_s: Option<f64>,
    weight: u32,
    in_flight: usize,
    requests: u64,
    failures: u64,
    /// Those that came to an end, and the seconds that they took.
    attempts: u64,
    attempts_s: f64,
    last_error: Option<String>,
}

/// The time of which rates and latencies are told.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// How it was when that began; nothing at the start of the process.
    pub before: &'a [Upstream],
    pub seconds: f64,
}

impl Upstreams {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let client = self.reach.client(config)?;
        let reply = match self.action {
            None | Some(Action::List) => client.get("/upstreams")?,
            Some(Action::Drain(which)) => client.post(&which.path("drain"), which.body())?,
            Some(Action::Undrain(which)) => client.post(&which.path("undrain"), which.body())?,
        };
        reply.print(self.json, |reply| {
            let found: serde_json::Value = reply.read()?;
            let upstreams: Vec<Upstream> =
                if found.is_array() { serde_json::from_value(found)? } else { vec![serde_json::from_value(found)?] };
            Ok(table(&upstreams, None))
        })
    }
}

impl Which {
    fn path(&self, action: &str) -> String {
        format!("/upstreams/{}/{action}", self.name)
    }

    fn body(&self) -> String {
        json!({ "address": self.address }).to_string()
    }
}

/// One line an endpoint, and below one for each breaker, and one for each upstream with a cap. Requests and failures are
/// those since the start, rates and latencies those of the span.
pub fn table(upstreams: &[Upstream], span: Option<&Span<'_>>) -> String {
    let endpoints = match span {
        None => {
            let header =
                ["UPSTREAM", "ENDPOINT", "NAME", "STATE", "WEIGHT", "IN FLIGHT", "REQUESTS", "FAILURES", "LAST ERROR"];
            output::table(header, rows(upstreams).map(|(upstream, endpoint)| row(upstream, endpoint)))
        }
        Some(span) => {
            let header = [
                "UPSTREAM",
                "ENDPOINT",
                "NAME",
                "STATE",
                "WEIGHT",
                "IN FLIGHT",
                "PER S",
                "LATENCY",
                "REQUESTS",
                "FAILURES",
                "LAST ERROR",
            ];
            let figures = |(upstream, endpoint)| {
                let [name, address, host, state, weight, in_flight, requests, failures, error] =
                    row(upstream, endpoint);
                let (rate, latency) = span.figures(upstream, endpoint);
                [name, address, host, state, weight, in_flight, rate, latency, requests, failures, error]
            };
            output::table(header, rows(upstreams).map(figures))
        }
    };
    let breakers = upstreams.iter().filter_map(|upstream| {
        let Breaker { state, open_for_s, opened, refused } = upstream.breaker.as_ref()?;
        Some([upstream.name.clone(), timed(state, *open_for_s), opened.to_string(), refused.to_string()])
    });
    let queues = upstreams.iter().filter_map(queue_row);
    let queue_columns = ["UPSTREAM", "IN FLIGHT MAX", "AT AN ENDPOINT", "WAITING", "WAITED", "FULL", "TIMED OUT"];
    [Some(endpoints), below(["UPSTREAM", "BREAKER", "OPENED", "REFUSED"], breakers), below(queue_columns, queues)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn rows(upstreams: &[Upstream]) -> impl Iterator<Item = (&Upstream, &Endpoint)> {
    upstreams.iter().flat_map(|upstream| upstream.endpoints.iter().map(move |endpoint| (upstream, endpoint)))
}

impl Span<'_> {
    /// Requests a second, and how long an attempt took in the middle.
    fn figures(&self, upstream: &Upstream, endpoint: &Endpoint) -> (String, String) {
        let same =
            |(one, other): &(&Upstream, &Endpoint)| one.name == upstream.name && other.address == endpoint.address;
        let before = rows(self.before).find(same).map(|(_, endpoint)| endpoint);
        // One that came again counts from the beginning.
        let before =
            before.filter(|before| before.requests <= endpoint.requests && before.attempts <= endpoint.attempts);
        let (requests, attempts, took) =
            before.map_or((0, 0, 0.0), |before| (before.requests, before.attempts, before.attempts_s));
        let rate = (endpoint.requests - requests) as f64 / self.seconds.max(f64::MIN_POSITIVE);
        let attempts = endpoint.attempts - attempts;
        let latency = match attempts {
            0 => "-".to_owned(),
            _ => output::seconds((endpoint.attempts_s - took) / attempts as f64),
        };
        (format!("{rate:.1}"), latency)
    }
}

/// None without rows.
fn below<const N: usize>(columns: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Option<String> {
    let mut rows = rows.peekable();
    rows.peek()?;
    Some(output::table(columns, rows))
}

/// None if nothing is capped.
fn queue_row(upstream: &Upstream) -> Option<[String; 7]> {
    let Queue { requests_max, endpoint_requests_max, waiting, waited, full, timed_out } = &upstream.queue;
    requests_max.or(*endpoint_requests_max)?;
    let cap = |max: &Option<usize>| max.map_or_else(|| "-".to_owned(), |max| max.to_string());
    Some([
        upstream.name.clone(),
        cap(requests_max),
        cap(endpoint_requests_max),
        waiting.to_string(),
        waited.to_string(),
        full.to_string(),
        timed_out.to_string(),
    ])
}

/// A state, and how long it lasts.
fn timed(state: &str, for_s: Option<f64>) -> String {
    for_s.map_or_else(|| state.to_owned(), |seconds| format!("{state} ({seconds:.0} s left)"))
}

fn row(upstream: &Upstream, endpoint: &Endpoint) -> [String; 9] {
    let state = timed(&endpoint.state, endpoint.out_for_s);
    [
        upstream.name.clone(),
        endpoint.address.to_string(),
        endpoint.name.clone(),
        state,
        endpoint.weight.to_string(),
        endpoint.in_flight.to_string(),
        endpoint.requests.to_string(),
        endpoint.failures.to_string(),
        endpoint.last_error.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Upstream> {
        serde_json::from_value(json!([{
            "name": "app", "usable": 1,
            "queue": { "requests_max": null, "endpoint_requests_max": 200, "waiting": 3, "waited": 9, "waited_s": 1.5,
                       "full": 1, "timed_out": 2 },
            "breaker": { "state": "open", "open_for_s": 58.6, "opened": 1, "refused": 40 },
            "endpoints": [
                { "address": "10.0.0.1:3000", "name": "app", "state": "usable", "out_for_s": null, "drained": false,
                  "weight": 1, "in_flight": 2, "requests": 10, "failures": 0, "attempts": 10, "attempts_s": 0.25,
                  "last_error": null },
                { "address": "10.0.0.2:3000", "name": "app", "state": "ejected", "out_for_s": 12.4, "drained": false,
                  "weight": 1, "in_flight": 0, "requests": 7, "failures": 3, "attempts": 0, "attempts_s": 0.0,
                  "last_error": "no\nanswer" },
            ],
        }]))
        .unwrap()
    }

    #[test]
    fn one_line_an_endpoint() {
        assert_eq!(
            output::squeezed(&table(&two(), None)),
            [
                "UPSTREAM ENDPOINT NAME STATE WEIGHT IN FLIGHT REQUESTS FAILURES LAST ERROR",
                "app 10.0.0.1:3000 app usable 1 2 10 0",
                "app 10.0.0.2:3000 app ejected (12 s left) 1 0 7 3 no\\nanswer",
                "",
                "UPSTREAM BREAKER OPENED REFUSED",
                "app open (59 s left) 1 40",
                "",
                "UPSTREAM IN FLIGHT MAX AT AN ENDPOINT WAITING WAITED FULL TIMED OUT",
                "app - 200 3 9 1 2",
            ]
        );
    }

    #[test]
    fn rates_and_latencies_are_those_of_a_span() {
        let check = |before: &[Upstream], now: &[Upstream], expected: [&str; 2]| {
            let lines = output::squeezed(&table(now, Some(&Span { before, seconds: 5.0 })));
            assert!(lines[0].contains("IN FLIGHT PER S LATENCY REQUESTS FAILURES"), "{}", lines[0]);
            assert_eq!([&lines[1], &lines[2]], expected);
        };
        let no_answer = "app 10.0.0.2:3000 app ejected (12 s left) 1 0 1.4 - 7 3 no\\nanswer";
        check(&[], &two(), ["app 10.0.0.1:3000 app usable 1 2 2.0 25.0 ms 10 0", no_answer]);
        let mut later = two();
        let endpoint = &mut later[0].endpoints[0];
        (endpoint.requests, endpoint.attempts, endpoint.attempts_s) = (30, 20, 12.75);
        let no_more = no_answer.replace("1.4", "0.0");
        check(&two(), &later, ["app 10.0.0.1:3000 app usable 1 2 4.0 1.25 s 30 0", &no_more]);
        // It was taken out of the file and came again.
        check(&later, &two(), ["app 10.0.0.1:3000 app usable 1 2 2.0 25.0 ms 10 0", &no_more]);
    }
}
