//! Which route serves a host and a path.
//!
//! It owns the order of precedence and nothing else. Among hosts: routes that name the host, then those
//! with a wildcard for it, then those without hosts. Among paths: exact, regex in file order, longest
//! prefix. A group of hosts without a route for the path leaves it to the next group. nginx stops at the
//! first server that names the host; falling through lets one `/health` without hosts serve them all.
//!
//! Paths are canonical and compared byte by byte; hosts know no case.

use std::collections::HashMap;

use regex::Regex;

use crate::config::{HostPattern, PathMatch};

/// The longest name in DNS, with its final dot (RFC 1035 §2.3.4). No longer host is in the table.
const HOST_BYTES_MAX: usize = 254;

/// Routes, ready to be searched. `R` is what a route leads to.
#[derive(Debug)]
pub struct Router<R> {
    routes: Vec<R>,
    exact: HashMap<Box<str>, Paths>,
    /// By what follows the first label and its dot.
    wildcard: HashMap<Box<str>, Paths>,
    any: Paths,
}

impl<R> Router<R> {
    /// Takes routes in file order. Of two with the same host and path the first one wins.
    pub fn new(routes: impl IntoIterator<Item = (Vec<HostPattern>, PathMatch, R)>) -> Self {
        let mut router =
            Self { routes: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new(), any: Paths::default() };
        for (index, (hosts, path, route)) in routes.into_iter().enumerate() {
            router.routes.push(route);
            if hosts.is_empty() {
                router.any.insert(&path, index);
            }
            for host in hosts {
                let paths = match host {
                    HostPattern::Exact(name) => router.exact.entry(name.to_ascii_lowercase().into()),
                    HostPattern::Wildcard(parent) => router.wildcard.entry(parent.to_ascii_lowercase().into()),
                };
                paths.or_default().insert(&path, index);
            }
        }
        router
    }

    /// In file order.
    pub fn routes(&self) -> impl Iterator<Item = &R> {
        self.routes.iter()
    }

    /// `host` comes without its port, `path` is canonical. Does not allocate.
    pub fn find(&self, host: &str, path: &str) -> Option<&R> {
        self.routes.get(self.find_place(host, path)?)
    }

    /// The place in the file, from 0 on, of the route that [`Router::find`] gives.
    pub fn find_place(&self, host: &str, path: &str) -> Option<usize> {
        self.find_by_host(host, path).or_else(|| self.any.find(path))
    }

    /// The route at a place.
    pub fn at(&self, place: usize) -> Option<&R> {
        self.routes.get(place)
    }

    fn find_by_host(&self, host: &str, path: &str) -> Option<usize> {
        if self.exact.is_empty() && self.wildcard.is_empty() {
            return None;
        }
        let mut buffer = [0; HOST_BYTES_MAX];
        let host = lower_case(host, &mut buffer)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        let named = self.exact.get(host).and_then(|paths| paths.find(path));
        named.or_else(|| {
            let (_, parent) = host.split_once('.').filter(|(label, _)| !label.is_empty())?;
            self.wildcard.get(parent)?.find(path)
        })
    }
}

/// Where a certificate authority asks over cleartext for the proof that a host is held (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge";

/// Whether a request for `path`, found to match `route`, is a challenge that the route is there for: it must be
/// answered where it was asked. A route for everything is not meant for challenges; one that begins with their
/// folder is.
pub fn answers_challenge(route: &PathMatch, path: &str) -> bool {
    let below = |path: &str| path.strip_prefix(CHALLENGES).is_some_and(|rest| rest.starts_with('/'));
    match route {
        PathMatch::Prefix(prefix) => below(path) && (prefix == CHALLENGES || below(prefix)),
        PathMatch::Exact(exact) => below(path) && below(exact),
        PathMatch::Regex(_) => false,
    }
}

/// Hosts are in lower case as a rule, and then nothing is copied.
fn lower_case<'a>(host: &'a str, buffer: &'a mut [u8; HOST_BYTES_MAX]) -> Option<&'a str> {
    let copy = buffer.get_mut(..host.len())?;
    if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(host);
    }
    copy.copy_from_slice(host.as_bytes());
    copy.make_ascii_lowercase();
    std::str::from_utf8(copy).ok()
}

