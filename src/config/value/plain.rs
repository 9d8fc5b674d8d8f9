//! Flags, text, files and secrets.

use std::path::PathBuf;

use crate::config::LogTarget;
use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::Problem;
use crate::config::section::Shape;
use crate::config::tree::{Kind, Node};

use super::number::Count;

type Port = Count<1, 65_535>;

impl Decode for bool {
    fn shape() -> Shape {
        Shape::Bool
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if let Kind::Bool(value) = node.kind {
            return Some(value);
        }
        decoder.mismatch(node, "true or false", as_flag(node));
        None
    }
}

/// How a flag that is written in words is written here.
fn as_flag(node: &Node) -> Option<String> {
    let Kind::Text(text) = &node.kind else { return None };
    match text.as_str() {
        "on" | "yes" | "true" => Some("write true".to_owned()),
        "off" | "no" | "false" => Some("write false".to_owned()),
        _ => None,
    }
}

/// Whether cleartext is redirected to https, and to which port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpsRedirect {
    Off,
    ToListener,
    ToPort(u16),
}

impl Decode for HttpsRedirect {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Bool, Port::shape()])
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.kind {
            Kind::Bool(false) => Some(Self::Off),
            Kind::Bool(true) => Some(Self::ToListener),
            Kind::Integer(_) => Port::decode(node, decoder)?.0.try_into().ok().map(Self::ToPort),
            kind => {
                let help = match kind {
                    Kind::Text(text) if text.parse::<u16>().is_ok() => Some(format!("write it without quotes: {text}")),
                    _ => as_flag(node),
                };
                decoder.mismatch(node, "true, false or a port", help);
                None
            }
        }
    }
}

impl Decode for String {
    fn shape() -> Shape {
        Shape::Text { what: "text", example: "" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Kind::Text(text) = &node.kind else {
            decoder.mismatch(node, "a string", None);
            return None;
        };
        Some(text.clone())
    }
}

/// A file as it is written, not yet resolved against the folder of the file that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(pub PathBuf);

impl Decode for FilePath {
    fn shape() -> Shape {
        Shape::Text { what: "a file", example: "certs/example.com.pem" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "the path of a file", file_path).map(Self)
    }
}

fn file_path(text: &str) -> Result<PathBuf, Problem> {
    if text.is_empty() || text.contains('\0') {
        return Err(Problem::new("this is no path of a file"));
    }
    Ok(PathBuf::from(text))
}

impl Decode for LogTarget {
    fn shape() -> Shape {
        Shape::Text { what: "\"stdout\", \"stderr\", \"off\" or a file", example: "stdout" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if let Kind::Bool(false) = node.kind {
            decoder.mismatch(node, "\"stdout\", \"stderr\", \"off\" or a file", Some("write \"off\"".to_owned()));
            return None;
        }
        decoder.text(node, "\"stdout\", \"stderr\", \"off\" or a file", |text| match text {
            "off" => Ok(Self::Off),
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            path => file_path(path).map(Self::File),
        })
    }
}

/// A secret as the file writes it: in clear, `${NAME}` or `file:path`.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretText {
    Clear(String),
    Variable(String),
    File(PathBuf),
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Decode for SecretText {
    fn shape() -> Shape {
        Shape::Secret {
            what: "a secret: \"${NAME}\" of the environment or \"file:path\"",
            example: "${TOLLGATE_TOKEN}",
        }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Kind::Text(text) = &node.kind else {
            decoder.mismatch(node, "a secret such as \"${NAME}\" or \"file:path\"", None);
            return None;
        };
        if let Some(path) = text.strip_prefix("file:") {
            return Some(Self::File(path.into()));
        }
        let variable = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        Some(variable.map_or_else(|| Self::Clear(text.clone()), |name| Self::Variable(name.to_owned())))
    }

    fn show(node: &Node) -> String {
        match &node.kind {
            Kind::Text(text) if text.starts_with("${") || text.starts_with("file:") => crate::config::tree::show(node),
            _ => "\"***\"".to_owned(),
        }
    }
}
