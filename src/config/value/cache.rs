//! What the cache is told: names of parameters, of fields, and of what is purged.

use http::HeaderName;
use http::uri::Authority;

use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::Problem;
use crate::config::section::Shape;
use crate::config::tree::Node;
use crate::pattern::Pattern;

/// The name of a parameter of the query, or the beginning of names and `*`.
#[derive(Debug, Clone)]
pub struct ParameterText(pub Pattern);

impl Decode for ParameterText {
    fn shape() -> Shape {
        Shape::Text { what: "a name, or the beginning of names and `*`", example: "utm_*" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a name such as \"page\", or a beginning such as \"utm_*\"", parameter)
    }
}

fn parameter(text: &str) -> Result<ParameterText, Problem> {
    let name = text.strip_suffix('*').unwrap_or(text);
    if name.contains(['*', '=', '&', '?', '#']) {
        return Err(Problem::new(format!("`{text}` is not the name of a parameter")));
    }
    match text {
        "*" => Err(Problem::new("`*` is every parameter").help("for none, write `query_keep = []`")),
        "" => Err(Problem::new("an empty name")),
        _ => {
            Pattern::new(text).map(ParameterText).map_err(|error| Problem::new(format!("`{text}` is no name: {error}")))
        }
    }
}

impl Decode for Pattern {
    fn shape() -> Shape {
        Shape::Text { what: "tags and paths", example: "user:*" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a tag or a path such as \"user:*\" or \"/users/*\"", |text| {
            Self::new(text).map_err(|error| Problem::new(format!("`{text}` is no name for a purge: {error}")))
        })
    }
}

/// A page of the proxy's own: a path with its query, or a URL.
#[derive(Debug, Clone)]
pub struct PageText(pub String);

impl Decode for PageText {
    fn shape() -> Shape {
        Shape::Text { what: "a path with its query, or a URL", example: "/products?page=1" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a path such as \"/a?b=c\" or a URL", |text| {
            let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
            let names_a_page =
                text.starts_with('/') || rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
            if names_a_page && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
                return Ok(Self(text.to_owned()));
            }
            Err(Problem::new(format!("`{text}` is neither a path nor a URL")))
        })
    }
}

/// A host as requests name it.
#[derive(Debug, Clone)]
pub struct HostText(pub String);

impl Decode for HostText {
    fn shape() -> Shape {
        Shape::Text { what: "a host, with its port where that is not the usual one", example: "www.example.com" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a host such as \"www.example.com\"", |text| match text.parse::<Authority>() {
            Ok(host) if !host.host().is_empty() && !text.contains('@') => Ok(Self(text.to_owned())),
            _ => Err(Problem::new(format!("`{text}` is no host"))),
        })
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
