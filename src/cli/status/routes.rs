//! What routes did in the last seconds, as the live page shows it.

use serde::Deserialize;

use crate::cli::output;

/// Those that are worth a line.
#[derive(Debug, Deserialize)]
pub struct Routes {
    /// How many there are.
    total: usize,
    /// The time of which rates, latencies and shares are told.
    window_s: f64,
    shown: Vec<Route>,
}

#[derive(Debug, Deserialize)]
struct Route {
    route: String,
    /// Since the start.
    requests: u64,
    rate: f64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    client_error_ratio: Option<f64>,
    server_error_ratio: Option<f64>,
}

impl Routes {
    /// One line a route in the order of the page, and below what they are told of.
    pub fn table(&self) -> String {
        let Self { total, window_s, shown } = self;
        let header = ["ROUTE", "REQUESTS", "PER S", "P50", "P95", "P99", "4XX", "5XX"];
        let table = output::table(header, shown.iter().map(Route::row));
        let some = match shown.len() {
            some if some < *total => format!("{some} of {total}: the busiest, slowest and those with errors; "),
            _ => String::new(),
        };
        format!("{table}\n{some}requests since the start, all else in the last {window_s:.0} s")
    }
}

impl Route {
    fn row(&self) -> [String; 8] {
        let latency = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| output::seconds(ms / 1_000.0));
        let share =
            |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
        [
            self.route.clone(),
            self.requests.to_string(),
            format!("{:.1}", self.rate),
            latency(self.p50_ms),
            latency(self.p95_ms),
            latency(self.p99_ms),
            share(self.client_error_ratio),
            share(self.server_error_ratio),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn squeezed(total: usize) -> Vec<String> {
        let busy = json!({ "route": "/", "requests": 123, "rate": 2.04, "p50_ms": 7.5, "p95_ms": 40.0, "p99_ms": 1_250.0,
            "client_error_ratio": 0.0, "server_error_ratio": 0.0526 });
        let idle = json!({ "route": "a\"b\u{202e}\u{1b}[31m", "requests": 0, "rate": 0.0, "p50_ms": null, "p95_ms": null,
            "p99_ms": null, "client_error_ratio": null, "server_error_ratio": null });
        let routes = json!({ "total": total, "window_s": 24.9, "shown": [busy, idle] });
        output::squeezed(&serde_json::from_value::<Routes>(routes).unwrap().table())
    }

    #[test]
    fn one_line_a_route() {
        assert_eq!(
            squeezed(2),
            [
                "ROUTE REQUESTS PER S P50 P95 P99 4XX 5XX",
                "/ 123 2.0 7.5 ms 40.0 ms 1.25 s 0.0 % 5.3 %",
                "a\"b\\u{202e}\\u{1b}[31m 0 0.0 - - - - -",
                "requests since the start, all else in the last 25 s",
            ]
        );
    }

    #[test]
    fn of_many_routes_those_are_shown_that_the_page_shows() {
        let lines = squeezed(10_001);
        let expected = "2 of 10001: the busiest, slowest and those with errors; requests since the start, all else in the \
                        last 25 s";
        assert_eq!((lines.len(), lines[3].as_str()), (4, expected));
    }
}
