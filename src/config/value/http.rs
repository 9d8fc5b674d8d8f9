//! Paths, fields, status codes and patterns.

use std::ops::RangeInclusive;

use http::{HeaderName, HeaderValue, StatusCode};

use super::net::host_pattern;
use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::{Diagnostic, Problem};
use crate::config::section::Shape;
use crate::config::tree::{Kind, Node};
use crate::config::{HashBy, HostPattern, HostPolicy};
use crate::path::{self, PathError};

/// A path in the form in which requests are matched: decoded where that changes nothing, no dot segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPath(pub String);

impl Decode for UrlPath {
    fn shape() -> Shape {
        Shape::Text { what: "a path that starts with /", example: "/api" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a path such as \"/api\"", url_path).map(Self)
    }
}

fn url_path(text: &str) -> Result<String, Problem> {
    let wrong = |why: &str| Problem::new(format!("`{text}` {why}"));
    if let Some((_, rest)) = text.split_once("://") {
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
        return Err(wrong("is a URL").help(format!("did you mean \"{path}\"? Hosts go into `hosts`")));
    }
    if !text.starts_with('/') {
        return Err(wrong("does not start with `/`").help(format!("did you mean \"/{text}\"?")));
    }
    if text.contains(['?', '#']) {
        return Err(wrong("holds a query or a fragment").help("routes match the path alone"));
    }
    if text.contains(['{', '}', '^']) {
        return Err(wrong("is not a path").help("for a pattern use `path_regex`"));
    }
    match path::canonical(text) {
        Ok(canonical) if canonical == text => Ok(canonical.into_owned()),
        Ok(canonical) => Err(wrong("is not how requests are matched").help(format!("did you mean \"{canonical}\"?"))),
        Err(PathError::BadPercent) => {
            Err(wrong("has a percent sign without two hex digits").help("write `%25` for a percent sign"))
        }
        Err(PathError::Control) => Err(wrong("holds a control character or a space").help("write `%20` for a space")),
        Err(error) => Err(Problem::new(error.to_string())),
    }
}

/// A regular expression, in the syntax of the `regex` crate.
#[derive(Debug, Clone)]
pub struct Pattern(pub regex::Regex);

impl Decode for Pattern {
    fn shape() -> Shape {
        Shape::Text { what: "a regular expression", example: "^/v[0-9]+/" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Kind::Text(text) = &node.kind else {
            decoder.mismatch(node, "a regular expression", None);
            return None;
        };
        match regex::Regex::new(text) {
            Ok(regex) => Some(Self(regex)),
            Err(error) => {
                decoder.report(pattern_error(node, text, &error));
                None
            }
        }
    }
}

/// Underlines the part of the pattern that is wrong, if the file writes it without escapes.
fn pattern_error(node: &Node, text: &str, error: &regex::Error) -> Diagnostic {
    let (message, offsets) = match regex_syntax::Parser::new().parse(text) {
        Err(regex_syntax::Error::Parse(error)) => {
            (error.kind().to_string(), error.span().start.offset..error.span().end.offset)
        }
        Err(regex_syntax::Error::Translate(error)) => {
            (error.kind().to_string(), error.span().start.offset..error.span().end.offset)
        }
        _ => (error.to_string(), 0..text.len()),
    };
    let place = node.origin.span().map(|mut span| {
        let quotes = (span.end - span.start).saturating_sub(text.len());
        if quotes == 2 || quotes == 6 {
            span.end = span.start + quotes / 2 + offsets.end.max(offsets.start + 1);
            span.start += quotes / 2 + offsets.start;
        }
        span
    });
    let at = text.get(..offsets.start).unwrap_or(text).chars().count() + 1;
    Diagnostic::error(place, format!("not a valid regular expression: {message}"))
        .label(format!("character {at} of the pattern"))
}

impl Decode for StatusCode {
    fn shape() -> Shape {
        Shape::Integer { min: 200, max: 599 }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let expected = "a status code from 200 to 599";
        let Kind::Integer(number) = node.kind else {
            decoder.mismatch(node, expected, None);
            return None;
        };
        let code = number.and_then(|number| u16::try_from(number).ok()).filter(|code| (200..=599).contains(code));
        let status = code.and_then(|code| Self::from_u16(code).ok());
        if status.is_none() {
            decoder.report(Diagnostic::error(node.origin, "not a status code").label(format!("expected {expected}")));
        }
        status
    }
}

/// `200-399`, `204` or `200,301-302`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRanges(pub Vec<RangeInclusive<u16>>);

impl Decode for StatusRanges {
    fn shape() -> Shape {
        Shape::Text { what: "status codes and ranges of them", example: "500-599" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if let Kind::Integer(Some(code)) = node.kind {
            decoder.mismatch(node, "status codes such as \"200-399\"", Some(format!("write \"{code}\"")));
            return None;
        }
        decoder.text(node, "status codes such as \"200-399\" or \"200,204\"", status_ranges).map(Self)
    }
}

fn status_ranges(text: &str) -> Result<Vec<RangeInclusive<u16>>, Problem> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (Ok(low), Ok(high)) = (low.trim().parse::<u16>(), high.trim().parse::<u16>()) else {
            return Err(Problem::new(format!("`{part}` is neither a status code nor a range of them")));
        };
        if !(100..=599).contains(&low) || !(100..=599).contains(&high) {
            return Err(Problem::new(format!("`{part}` goes beyond the status codes, 100 to 599")));
        }
        if low > high {
            let help = format!("did you mean \"{high}-{low}\"?");
            return Err(Problem::new(format!("`{part}` is an empty range")).help(help));
        }
        Ok(low..=high)
    };
    text.split(',').map(|part| range(part.trim())).collect()
}

