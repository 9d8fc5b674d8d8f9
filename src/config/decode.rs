//! From the tree of a file to the structs that `section!` declares: every error is reported, none ends it.

use super::Profile;
use super::diagnostics::{Diagnostic, Origin, Problem};
use super::effective::Recorder;
use super::nearest::did_you_mean;
use super::section::{Fallback, Key, Section, SectionShape, Setting, Shape};
use super::tree::{self, Kind, Node, Table};
use super::unknown;

/// A type that a value of the file can have.
pub trait Decode: Sized {
    fn shape() -> Shape;

    /// Nothing once an error has been reported.
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self>;

    /// Is it shown as one value? Tables with known keys are shown key by key.
    fn is_leaf(_: &Node) -> bool {
        true
    }

    /// As `check --effective` prints it.
    fn show(node: &Node) -> String {
        tree::show(node)
    }
}

/// A member of a section: a setting that always has a value, or one that can be absent.
pub trait Field: Sized {
    fn shape() -> Shape;
    fn take(table: &Table, key: &Key, parent: Origin, decoder: &mut Decoder) -> Self;
}

/// Collects what is wrong and what is in effect.
#[derive(Debug)]
pub struct Decoder {
    profile: Profile,
    errors: Vec<Diagnostic>,
    recorder: Recorder,
}

impl Decoder {
    pub fn new(profile: Profile) -> Self {
        Self { profile, errors: Vec::new(), recorder: Recorder::default() }
    }

    pub fn finish(self) -> (Vec<Diagnostic>, Recorder) {
        (self.errors, self.recorder)
    }

    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.errors.push(diagnostic);
    }

    /// A value of another kind than the key takes.
    pub fn mismatch(&mut self, node: &Node, expected: &str, help: Option<String>) {
        let message = format!("expected {expected}, found {}", node.kind_name());
        self.report(Diagnostic::error(node.origin, message).label(format!("expected {expected}")).maybe_help(help));
    }

    pub fn section<S: Section>(&mut self, node: &Node) -> Option<S> {
        if let Kind::Table(table) = &node.kind {
            return Some(S::from_table(table, node.origin, self));
        }
        let keys: Vec<_> = S::SHAPE.keys.iter().take(3).map(|key| key.name).collect();
        self.mismatch(node, &format!("a table with keys such as {}", keys.join(", ")), None);
        None
    }

    /// A section of which the file gives no key.
    pub fn defaults<S: Section>(profile: Profile) -> S {
        S::from_table(&Table::default(), Origin::Default, &mut Self::new(profile))
    }

    /// Text that `parse` understands.
    pub fn text<T>(
        &mut self,
        node: &Node,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        let Kind::Text(text) = &node.kind else {
            self.mismatch(node, expected, None);
            return None;
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(problem) => {
                let mut diagnostic = Diagnostic::error(node.origin, problem.message)
                    .label(format!("expected {expected}"))
                    .maybe_help(problem.help);
                if text.contains("${") || text.starts_with("file:") {
                    diagnostic = diagnostic.help("`${…}` and `file:…` stand for secrets only");
                }
                self.report(diagnostic);
                None
            }
        }
    }

    pub fn refuse_unknown(&mut self, table: &Table, section: &SectionShape) {
        for entry in &table.0 {
            if !section.keys.iter().any(|key| key.name == entry.key) {
                self.report(unknown::key(entry, section));
            }
        }
    }

    /// Decodes one value and notes it as in effect.
    fn value<T: Decode>(&mut self, key: &str, node: &Node) -> Option<Setting<T>> {
        // A header of its own has a list of tables at the top of the file only.
        let is_inner_list = matches!(node.kind, Kind::List(_)) && !self.recorder.is_at_top();
        let leaf = is_inner_list || T::is_leaf(node);
        self.recorder.enter(key, leaf);
        let setting = self.setting(node);
        if leaf {
            self.recorder.value(T::show(node), node.origin);
        }
        self.recorder.leave();
        setting
    }

    /// Decodes one value and notes whether there were errors in it.
    pub fn setting<T: Decode>(&mut self, node: &Node) -> Option<Setting<T>> {
        let errors_before = self.errors.len();
        let value = T::decode(node, self)?;
        Some(Setting { value, origin: node.origin, tainted: self.errors.len() > errors_before })
    }
}

