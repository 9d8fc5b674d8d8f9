//! The configuration in effect: every value, given or not, and where it comes from.
//!
//! It is noted while the file is decoded, so it cannot differ from what the decoder did. It prints as
//! TOML that means the same as the files it was made from.

use std::fmt;

use super::diagnostics::{Diagnostics, Origin};
use super::tree::show_key;

/// What `check --effective` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective(Vec<Row>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    line: Line,
    /// `config.toml:12`, `profile production` or `default`.
    from: String,
}

/// Notes values in the order in which they are decoded.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Keys of the root table come first, since a header would swallow them.
    root: Vec<(Line, Option<Origin>)>,
    tables: Vec<(Line, Option<Origin>)>,
    path: Vec<(String, Option<usize>)>,
    header: Option<String>,
    muted: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Header(String),
    Value { key: String, value: String },
    Absent { key: String, meaning: &'static str },
}

impl Recorder {
    /// Goes down to a key. Below a leaf nothing is noted.
    pub fn enter(&mut self, key: &str, leaf: bool) {
        if self.path.is_empty() {
            self.header = Some(format!("[{key}]"));
        }
        self.path.push((show_key(key), leaf.then_some(self.muted)));
        self.muted += usize::from(leaf);
    }

    /// No key has been entered.
    pub fn is_at_top(&self) -> bool {
        self.path.is_empty()
    }

    pub fn leave(&mut self) {
        if let Some((_, Some(muted))) = self.path.pop() {
            self.muted = muted;
        }
    }

    /// `[[route]]` for a list of tables at the top of the file.
    pub fn list_header(&self) -> Option<String> {
        match self.path.as_slice() {
            [(key, _)] => Some(format!("[[{key}]]")),
            _ => None,
        }
    }

    pub fn list_item(&mut self) {
        if let Some(header) = self.list_header() {
            self.header = Some(header);
        }
    }

    pub fn map_entry(&mut self, name: &str) {
        if let [(key, _)] = self.path.as_slice() {
            self.header = Some(format!("[{key}.{}]", show_key(name)));
        }
    }

    /// The value of the leaf that was entered last.
    pub fn value(&mut self, value: String, origin: Origin) {
        let key = self.key(None);
        self.note(Line::Value { key, value }, self.muted <= 1, Some(origin));
    }

    pub fn absent(&mut self, key: &str, meaning: &'static str) {
        let line = Line::Absent { key: self.key(Some(key)), meaning };
        if self.path.is_empty() {
            self.root.push((line, None));
        } else {
            self.note(line, self.muted == 0, None);
        }
    }

    fn note(&mut self, line: Line, heard: bool, origin: Option<Origin>) {
        if !heard {
            return;
        }
        if matches!(line, Line::Value { .. }) && self.path.len() == 1 {
            self.root.push((line, origin));
            return;
        }
        if let Some(header) = self.header.take() {
            self.tables.push((Line::Header(header), None));
        }
        self.tables.push((line, origin));
    }

    /// Dotted, from below the header.
    fn key(&self, last: Option<&str>) -> String {
        let skipped = usize::from(self.path.len() > 1 || last.is_some());
        let keys = self.path.iter().skip(skipped).map(|(key, _)| key.as_str()).chain(last);
        keys.collect::<Vec<_>>().join(".")
    }

    /// Puts names to the places.
    pub fn finish(self, sources: &Diagnostics, profile: &str) -> Effective {
        let rows = self.root.into_iter().chain(self.tables).map(|(line, origin)| {
            let from = match origin {
                None => String::new(),
                Some(Origin::Default) => "default".to_owned(),
                Some(Origin::Profile) => format!("profile {profile}"),
                Some(Origin::File(span)) => {
                    sources.position(span).map(|(file, line, _)| format!("{file}:{line}")).unwrap_or_default()
                }
            };
            Row { line, from }
        });
        Effective(rows.collect())
    }
}

impl Effective {
    /// One object a value: `table`, `key`, `value` (as TOML) and `from`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut table = "";
        let mut rows = Vec::new();
        for row in &self.0 {
            match &row.line {
                Line::Header(header) => table = header,
                Line::Value { key, value } => rows.push(serde_json::json!({
                    "table": table, "key": key, "value": value, "from": row.from,
                })),
                Line::Absent { key, meaning } => rows.push(serde_json::json!({
                    "table": table, "key": key, "value": null, "from": meaning,
                })),
            }
        }
        rows.into()
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { line, from } in &self.0 {
            match line {
                Line::Header(header) => writeln!(f, "\n{header}")?,
                Line::Value { key, value } => {
                    let assignment = format!("{key} = {value}");
                    writeln!(f, "{assignment:<48} # {from}")?;
                }
                Line::Absent { key, meaning } => {
                    let absent = format!("# {key}");
                    writeln!(f, "{absent:<48} # {meaning}")?;
                }
            }
        }
        Ok(())
    }
}
