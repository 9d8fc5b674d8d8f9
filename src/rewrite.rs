//! What a route makes of a path: the one sent upstream, or the target of a redirect.
//!
//! Paths come in canonical and leave canonical. Redirect templates are compiled when the config is read,
//! so that a mistake in one is an error of the file and not of a request.

use std::borrow::Cow;

use http::HeaderValue;
use thiserror::Error;

use crate::config::PathRewrite;
use crate::path::{self, PathError};

/// The path for the upstream. An error is the fault of a pattern and its replacement, not of the client.
pub fn rewrite<'a>(rule: &PathRewrite, path: &'a str) -> Result<Cow<'a, str>, PathError> {
    match rule {
        PathRewrite::Keep => Ok(Cow::Borrowed(path)),
        PathRewrite::StripPrefix(prefix) => Ok(Cow::Borrowed(strip_prefix(prefix, path))),
        PathRewrite::Regex { pattern, to } => match pattern.replace(path, to) {
            Cow::Borrowed(same) => Ok(Cow::Borrowed(same)),
            // A group may hold `..` or a lone `%2`: what is made of it has to be checked like any path.
            Cow::Owned(replaced) => path::canonical(&replaced).map(|path| Cow::Owned(path.into_owned())),
        },
    }
}

/// By whole segments: `/api` turns `/api/x` into `/x` and `/api` into `/`, and leaves `/apix` alone.
fn strip_prefix<'a>(prefix: &str, path: &'a str) -> &'a str {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    match path.strip_prefix(prefix) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// The target of a redirect, with `{host}`, `{path}` and `{uri}` to be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Host,
    Path,
    /// Path and query.
    Uri,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    #[error("the target is empty")]
    Empty,
    #[error("a brace is not closed, or closed without being open")]
    Brace,
    #[error("`{{{0}}}` is unknown; there are {{host}}, {{path}} and {{uri}}")]
    Unknown(String),
    #[error("{0:?} has no place in a URI; write it percent-encoded")]
    Character(char),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        if let Some(stray) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(TemplateError::Character(stray));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, tail)) = rest.split_once('{') {
            push_literal(&mut parts, literal)?;
            let (name, tail) = tail.split_once('}').ok_or(TemplateError::Brace)?;
            parts.push(match name {
                "host" => Part::Host,
                "path" => Part::Path,
                "uri" => Part::Uri,
                _ => return Err(TemplateError::Unknown(name.to_owned())),
            });
            rest = tail;
        }
        push_literal(&mut parts, rest)?;
        Ok(Self(parts))
    }

    /// The `Location` of one request. Whatever the request holds, no byte of it can end the field.
    pub fn render(&self, host: &str, path: &str, query: Option<&str>) -> HeaderValue {
        let mut out = String::new();
        for part in &self.0 {
            // `//evil.example` at the beginning would name another host (RFC 3986 §4.2).
            let path = if out.is_empty() { after_extra_slashes(path) } else { path };
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Host => push_visible(&mut out, host),
                Part::Path => push_visible(&mut out, path),
                Part::Uri => {
                    push_visible(&mut out, path);
                    if let Some(query) = query {
                        out.push('?');
                        push_visible(&mut out, query);
                    }
                }
            }
        }
        // Visible ASCII is always a value, so the root is never taken.
        HeaderValue::try_from(out).unwrap_or_else(|_| HeaderValue::from_static("/"))
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) -> Result<(), TemplateError> {
    if text.contains('}') {
        return Err(TemplateError::Brace);
    }
    if !text.is_empty() {
        parts.push(Part::Literal(text.to_owned()));
    }
    Ok(())
}

fn after_extra_slashes(path: &str) -> &str {
    let extra = path.bytes().take_while(|byte| *byte == b'/').count().saturating_sub(1);
    path.get(extra..).unwrap_or(path)
}