impl<T: Decode> Field for Setting<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn take(table: &Table, key: &Key, _: Origin, decoder: &mut Decoder) -> Self {
        if let Some(entry) = table.get(key.name)
            && let Some(setting) = decoder.value(key.name, &entry.node)
        {
            return setting;
        }
        let (text, origin) = match key.fallback {
            Fallback::Value(text) => (text, Origin::Default),
            Fallback::ByProfile { development, staging, production } => match decoder.profile {
                Profile::Development => (development, Origin::Profile),
                Profile::Staging => (staging, Origin::Profile),
                Profile::Production => (production, Origin::Profile),
            },
            // The declaration of a key is no input: `every_section_can_be_left_empty` reads all defaults, by every
            // profile, so one that is missing or wrong does not get past the tests.
            Fallback::Required | Fallback::Absent(_) => unreachable!("`{}` is declared without a default", key.name),
        };
        let default = tree::read_default(text, origin).and_then(|node| decoder.value(key.name, &node));
        // Proven in the same way.
        default.unwrap_or_else(|| unreachable!("the default of `{}` is not valid", key.name))
    }
}

impl<T: Decode> Field for Option<Setting<T>> {
    fn shape() -> Shape {
        T::shape()
    }

    fn take(table: &Table, key: &Key, parent: Origin, decoder: &mut Decoder) -> Self {
        if let Some(entry) = table.get(key.name) {
            return decoder.value(key.name, &entry.node);
        }
        match key.fallback {
            // One of several keys that exclude each other: which one is given says it all.
            Fallback::Absent("") => {}
            Fallback::Absent(meaning) => decoder.recorder.absent(key.name, meaning),
            _ => {
                let help = did_you_mean(key.name, table.0.iter().map(|entry| entry.key.as_str()))
                    .map(|_| "a key here looks like it".to_owned());
                let missing = Diagnostic::error(parent, format!("`{}` is missing", key.name)).label("in this table");
                decoder.report(missing.maybe_help(help));
            }
        }
        None
    }
}

impl<T: Decode> Decode for Vec<Setting<T>> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            let help = match &node.kind {
                Kind::Text(_) => Some(format!("write a list: [{}]", tree::show(node))),
                Kind::Table(_) => decoder.recorder.list_header().map(|header| format!("write `{header}`")),
                _ => None,
            };
            decoder.mismatch(node, "a list", help);
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            decoder.recorder.list_item();
            list.extend(decoder.setting(item));
        }
        Some(list)
    }

    fn is_leaf(node: &Node) -> bool {
        match &node.kind {
            Kind::List(items) => items.iter().all(T::is_leaf),
            _ => true,
        }
    }
}

/// A table whose keys the operator chooses.
#[derive(Debug, Clone)]
pub struct Map<T> {
    pub entries: Vec<(Setting<String>, Setting<T>)>,
    /// Keys whose values are of another kind.
    pub unread: Vec<String>,
}

impl<T: Decode> Decode for Map<T> {
    fn shape() -> Shape {
        Shape::Map(Box::new(T::shape()))
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Kind::Table(table) = &node.kind else {
            decoder.mismatch(node, "a table", None);
            return None;
        };
        let mut entries = Vec::with_capacity(table.0.len());
        let mut unread = Vec::new();
        for entry in &table.0 {
            decoder.recorder.map_entry(&entry.key);
            let name = Setting { value: entry.key.clone(), origin: entry.key_origin, tainted: false };
            match decoder.setting(&entry.node) {
                Some(value) => entries.push((name, value)),
                None => unread.push(name.value),
            }
        }
        Some(Self { entries, unread })
    }

    fn is_leaf(node: &Node) -> bool {
        match &node.kind {
            Kind::Table(table) => !table.0.is_empty() && table.0.iter().all(|entry| T::is_leaf(&entry.node)),
            _ => true,
        }
    }
}

/// `true`, `false` or a table with the details.
#[derive(Debug, Clone)]
pub struct Switch<S>(pub Option<S>);

impl<S: Section> Decode for Switch<S> {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Bool, Shape::Section(S::SHAPE)])
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.kind {
            Kind::Bool(false) => Some(Self(None)),
            Kind::Bool(true) => Some(Self(Some(S::from_table(&Table::default(), node.origin, decoder)))),
            _ => decoder.section(node).map(|section| Self(Some(section))),
        }
    }

    fn is_leaf(node: &Node) -> bool {
        matches!(node.kind, Kind::Bool(_))
    }
}
