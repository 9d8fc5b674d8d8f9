//! Broken configurations, one file each in `tests/broken/`, and what is said of them.
//!
//! A comment `#~ message | help` stands on the line that a diagnostic must name; `#~^` means the line
//! above. Both are parts of the text. A message that starts with `warning: ` is no error. What the
//! comments say must be all that is said.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::environment::Environment;
use super::parse::parse;

#[derive(Debug)]
struct Expected<'a> {
    line: usize,
    severity: Severity,
    message: &'a str,
    help: &'a str,
}

fn expected(text: &str) -> Vec<Expected<'_>> {
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for comment in line.split("#~").skip(1) {
            let above = comment.len() - comment.trim_start_matches('^').len();
            let comment = comment.trim_start_matches('^').trim();
            let (message, help) = comment.split_once(" | ").unwrap_or((comment, ""));
            let (severity, message) = match message.strip_prefix("warning: ") {
                Some(message) => (Severity::Warning, message),
                None => (Severity::Error, message),
            };
            all.push(Expected { line: index + 1 - above, severity, message, help });
        }
    }
    all
}

fn meets(found: &Diagnostics, diagnostic: &Diagnostic, expected: &Expected<'_>) -> bool {
    let line = diagnostic.place.and_then(|span| found.position(span)).map(|(_, line, _)| line);
    line == Some(expected.line)
        && diagnostic.severity == expected.severity
        && diagnostic.message.contains(expected.message)
        && (expected.help.is_empty() || diagnostic.help.iter().any(|help| help.contains(expected.help)))
}

/// A machine with two cores, 1024 open files and a gibibyte of memory on which no file with `missing` in its name is there.
fn machine() -> Environment {
    let read = |path: &Path| match path.to_string_lossy().contains("missing") {
        true => Err(io::Error::from(io::ErrorKind::NotFound)),
        false => Ok("a token that is long enough".replace(' ', "-")),
    };
    Environment { variable: |_| None, read, open_files_max: 1024, cores: 2, memory_limit: Some(1 << 30) }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What differs between the comments of a file and what is said of it.
fn differences(name: &str, text: &str) -> String {
    let found = match parse(name, text, &machine()) {
        Ok(parsed) => parsed.warnings,
        Err(found) => found,
    };
    let mut expected = expected(text);
    let mut differences = String::new();
    for diagnostic in found.iter() {
        match expected.iter().position(|expected| meets(&found, diagnostic, expected)) {
            Some(index) => drop(expected.remove(index)),
            None => writeln!(differences, "not expected: {diagnostic:?}").unwrap(),
        }
    }
    for expected in expected {
        writeln!(differences, "not said: {expected:?}").unwrap();
    }
    if !differences.is_empty() {
        differences = format!("{name}:\n{differences}\n{}", found.render(false));
    }
    differences
}

#[test]
fn every_mistake_is_found_on_its_line_with_the_right_advice() {
    let files = files();
    assert!(files.len() >= 40, "{} files", files.len());
    let differences = files
        .iter()
        .map(|path| differences(path.file_name().unwrap().to_str().unwrap(), &std::fs::read_to_string(path).unwrap()));
    let differences: String = differences.collect();
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn a_mistake_looks_like_a_compilers() {
    let text = "[[listen]]\nadress = \"127.0.0.1:8080\"\naddress = \"127.0.0.1:8081\"\n\n[upstream.app]\n\
                endpoints = [\"app:3000\"]\nrun = { command = [\"app\"] }\n\n[[route]]\npath = \"/\"\nupstream = \"app\"\n";
    let found = parse("config.toml", text, &machine()).unwrap_err();
    let expected = "\
error: unknown key `adress` in [[listen]]
 --> config.toml:2:1
  |
2 | adress = \"127.0.0.1:8080\"
  | ^^^^^^ unknown key
  |
  = help: did you mean `address`?

error: upstream `app` has both `endpoints` and `run`
 --> config.toml:7:7
  |
6 | endpoints = [\"app:3000\"]
  |             ------------ endpoints that run elsewhere
7 | run = { command = [\"app\"] }
  |       ^^^^^^^^^^^^^^^^^^^^^ replicas that are started here
  |
  = help: keep one of them
";
    assert_eq!(found.render(false), expected);
    let json = found.to_json();
    assert_eq!(
        json[0],
        serde_json::json!({
            "severity": "error", "file": "config.toml", "line": 2, "column": 1, "key": "listen[0].adress",
            "message": "unknown key `adress` in [[listen]]", "help": ["did you mean `address`?"],
        })
    );
    assert_eq!(json[1]["key"], "upstream.app.run");
    assert_eq!(found.to_string().lines().count(), 1);
}
