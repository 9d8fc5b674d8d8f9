//! What is wrong with a configuration, said as a compiler says it.
//!
//! A diagnostic names a place (file, line, column), underlines it, says what was expected and, where one
//! is near, what was probably meant. This module holds and renders them; it never decides what is wrong.

use std::fmt;
use std::path::PathBuf;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::conceal::conceal;

/// One file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As messages show it.
    pub name: String,
    /// Relative paths in it start here.
    pub folder: PathBuf,
    pub text: String,
}

/// Bytes of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Index among the sources.
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    File(Span),
    /// A default that this profile gives.
    Profile,
    /// The same default in every profile.
    Default,
}

impl Origin {
    pub fn span(self) -> Option<Span> {
        match self {
            Self::File(span) => Some(span),
            Self::Profile | Self::Default => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    /// The dotted key it is about, when that is known.
    pub key: Option<String>,
    pub place: Option<Span>,
    /// What stands beside the underline.
    pub label: String,
    /// Other places that explain it.
    pub also: Vec<(Span, String)>,
    /// Advice, most useful first.
    pub help: Vec<String>,
}

impl Diagnostic {
    pub fn error(place: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            key: None,
            place: place.into(),
            label: String::new(),
            also: Vec::new(),
            help: Vec::new(),
        }
    }

    pub fn warning(place: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub fn also(mut self, place: impl Into<Option<Span>>, label: impl Into<String>) -> Self {
        self.also.extend(place.into().map(|span| (span, label.into())));
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help.extend(help);
        self
    }
}

impl From<Origin> for Option<Span> {
    fn from(origin: Origin) -> Self {
        origin.span()
    }
}

/// Why a text is no value of its kind, and what was probably meant. Whoever knows the place adds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    pub message: String,
    pub help: Option<String>,
}

impl Problem {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Where the lines of a text begin, so that a place is found without reading all that stands before it.
#[derive(Debug, Clone)]
pub struct Lines(Vec<usize>);

impl Lines {
    pub fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)).collect())
    }

    /// The number of the line that holds a byte, from 1, and where it begins.
    pub fn at(&self, byte: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= byte);
        (line, self.0.get(line.saturating_sub(1)).copied().unwrap_or_default())
    }
}

/// Everything that is wrong, with the sources that it points into, from which secrets have been taken out.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    sources: Vec<Source>,
    /// Of each source.
    lines: Vec<Lines>,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// In the order of the files and, within one, of the lines.
    pub fn new(mut sources: Vec<Source>, mut list: Vec<Diagnostic>) -> Self {
        sources.iter_mut().for_each(|source| source.text = conceal(std::mem::take(&mut source.text)));
        list.sort_by_key(|diagnostic| diagnostic.place.map(|span| (span.file, span.start)));
        list.dedup();
        let lines = sources.iter().map(|source| Lines::of(&source.text)).collect();
        Self { sources, lines, list }
    }

    /// One message without a place in a file.
    pub fn plain(message: impl Into<String>) -> Self {
        Self::new(Vec::new(), vec![Diagnostic::error(None, message)])
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// Name of the file, line and column, both from 1, the column in characters.
    pub fn position(&self, span: Span) -> Option<(&str, usize, usize)> {
        let source = self.sources.get(span.file)?;
        let (line, start) = self.lines.get(span.file)?.at(span.start);
        let column = source.text.get(start..span.start)?.chars().count() + 1;
        Some((&source.name, line, column))
    }

    /// For people: source lines, underlines, advice. Colours are the caller's decision.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii).hyperlink(false);
        let reports = self.list.iter().map(|diagnostic| renderer.render(&[self.group(diagnostic)]));
        let reports: Vec<_> = reports.collect();
        if reports.is_empty() { String::new() } else { reports.join("\n\n") + "\n" }
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(diagnostic.message.as_str());
        let mut group = Group::with_title(title);
        let spans = diagnostic.place.iter().chain(diagnostic.also.iter().map(|(span, _)| span));
        let mut files: Vec<usize> = Vec::new();
        for span in spans {
            if !files.contains(&span.file) {
                files.push(span.file);
            }
        }
        for file in files {
            let Some(source) = self.sources.get(file) else { continue };
            let mut snippet = Snippet::source(source.text.as_str()).path(source.name.as_str());
            if let Some(place) = diagnostic.place.filter(|span| span.file == file) {
                let label = Some(diagnostic.label.as_str()).filter(|label| !label.is_empty());
                snippet = snippet.annotation(AnnotationKind::Primary.span(place.start..place.end).label(label));
            }
            for (span, label) in diagnostic.also.iter().filter(|(span, _)| span.file == file) {
                let annotation = AnnotationKind::Context.span(span.start..span.end);
                snippet = snippet.annotation(annotation.label(label.as_str()));
            }
            group = group.element(snippet);
        }
        group.elements(diagnostic.help.iter().map(|help| Level::HELP.message(help.as_str())))
    }

    /// For programs: a list of objects with `severity`, `file`, `line`, `column`, `key`, `message` and `help`.
    pub fn to_json(&self) -> Vec<serde_json::Value> {
        let object = |diagnostic: &Diagnostic| {
            let position = diagnostic.place.and_then(|span| self.position(span));
            serde_json::json!({
                "severity": diagnostic.severity.name(),
                "file": position.map(|(file, _, _)| file),
                "line": position.map(|(_, line, _)| line),
                "column": position.map(|(_, _, column)| column),
                "key": diagnostic.key,
                "message": diagnostic.message,
                "help": diagnostic.help,
            })
        };
        self.list.iter().map(object).collect()
    }
}

/// One line each, as a log wants them: `config.toml:3:9: message`.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if let Some((file, line, column)) = diagnostic.place.and_then(|span| self.position(span)) {
                write!(f, "{file}:{line}:{column}: ")?;
            }
            f.write_str(&diagnostic.message)?;
            for help in &diagnostic.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
