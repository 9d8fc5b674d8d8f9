//! From texts to a checked configuration: syntax, then keys and types, then meaning. No file is read here
//! except through the [`Environment`].

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::decode::{Decode, Decoder};
use super::diagnostics::{Diagnostic, Diagnostics, Lines, Origin, Severity, Source, Span};
use super::effective::Effective;
use super::environment::Environment;
use super::file::File;
use super::lower::lower;
use super::tree::{self, Kind, Node, Table};
use super::{Config, Profile};

/// A configuration without errors.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub config: Config,
    pub warnings: Diagnostics,
    pub effective: Effective,
}

/// One text without includes.
pub fn parse(name: &str, text: &str, environment: &Environment) -> Result<Parsed, Diagnostics> {
    let source = Source { name: name.to_owned(), folder: PathBuf::new(), text: text.to_owned() };
    parse_sources(vec![source], Vec::new(), environment).0
}

/// The main file and what it includes, in this order; `found` are errors from before. Beside the result stand the
/// files that the configuration names and whose content matters, as far as they are known: certificates,
/// keys, roots, tokens.
pub fn parse_sources(
    sources: Vec<Source>,
    found: Vec<Diagnostic>,
    environment: &Environment,
) -> (Result<Parsed, Diagnostics>, Vec<PathBuf>) {
    let mut found = found;
    let trees = read_all(&sources, &mut found);
    let syntax_errors = found.len();
    let whole = join_all(trees, &mut found);
    let root = Node { kind: Kind::Table(whole), origin: start_of_file() };
    let mut decoder = Decoder::new(profile(&root));
    let file = decoder.setting::<File>(&root);
    let (errors, recorder) = decoder.finish();
    found.extend(errors);
    drop_consequences(&mut found, syntax_errors, &sources);
    let mut config = None;
    let mut files = Vec::new();
    // What the text means is not clear while its syntax is wrong.
    if let (0, Some(file)) = (syntax_errors, file) {
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
    let parsed = match config {
        Some(config) if !failed => {
            let effective = recorder.finish(&diagnostics, config.profile.word());
            Ok(Parsed { config, warnings: diagnostics, effective })
        }
        _ => Err(diagnostics),
    };
    (parsed, files)
}

/// Messages about the whole file point at its start.
fn start_of_file() -> Origin {
    Origin::File(Span { file: 0, start: 0, end: 0 })
}

/// Every file's tree, as far as it could be read.
fn read_all(sources: &[Source], found: &mut Vec<Diagnostic>) -> Vec<Table> {
    let trees = sources.iter().enumerate().map(|(index, source)| {
        let (tree, errors) = tree::read(&source.text, index);
        found.extend(errors);
        tree
    });
    trees.collect()
}

/// One tree of the main file and those that it includes.
fn join_all(trees: Vec<Table>, found: &mut Vec<Diagnostic>) -> Table {
    let mut trees = trees.into_iter();
    let mut whole = trees.next().unwrap_or_default();
    for mut tree in trees {
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
    if syntax_errors == 0 {
        return;
    }
    let lines: Vec<_> = sources.iter().map(|source| Lines::of(&source.text)).collect();
    let line = |span: Span| (span.file, lines.get(span.file).map(|lines| lines.at(span.start).0));
    let broken: BTreeSet<_> = found.iter().take(syntax_errors).filter_map(|error| error.place).map(line).collect();
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = include_str!("../../config.toml");

    /// Whatever a text says: spans fit it, and what is in effect reads back.
    fn judge(text: &str) -> Option<Diagnostics> {
        match parse("config.toml", text, &Environment::bare()) {
            Err(found) => {
                let _ = (found.render(true), found.to_json(), found.to_string());
                Some(found)
            }
            Ok(parsed) => {
                let shown = parsed.effective.to_string();
                let again = parse("effective", &shown, &Environment::bare());
                assert!(again.is_ok_and(|again| again.config.routes.len() == parsed.config.routes.len()), "{shown}");
                None
            }
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        judge(&format!("{}a = 1", "a.".repeat(100_000)));
        judge(&format!("[{}a]", "a.".repeat(100_000)));
        judge(&format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000)));
        judge(&format!("a = {}", "{ a = ".repeat(100_000)));
    }

    #[test]
    fn odd_names_and_texts_are_shown_as_toml() {
        let text = r##"
            [[listen]]
            address = "[::1]:80"
            [upstream."a.b"]
            endpoints = ["a:1", { address = "b:1", weight = 2 }]
            health = { expect = { body = ODD } }
            [[route]]
            name = ODD
            path = "/"
            upstream = "a.b"
            request = { set = { "x!#$%&'*" = "a\\b" }, remove = ["y"] }
            [[route]]
            path_exact = "/"
            text = ODD
        "##;
        let found = judge(&text.replace("ODD", r##""a \"b\" #c = '\u00e9' \n\t\\ [x]\u0000""##));
        assert!(found.is_none(), "{found:?}");
    }

    /// Anything quadratic would take minutes here.
    #[test]
    fn ten_thousand_of_each_are_read_and_compared() {
        let text = |changed: &str| {
            let each = (0..10_000).map(|n| {
                format!(
                    "[upstream.u{n}]\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\nname = \"{changed}{n}\"\n\
                     hosts = [\"h{n}.example\"]\npath = \"/p{n}\"\nupstream = \"u{n}\"\n"
                )
            });
            format!("[[listen]]\naddress = \"127.0.0.1:1\"\n{}", each.collect::<String>())
        };
        let read = |changed| parse("config.toml", &text(changed), &Environment::bare()).unwrap();
        let (old, new) = (read("old"), read("new"));
        assert!(old.warnings.is_empty());
        assert_eq!(new.config.routes[9_999].origin, "config.toml:69998");
        assert_eq!(crate::config::change::describe(&old.config, &old.config, &new.config).len(), 10_000);
    }

    #[test]
    fn what_follows_from_a_broken_line_is_not_reported() {
        let text = "[[listen]]\naddress = \"127.0.0.1:8080\n[[route]]\npath = \"/\"\ntext = \"\"\n";
        let found = parse("config.toml", text, &Environment::bare()).unwrap_err();
        let lines: Vec<_> =
            found.iter().filter_map(|one| found.position(one.place?)).map(|(_, line, _)| line).collect();
        assert_eq!(lines, [2], "{}", found.render(false));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn a_damaged_file_never_panics(
            at in 0..WHOLE.len(),
            length in 0_usize..40,
            put in "[\\[\\]{}=\"'.,a-z0-9é\n-]{0,8}",
        ) {
            let start = WHOLE.floor_char_boundary(at);
            let end = WHOLE.floor_char_boundary((start + length).min(WHOLE.len()));
            judge(&format!("{}{put}{}", &WHOLE[..start], &WHOLE[end.max(start)..]));
        }

        #[test]
        fn no_text_panics(
            headers in "(\\[\\[?(listen|route|upstream|client)(\\.[a-z])?\\]\\]?\n){0,3}",
            keys in "([a-z_]{1,8} ?= ?[\\[\"{}0-9a-z,=\\]é]{0,12}\n|\\PC{0,6}){0,8}",
        ) {
            judge(&format!("{headers}{keys}"));
        }
    }
}
