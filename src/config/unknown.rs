//! What to say of a key that no version knows, or that this version does not know yet.

use super::diagnostics::Diagnostic;
use super::keys::{all_keys, inner_section};
use super::nearest::{did_you_mean, nearest};
use super::section::{Key, SectionShape};
use super::tree::Entry;

/// The error for an entry of `section` that it has no key for.
pub fn key(entry: &Entry, section: &SectionShape) -> Diagnostic {
    let name = entry.key.as_str();
    let error = Diagnostic::error(entry.key_origin, format!("unknown key `{name}` in {}", section.name));
    let known = section.keys.iter().map(|key| key.name);
    if let Some(help) = did_you_mean(name, known) {
        return error.label("unknown key").help(help);
    }
    let keys = all_keys();
    if let Some((table, path, _)) = keys.iter().find(|(table, path, _)| *table != section.name && path == name) {
        let place = if table.starts_with('[') { (*table).to_owned() } else { format!("the top of {table}") };
        return error.label("unknown here").help(format!("`{path}` belongs to {place}"));
    }
    let of_nginx = |key: &Key| key.nginx.split(", ").any(|directive| directive == name);
    let here = keys.iter().find(|(table, _, key)| *table == section.name && of_nginx(key));
    if let Some((table, path, key)) = here.or_else(|| keys.iter().find(|(_, _, key)| of_nginx(key))) {
        let instead = match inner_section(&(key.shape)()) {
            Some(inner) if inner.name.starts_with('[') => format!("here it is `{}`", inner.name),
            _ => format!("here it is `{path}` in {table}"),
        };
        return error.label("a directive of nginx").help(instead);
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
