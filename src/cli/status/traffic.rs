//! What passed each route, read from the metrics: since the start, or between two looks.

use std::collections::BTreeMap;

use crate::cli::output;

/// Of more routes only the busiest are shown.
const ROUTES_SHOWN_MAX: usize = 100;

/// By the names of routes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic(BTreeMap<String, Counts>);

#[derive(Debug, Clone, Default, PartialEq)]
struct Counts {
    requests: f64,
    client_errors: f64,
    server_errors: f64,
    /// How many took no longer than so many seconds, by rising bounds.
    buckets: Vec<(f64, f64)>,
}

impl Traffic {
    /// Of the text that Prometheus reads; whatever is not about routes is passed over.
    pub fn read(metrics: &str) -> Self {
        let mut routes: BTreeMap<String, Counts> = BTreeMap::new();
        for (name, labels, value) in metrics.lines().filter_map(sample) {
            let Some(route) = labels.get("route") else { continue };
            match (name, labels.get("status"), labels.get("le")) {
                ("http_requests_total", Some(status), _) => {
                    let counts = routes.entry(route.clone()).or_default();
                    counts.requests += value;
                    match status.bytes().next() {
                        Some(b'4') => counts.client_errors += value,
                        Some(b'5') => counts.server_errors += value,
                        _ => {}
                    }
                }
                ("http_request_duration_seconds_bucket", _, Some(bound)) => {
                    let bound = bound.parse().unwrap_or(f64::INFINITY);
                    routes.entry(route.clone()).or_default().buckets.push((bound, value));
                }
                _ => {}
            }
        }
        for counts in routes.values_mut() {
            counts.buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        }
        Self(routes)
    }

    /// What has come since another look.
    pub fn since(&self, before: &Self) -> Self {
        let none = Counts::default();
        let since = |(route, now): (&String, &Counts)| {
            let before = before.0.get(route).unwrap_or(&none);
            let old = |bound: f64| before.buckets.iter().find(|(other, _)| *other == bound).map_or(0.0, |(_, n)| *n);
            let counts = Counts {
                requests: less(now.requests, before.requests),
                client_errors: less(now.client_errors, before.client_errors),
                server_errors: less(now.server_errors, before.server_errors),
                buckets: now.buckets.iter().map(|(bound, count)| (*bound, less(*count, old(*bound)))).collect(),
            };
            (route.clone(), counts)
        };
        Self(self.0.iter().map(since).collect())
    }

    /// One line a route, the busiest first; None without any.
    pub fn table(&self, seconds: f64) -> Option<String> {
        let mut routes: Vec<_> = self.0.iter().collect();
        routes.sort_by(|(_, one), (_, other)| other.requests.total_cmp(&one.requests));
        let header = ["ROUTE", "REQUESTS", "PER S", "P50", "P95", "P99", "4XX", "5XX"];
        let rest = routes.split_off(routes.len().min(ROUTES_SHOWN_MAX));
        let table = output::table(header, routes.into_iter().map(|(route, counts)| counts.row(route, seconds)));
        match rest.len() {
            0 => (!self.0.is_empty()).then_some(table),
            rest => Some(format!("{table}\nand {} with fewer requests", output::count(rest, "route"))),
        }
    }
}

/// A process that was started anew counts from the beginning.
fn less(now: f64, before: f64) -> f64 {
    if now >= before { now - before } else { now }
}

impl Counts {
    fn row(&self, route: &str, seconds: f64) -> [String; 8] {
        let share = |count: f64| match self.requests > 0.0 {
            true => format!("{:.1} %", count / self.requests * 100.0),
            false => "-".to_owned(),
        };
        let quantile = |q: f64| self.quantile(q).map_or_else(|| "-".to_owned(), output::seconds);
        [
            route.to_owned(),
            format!("{:.0}", self.requests),
            format!("{:.1}", self.requests / seconds.max(f64::MIN_POSITIVE)),
            quantile(0.5),
            quantile(0.95),
            quantile(0.99),
            share(self.client_errors),
            share(self.server_errors),
        ]
    }

