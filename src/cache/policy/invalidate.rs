//! What a change makes invalid (RFC 9111 §4.4).

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};

use crate::header::Scheme;
use crate::header::authority::{self, Authority};
use crate::path;

/// The target URI of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetUri<'a> {
    pub scheme: Scheme,
    pub authority: &'a Authority<'a>,
    /// Canonical.
    pub path: &'a str,
    pub query: Option<&'a str>,
}

/// A resource of the same origin as the target URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Canonical.
    pub path: String,
    pub query: Option<String>,
}

/// What a response makes invalid: the target, and what `Location` and `Content-Location` name of the same origin.
/// Others could be anybody's (RFC 9111 §4.4).
pub fn invalidated(method: &Method, target: &TargetUri<'_>, status: StatusCode, response: &HeaderMap) -> Vec<Resource> {
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut resources = vec![target.resource()];
    for name in [LOCATION, CONTENT_LOCATION] {
        let references = response.get_all(name).iter().filter_map(|line| std::str::from_utf8(line.as_bytes()).ok());
        for resource in references.filter_map(|reference| target.resolve(reference)) {
            if !resources.contains(&resource) {
                resources.push(resource);
            }
        }
    }
    resources
}

/// The methods registered as safe. Of another one nothing is known, so it may have changed things.
fn is_safe(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "QUERY" | "REPORT" | "SEARCH")
}

impl TargetUri<'_> {
    pub(super) fn resource(&self) -> Resource {
        Resource { path: self.path.to_owned(), query: self.query.map(str::to_owned) }
    }

    /// What a reference means here (RFC 3986 §5.2), if it is of the same origin.
    pub(super) fn resolve(&self, reference: &str) -> Option<Resource> {
        let reference = reference.trim_ascii();
        let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
        let reference = match scheme_of(reference) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(self.scheme.as_str()) && rest.starts_with("//") => rest,
            Some(_) => return None,
            None => reference,
        };
        let Some(rest) = reference.strip_prefix("//") else { return self.relative(reference) };
        let (named, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority::parse(named, self.scheme).ok()? != *self.authority {
            return None;
        }
        let (path, query) = split_query(rest);
        resource(if path.is_empty() { "/" } else { path }, query)
    }

    fn relative(&self, reference: &str) -> Option<Resource> {
        match split_query(reference) {
            ("", None) => Some(self.resource()),
            ("", query) => resource(self.path, query),
            (path, query) if path.starts_with('/') => resource(path, query),
            (path, query) => {
                let folder = self.path.rfind('/').map_or("/", |at| self.path.get(..=at).unwrap_or("/"));
                resource(&format!("{folder}{path}"), query)
            }
        }
    }
}

/// A scheme and what follows its colon.
fn scheme_of(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some((scheme, rest))
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)))
}

fn resource(path: &str, query: Option<&str>) -> Option<Resource> {
    let path = path::canonical(path).ok()?.into_owned();
    Some(Resource { path, query: query.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::rows::fields;

    fn after(method: &str, status: u16, response: &str) -> Vec<String> {
        let authority = authority::parse("example.com:8080", Scheme::Http).unwrap();
        let target = TargetUri { scheme: Scheme::Http, authority: &authority, path: "/a/b/c", query: Some("q=1") };
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let resources = invalidated(&method, &target, StatusCode::from_u16(status).unwrap(), &fields(response));
        let text = |resource: &Resource| match &resource.query {
            Some(query) => format!("{}?{query}", resource.path),
            None => resource.path.clone(),
        };
        resources.iter().map(text).collect()
    }

    #[test]
    fn a_change_that_succeeded_invalidates_its_target() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get", "PURGE", "CONNECT"] {
            for status in [200, 201, 204, 299, 301, 303, 304] {
                assert_eq!(after(method, status, ""), ["/a/b/c?q=1"], "{method} {status}");
            }
            for status in [100, 400, 404, 499, 500, 503, 599] {
                assert!(after(method, status, "location: /x").is_empty(), "{method} {status}");
            }
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
            assert!(after(method, 200, "location: /x").is_empty(), "{method}");
        }
    }

    #[track_caller]
    fn also(reference: &str, expected: Option<&str>) {
        for name in ["location", "content-location"] {
            let mut resources = vec!["/a/b/c?q=1".to_owned()];
            resources.extend(expected.map(str::to_owned));
            assert_eq!(after("POST", 201, &format!("{name}: {reference}")), resources, "{name}: {reference}");
        }
    }

    #[test]
    fn references_are_resolved_as_uris_are() {
        also("/x", Some("/x"));
        also("/x?y#z", Some("/x?y"));
        also("x", Some("/a/b/x"));
        also("./x/../y", Some("/a/b/y"));
        also("../x?", Some("/a/x?"));
        also("../../../../x", Some("/x"));
        also("..", Some("/a/"));
        also("\u{e9}", Some("/a/b/%C3%A9"));
        also("?r=2", Some("/a/b/c?r=2"));
        also("http://example.com:8080/x?y", Some("/x?y"));
        also("HTTP://EXAMPLE.com:8080", Some("/"));
        also("http://example.com:8080?y", Some("/?y"));
        also("//example.com:8080/%7Ex", Some("/~x"));
        // A colon behind a slash begins no port and ends no scheme.
        also("./x:y", Some("/a/b/x:y"));
        also("/x:y", Some("/x:y"));
        // The target itself.
        also("", None);
        also("#z", None);
        also("c?q=1", None);
    }

    #[test]
    fn other_origins_are_left_alone() {
        for reference in [
            "https://example.com:8080/x",
            "http://example.com/x",
            "http://example.com:8081/x",
            "http://example.org:8080/x",
            "//example.org:8080/x",
            "http://user@example.com:8080/x",
            "http://example.com:8080@evil/x",
            "http:/x",
            "http:x",
            "mailto:a@b",
            "http://",
            "///x",
            "\\\\example.com\\x",
            "/x\\y",
            "/%00",
            "/%zz",
        ] {
            also(reference, None);
        }
    }

    #[test]
    fn each_resource_is_named_once() {
        assert_eq!(after("POST", 201, "location: /x\nlocation: /y\ncontent-location: /x"), ["/a/b/c?q=1", "/x", "/y"]);
    }

    proptest! {
        #[test]
        fn what_is_found_has_a_canonical_path(reference in "(http://example.com:8080)?[!-~]{0,30}") {
            let authority = authority::parse("example.com:8080", Scheme::Http).unwrap();
            let target = TargetUri { scheme: Scheme::Http, authority: &authority, path: "/a/b/c", query: None };
            if let Some(resource) = target.resolve(&reference) {
                prop_assert_eq!(path::canonical(&resource.path).unwrap(), resource.path.as_str());
            }
        }
    }
}
