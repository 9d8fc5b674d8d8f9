//! Holds `docs/metrics.md` together with the list of families.
//!
//! `UPDATE=1 cargo test --lib metrics::docs` writes the page anew.

use std::fmt::Write as _;
use std::path::Path;

use super::families::{Family, SECTIONS};

const INTRODUCTION: &str = "\
# Metrics

The admin listener has them at `/metrics`, for Prometheus, in the text format 0.0.4, with gzip for who asks for it. This page is made of
the list that the program itself writes them by: `UPDATE=1 cargo test --lib metrics::docs` renews it. The app's own are in
[app.md](app.md); what to look at and what is worth an alert, in [operations.md](operations.md#what-to-look-at).

Labels come from closed sets, never from what a client made up:

| label | values |
|---|---|
| `route` | names of routes; `none` of requests that no route matched. `http_server_…` tell 1,000 routes apart, those beyond are `other` |
| `http_route` | the path or pattern that the route has in the configuration, as spans tell it; nothing for `none` and `other`. Routes may share one |
| `upstream`, `limit`, `host` | names in the configuration; of a certificate, the first of its hosts |
| `endpoint`, `server_address`, `server_port` | addresses of endpoints, as they are now |
| `status`, `http_response_status_code` | as the client saw it; 499: it had left before. A route has at most 32 combinations of method, status, version and error on each worker; those beyond are `other` |
| `protocol` | `h1` or `h2` of requests, `http` or `https` of connections |
| `network_protocol_version` | `1.0`, `1.1` or `2` |
| `http_request_method` | the methods of RFC 9110 and PATCH; all others are `_OTHER` |
| `error_type` | nothing, if it went well. To `http_server_…` errors are responses of 5xx and those that broke off, by their reason code or else the status, and calls of gRPC that the server failed, by the name of their status; to `http_client_…` those of 4xx and 5xx, by the status, and attempts without a response, by `outcome` |
| `url_scheme` | `http` or `https` |
| `reason` | the codes of [troubleshooting.md](troubleshooting.md); of HTTP/2 those of [operations.md](operations.md#what-to-look-at); of a queue `upstream-full` or `queue-timeout`; of spans those of [operations.md](operations.md) |
| `outcome` | of attempts `answered`, `connect_failed`, `timed_out`, `broken` or `abandoned`; of the cache `hit`, `stale`, `validated`, `miss`, `collapsed` or `bypass`; of codings `gzip`, `br`, `zstd`, `decoded` or why there is none |
| `cause` | `connect`, `stale`, `refused`, `broken`, `timed_out`, `ejected` or `status` |
| `state` | of endpoints `usable`, `failing`, `ejected`, `unhealthy` or `drained`; of breakers `closed`, `open` or `half-open`; of connections `idle` or `used` |
| `decision` | `allowed`, `limited` or `dry_run` |
| `result`, `version` | of handshakes `completed` with `1.2` or `1.3`, `failed` or `timed_out` with `none`; of reloads and pushes `success` or `failure` |
| `of`, `side`, `action` | `stored` or `fetching`; `client` or `endpoint`; `cache_memory`, `breaker` or `idle_connections` |

A series of a route, or of an answer of an endpoint, begins with the first request that it counts, and goes with its route, upstream or
endpoint when a reload has removed that. Durations of requests have two tables of buckets: `http_request_duration_seconds` from 1 ms to
30 s with the limits of service levels among them, `http_server_…` and `http_client_…` those of OpenTelemetry's conventions. Requests that
upstreams are sent for the cache or once more are in `http_client_…` alone.

Where `[telemetry]` names a collector, the same series are pushed to it by OTLP each `metrics_interval`, as sums since the start; those of
OpenTelemetry's conventions as `http.server.request.duration`, `http.client.request.duration`, `http.server.request.body.size` and
`http.server.response.body.size` with attributes such as `http.request.method`, `tollgate.route` and `tollgate.upstream`, all others by the names
below. `metrics = false` or
`OTEL_METRICS_EXPORTER=none` leaves it to scrapes.
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (heading, families) in SECTIONS {
        // Writing to a string does not fail.
        let _written = write!(page, "\n## {heading}\n\n| name | kind | labels | |\n|---|---|---|---|\n");
        for Family { name, kind, labels, help } in *families {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _written = writeln!(page, "| `{name}` | {} | {} | {help} |", kind.word(), labels.join(", "));
        }
    }
    page
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/metrics.md is out of date: UPDATE=1 cargo test --lib metrics::docs");
}
