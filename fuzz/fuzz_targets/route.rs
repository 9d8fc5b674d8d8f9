//! A request head that the guard lets through finds the route that a plain search of the list finds, and a path in
//! its canonical form finds the same one.
#![no_main]

use std::sync::LazyLock;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri};
use libfuzzer_sys::fuzz_target;
use regex::Regex;
use tollgate::config::{HostPattern, PathMatch};
use tollgate::guard::{Machine, Step};
use tollgate::header::{Scheme, authority};
use tollgate::{Router, path};

type Row = (Vec<HostPattern>, PathMatch);

/// The list, and the router that is made of it.
struct Table {
    rows: Vec<Row>,
    router: Router<usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let exact = |host: &str| HostPattern::Exact(host.to_owned());
    let wildcard = |host: &str| HostPattern::Wildcard(host.to_owned());
    let prefix = |path: &str| PathMatch::Prefix(path.to_owned());
    let only = |path: &str| PathMatch::Exact(path.to_owned());
    let pattern = |pattern: &str| PathMatch::Regex(Regex::new(pattern).unwrap());
    let rows: Vec<Row> = vec![
        (vec![], prefix("/")),
        (vec![], prefix("/a")),
        (vec![], prefix("/a/b/")),
        (vec![], only("/a/b")),
        (vec![], pattern("^/a/.*%2[0-9A-F]")),
        (vec![exact("a")], prefix("/a")),
        (vec![exact("a"), exact("[::1]")], only("/")),
        (vec![exact("b.a"), wildcard("a")], prefix("//a")),
        (vec![wildcard("a")], pattern("b$")),
        (vec![wildcard("b.a")], prefix("/a//b")),
        (vec![exact("127.0.0.1")], only("/~a")),
    ];
    let numbered = rows.iter().cloned().enumerate().map(|(n, (hosts, path))| (hosts, path, n));
    Table { router: Router::new(numbered), rows }
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(Step::Head(complete)) = Machine::default().step(bytes) else { return };
    let head = std::str::from_utf8(&bytes[..complete.bytes]).unwrap_or_default().trim_start_matches("\r\n");
    let mut lines = head.split("\r\n");
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let Ok(uri) = target.parse::<Uri>() else { return };
    let mut fields = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("host")
            && let Ok(value) = HeaderValue::from_str(value.trim_matches([' ', '\t']))
        {
            fields.append(HOST, value);
        }
    }
    let Ok(authority) = authority::effective(&uri, &fields, Scheme::Http) else { return };
    let Ok(path) = path::canonical(uri.path()) else { return };
    let found = TABLE.router.find(&authority.host, &path).copied();
    assert_eq!(found, search(&authority.host, &path), "{} {path}", authority.host);
    let again = path::canonical(&path).map(|path| TABLE.router.find(&authority.host, &path).copied());
    assert_eq!(again, Ok(found));
    assert_eq!(TABLE.router.find(&authority.host.to_ascii_uppercase(), &path).copied(), found);
});

/// By the precedence that the documents promise: the host's own routes, those of its wildcard, those of every host; in each
/// an exact path, the first pattern, the longest prefix.
fn search(host: &str, path: &str) -> Option<usize> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let parent = host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent);
    let is_exact = |pattern: &HostPattern| matches!(pattern, HostPattern::Exact(name) if name == host);
    let is_wildcard =
        |pattern: &HostPattern| matches!(pattern, HostPattern::Wildcard(name) if Some(name.as_str()) == parent);
    let rows = || TABLE.rows.iter().enumerate();
    let groups = [
        rows().filter(|(_, (hosts, _))| hosts.iter().any(is_exact)).collect::<Vec<_>>(),
        rows().filter(|(_, (hosts, _))| hosts.iter().any(is_wildcard)).collect(),
        rows().filter(|(_, (hosts, _))| hosts.is_empty()).collect(),
    ];
    groups.iter().find_map(|group| {
        let exact = group.iter().find(|(_, (_, route))| matches!(route, PathMatch::Exact(exact) if exact == path));
        let pattern =
            || group.iter().find(|(_, (_, route))| matches!(route, PathMatch::Regex(regex) if regex.is_match(path)));
        let below = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
        };
        let prefixes = group.iter().filter_map(|(n, (_, route))| match route {
            PathMatch::Prefix(prefix) if below(prefix) => Some((prefix.len(), *n)),
            _ => None,
        });
        exact.or_else(pattern).map(|(n, _)| *n).or_else(|| prefixes.max_by_key(|(length, _)| *length).map(|(_, n)| n))
    })
}
