//! What a route makes of a path: the target sent upstream, or that of a redirect.
//!
//! Paths come in canonical and leave canonical. Redirect templates are compiled with the snapshot,
//! so that a mistake in one is an error of the file and not of a request.

use std::borrow::Cow;

use http::HeaderValue;
use http::uri::{InvalidUri, PathAndQuery, Uri};
use regex::Regex;
use thiserror::Error;

use crate::config::{NewQuery, PathRewrite, Replacement};
use crate::path::{self, PathError};

/// A rule made something that cannot be sent. It is the fault of the rule, never of the client.
#[derive(Debug, Error)]
pub enum RewriteError {
    #[error("the rewritten path is none: {0}")]
    Path(#[from] PathError),
    #[error("the rewritten target is none: {0}")]
    Target(#[from] InvalidUri),
}

/// Path and query for the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    pub path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
}

impl Target<'_> {
    /// Whether a request already asks for it.
    pub fn is_of(&self, uri: &Uri) -> bool {
        *self.path == *uri.path() && self.query.as_deref() == uri.query()
    }
}

impl TryFrom<Target<'_>> for PathAndQuery {
    type Error = RewriteError;

    fn try_from(Target { path, query }: Target<'_>) -> Result<Self, RewriteError> {
        let target = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.into_owned(),
        };
        Ok(Self::try_from(target)?)
    }
}

/// The target for the upstream.
pub fn rewrite<'a>(rule: &PathRewrite, path: &'a str, query: Option<&'a str>) -> Result<Target<'a>, RewriteError> {
    let query = query.map(Cow::Borrowed);
    match rule {
        PathRewrite::Keep => Ok(Target { path: Cow::Borrowed(path), query }),
        PathRewrite::StripPrefix(prefix) => Ok(Target { path: Cow::Borrowed(strip_prefix(prefix, path)), query }),
        PathRewrite::Regex { pattern, to } => {
            let Replacement { path: to, query: new } = &**to;
            let Cow::Owned(replaced) = pattern.replace(path, to) else {
                return Ok(Target { path: Cow::Borrowed(path), query });
            };
            let query = match new {
                None => query,
                Some(new) => new_query(pattern, new, path, query),
            };
            // A group may hold `..` or a lone `%2`: what is made of it has to be checked like any path.
            Ok(Target { path: Cow::Owned(path::canonical(&replaced)?.into_owned()), query })
        }
    }
}

/// The arguments of the rule, then those of the request.
fn new_query<'a>(pattern: &Regex, rule: &NewQuery, path: &str, own: Option<Cow<'a, str>>) -> Option<Cow<'a, str>> {
    let mut expanded = String::new();
    if let Some(groups) = pattern.captures(path) {
        groups.expand(&rule.arguments, &mut expanded);
    }
    let mut query = String::new();
    push_visible(&mut query, &expanded);
    let own = own.filter(|own| rule.keeps_own && !own.is_empty());
    match own {
        None => (!query.is_empty()).then_some(Cow::Owned(query)),
        Some(own) if query.is_empty() => Some(own),
        Some(own) => Some(Cow::Owned(format!("{query}&{own}"))),
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
            assert_eq!(rewritten(&rule, path, None), expected, "{prefix} {path}");
        }
    }

    /// The target as it goes upstream, or what is wrong with it.
    fn rewritten(rule: &PathRewrite, path: &str, query: Option<&str>) -> String {
        let target = rewrite(rule, path, query).and_then(PathAndQuery::try_from);
        target.map_or_else(|error| error.to_string(), |target| target.to_string())
    }

    fn replace(pattern: &str, path: &str, query: Option<(&str, bool)>) -> PathRewrite {
        let query = query.map(|(arguments, keeps_own)| NewQuery { arguments: arguments.into(), keeps_own });
        let to = Replacement { path: path.into(), query };
        PathRewrite::Regex { pattern: Regex::new(pattern).unwrap(), to: Box::new(to) }
    }

    #[test]
    fn patterns_are_replaced() {
        for (pattern, to, path, expected) in [
            ("^/v1/(.*)$", "/v2/$1", "/v1/a/b", "/v2/a/b?q=1"),
            ("^/u/(?<id>[0-9]+)", "/user/${id}/show", "/u/7/x", "/user/7/show/x?q=1"),
            ("^/v1/", "/v2/", "/other", "/other?q=1"),
            ("x", "%2e%2e", "/a/x/b", "/b?q=1"),
            ("a$", "é", "/a", "/%C3%A9?q=1"),
            ("^/a", "", "/ab", "does not begin with a slash"),
            ("F$", "", "/%2F", "not followed by two hex digits"),
        ] {
            let said = rewritten(&replace(pattern, to, None), path, Some("q=1"));
            assert!(said.ends_with(expected), "{pattern} {to} {path}: {said}");
        }
        assert_eq!(rewritten(&PathRewrite::Keep, "/a", Some("b")), "/a?b");
        let long = "a".repeat(70_000);
        assert!(rewritten(&replace("^/", &format!("/{long}"), None), "/", None).contains("target is none"));
    }

    /// As nginx joins them, for `rewrite ^/u/(.*)$ /user?id=$1 break`.
    #[test]
    fn arguments_of_a_rule_go_before_those_of_the_request() {
        for (new, own, expected) in [
            (("id=$1", true), Some("a=b"), "/user?id=7&a=b"),
            (("id=$1", true), Some(""), "/user?id=7"),
            (("id=$1", true), None, "/user?id=7"),
            (("id=$1", false), Some("a=b"), "/user?id=7"),
            (("", false), Some("a=b"), "/user"),
            (("", true), Some("a=b"), "/user?a=b"),
            (("é", true), None, "/user?%C3%A9"),
        ] {
            assert_eq!(rewritten(&replace("^/u/(.*)$", "/user", Some(new)), "/u/7", own), expected, "{new:?} {own:?}");
        }
        assert_eq!(rewritten(&replace("^/u/", "/user", Some(("id", true))), "/other", Some("a=b")), "/other?a=b");
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
            let stripped = rewrite(&PathRewrite::StripPrefix(prefix), &path, None).unwrap().path;
            prop_assert_eq!(path::canonical(&stripped), Ok(Cow::Borrowed(&*stripped)));
        }
    }
}
