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
    fn series_are_summed_by_name_and_label() {
        let text = "# HELP a b\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 4.5\nab 7\nnothing\n";
        let exposition = Exposition::parse(text);
        for (name, label, sum) in [("a", "", 7.5), ("a", "x=\"1\"", 3.0), ("ab", "", 7.0), ("c", "", 0.0)] {
            assert_eq!(exposition.sum(name, label), sum, "{name} {label}");
        }
    }
}
