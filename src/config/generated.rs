//! Holds the schema, the reference page, `config.toml` and the examples together with the declarations.
//!
//! `UPDATE=1 cargo test --lib config::generated` writes the files anew.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::environment::Environment;
use super::parse::{Parsed, parse};
use super::{docs, schema};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn holds(file: &str, text: &str) {
    let path = root().join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "{file} is out of date: UPDATE=1 cargo test --lib config::generated");
}

/// `config.toml` and everything in `examples/`.
fn configurations() -> Vec<(String, String)> {
    let examples = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = examples.chain([root().join("config.toml")]).collect();
    paths.sort();
    let read = |path: PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// Files that examples name are there, with a token in each.
fn machine() -> Environment {
    Environment { read: |_| Ok("a-token-that-is-long-enough".to_owned()), ..Environment::bare() }
}

fn parsed(name: &str, text: &str) -> Parsed {
    parse(name, text, &machine()).unwrap_or_else(|found| panic!("{}", found.render(false)))
}

#[test]
fn the_schema_is_up_to_date() {
    holds("config.schema.json", &format!("{}\n", serde_json::to_string_pretty(&schema::schema()).unwrap()));
}

#[test]
fn the_reference_page_is_up_to_date() {
    holds("docs/configuration.md", &docs::page());
}

#[test]
fn every_example_is_right_without_a_warning() {
    let all = configurations();
    assert!(all.len() >= 10);
    for (name, text) in all {
        let warnings = parsed(&name, &text).warnings;
        assert!(warnings.is_empty(), "{}", warnings.render(false));
    }
}

#[test]
fn what_is_in_effect_means_the_same_when_it_is_read_again() {
    for (name, text) in configurations() {
        let first = parsed(&name, &text);
        let shown = first.effective.to_string();
        let mut second = parsed("effective", &shown);
        // Where a route stands is the one thing that differs.
        for (route, again) in first.config.routes.iter().zip(&mut second.config.routes) {
            again.origin.clone_from(&route.origin);
        }
        assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config), "{name}:\n{shown}");
    }
}

#[test]
fn every_profile_has_its_defaults() {
    let text = "[[listen]]\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\ntext = \"\"\n[admin]\n";
    let check = |profile: &str, level: &str, format: &str, drain: &str| {
        let shown = parsed("config.toml", &format!("profile = \"{profile}\"\n{text}")).effective.to_string();
        for (value, from) in [
            (format!("level = \"{level}\""), format!("profile {profile}")),
            (format!("access.format = \"{format}\""), format!("profile {profile}")),
            (format!("drain_timeout = \"{drain}\""), format!("profile {profile}")),
            ("address = \"127.0.0.1:0\"".to_owned(), "config.toml:3".to_owned()),
            ("fails_max".to_owned(), String::new()),
            ("idle_timeout = \"15s\"".to_owned(), "default".to_owned()),
        ] {
            let line = shown.lines().find(|line| line.starts_with(&value));
            assert_eq!(line.map(|line| line.ends_with(&from)), (value != "fails_max").then_some(true), "{shown}");
        }
    };
    check("development", "debug", "line", "1s");
    check("staging", "info", "json", "30s");
    check("production", "warn", "json", "30s");
    for (profile, is_on) in [("development", false), ("staging", false), ("production", true)] {
        let config = parsed("config.toml", &format!("profile = \"{profile}\"\n{text}")).config;
        assert_eq!((config.compress.is_some(), config.routes[0].compress.is_some()), (is_on, is_on), "{profile}");
    }
}

/// A default that could not be read, or a key that needs one and has none, would end the process.
#[test]
fn every_section_can_be_left_empty() {
    for profile in ["development", "staging", "production"] {
        let text = format!(
            "profile = \"{profile}\"\n[server]\n[client]\n[log]\naccess = {{}}\n[admin]\n[dns]\n[compress]\nlevel = {{}}\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\ntls = {{}}\n[[certificate]]\nlocal = true\nhosts = [\"localhost\"]\n\
             [upstream.a]\nendpoints = [\"127.0.0.1:1\"]\nkeepalive = {{}}\ntimeout = {{}}\nretry = {{}}\n\
             health = {{ path = \"/\" }}\ntls = {{}}\n[upstream.b]\nrun = {{ command = [\"x\"] }}\n\
             [[route]]\npath = \"/\"\nupstream = \"a\"\ntimeout = {{}}\nbuffer = {{}}\n\
             compress = {{ level = {{}} }}\n"
        );
        match parse("config.toml", &text, &machine()) {
            Ok(_) => {}
            Err(found) => panic!("{}", found.render(false)),
        }
    }
}