    /// In seconds; between two bounds all are taken to be spread evenly, as Prometheus takes them. None without requests.
    fn quantile(&self, q: f64) -> Option<f64> {
        let all = self.buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = q * all;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            if *count >= rank && count > &below {
                // Beyond the largest bound nothing is known.
                let part = if bound.is_finite() { (bound - lower) * (rank - below) / (count - below) } else { 0.0 };
                return Some(lower + part);
            }
            (lower, below) = (*bound, *count);
        }
        None
    }
}

/// A line of the text format: name, labels, value.
fn sample(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    let (name, rest) = line.split_once('{')?;
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    while let Some((label, after)) = rest.split_once("=\"") {
        let (value, after) = quoted(after)?;
        labels.insert(label.trim_start_matches([',', ' ']).to_owned(), value);
        rest = after;
        if rest.starts_with('}') {
            break;
        }
    }
    let value = rest.strip_prefix('}')?.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// A value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"
# TYPE http_requests_total counter
http_requests_total{protocol="h1",route="/",status="200"} 90
http_requests_total{protocol="h2",route="/",status="404"} 5
http_requests_total{protocol="h2",route="/",status="502"} 5
http_requests_total{protocol="h1",route="a\"b\\c",status="200"} 1
http_request_duration_seconds_bucket{route="/",le="0.01"} 50
http_request_duration_seconds_bucket{route="/",le="0.1"} 90
http_request_duration_seconds_bucket{route="/",le="+Inf"} 100
http_request_duration_seconds_sum{route="/"} 3
tollgate_connections 3
nonsense{
"#;

    #[test]
    fn routes_are_read_from_the_metrics() {
        let table = Traffic::read(METRICS).table(10.0).unwrap();
        assert_eq!(
            output::squeezed(&table),
            [
                "ROUTE REQUESTS PER S P50 P95 P99 4XX 5XX",
                "/ 100 10.0 10.0 ms 100.0 ms 100.0 ms 5.0 % 5.0 %",
                "a\"b\\c 1 0.1 - - - 0.0 % 0.0 %",
            ]
        );
        assert_eq!(Traffic::read("").table(1.0), None);
    }

    #[test]
    fn of_many_routes_the_busiest_are_shown() {
        let metrics: String =
            (1..=250).map(|n| format!("http_requests_total{{route=\"r{n}\",status=\"200\"}} {n}\n")).collect();
        let lines = output::squeezed(&Traffic::read(&metrics).table(1.0).unwrap());
        assert_eq!((lines.len(), lines[1].as_str()), (102, "r250 250 250.0 - - - 0.0 % 0.0 %"));
        assert_eq!(lines[101], "and 150 routes with fewer requests");
    }

    #[test]
    fn quantiles_lie_between_the_bounds() {
        let counts = Counts { buckets: vec![(0.01, 0.0), (0.02, 10.0), (f64::INFINITY, 10.0)], ..Counts::default() };
        let check = |q: f64, expected: f64| assert!((counts.quantile(q).unwrap() - expected).abs() < 1e-9, "{q}");
        check(0.5, 0.015);
        check(1.0, 0.02);
        assert_eq!(Counts::default().quantile(0.5), None);
    }

    #[test]
    fn between_two_looks_only_what_came_counts() {
        let before = Traffic::read(METRICS);
        let now = Traffic::read(&METRICS.replace("} 90\n", "} 190\n").replace("Inf\"} 100", "Inf\"} 200"));
        let since = now.since(&before);
        assert_eq!(since.0["/"].requests, 100.0);
        assert_eq!(since.0["/"].buckets, [(0.01, 0.0), (0.1, 100.0), (f64::INFINITY, 100.0)]);
        // The process was started anew.
        assert_eq!(before.since(&now).0["/"].requests, 100.0);
    }
}
