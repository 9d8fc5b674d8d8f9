//! A TOML text as a tree in which every key and value knows where it stands.
//!
//! This module reads the syntax, finds keys given twice, and joins the trees of included files. What the
//! keys mean is not known here.

use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostic, Origin, Span};

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Text(String),
    /// Nothing if it does not fit 64 bits.
    Integer(Option<i64>),
    Bool(bool),
    /// A number with a fraction, or a date, which no key takes: its name and text.
    Other(&'static str, String),
    List(Vec<Node>),
    Table(Table),
}

/// Entries in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table(pub Vec<Entry>);

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_origin: Origin,
    pub node: Node,
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }
}

impl Node {
    /// With its article, for messages: `a list`.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            Kind::Text(_) => "a string",
            Kind::Integer(_) => "a number",
            Kind::Bool(_) => "true or false",
            Kind::Other(name, _) => name,
            Kind::List(_) => "a list",
            Kind::Table(_) => "a table",
        }
    }
}

/// Reads one text. The tree holds what could be read in spite of the errors.
pub fn read(text: &str, file: usize) -> (Table, Vec<Diagnostic>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let origin = |span: std::ops::Range<usize>| Origin::File(Span { file, start: span.start, end: span.end });
    let tree = table(root.get_ref(), &origin);
    let errors = errors.iter().map(|error| syntax_error(error, text, file)).collect();
    (tree, errors)
}

/// Reads a default: one value, as a declaration writes it.
pub fn read_default(text: &str, origin: Origin) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Some(node(value.get_ref(), origin, &|_| origin))
}

