//! Metrics in Prometheus' text format, as far as a report needs them: sums of series by name and label.

/// What a process said of itself at one moment.
#[derive(Debug, Default)]
pub struct Exposition(Vec<Series>);

#[derive(Debug)]
struct Series {
    name: String,
    /// As they stand between the braces.
    labels: String,
    value: f64,
}

impl Exposition {
    /// Lines that are none of series are left out.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(series).collect())
    }

    /// The sum of all series with this name and this label, such as `outcome="hit"`; with an empty one, of all.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let is_meant = |series: &&Series| series.name == name && series.labels.contains(label);
        self.0.iter().filter(is_meant).fold(0.0, |sum, series| sum + series.value)
    }

    /// Of a histogram, how many samples are at most each bound, by this label (such as `route`): its values, each with
    /// the bounds in the order in which they stand.
    pub fn buckets(&self, name: &str, label: &str) -> Vec<(String, Vec<(f64, f64)>)> {
        let name = format!("{name}_bucket");
        let mut found: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for series in self.0.iter().filter(|series| series.name == name) {
            let (Some(value), Some(bound)) = (series.label(label), series.label("le").and_then(bound)) else {
                continue;
            };
            match found.iter_mut().find(|(known, _)| known == value) {
                Some((_, bounds)) => bounds.push((bound, series.value)),
                None => found.push((value.to_owned(), vec![(bound, series.value)])),
            }
        }
        found
    }
}

impl Series {
    fn label(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.labels.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    }
}

fn bound(text: &str) -> Option<f64> {
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
}

/// The quantile of a histogram, with the samples of a bucket spread evenly over it, as Prometheus does. None of nothing; the
/// lower bound of the last bucket for what is in that.
pub fn quantile(part: f64, buckets: &[(f64, f64)]) -> Option<f64> {
    let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let mut below = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= part * all {
            if bound.is_infinite() {
                return Some(below.0);
            }
            let share = if *count > below.1 { (part * all - below.1) / (count - below.1) } else { 1.0 };
            return Some(below.0 + (bound - below.0) * share);
        }
        below = (*bound, *count);
    }
    None
}

fn series(line: &str) -> Option<Series> {
    if line.starts_with('#') {
        return None;
    }
    let (left, value) = line.rsplit_once(' ')?;
    let (name, labels) = left.split_once('{').map_or((left, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
    Some(Series { name: name.to_owned(), labels: labels.to_owned(), value: value.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let text = "h_bucket{route=\"/a\",le=\"1\"} 50\nh_bucket{route=\"/a\",le=\"2\"} 90\nh_bucket{route=\"/a\",le=\"+Inf\"} 100\n";
        let found = Exposition::parse(text).buckets("h", "route");
        let [(route, buckets)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(route, "/a");
        for (part, value) in [(0.25, 0.5), (0.5, 1.0), (0.7, 1.5), (0.99, 2.0)] {
            assert_eq!(quantile(part, buckets), Some(value), "{part}");
        }
        assert_eq!(quantile(0.5, &[]), None);
    }

    #[test]
    fn series_are_summed_by_name_and_label() {
        let text = "# HELP a b\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 4.5\nab 7\nnothing\n";
        let exposition = Exposition::parse(text);
        for (name, label, sum) in [("a", "", 7.5), ("a", "x=\"1\"", 3.0), ("ab", "", 7.0), ("c", "", 0.0)] {
            assert_eq!(exposition.sum(name, label), sum, "{name} {label}");
        }
    }
}
