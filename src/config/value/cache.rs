//! What the cache is told: kinds of content, names of parameters, names of fields.

use http::HeaderName;

use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::Problem;
use crate::config::section::Shape;
use crate::config::tree::Node;
use crate::config::{MediaPattern, NamePattern};

impl Decode for MediaPattern {
    fn shape() -> Shape {
        Shape::Text { what: "a media type, or all of a kind", example: "image/*" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a media type such as \"image/png\" or \"image/*\"", media_pattern)
    }
}

fn media_pattern(text: &str) -> Result<MediaPattern, Problem> {
    let wrong = |why: &str| Problem::new(format!("`{text}` {why}"));
    if text.contains(';') {
        return Err(wrong("has a parameter").help("parameters such as charset do not count; leave them out"));
    }
    let is_token = |part: &str| HeaderName::from_bytes(part.as_bytes()).is_ok();
    match text.split_once('/') {
        Some((kind, "*")) if is_token(kind) && kind != "*" => {
            Ok(MediaPattern::Kind(format!("{}/", kind.to_ascii_lowercase())))
        }
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) && !text.contains('*') => {
            Ok(MediaPattern::Exact(text.to_ascii_lowercase()))
        }
        None if is_token(text) && !text.contains('*') => {
            Err(wrong("is no media type").help(format!("did you mean \"{text}/*\"?")))
        }
        _ => Err(wrong("is no media type")),
    }
}

impl Decode for NamePattern {
    fn shape() -> Shape {
        Shape::Text { what: "a name, or the beginning of names and `*`", example: "utm_*" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a name such as \"page\", or a beginning such as \"utm_*\"", name_pattern)
    }
}

fn name_pattern(text: &str) -> Result<NamePattern, Problem> {
    let (name, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
    if name.contains(['*', '=', '&', '?', '#']) {
        return Err(Problem::new(format!("`{text}` is not the name of a parameter")));
    }
    match (name, is_prefix) {
        ("", true) => Err(Problem::new("`*` is every parameter").help("for none, write `query_keep = []`")),
        ("", false) => Err(Problem::new("an empty name")),
        (prefix, true) => Ok(NamePattern::Prefix(prefix.to_owned())),
        (name, false) => Ok(NamePattern::Exact(name.to_owned())),
    }
}

impl Decode for HeaderName {
    fn shape() -> Shape {
        Shape::Text { what: "the name of a field", example: "X-Tenant" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "the name of a field", |text| {
            Self::from_bytes(text.as_bytes()).map_err(|_| {
                let problem = Problem::new(format!("`{text}` is not the name of a field"));
                problem.help("names are made of letters, digits and hyphens")
            })
        })
    }
}
