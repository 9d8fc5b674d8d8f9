//! From texts to a checked configuration: syntax, then keys and types, then meaning. No file is read here
//! except through the [`Environment`].

use std::path::PathBuf;

use super::decode::{Decode, Decoder};
use super::diagnostics::{Diagnostic, Diagnostics, Origin, Severity, Source, Span};
use super::effective::Effective;
use super::environment::Environment;
use super::file::File;
use super::lower::lower;
use super::section::Section;
use super::tree::{self, Kind, Node, Table};
use super::{Config, Profile};

/// A configuration without errors.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub config: Config,
    pub warnings: Diagnostics,
    pub effective: Effective,
    /// Files that the configuration names and whose content matters: certificates, keys, roots, tokens.
    pub files: Vec<PathBuf>,
}

/// One text without includes.
pub fn parse(name: &str, text: &str, environment: &Environment) -> Result<Parsed, Diagnostics> {
    let source = Source { name: name.to_owned(), folder: PathBuf::new(), text: text.to_owned() };
    parse_sources(vec![source], Vec::new(), environment)
}

/// The main file and what it includes, in this order; `found` are errors from before.
pub fn parse_sources(
    sources: Vec<Source>,
    found: Vec<Diagnostic>,
    environment: &Environment,
) -> Result<Parsed, Diagnostics> {
    let mut found = found;
    let tree = read_all(&sources, &mut found);
    let syntax_errors = found.len();
    let root = Node { kind: Kind::Table(tree), origin: start_of_file() };
    let mut decoder = Decoder::new(profile(&root));
    let file = match &root.kind {
        Kind::Table(table) => File::from_table(table, root.origin, &mut decoder),
        _ => unreachable!("the root is a table"),
    };
    let (errors, recorder) = decoder.finish();
    found.extend(errors);
    drop_consequences(&mut found, syntax_errors, &sources);
    let mut config = None;
    let mut files = Vec::new();
    // What the text means is not clear while its syntax is wrong.
    if syntax_errors == 0 {
        let (lowered, errors, named) = lower(&file, &sources, environment);
        found.extend(errors);
        files = named;
        config = Some(lowered);
    }
    for diagnostic in &mut found {
        diagnostic.key = diagnostic.place.and_then(|place| key_at(&root, place));
    }
    let failed = found.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    let diagnostics = Diagnostics::new(sources, found);
    match config {
        Some(config) if !failed => {
            let effective = recorder.finish(&diagnostics, config.profile.word());
            Ok(Parsed { config, warnings: diagnostics, effective, files })
        }
        _ => Err(diagnostics),
    }
}

/// Messages about the whole file point at its start.
fn start_of_file() -> Origin {
    Origin::File(Span { file: 0, start: 0, end: 0 })
}

fn read_all(sources: &[Source], found: &mut Vec<Diagnostic>) -> Table {
    let mut whole = Table::default();
    for (index, source) in sources.iter().enumerate() {
        let (mut tree, errors) = tree::read(&source.text, index);
        found.extend(errors);
        if index == 0 {
            whole = tree;
            continue;
        }
        tree.0.retain(|entry| {
            let main_only = matches!(entry.key.as_str(), "profile" | "include" | "server");
            if main_only {
                let message = format!("`{}` stands in the main file only", entry.key);
                found.push(Diagnostic::error(entry.key_origin, message).label("not in an included file"));
            }
            !main_only
        });
        tree::join(&mut whole, tree, found);
    }
    whole
}

/// The profile decides defaults, so it is read before everything else; its errors are reported later.
fn profile(root: &Node) -> Profile {
    let Kind::Table(table) = &root.kind else { return Profile::Production };
    let entry = table.get("profile");
    entry
        .and_then(|entry| Profile::decode(&entry.node, &mut Decoder::new(Profile::Production)))
        .unwrap_or(Profile::Production)
}

/// What stands on a line with a syntax error was not read as it was meant, so it is not judged.
fn drop_consequences(found: &mut Vec<Diagnostic>, syntax_errors: usize, sources: &[Source]) {
    let line = |span: Span| {
        let before = sources.get(span.file).and_then(|source| source.text.get(..span.start));
        (span.file, before.map(|before| before.matches('\n').count()))
    };
    let broken: Vec<_> = found.iter().take(syntax_errors).filter_map(|error| error.place).map(line).collect();
    if broken.is_empty() {
        return;
    }
    let mut index = 0;
    found.retain(|error| {
        index += 1;
        let missing = error.message.ends_with("is missing");
        index <= syntax_errors || !(missing || error.place.is_none_or(|place| broken.contains(&line(place))))
    });
}

/// The dotted path of the innermost key whose value holds the place, or that stands there itself.
fn key_at(node: &Node, place: Span) -> Option<String> {
    let holds = |origin: Origin| {
        origin.span().is_some_and(|span| span.file == place.file && span.start <= place.start && place.end <= span.end)
    };
    match &node.kind {
        Kind::Table(table) => table.0.iter().find_map(|entry| {
            let inner = key_at(&entry.node, place);
            let key = tree::show_key(&entry.key);
            match inner {
                Some(inner) if inner.starts_with('[') => Some(format!("{key}{inner}")),
                Some(inner) => Some(format!("{key}.{inner}")),
                None => (holds(entry.key_origin) || holds(entry.node.origin)).then_some(key),
            }
        }),
        Kind::List(items) => items.iter().enumerate().find_map(|(index, item)| {
            let inner = key_at(item, place);
            match inner {
                Some(inner) => Some(format!("[{index}].{inner}")),
                None => holds(item.origin).then(|| format!("[{index}]")),
            }
        }),
        _ => None,
    }
}
