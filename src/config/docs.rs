//! `docs/configuration.md`: every key with its type, default and meaning.

use std::fmt::Write as _;

use super::file;
use super::keys::{all_keys, inner_section};
use super::section::{Fallback, Key, SectionShape, Shape};

const INTRODUCTION: &str = "\
# config.toml

<!-- Made from the declarations in src/config/file/ by `UPDATE=1 cargo test --lib config::generated`. -->

`tollgate check` reads the file and reports every mistake in one run, with line and column. `tollgate check --effective`
prints every value in effect and where it comes from: a line of a file, the profile, or the default.

- **Durations** carry a unit: `\"250ms\"`, `\"12s\"`, `\"5min\"` (or `\"5m\"`), `\"1h\"`, `\"30d\"`, `\"1w\"`.
- **Sizes** carry a unit: `\"256B\"`, `\"64KiB\"`, `\"10MiB\"`, `\"1GiB\"`, `\"1TiB\"`, and the decimal `KB`, `MB`, `GB`, `TB`.
- **Files** are relative to the folder of the file that names them.
- **Secrets** may be `\"${NAME}\"`, a variable of the environment, or `\"file:path\"`. Nothing else is expanded.
- **Profiles** (`profile = \"development\"`, `\"staging\"` or `\"production\"`) change some defaults; where they do, all three are given.
- **Reload**: a change is taken over while the proxy runs, unless the key says that it needs a restart.
- `table.key` stands for `table = { key = … }` or `table.key = …`.

The same in a form for editors is `config.schema.json`; a first line `#:schema ./config.schema.json` makes many of them
complete and check keys as they are typed.
";

/// The whole page.
pub fn page() -> String {
    let root = file::root();
    let mut page = INTRODUCTION.to_owned();
    let tables = root.keys.iter().filter_map(|key| inner_section(&(key.shape)()));
    for section in std::iter::once(root).chain(tables) {
        table(&section, &mut page);
    }
    page
}

fn table(section: &SectionShape, page: &mut String) {
    let heading =
        if section.name.starts_with('[') { format!("`{}`", section.name) } else { "The top of the file".to_owned() };
    // Writing to a string cannot fail.
    let _ = write!(page, "\n## {heading}\n\n{}\n\n", section.about.trim());
    page.push_str("| key | type | default | what it does | reload | nginx |\n|---|---|---|---|---|---|\n");
    for (_, path, key) in all_keys().into_iter().filter(|(table, ..)| *table == section.name) {
        let reload = if key.restart { "restart" } else { "yes" };
        let nginx = if key.nginx.is_empty() { String::new() } else { format!("`{}`", key.nginx.replace(", ", "`, `")) };
        let row =
            format!("| `{path}` | {} | {} | {} | {reload} | {nginx} |", kind(&(key.shape)()), fallback(key), key.doc());
        page.push_str(&row);
        page.push('\n');
    }
}

fn fallback(key: &Key) -> String {
    match key.fallback {
        Fallback::Required => "**required**".to_owned(),
        Fallback::Absent("") => "—".to_owned(),
        Fallback::Absent(meaning) => meaning.to_owned(),
        // Its own keys have their defaults.
        Fallback::Value("{}") => "—".to_owned(),
        Fallback::Value("[]") => "none".to_owned(),
        Fallback::Value(default) => format!("`{default}`"),
        Fallback::ByProfile { development, staging, production } => {
            // A table that is switched on, with the defaults of its keys.
            let shown = |value| if value == "{}" { "true" } else { value };
            let [development, staging, production] = [development, staging, production].map(shown);
            format!("development `{development}`, staging `{staging}`, production `{production}`")
        }
    }
}

fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "true or false".to_owned(),
        Shape::False => "false".to_owned(),
        Shape::Integer { min, max } => format!("number, {min} to {max}"),
        Shape::Text { what, example: "" } => (*what).to_owned(),
        Shape::Text { what, example } | Shape::Secret { what, example } => format!("{what}: `\"{example}\"`"),
        Shape::Share => "number, 0 to 1".to_owned(),
        Shape::Duration => "duration".to_owned(),
        Shape::Size => "size".to_owned(),
        Shape::Rate => "rate: `\"256B/s\"`".to_owned(),
        Shape::Words(words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "),
        Shape::List(item) => format!("list of {}", kind(item)),
        Shape::Map(value) => format!("table of {}, by name", kind(value)),
        Shape::Section(section) if section.name.starts_with('[') => format!("`{}`", section.name),
        Shape::Section(_) => "table".to_owned(),
        Shape::Either(shapes) => shapes.iter().map(kind).collect::<Vec<_>>().join(", or "),
    }
}