#[test]
fn a_secret_in_clear_is_never_shown() {
    let text = "[[listen]]\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\ntext = \"\"\n\
                [admin]\ncontrol = { token = \"correct-horse-battery\" }\n";
    for mistake in ["", "x", "\"", "}"] {
        let broken = text.replace(" }\n", &format!("{mistake} }}\nhostss = 1\n"));
        let found = parse("config.toml", &broken, &machine()).unwrap_err();
        let shown = format!("{}{found}{found:?}{:?}", found.render(false), found.to_json());
        assert!(!shown.contains("horse") && shown.contains("config.toml"), "{shown}");
    }
    let Parsed { config, warnings, effective, .. } = parsed("config.toml", text);
    assert!(warnings.render(false).contains("token = \"*********************\""), "{}", warnings.render(false));
    assert_eq!(config.admin.as_ref().and_then(|admin| admin.token.as_ref()).unwrap().0, "correct-horse-battery");
    let shown = format!("{effective}{}{config:?}{}", effective.to_json(), serde_json::Value::from(warnings.to_json()));
    assert!(!shown.contains("horse"), "{shown}");
}

#[test]
fn the_schema_takes_the_examples_and_refuses_mistakes() {
    let schema = schema::schema();
    let read = |text: &str| serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
    for (name, text) in configurations() {
        assert_eq!(refusal(&schema, &read(&text)), None, "{name}");
    }
    let check = |text: &str, expected: &str| assert_eq!(refusal(&schema, &read(text)).as_deref(), Some(expected));
    check("profil = \"staging\"", "profil is not known");
    check("[[listen]]\ntls = true", "listen: address is missing");
    check("[server]\nworkers = 100000", "server: workers: too large");
    check("[client]\nbody_max = \"10m\"", "client: body_max: pattern");
    check("[upstream.a]\nbalance = \"fair\"", "upstream: a: balance: not one of the words");
    check("[upstream.a]\nendpoints = [1]", "upstream: a: endpoints: none of the kinds");
}

/// Why the schema refuses a value: a reader of the part of JSON schema that is used here.
fn refusal(schema: &Value, value: &Value) -> Option<String> {
    let below = |key: &str, schema: &Value, value: &Value| refusal(schema, value).map(|why| format!("{key}: {why}"));
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().all(|one| refusal(one, value).is_some()).then(|| "none of the kinds".to_owned());
    }
    if let Some(words) = schema["enum"].as_array() {
        return (!words.contains(value)).then(|| "not one of the words".to_owned());
    }
    match (schema["type"].as_str().unwrap(), value) {
        ("boolean", Value::Bool(_)) => None,
        ("number", Value::Number(_)) => None,
        ("integer", Value::Number(number)) => {
            let number = number.as_i64().unwrap();
            let small = number < schema["minimum"].as_i64().unwrap();
            let large = number > schema["maximum"].as_i64().unwrap();
            small.then_some("too small").or(large.then_some("too large")).map(str::to_owned)
        }
        ("string", Value::String(text)) => {
            let pattern = schema["pattern"].as_str().map(|pattern| regex::Regex::new(pattern).unwrap());
            pattern.filter(|pattern| !pattern.is_match(text)).map(|_| "pattern".to_owned())
        }
        ("array", Value::Array(items)) => items.iter().find_map(|item| refusal(&schema["items"], item)),
        ("object", Value::Object(members)) => {
            let required = schema["required"].as_array().into_iter().flatten().map(|key| key.as_str().unwrap());
            let missing = required.into_iter().find(|key| !members.contains_key(*key));
            let wrong = || {
                members.iter().find_map(|(key, value)| {
                    match (&schema["properties"][key], &schema["additionalProperties"]) {
                        (Value::Null, Value::Bool(false)) => Some(format!("{key} is not known")),
                        (Value::Null, additional) => below(key, additional, value),
                        (property, _) => below(key, property, value),
                    }
                })
            };
            missing.map(|key| format!("{key} is missing")).or_else(wrong)
        }
        (kind, _) => Some(format!("not of type {kind}")),
    }
}
