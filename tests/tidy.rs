//! Rules of this code that neither the compiler nor clippy checks: who may import whom, which files are pure,
//! how long things get, which words are not used. A rule that is broken says where and what to do.

#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use source::{Source, files, identifier, read, relative, rust_files, word};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const PARAMETERS_MAX: usize = 5;
const README_LINES_MAX: usize = 200;

/// A module that imports one above it, and why that is better than the alternative.
const UPWARD: &[(&str, &str, &str)] = &[
    ("connection", "worker", "a connection belongs to a worker and lives on what it has"),
    ("proxy", "worker", "a request is served with the snapshot and the connections of its worker"),
    ("proxy", "connection", "a request knows the connection that it came by"),
    ("record", "connection", "the record names the peer, and keeps its connection counted as busy"),
];

/// Who may name a whole generation of the config. Everyone else is given the part that it needs.
const SNAPSHOT: &[&str] = &[
    "admin",
    "background",
    "cli",
    "connection",
    "control",
    "proxy",
    "record",
    "recovery",
    "reload",
    "server",
    "snapshot",
    "worker",
];

/// Files, and folders of files, that decide and do nothing else: they get all they need as arguments.
const PURE: &[&str] = &[
    "src/admin/judge.rs",
    "src/admin/live/sample.rs",
    "src/admin/purge.rs",
    "src/balance/breaker.rs",
    "src/balance/hash.rs",
    "src/balance/health.rs",
    "src/balance/least_connections.rs",
    "src/balance/outlier.rs",
    "src/balance/random_two.rs",
    "src/balance/round_robin.rs",
    "src/balance/slow_start.rs",
    "src/balance/tally.rs",
    "src/balance/verdict.rs",
    "src/cache/ban_list.rs",
    "src/cache/cache_control/",
    "src/cache/cache_status.rs",
    "src/cache/conditional.rs",
    "src/cache/etag.rs",
    "src/cache/key.rs",
    "src/cache/policy/",
    "src/cache/purge.rs",
    "src/cache/range.rs",
    "src/cache/tags.rs",
    "src/cache/target.rs",
    "src/cache/variants.rs",
    "src/cache/vary.rs",
    "src/cli/status/routes.rs",
    "src/client_ip.rs",
    "src/compress/head.rs",
    "src/compress/negotiate.rs",
    "src/config/",
    "src/connection/h1/head.rs",
    "src/division.rs",
    "src/error.rs",
    "src/frames/",
    "src/guard/chunked.rs",
    "src/guard/class.rs",
    "src/guard/h2.rs",
    "src/guard/head.rs",
    "src/guard/machine.rs",
    "src/guard/reject.rs",
    "src/guard/target.rs",
    "src/header/",
    "src/overload/crowd.rs",
    "src/overload/memory.rs",
    "src/pace.rs",
    "src/path.rs",
    "src/pattern.rs",
    "src/proxy/explain/changes.rs",
    "src/proxy/explain/routes.rs",
    "src/proxy/explain/shape.rs",
    "src/rate_limit/count.rs",
    "src/rate_limit/fields.rs",
    "src/rate_limit/gcra.rs",
    "src/rate_limit/key.rs",
    "src/rate_limit/shard.rs",
    "src/rate_limit/window.rs",
    "src/rewrite.rs",
    "src/route.rs",
    "src/stub_status.rs",
    "src/supervise/backoff.rs",
    "src/supervise/plan.rs",
    "src/telemetry/access_log/escape.rs",
    "src/telemetry/access_log/filter.rs",
    "src/telemetry/access_log/redact.rs",
    "src/telemetry/metrics/families.rs",
    "src/telemetry/metrics/gathered.rs",
    "src/telemetry/metrics/kind.rs",
    "src/telemetry/metrics/otlp.rs",
    "src/telemetry/metrics/text.rs",
    "src/telemetry/semconv.rs",
    "src/telemetry/traces/context.rs",
    "src/telemetry/traces/server.rs",
    "src/upstream/h1/decoder.rs",
    "src/upstream/h1/head.rs",
    "src/upstream/retry.rs",
    "src/warm/list.rs",
];

/// The files in a pure folder that touch the world for the others.
const NOT_PURE: &[&str] = &["src/config/environment.rs", "src/config/files.rs", "src/config/load.rs"];

/// What a pure file does without.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "tokio::",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Mutex",
    "RwLock",
    "RefCell",
    "tracing::",
    "fastrand::",
];

/// Ways to read the time.
const CLOCK: &[&str] = &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", ".elapsed()"];

/// Where the time is read, and why there.
const CLOCK_READERS: &[(&str, &str)] = &[("src/clock.rs", "everyone else asks it, or is told the time")];

/// Where `unsafe` stands. Each place has its proof in a comment of `SAFETY:` right above.
const UNSAFE: &[&str] = &[
    "src/inherited.rs",
    "src/machine.rs",
    "src/supervise/process.rs",
    "src/tcp.rs",
    "src/ticks.rs",
    "tests/blackbox/harness/edge.rs",
];

