//! Every key of the file as one list, as it was declared.

use super::file;
use super::section::{Key, SectionShape, Shape};

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
