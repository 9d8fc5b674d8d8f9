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
        let references = response.get_all(name).iter().filter_map(|line| line.to_str().ok());
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