#[test]
fn a_module_imports_only_what_stands_below_it() {
    let order = module_order();
    let place = |module: &str| order.iter().position(|listed| listed == module);
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for source in program().filter(|source| place(source.module()).is_some()) {
        let module = source.module();
        for (line, imported) in source.crate_paths() {
            if place(&imported).is_none_or(|at| Some(at) >= place(module)) {
                continue;
            }
            match UPWARD.iter().find(|(from, to, _)| *from == module && *to == imported) {
                Some(exception) => drop(used.insert(exception)),
                None => found.push(format!("{}:{line}: `{module}` imports `{imported}`", source.path)),
            }
        }
    }
    let unused = UPWARD.iter().filter(|exception| !used.contains(exception));
    found
        .extend(unused.map(|(from, to, _)| format!("tests/tidy.rs: `{from}` no longer imports `{to}`: strike it out")));
    none(found, "a module imports only what stands below it in src/lib.rs: move what both need down, or hand it in");
}

#[test]
fn only_those_who_serve_or_replace_it_name_the_snapshot() {
    let mut found = Vec::new();
    for source in program().filter(|source| !SNAPSHOT.contains(&source.module())) {
        found.extend(uses(source, &["Snapshot"]));
    }
    none(found, "leaves receive the part of the snapshot that they need, not the whole");
}

#[test]
fn pure_files_decide_and_do_nothing_else() {
    let mut found = Vec::new();
    for listed in PURE.iter().chain(NOT_PURE) {
        if !program().any(|source| source.path.starts_with(listed)) {
            found.push(format!("tests/tidy.rs: there is no {listed}"));
        }
    }
    for source in program() {
        let is_pure = PURE.iter().any(|pure| source.path.starts_with(pure));
        if is_pure && !NOT_PURE.contains(&source.path.as_str()) {
            found.extend(uses(source, IMPURE));
            found.extend(uses(source, CLOCK));
        }
    }
    none(found, "a pure file neither waits, locks nor looks at the world: take the value as an argument");
}

#[test]
fn only_the_clock_reads_the_time() {
    let mut found = Vec::new();
    for source in program().filter(|source| source.path.starts_with("src/")) {
        let read = uses(source, CLOCK);
        match CLOCK_READERS.iter().find(|(path, _)| *path == source.path) {
            None => found.extend(read),
            Some(_) if read.is_empty() => {
                found.push(format!("tests/tidy.rs: {} reads no time: strike it out", source.path));
            }
            Some(_) => {}
        }
    }
    none(found, "take the time as an argument, or ask `clock`");
}

#[test]
fn files_and_functions_stay_short() {
    let mut found = Vec::new();
    for source in rust() {
        let lines = source.tests.iter().filter(|test| !**test).count();
        if lines > FILE_LINES_MAX && !source.path.contains("tests/") {
            found.push(format!("{}: {lines} lines before its tests, at most {FILE_LINES_MAX}", source.path));
        }
        for function in source.functions() {
            let at = format!("{}:{}: `{}`", source.path, function.line, function.name);
            if function.lines > FUNCTION_LINES_MAX {
                found.push(format!("{at} has {} lines, at most {FUNCTION_LINES_MAX}", function.lines));
            }
            if function.parameters > PARAMETERS_MAX {
                found.push(format!("{at} has {} parameters, at most {PARAMETERS_MAX}", function.parameters));
            }
        }
    }
    none(found, "cut at a seam that has a name in the field; if there is none, look for the decision to take out");
}

#[test]
fn nothing_is_left_to_do() {
    // In parts, so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let mut found = Vec::new();
    for path in files(root()) {
        // What is not text has no words.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| word(line, mark).next().is_some()) {
                found.push(format!("{}:{}: {mark}", relative(root(), &path), index + 1));
            }
        }
    }
    none(found, "do it now, or write into docs/scope.md what this version does without");
}

#[test]
fn code_is_not_commented_out() {
    let mut found = Vec::new();
    for source in rust() {
        for (index, comment) in source.comments.iter().enumerate() {
            if is_code(comment) {
                found.push(format!("{}:{}: //{comment}", source.path, index + 1));
            }
        }
    }
    none(found, "delete it: the history keeps what was");
}

#[test]
fn names_say_what_a_thing_is() {
    let empty_types = ["Manager", "Handler", "Helper", "Helpers", "Context", "Globals", "Util", "Utils"];
    let empty_modules = ["utils", "util", "common", "types", "helpers", "misc", "shared"];
    let mut found = Vec::new();
    for source in rust() {
        let stem =
            source.path.trim_end_matches("/mod.rs").trim_end_matches(".rs").rsplit('/').next().unwrap_or_default();
        if empty_modules.contains(&stem) {
            found.push(format!("{}: a module called `{stem}`", source.path));
        }
        for (line, name) in declared(source) {
            if empty_types.iter().any(|empty| name.ends_with(empty)) {
                found.push(format!("{}:{line}: a type called `{name}`", source.path));
            }
            if name.ends_with("_inner") || name.ends_with("_main") {
                found.push(format!("{}:{line}: a function called `{name}`", source.path));
            }
        }
    }
    none(found, "these names fit everything and so say nothing: take the field's word for it");
}

