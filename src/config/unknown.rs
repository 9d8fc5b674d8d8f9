//! What to say of a key that no version knows, or that this version does not know yet.

use super::diagnostics::Diagnostic;
use super::file;
use super::nearest::{did_you_mean, nearest};
use super::section::{Key, SectionShape, Shape};
use super::tree::Entry;

/// Keys that the design holds and a later version will take: the table and the key.
const LATER: [(&str, &str); 11] = [
    ("the file", "cache"),
    ("the file", "compress"),
    ("the file", "rate_limit"),
    ("the file", "telemetry"),
    ("[client]", "rate_min"),
    ("[upstream.NAME]", "breaker"),
    ("[upstream.NAME]", "slow_start"),
    ("[[route]]", "cache"),
    ("[[route]]", "compress"),
    ("[[route]]", "rate_limit"),
    ("[[route]]", "requests_max"),
];

/// The error for an entry of `section` that it has no key for.
pub fn key(entry: &Entry, section: &SectionShape) -> Diagnostic {
    let name = entry.key.as_str();
    if LATER.contains(&(section.name, name)) {
        return Diagnostic::error(entry.key_origin, format!("`{name}` is not supported by this version"))
            .label("remove it until a version supports it");
    }
    let error = Diagnostic::error(entry.key_origin, format!("unknown key `{name}` in {}", section.name));
    let known = section.keys.iter().map(|key| key.name);
    if let Some(help) = did_you_mean(name, known) {
        return error.label("unknown key").help(help);
    }
    let keys = all_keys();
    let of_nginx = keys.iter().find(|(_, _, key)| key.nginx.split(", ").any(|directive| directive == name));
    if let Some((table, path, _)) = of_nginx {
        return error.label("a directive of nginx").help(format!("here it is `{path}` in {table}"));
    }
    if let Some((table, path, _)) = keys.iter().find(|(table, path, _)| *table != section.name && path == name) {
        return error.label("unknown here").help(format!("`{path}` belongs to {table}"));
    }
    let elsewhere = keys.iter().filter(|(table, ..)| *table == section.name).find_map(|(_, path, key)| {
        let inner = path.contains('.') && nearest(name, [key.name]).is_some();
        inner.then(|| format!("did you mean `{path}`?"))
    });
    if let Some(help) = elsewhere {
        return error.label("unknown key").help(help);
    }
    let known: Vec<_> = section.keys.iter().map(|key| key.name).collect();
    error.label("unknown key").help(format!("the keys are {}", known.join(", ")))
}

/// Every key of the file: the table it stands in, its dotted path in it, what is declared of it.
pub fn all_keys() -> Vec<(&'static str, String, &'static Key)> {
    let mut keys = Vec::new();
    let root = file::root();
    collect(root, root.name, "", &mut keys);
    keys
}

fn collect(
    section: SectionShape,
    table: &'static str,
    prefix: &str,
    keys: &mut Vec<(&'static str, String, &'static Key)>,
) {
    for key in section.keys {
        let path = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
        let inner = inner_section(&(key.shape)());
        keys.push((table, path.clone(), key));
        if let Some(inner) = inner {
            let is_table = inner.name.starts_with('[');
            let (table, prefix) = if is_table { (inner.name, "") } else { (table, path.as_str()) };
            collect(inner, table, prefix, keys);
        }
    }
}

/// The section that a value of this shape is, or holds.
pub fn inner_section(shape: &Shape) -> Option<SectionShape> {
    match shape {
        Shape::Section(section) => Some(*section),
        Shape::List(item) | Shape::Map(item) => inner_section(item),
        Shape::Either(shapes) => shapes.iter().find_map(inner_section),
        _ => None,
    }
}
