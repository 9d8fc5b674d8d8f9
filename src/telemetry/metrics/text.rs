//! Series in the text format of Prometheus, version 0.0.4.

use std::fmt::{self, Write as _};

use super::gathered::{Gathered, Histogram, Series, Set, Value};

/// The body of a scrape.
pub fn text(gathered: &Gathered) -> String {
    let mut text = String::new();
    for set in gathered.sets() {
        // Writing to a string does not fail.
        let _written = write_set(&mut text, set);
    }
    text
}

fn write_set(to: &mut String, Set { family, series }: &Set) -> fmt::Result {
    writeln!(to, "# HELP {} {}\n# TYPE {} {}", family.name, family.help, family.name, family.kind.word())?;
    for Series { labels, value, since: _ } in series {
        let labels = Labels { names: family.labels, values: labels };
        match value {
            Value::Whole(value) => writeln!(to, "{}{} {value}", family.name, labels.with(None))?,
            Value::Number(value) => writeln!(to, "{}{} {value}", family.name, labels.with(None))?,
            Value::Histogram(histogram) => write_histogram(to, family.name, (labels, histogram))?,
        }
    }
    Ok(())
}

fn write_histogram(to: &mut String, name: &str, (labels, histogram): (Labels<'_>, &Histogram)) -> fmt::Result {
    let mut below = 0;
    for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
        below += count;
        writeln!(to, "{name}_bucket{} {below}", labels.with(Some(*bound)))?;
    }
    let count = histogram.count();
    writeln!(to, "{name}_bucket{} {count}", labels.with(Some(f64::INFINITY)))?;
    writeln!(to, "{name}_sum{} {}", labels.with(None), histogram.sum)?;
    writeln!(to, "{name}_count{} {count}", labels.with(None))
}

#[derive(Clone, Copy)]
struct Labels<'a> {
    names: &'a [&'a str],
    values: &'a [String],
}

impl<'a> Labels<'a> {
    /// With the upper bound of a bucket behind them.
    fn with(self, bound: Option<f64>) -> Bounded<'a> {
        Bounded { labels: self, bound }
    }
}

struct Bounded<'a> {
    labels: Labels<'a>,
    bound: Option<f64>,
}

impl fmt::Display for Bounded<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = '{';
        for (name, value) in self.labels.names.iter().zip(self.labels.values).filter(|(_, value)| !value.is_empty()) {
            write!(to, "{before}{name}=\"")?;
            write_escaped(to, value)?;
            to.write_char('"')?;
            before = ',';
        }
        match self.bound {
            Some(f64::INFINITY) => write!(to, "{before}le=\"+Inf\"}}"),
            Some(bound) => write!(to, "{before}le=\"{bound}\"}}"),
            None if before == ',' => to.write_char('}'),
            None => Ok(()),
        }
    }
}

fn write_escaped(to: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    for letter in value.chars() {
        match letter {
            '\\' => to.write_str("\\\\")?,
            '"' => to.write_str("\\\"")?,
            '\n' => to.write_str("\\n")?,
            letter => to.write_char(letter)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::families;

    #[track_caller]
    fn check(fill: impl FnOnce(&mut Gathered), expected: &[&str]) {
        let mut gathered = Gathered::default();
        fill(&mut gathered);
        let text = text(&gathered);
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_a_series() {
        check(|_| {}, &[]);
        check(|to| to.add(&families::GENERATION, [], 7u64), &["tollgate_config_generation 7"]);
        check(|to| to.add(&families::UPTIME, [], 0.5), &["tollgate_uptime_seconds 0.5"]);
        check(
            |to| {
                to.add(&families::BREAKER_OPENED, ["a".into()], 1u64);
                to.add(&families::BREAKER_OPENED, ["b".into()], 2u64);
            },
            &[r#"tollgate_breaker_opened_total{upstream="a"} 1"#, r#"tollgate_breaker_opened_total{upstream="b"} 2"#],
        );
    }

    #[test]
    fn labels_are_escaped_and_empty_ones_left_out() {
        let add = |outcome: &'static str, upstream: &'static str| {
            move |to: &mut Gathered| to.add(&families::ATTEMPTS, [outcome.into(), upstream.into()], 1u64)
        };
        check(add("x", ""), &[r#"tollgate_upstream_requests_total{outcome="x"} 1"#]);
        check(add("", "y"), &[r#"tollgate_upstream_requests_total{upstream="y"} 1"#]);
        check(add("", ""), &["tollgate_upstream_requests_total 1"]);
        check(
            add("a\"b\\c\nd", "{é}"),
            &[r#"tollgate_upstream_requests_total{outcome="a\"b\\c\nd",upstream="{é}"} 1"#],
        );
    }

    #[test]
    fn buckets_hold_all_that_is_below_them() {
        let histogram = |counts: &[u64]| Histogram { bounds: &[0.001, 2.0], counts: counts.to_vec(), sum: 4.5 };
        check(
            |to| to.add(&families::DURATION, ["/".into()], histogram(&[1, 0, 2])),
            &[
                r#"http_request_duration_seconds_bucket{route="/",le="0.001"} 1"#,
                r#"http_request_duration_seconds_bucket{route="/",le="2"} 1"#,
                r#"http_request_duration_seconds_bucket{route="/",le="+Inf"} 3"#,
                r#"http_request_duration_seconds_sum{route="/"} 4.5"#,
                r#"http_request_duration_seconds_count{route="/"} 3"#,
            ],
        );
        check(
            |to| to.add(&families::CACHE_LOOKUP, [], histogram(&[0, 0, 0])),
            &[
                r#"tollgate_cache_lookup_duration_seconds_bucket{le="0.001"} 0"#,
                r#"tollgate_cache_lookup_duration_seconds_bucket{le="2"} 0"#,
                r#"tollgate_cache_lookup_duration_seconds_bucket{le="+Inf"} 0"#,
                "tollgate_cache_lookup_duration_seconds_sum 4.5",
                "tollgate_cache_lookup_duration_seconds_count 0",
            ],
        );
    }

    #[test]
    fn every_family_says_what_it_is() {
        let mut gathered = Gathered::default();
        gathered.add(&families::GENERATION, [], 7u64);
        let expected = "# HELP tollgate_config_generation Number of the config in use, from 1 at the start.\n\
                        # TYPE tollgate_config_generation gauge\ntollgate_config_generation 7\n";
        assert_eq!(text(&gathered), expected);
    }
}