#[test]
fn nothing_outside_of_tests_unwraps() {
    let found = program().flat_map(|source| uses(source, &[".unwrap()", ".expect(", ".unwrap_err()"])).collect();
    none(found, "give the error to whoever can act on it");
}

#[test]
fn unsafe_stands_only_beside_its_proof() {
    let mut found = Vec::new();
    for source in rust() {
        let listed = UNSAFE.contains(&source.path.as_str());
        for offset in word(&source.code, "unsafe") {
            let line = source.line_of(offset);
            let above = &source.comments[line.saturating_sub(5)..line];
            if !listed {
                found.push(format!("{}:{line}: `unsafe` in a file that is not listed here", source.path));
            } else if !above.iter().any(|comment| comment.trim_start().starts_with("SAFETY:")) {
                found.push(format!("{}:{line}: no comment of SAFETY: above", source.path));
            }
        }
        if listed && word(&source.code, "unsafe").next().is_none() {
            found.push(format!("tests/tidy.rs: {} is without `unsafe`: strike it out", source.path));
        }
    }
    none(found, "do without `unsafe`; if that cannot be, list the file and prove it in the comment");
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut found = Vec::new();
    for source in program() {
        if !source.text.starts_with("//!") && !source.path.ends_with("main.rs") {
            found.push(format!("{}: no module docs", source.path));
        }
    }
    none(found, "begin the file with `//!`: what it decides or owns, and what it never does");
}

#[test]
fn the_readme_is_short() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines, at most {README_LINES_MAX}: move some to docs/");
}

#[test]
fn every_example_is_named_in_a_document() {
    let documents: String = documents()
        .filter(|(path, _)| path == "README.md" || path.starts_with("docs/"))
        .map(|(_, text)| text)
        .collect();
    let examples = files(&root().join("examples"));
    let unnamed = examples.iter().filter(|path| !documents.contains(path.file_name().unwrap().to_str().unwrap()));
    none(unnamed.map(|path| relative(root(), path)).collect(), "say in README.md or docs/ what it is an example of");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut found = Vec::new();
    for (path, text) in documents() {
        let folder = root().join(&path).parent().unwrap().to_owned();
        for (line, link) in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&path) } else { folder.join(file) };
            if !target.exists() {
                found.push(format!("{path}:{line}: there is no {file}"));
            } else if !anchor.is_empty() && !anchors(&read(&target)).contains(anchor) {
                found.push(format!("{path}:{line}: no heading for #{anchor}"));
            }
        }
    }
    none(found, "mend the link, or write what it promises");
}

fn none(found: Vec<String>, what_to_do: &str) {
    assert!(found.is_empty(), "{what_to_do}\n\n{}\n", found.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the project.
fn rust() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> =
        LazyLock::new(|| rust_files(root(), &["src", "backend", "loadtest", "otlp", "tests", "fuzz"]));
    &SOURCES
}

/// Every file that is built into the binary.
fn program() -> impl Iterator<Item = &'static Source> {
    let built =
        |source: &&Source| ["src/", "backend/src/", "otlp/src/"].iter().any(|folder| source.path.starts_with(folder));
    rust().iter().filter(built).filter(|source| !source.is_test())
}

fn module_order() -> Vec<String> {
    let text = read(&root().join("src/lib.rs"));
    text.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")).map(identifier).collect()
}

/// Where the program uses one of these words.
fn uses(source: &Source, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in source.program() {
        let used = words.iter().filter(|wanted| word(line, wanted).next().is_some());
        found.extend(used.map(|wanted| format!("{}:{number}: `{wanted}`", source.path)));
    }
    found
}

/// Types and functions that a file declares, with their lines.
fn declared(source: &Source) -> Vec<(usize, String)> {
    let kinds = ["struct ", "enum ", "trait ", "type ", "fn "];
    let declared = kinds.iter().flat_map(|kind| {
        word(&source.code, kind).map(|offset| (source.line_of(offset), identifier(&source.code[offset + kind.len()..])))
    });
    declared.collect()
}

/// A sentence ends otherwise, and so does a list of them. Docs are not looked at: their examples are code.
fn is_code(comment: &str) -> bool {
    if comment.starts_with(['/', '!']) {
        return false;
    }
    let comment = comment.trim();
    let begins = ["let ", "pub ", "use ", "fn ", "impl ", "#[", "} else", "return "];
    let ends = [";", "{", "}", "})", "},", "=>", "),", ")?"];
    ends.iter().any(|end| comment.ends_with(end))
        && (begins.iter().any(|begin| comment.starts_with(begin)) || comment.ends_with(';') || !comment.contains(' '))
}

/// Every document with its path and text.
fn documents() -> impl Iterator<Item = (String, String)> {
    let documents =
        files(root()).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.map(|path| (relative(root(), &path), read(&path)))
}

/// The targets of links that stay in the repository, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        found.extend(targets.filter(|target| !target.contains(':')).map(|target| (index + 1, target)));
    }
    found
}

/// What can follow `#` in a link to a document: its headings as GitHub spells them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let letters = |heading: &str| -> String {
        let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(letters).collect()
}
