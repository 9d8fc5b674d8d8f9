//! Where telemetry goes, and how much of it.

use http::Uri;
use tollgate_otlp::Protocol;

use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::{Diagnostic, Problem};
use crate::config::section::Shape;
use crate::config::tree::{Kind, Node};

/// The URL of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorUrl(pub Uri);

impl Decode for CollectorUrl {
    fn shape() -> Shape {
        Shape::Text { what: "the URL of a collector", example: "http://127.0.0.1:4318" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a URL such as \"http://127.0.0.1:4318\"", collector).map(Self)
    }
}

fn collector(text: &str) -> Result<Uri, Problem> {
    let wrong = || Problem::new(format!("`{text}` is not the URL of a collector"));
    if !text.contains("://") {
        return Err(wrong().help(format!("did you mean \"http://{text}\"?")));
    }
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    if uri.query().is_some() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        // What stands there may be secret.
        let problem = Problem::new("the URL of a collector has no user and no query");
        return Err(problem.help("a password or a token goes into `headers`"));
    }
    if !tollgate_otlp::is_absolute(&uri) {
        return Err(wrong().help("it begins with http:// or https:// and names a host, and a port up to 65535 if any"));
    }
    if uri.path().ends_with("/v1/traces") {
        return Err(wrong().help("leave `/v1/traces` out: the path of each signal is appended"));
    }
    Ok(uri)
}

impl Decode for Protocol {
    fn shape() -> Shape {
        Shape::Words(vec!["http/protobuf", "grpc"])
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "one of \"http/protobuf\", \"grpc\"", |text| {
            Self::named(text).ok_or_else(|| {
                let problem = Problem::new(format!("`{text}` is not one of \"http/protobuf\", \"grpc\""));
                match text {
                    "http" | "http/json" | "protobuf" => problem.help("did you mean \"http/protobuf\"?"),
                    _ => problem,
                }
            })
        })
    }
}

/// A share of one: `0.1` is a tenth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl Decode for Share {
    fn shape() -> Shape {
        Shape::Share
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let expected = "a number from 0 to 1";
        let number = match &node.kind {
            Kind::Integer(number) => number.map(|number| number as f64),
            Kind::Other(_, text) => text.parse().ok(),
            Kind::Text(text) => {
                let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
                let share = percent.map(|percent| percent / 100.0).or_else(|| text.parse().ok());
                let help = share.filter(|share| (0.0..=1.0).contains(share)).map(|share| format!("write {share}"));
                decoder.mismatch(node, expected, help);
                return None;
            }
            _ => None,
        };
        let Some(number) = number else {
            decoder.mismatch(node, expected, None);
            return None;
        };
        if !(0.0..=1.0).contains(&number) {
            let message = format!("expected {expected}, found {number}");
            decoder.report(Diagnostic::error(node.origin, message).label(format!("expected {expected}")));
            return None;
        }
        Some(Self(number))
    }
}