/// Percent-encodes all that is not visible ASCII, CR and LF among it.
fn push_visible(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() {
            out.push(char::from(byte));
        } else {
            path::encode(byte, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn prefixes_are_stripped_by_segments() {
        for (prefix, path, expected) in [
            ("/api", "/api/x", "/x"),
            ("/api", "/api", "/"),
            ("/api", "/api/", "/"),
            ("/api", "/apix", "/apix"),
            ("/api", "/x/api", "/x/api"),
            ("/api", "/api//x", "//x"),
            ("/api/", "/api/x", "/x"),
            ("/api/", "/api", "/"),
            ("/", "/x", "/x"),
            ("/", "/", "/"),
        ] {
            let rule = PathRewrite::StripPrefix(prefix.into());
            assert_eq!(rewrite(&rule, path), Ok(Cow::Borrowed(expected)), "{prefix} {path}");
        }
    }

    #[test]
    fn patterns_are_replaced() {
        for (pattern, to, path, expected) in [
            ("^/v1/(.*)$", "/v2/$1", "/v1/a/b", Ok("/v2/a/b")),
            ("^/u/(?<id>[0-9]+)", "/user/${id}/show", "/u/7/x", Ok("/user/7/show/x")),
            ("^/v1/", "/v2/", "/other", Ok("/other")),
            ("x", "%2e%2e", "/a/x/b", Ok("/b")),
            ("^/", "", "/a", Err(PathError::NotRooted)),
            ("a$", "?b=c", "/a", Err(PathError::Delimiter)),
            ("F$", "", "/%2F", Err(PathError::BadPercent)),
        ] {
            let rule = PathRewrite::Regex { pattern: Regex::new(pattern).unwrap(), to: to.into() };
            assert_eq!(rewrite(&rule, path).as_deref(), expected.as_ref().copied(), "{pattern} {to} {path}");
        }
        assert_eq!(rewrite(&PathRewrite::Keep, "/a"), Ok(Cow::Borrowed("/a")));
    }

    #[test]
    fn templates_are_filled_in() {
        for (template, query, expected) in [
            ("https://{host}{uri}", Some("c=d&e"), "https://a.example/b?c=d&e"),
            ("https://{host}{uri}", Some(""), "https://a.example/b?"),
            ("https://{host}:8443{uri}", None, "https://a.example:8443/b"),
            ("https://new.example{path}", Some("c"), "https://new.example/b"),
            ("/new", Some("c"), "/new"),
            ("{path}/", None, "/b/"),
        ] {
            let rendered = Template::parse(template).unwrap().render("a.example", "/b", query);
            assert_eq!(rendered, expected, "{template}");
        }
    }

    #[test]
    fn a_redirect_stays_on_its_host() {
        for template in ["{path}", "{uri}"] {
            assert_eq!(Template::parse(template).unwrap().render("a", "//evil.example/x", None), "/evil.example/x");
        }
        assert_eq!(Template::parse("https://b{path}").unwrap().render("a", "//x", None), "https://b//x");
    }

    #[test]
    fn bad_templates() {
        for (text, error) in [
            ("", TemplateError::Empty),
            ("/{path", TemplateError::Brace),
            ("/path}", TemplateError::Brace),
            ("{path}}", TemplateError::Brace),
            ("/{query}", TemplateError::Unknown("query".into())),
            ("/{}", TemplateError::Unknown(String::new())),
            ("/{{path}", TemplateError::Unknown("{path".into())),
            ("/a b", TemplateError::Character(' ')),
            ("/a\r\nb", TemplateError::Character('\r')),
            ("/é", TemplateError::Character('é')),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_request_can_end_the_field(host in any::<String>(), path in any::<String>(), query in any::<Option<String>>()) {
            let location = Template::parse("https://{host}{path}#{uri}").unwrap().render(&host, &path, query.as_deref());
            prop_assert!(location.as_bytes().iter().all(u8::is_ascii_graphic));
            prop_assert!(location.as_bytes().starts_with(b"https://"));
        }

        #[test]
        fn stripped_paths_stay_canonical(path in "/[a./]{0,10}", prefix in "/[a/]{0,4}") {
            let path = path::canonical(&path).unwrap();
            let stripped = rewrite(&PathRewrite::StripPrefix(prefix), &path).unwrap();
            prop_assert_eq!(path::canonical(&stripped), Ok(Cow::Borrowed(&*stripped)));
        }
    }
}