/// The routes of one host, by their place in the file.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, usize>,
    patterns: Vec<(Regex, usize)>,
    prefixes: Node,
}

impl Paths {
    fn insert(&mut self, path: &PathMatch, index: usize) {
        match path {
            PathMatch::Exact(path) => {
                self.exact.entry(path.as_str().into()).or_insert(index);
            }
            PathMatch::Regex(pattern) => self.patterns.push((pattern.clone(), index)),
            PathMatch::Prefix(prefix) => self.prefixes.insert(prefix, index),
        }
    }

    fn find(&self, path: &str) -> Option<usize> {
        let exact = || self.exact.get(path).copied();
        let pattern = || self.patterns.iter().find(|(pattern, _)| pattern.is_match(path)).map(|(_, index)| *index);
        exact().or_else(pattern).or_else(|| self.prefixes.find(path))
    }
}

/// Prefixes as a tree of segments: a search reads the path once and stops where no prefix goes on.
#[derive(Debug, Default)]
struct Node {
    /// The prefix that ends here, as in `/a`.
    here: Option<usize>,
    /// The prefix that ends in a slash, as in `/a/`: it takes only what lies below.
    below: Option<usize>,
    /// By hash: of ten thousand a tree would look at the text of a dozen, each in a place of its own.
    children: HashMap<Box<str>, Node>,
}

impl Node {
    fn insert(&mut self, prefix: &str, index: usize) {
        let mut node = self;
        let mut rest = prefix;
        while let Some((segment, tail)) = first_segment(rest) {
            if segment.is_empty() && tail.is_empty() {
                node.below.get_or_insert(index);
                return;
            }
            node = node.children.entry(segment.into()).or_default();
            rest = tail;
        }
        node.here.get_or_insert(index);
    }

    fn find(&self, path: &str) -> Option<usize> {
        let mut node = self;
        let mut rest = path;
        let mut found = node.here;
        while let Some((segment, tail)) = first_segment(rest) {
            found = node.below.or(found);
            let Some(child) = node.children.get(segment) else { break };
            found = child.here.or(found);
            node = child;
            rest = tail;
        }
        found
    }
}