impl Decode for HashBy {
    fn shape() -> Shape {
        Shape::Text { what: "\"client-ip\", \"path\", \"header:NAME\" or \"cookie:NAME\"", example: "cookie:session" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "\"client-ip\", \"path\", \"header:NAME\" or \"cookie:NAME\"", hash_by)
    }
}

fn hash_by(text: &str) -> Result<HashBy, Problem> {
    match text.split_once(':') {
        None if text == "client-ip" => Ok(HashBy::ClientIp),
        None if text == "path" => Ok(HashBy::Path),
        Some(("header", name)) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Ok(HashBy::Field(name)),
            Err(_) => Err(Problem::new(format!("`{name}` is not the name of a field"))),
        },
        Some(("cookie", name)) if !name.is_empty() && !name.contains(['=', ';', ' ']) => {
            Ok(HashBy::Cookie(name.to_owned()))
        }
        Some(("cookie", name)) => Err(Problem::new(format!("`{name}` is not the name of a cookie"))),
        _ => Err(Problem::new(format!("`{text}` is no key"))),
    }
}

/// The value of a field that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldValue(pub HeaderValue);

impl Decode for FieldValue {
    fn shape() -> Shape {
        Shape::Text { what: "the value of a field", example: "nosniff" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "the value of a field, on one line", field_value).map(Self)
    }
}

fn field_value(text: &str) -> Result<HeaderValue, Problem> {
    if text.trim() != text {
        return Err(Problem::new("a field's value has no white space around it"));
    }
    HeaderValue::from_str(text).map_err(|_| Problem::new("a field's value has no line breaks or control characters"))
}

/// Fields that frame messages or belong to one connection are the proxy's own.
const OWN_FIELDS: [&str; 8] =
    ["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// The name of a field that may be set or removed.
pub fn field_name(text: &str) -> Result<HeaderName, Problem> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        let problem = Problem::new(format!("`{text}` is not the name of a field"));
        return Err(match text.strip_suffix(':') {
            Some(name) => problem.help(format!("write \"{name}\"")),
            None => problem.help("names are made of letters, digits and hyphens"),
        });
    };
    if OWN_FIELDS.contains(&name.as_str()) {
        let problem = Problem::new(format!("`{text}` is managed by the proxy itself"));
        return Err(if name == "host" { problem.help("use `host` of the route") } else { problem });
    }
    Ok(name)
}

/// `preserve`, `upstream` or a fixed value of `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPolicyText(pub HostPolicy);

impl Decode for HostPolicyText {
    fn shape() -> Shape {
        Shape::Text { what: "\"preserve\", \"upstream\" or a fixed host", example: "preserve" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let policy = decoder.text(node, "\"preserve\", \"upstream\" or a host", |text| match text {
            "preserve" => Ok(HostPolicy::Preserve),
            "upstream" => Ok(HostPolicy::Upstream),
            host => fixed_host(host).map(HostPolicy::Fixed),
        });
        policy.map(Self)
    }
}

fn fixed_host(text: &str) -> Result<HeaderValue, Problem> {
    if text.starts_with('$') {
        return Err(Problem::new(format!("`{text}` is a variable of nginx")).help("$host is \"preserve\" here"));
    }
    let bare_ipv6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let host = match text.rsplit_once(':') {
        Some((host, port)) if !bare_ipv6 && port.parse::<u16>().is_ok() => host,
        _ => text,
    };
    match host_pattern(host)? {
        HostPattern::Exact(_) => field_value(text),
        HostPattern::Wildcard(_) => Err(Problem::new(format!("`{text}` is a pattern, not one host"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err(problem) => problem.help.unwrap_or(problem.message),
        }
    }

    #[test]
    fn paths_are_in_the_form_in_which_requests_are_matched() {
        let check = |text, expected: &str| {
            let said = said(url_path(text));
            assert!(said.contains(expected), "{text}: {said}");
        };
        check("/", "\"/\"");
        check("/a%2Fb", "\"/a%2Fb\"");
        check("api", "\"/api\"");
        check("http://x/api", "\"/api\"");
        check("/a?b", "path alone");
        check("/a/../b", "\"/b\"");
        check("/a b", "%20");
        check("/é", "\"/%C3%A9\"");
        check("/{id}", "path_regex");
        check("/%7e", "\"/~\"");
        check("/%2f", "\"/%2F\"");
        check("/50%", "%25");
        check("/a\\b", "backslash");
    }

    #[test]
    fn status_ranges_are_codes_and_spans() {
        let check = |text, expected: &str| {
            let said = said(status_ranges(text));
            assert!(said.contains(expected), "{text}: {said}");
        };
        check("200-399", "[200..=399]");
        check("200, 301-302", "[200..=200, 301..=302]");
        check("399-200", "\"200-399\"");
        check("2xx", "neither");
        check("200-700", "beyond");
    }

    #[test]
    fn names_of_fields_leave_framing_alone() {
        let check = |text, expected: &str| {
            let said = said(field_name(text));
            assert!(said.contains(expected), "{text}: {said}");
        };
        check("X-Frame-Options", "x-frame-options");
        check("X-Frame:", "\"X-Frame\"");
        check("X Frame", "hyphens");
        check("Host", "`host` of the route");
        check("Content-Length", "itself");
    }

    #[test]
    fn a_fixed_host_may_carry_a_port() {
        let check = |text, expected: &str| {
            let said = said(fixed_host(text));
            assert!(said.contains(expected), "{text}: {said}");
        };
        check("example.com:8080", "example.com:8080");
        check("[::1]:8080", "[::1]:8080");
        check("$host", "preserve");
        check("*.example.com", "pattern");
        check("two hosts", "not a host");
    }
}