/// The value in TOML on one line.
pub fn show(node: &Node) -> String {
    match &node.kind {
        Kind::Text(text) => toml::Value::String(text.clone()).to_string(),
        Kind::Integer(number) => number.unwrap_or_default().to_string(),
        Kind::Bool(value) => value.to_string(),
        Kind::Other(_, text) => text.clone(),
        Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Kind::Table(table) if table.0.is_empty() => "{}".to_owned(),
        Kind::Table(table) => {
            let entry = |entry: &Entry| format!("{} = {}", show_key(&entry.key), show(&entry.node));
            format!("{{ {} }}", table.0.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A key as TOML wants it, in quotes where it needs them.
pub fn show_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { key.to_owned() } else { toml::Value::String(key.to_owned()).to_string() }
}

/// Adds what an included file says. Lists of tables are joined, `upstream` by name, other tables key by key.
pub fn join(main: &mut Table, included: Table, errors: &mut Vec<Diagnostic>) {
    join_level(main, included, "", errors);
}

fn join_level(main: &mut Table, included: Table, parent: &str, errors: &mut Vec<Diagnostic>) {
    for entry in included.0 {
        let path = if parent.is_empty() { entry.key.clone() } else { format!("{parent}.{}", entry.key) };
        let Some(own) = main.0.iter_mut().find(|own| own.key == entry.key) else {
            main.0.push(entry);
            continue;
        };
        let own_place = own.key_origin;
        match (&mut own.node.kind, entry.node.kind) {
            (Kind::List(items), Kind::List(more)) if parent.is_empty() => items.extend(more),
            (Kind::Table(table), Kind::Table(more)) if parent.is_empty() => join_level(table, more, &path, errors),
            _ => errors.push(
                Diagnostic::error(entry.key_origin, format!("`{path}` is given in two files"))
                    .label("given again here")
                    .also(own_place, "first given here"),
            ),
        }
    }
}

fn table(table_: &DeTable<'_>, origin: &impl Fn(std::ops::Range<usize>) -> Origin) -> Table {
    let mut entries: Vec<(usize, Entry)> = table_
        .iter()
        .map(|(key, value)| {
            let node = node(value.get_ref(), origin(value.span()), origin);
            let entry = Entry { key: key.get_ref().to_string(), key_origin: origin(key.span()), node };
            (key.span().start, entry)
        })
        .collect();
    entries.sort_by_key(|(start, _)| *start);
    Table(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn node(value: &DeValue<'_>, place: Origin, origin: &impl Fn(std::ops::Range<usize>) -> Origin) -> Node {
    let kind = match value {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(number) => Kind::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(number) => Kind::Other("a number with a fraction", number.to_string()),
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Datetime(date) => Kind::Other("a date", date.to_string()),
        DeValue::Array(items) => {
            Kind::List(items.iter().map(|item| node(item.get_ref(), origin(item.span()), origin)).collect())
        }
        DeValue::Table(entries) => Kind::Table(table(entries, origin)),
    };
    Node { kind, origin: place }
}

fn syntax_error(error: &toml::de::Error, text: &str, file: usize) -> Diagnostic {
    let span = error.span().unwrap_or(text.len()..text.len());
    let (start, end) = (span.start.min(text.len()), span.end.min(text.len()));
    let place = Span { file, start, end };
    if error.message() != "duplicate key" {
        return Diagnostic::error(place, format!("not valid TOML: {}", error.message()));
    }
    let key = text.get(start..end).unwrap_or_default();
    let first = first_given(text, start, key).map(|start| Span { file, start, end: start + key.len() });
    Diagnostic::error(place, format!("`{key}` is given twice"))
        .label("given again here")
        .also(first, "first given here")
}

/// Where the key that is repeated at `again` stood before. A table's header is searched in the whole
/// text, any other key from the header above it.
fn first_given(text: &str, again: usize, key: &str) -> Option<usize> {
    let before = text.get(..again)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(line_start..)?.lines().next()?.trim();
    let is_header = line.starts_with('[');
    let mut found = None;
    let mut start = 0;
    for candidate in before.get(..line_start)?.split_inclusive('\n') {
        let trimmed = candidate.trim_start();
        if is_header {
            if trimmed.starts_with('[') && header(trimmed) == header(line) {
                found = Some(start + candidate.find(key)?);
            }
        } else if trimmed.starts_with('[') {
            found = None;
        } else if trimmed.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', '.'])) {
            found = Some(start + candidate.len() - trimmed.len());
        }
        start += candidate.len();
    }
    found
}

fn header(line: &str) -> &str {
    line.split(']').next().unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(table: &Table) -> Vec<&str> {
        table.0.iter().map(|entry| entry.key.as_str()).collect()
    }

    #[test]
    fn entries_keep_the_order_of_the_file() {
        let (tree, errors) = read("b = 1\na = [1, { x = true }]\n[z]\n[c]\n", 0);
        assert_eq!((keys(&tree), errors), (vec!["b", "a", "z", "c"], vec![]));
        assert_eq!(tree.get("a").map(|entry| show(&entry.node)), Some("[1, { x = true }]".to_owned()));
    }

    #[test]
    fn a_key_given_twice_shows_both_places() {
        let check = |text: &str, first: usize| {
            let (_, errors) = read(text, 0);
            let also: Vec<_> = errors.iter().flat_map(|error| &error.also).map(|(span, _)| span.start).collect();
            assert_eq!((errors.len(), also), (1, vec![first]), "{text}: {errors:?}");
        };
        check("a = 1\na = 2\n", 0);
        check("[x]\nk = 1\n[y]\nk = 1\nk = 2\n", 14);
        check("[x]\na = 1\n[y]\n[x]\n", 1);
    }

    #[test]
    fn included_tables_are_joined_and_conflicts_are_named() {
        let (mut main, _) = read("[client]\nbody_max = \"1B\"\n[upstream.a]\n[[route]]\n", 0);
        let (more, _) =
            read("[client]\nbody_max = \"2B\"\nidle_timeout = \"1s\"\n[upstream.a]\n[upstream.b]\n[[route]]\n", 1);
        let mut errors = Vec::new();
        join(&mut main, more, &mut errors);
        let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(messages, ["`client.body_max` is given in two files", "`upstream.a` is given in two files"]);
        assert!(matches!(&main.get("route").unwrap().node.kind, Kind::List(routes) if routes.len() == 2));
        assert!(matches!(&main.get("upstream").unwrap().node.kind, Kind::Table(all) if keys(all) == ["a", "b"]));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]{}=.,\"'a-c\\n #0-9é-]{0,60}") {
            let (_, errors) = read(&text, 0);
            for error in errors {
                let span = error.place.unwrap();
                prop_assert!(text.get(span.start..span.end).is_some(), "{:?}", span);
            }
        }
    }
}
