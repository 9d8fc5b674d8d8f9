//! Media types.

use crate::config::TypePattern;
use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::Problem;
use crate::config::section::Shape;
use crate::config::tree::Node;

impl Decode for TypePattern {
    fn shape() -> Shape {
        Shape::Text { what: "a media type, `*` for any part of a subtype", example: "text/*" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a media type such as \"text/html\" or \"text/*\"", type_pattern)
    }
}

fn type_pattern(text: &str) -> Result<TypePattern, Problem> {
    let wrong = |why: &str| Problem::new(format!("`{text}` {why}"));
    if let Some((essence, _)) = text.split_once(';') {
        let help = format!("parameters do not count: write \"{}\"", essence.trim_end());
        return Err(wrong("has a parameter").help(help));
    }
    let Some((kind, subtype)) = text.split_once('/') else {
        let problem = wrong("is not a media type");
        return Err(match text {
            "*" => problem.help("write \"*/*\""),
            "json" | "javascript" | "xml" | "wasm" => problem.help(format!("did you mean \"application/{text}\"?")),
            _ => problem.help("it is written as in \"text/html\""),
        });
    };
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if kind.is_empty() || subtype.is_empty() || !(kind.bytes().chain(subtype.bytes()).all(is_tchar)) {
        return Err(wrong("is not a media type").help("it is written as in \"text/html\""));
    }
    if text == "*/*" {
        return Ok(TypePattern::Any(String::new(), String::new()));
    }
    let name = text.to_ascii_lowercase();
    match name.split_once('*') {
        None => Ok(TypePattern::Exact(name)),
        Some((before, after)) if before.contains('/') && !after.contains('*') => {
            Ok(TypePattern::Any(before.to_owned(), after.to_owned()))
        }
        Some(_) => Err(wrong("has a star in a place where none can be").help("one star, in the subtype: \"text/*\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read_with_one_star_at_most() {
        let check = |text: &str, expected: Result<&str, &str>| match (type_pattern(text), expected) {
            (Ok(pattern), Ok(shown)) => assert_eq!(pattern.to_string(), shown),
            (Err(problem), Err(help)) => {
                assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{text}: {problem:?}");
            }
            (found, _) => panic!("{text}: {found:?}"),
        };
        for text in ["text/html", "text/*", "application/*+json", "application/xml+rss"] {
            check(text, Ok(text));
        }
        check("*/*", Ok("*"));
        check("Text/HTML", Ok("text/html"));
        check("text/html; charset=utf-8", Err("\"text/html\""));
        check("json", Err("\"application/json\""));
        check("*", Err("\"*/*\""));
        check("text/", Err("text/html"));
        check("text/x y", Err("text/html"));
        check("*/json", Err("one star"));
        check("text/*x*", Err("one star"));
    }
}