/// The segment after the first slash, and what begins with the next one.
fn first_segment(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    Some(path.split_at(memchr::memchr(b'/', path.as_bytes()).unwrap_or(path.len())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(host: &str) -> HostPattern {
        match host.strip_prefix("*.") {
            Some(parent) => HostPattern::Wildcard(parent.into()),
            None => HostPattern::Exact(host.into()),
        }
    }

    /// `=/a` is exact, `~a` a regex, all else a prefix; hosts stand before it. The name is the row itself.
    fn router(rows: &[&'static str]) -> Router<&'static str> {
        Router::new(rows.iter().map(|row| {
            let (hosts, path) = row.rsplit_once(' ').unwrap_or(("", row));
            let path = match path.split_at(1) {
                ("=", path) => PathMatch::Exact(path.into()),
                ("~", path) => PathMatch::Regex(Regex::new(path).unwrap()),
                _ => PathMatch::Prefix(path.into()),
            };
            (hosts.split_whitespace().map(pattern).collect(), path, *row)
        }))
    }

    #[track_caller]
    fn check(rows: &[&'static str], host: &str, path: &str, expected: &str) {
        assert_eq!(router(rows).find(host, path).copied().unwrap_or("none"), expected, "{host} {path}");
    }

    #[test]
    fn prefixes_hold_whole_segments() {
        let rows = &["/a", "/a/b/", "/a/b/c"];
        check(rows, "h", "/a", "/a");
        check(rows, "h", "/a/", "/a");
        check(rows, "h", "/a/x", "/a");
        check(rows, "h", "/ab", "none");
        check(rows, "h", "/", "none");
        check(rows, "h", "/a/b", "/a");
        check(rows, "h", "/a/b/", "/a/b/");
        check(rows, "h", "/a/b/x", "/a/b/");
        check(rows, "h", "/a/b/c", "/a/b/c");
        check(rows, "h", "/a/b/cd", "/a/b/");
        check(rows, "h", "/a//b/c", "/a");
        check(rows, "h", "/A", "none");
        check(&["/"], "h", "/", "/");
        check(&["/"], "h", "//x", "/");
        check(&["/a", "/a/"], "h", "/a", "/a");
        check(&["/a", "/a/"], "h", "/a/x", "/a/");
        check(&["/a//"], "h", "/a//x", "/a//");
        check(&["/a//"], "h", "/a/x", "none");
    }

    #[test]
    fn kinds_of_paths_have_an_order() {
        let rows = &["/a", "~^/a/.*png$", "=/a/x.png", "~^/a"];
        check(rows, "h", "/a/x.png", "=/a/x.png");
        check(rows, "h", "/a/y.png", "~^/a/.*png$");
        check(rows, "h", "/a/y", "~^/a");
        check(&["/", "=/a"], "h", "/a/", "/");
        check(&["/a", "/a"], "h", "/a", "/a");
    }

    #[test]
    fn hosts_have_an_order() {
        let rows = &["/", "/any", "*.example.com /", "www.example.com /shop", "www.example.com example.org =/x"];
        check(rows, "www.example.com", "/shop/1", "www.example.com /shop");
        check(rows, "www.example.com", "/x", "www.example.com example.org =/x");
        check(rows, "example.org", "/x", "www.example.com example.org =/x");
        check(rows, "www.example.com", "/other", "*.example.com /");
        check(rows, "api.example.com", "/any", "*.example.com /");
        check(rows, "a.b.example.com", "/any", "/any");
        check(rows, "example.com", "/any", "/any");
        check(rows, ".example.com", "/any", "/any");
        check(rows, "example.org", "/y", "/");
        check(rows, "", "/y", "/");
        check(&["a.example /"], "b.example", "/", "none");
    }

    #[test]
    fn hosts_know_no_case_and_no_final_dot() {
        let rows = &["www.example.com /", "[::1] /"];
        check(rows, "WWW.Example.COM", "/", "www.example.com /");
        check(rows, "www.example.com.", "/", "www.example.com /");
        check(rows, "Www.example.com.", "/", "www.example.com /");
        check(rows, "[::1]", "/", "[::1] /");
        check(&["/", "a /"], &"A".repeat(300), "/", "/");
    }

    #[test]
    fn challenges_are_answered_by_routes_of_their_own() {
        let check = |route: PathMatch, path: &str, expected| {
            assert_eq!(answers_challenge(&route, path), expected, "{route:?} {path}");
        };
        let prefix = |prefix: &str| PathMatch::Prefix(prefix.into());
        let token = "/.well-known/acme-challenge/t0k-en";
        check(prefix("/.well-known/acme-challenge"), token, true);
        check(prefix("/.well-known/acme-challenge/"), token, true);
        check(prefix(token), token, true);
        check(PathMatch::Exact(token.into()), token, true);
        check(prefix("/"), token, false);
        check(prefix("/.well-known"), token, false);
        check(PathMatch::Regex(Regex::new("^/.well-known/acme-challenge/").unwrap()), token, false);
        check(prefix("/.well-known/acme-challenge"), "/.well-known/acme-challenge", false);
        check(PathMatch::Exact("/.well-known/acme-challenge".into()), "/.well-known/acme-challenge", false);
        check(prefix("/.well-known/acme-challenges"), "/.well-known/acme-challenges/x", false);
    }

    /// The rule as it is written, by looking at every route.
    fn reference(prefixes: &[String], path: &str) -> Option<String> {
        let matches = |prefix: &String| {
            path.strip_prefix(prefix.as_str())
                .is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
        };
        prefixes.iter().filter(|prefix| matches(prefix)).max_by_key(|prefix| prefix.len()).cloned()
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_scan_finds(
            prefixes in prop::collection::vec("/([ab]?/?){0,4}", 1..12),
            path in "/([abc]?/?){0,6}",
        ) {
            let rows = prefixes.iter().map(|prefix| (vec![], PathMatch::Prefix(prefix.clone()), prefix.clone()));
            prop_assert_eq!(Router::new(rows).find("h", &path).cloned(), reference(&prefixes, &path));
        }

        #[test]
        fn any_host_is_answered(host in "\\PC{0,300}") {
            let router = router(&["/", "*.a /", "a.b /"]);
            prop_assert!(router.find(&host, "/").is_some());
        }
    }
}
