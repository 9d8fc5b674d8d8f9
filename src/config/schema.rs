//! The JSON schema of `config.toml`, for editors.

use serde_json::{Map, Value, json};

use super::file;
use super::section::{Fallback, Key, SectionShape, Shape};

/// The schema (draft 2020-12) of the whole file.
pub fn schema() -> Value {
    let mut schema = section(&file::root());
    if let Value::Object(members) = &mut schema {
        members.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        members.insert("title".to_owned(), json!("config.toml of Tollgate"));
    }
    schema
}

fn section(section: &SectionShape) -> Value {
    let required: Vec<_> =
        section.keys.iter().filter(|key| key.fallback == Fallback::Required).map(|key| key.name).collect();
    let properties: Map<String, Value> = section.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if let (Value::Object(members), false) = (&mut object, required.is_empty()) {
        members.insert("required".to_owned(), json!(required));
    }
    object
}

fn property(key: &Key) -> Value {
    let Value::Object(mut members) = shape(&(key.shape)()) else { return Value::Bool(true) };
    let mut description = key.doc().to_owned();
    match key.fallback {
        Fallback::Value(default) => {
            if let Some(default) = json_default(default) {
                members.insert("default".to_owned(), default);
            }
        }
        Fallback::ByProfile { development, staging, production } => {
            description.push_str(&format!(
                " By default {development} in development, {staging} in staging, {production} in production."
            ));
        }
        Fallback::Absent(meaning) if !meaning.is_empty() => description.push_str(&format!(" Absent: {meaning}.")),
        Fallback::Absent(_) | Fallback::Required => {}
    }
    if key.restart {
        description.push_str(" A change needs a restart.");
    }
    if !key.nginx.is_empty() {
        description.push_str(&format!(" In nginx: {}.", key.nginx));
    }
    members.insert("description".to_owned(), description.into());
    Value::Object(members)
}

fn json_default(toml: &str) -> Option<Value> {
    let table: toml::Table = format!("default = {toml}").parse().ok()?;
    serde_json::to_value(table.get("default")?).ok()
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::False => json!({ "enum": [false] }),
        Shape::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Shape::Text { example: "", .. } => json!({ "type": "string" }),
        Shape::Text { example, .. } | Shape::Secret { example, .. } => {
            json!({ "type": "string", "examples": [example] })
        }
        Shape::Duration => json!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|min|m|h|d|w)$", "examples": ["12s"] }),
        Shape::Size => {
            json!({ "type": "string", "pattern": "^[0-9]+ *([KMGT]iB|[KMGT]B|B)$", "examples": ["64KiB"] })
        }
        Shape::Rate => {
            json!({ "type": "string", "pattern": "^[0-9]+ *([KMGT]iB|[KMGT]B|B)/s$", "examples": ["256B/s"] })
        }
        Shape::Words(words) => json!({ "enum": words }),
        Shape::List(item) => json!({ "type": "array", "items": shape(item) }),
        Shape::Map(value) => json!({ "type": "object", "additionalProperties": shape(value) }),
        Shape::Section(inner) => section(inner),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(shape).collect::<Vec<_>>() }),
    }
}
