//! All series with their values at one moment, as a scrape and a push have them both.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use super::families::Family;

#[derive(Debug, Default)]
pub struct Gathered {
    /// By the names of families.
    sets: BTreeMap<&'static str, Set>,
    since: Option<SystemTime>,
}

/// The series of one family.
#[derive(Debug)]
pub struct Set {
    pub family: &'static Family,
    pub series: Vec<Series>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The values of the family's labels, in their order. One that is empty is none.
    pub labels: Vec<String>,
    pub value: Value,
    /// When it began to count; None: with the process.
    pub since: Option<SystemTime>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Whole(u64),
    Number(f64),
    Histogram(Histogram),
}

/// How often a value was in each of some ranges.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// The largest value of each range, in seconds or bytes.
    pub bounds: &'static [f64],
    /// By range, not summed up; one more than bounds, for what is above all of them.
    pub counts: Vec<u64>,
    pub sum: f64,
}

impl Gathered {
    pub fn add<const N: usize>(&mut self, family: &'static Family, labels: [Cow<'_, str>; N], value: impl Into<Value>) {
        debug_assert_eq!(family.labels.len(), N, "{}", family.name);
        let series = Series { labels: labels.map(Cow::into_owned).into(), value: value.into(), since: self.since };
        let set = self.sets.entry(family.name).or_insert_with(|| Set { family, series: Vec::new() });
        set.series.push(series);
    }

    /// Adds what came later than the process: if it was there before, it counts from 0 again.
    pub fn since(&mut self, since: SystemTime, add: impl FnOnce(&mut Self)) {
        let before = self.since.replace(since);
        add(self);
        self.since = before;
    }

    /// Those that have series.
    pub fn sets(&self) -> impl Iterator<Item = &Set> {
        self.sets.values()
    }
}

impl Histogram {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<Histogram> for Value {
    fn from(value: Histogram) -> Self {
        Self::Histogram(value)
    }
}
