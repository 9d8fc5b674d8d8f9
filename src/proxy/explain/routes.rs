//! Which routes were tried, and why all but one were not taken. Whether a route fits is asked of the router itself, by one
//! that has this route alone.

use super::shape::{Tried, Verdict};
use crate::config::{HostPattern, PathMatch, Route};
use crate::route::Router;

/// How closely a route names a host, or a path; the larger goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    Any,
    Wildcard,
    Exact,
}

/// All routes of the file. `chosen` is the place of the one that the router gave.
pub fn tried(routes: &[Route], chosen: Option<usize>, host: &str, path: &str) -> Vec<Tried> {
    let winner = chosen.and_then(|chosen| routes.get(chosen));
    let of_route = |(index, route): (usize, &Route)| {
        let (verdict, why) = if chosen == Some(index) {
            (Verdict::Chosen, why_chosen(route, host))
        } else {
            match (closeness(route, host), fits(&[], &route.path, host, path)) {
                (None, _) => (Verdict::OtherHost, "the host is another one".to_owned()),
                (_, false) => (Verdict::OtherPath, "the path does not match".to_owned()),
                (Some(_), true) => (Verdict::Outranked, why_outranked(route, winner, host)),
            }
        };
        Tried {
            name: route.name.clone(),
            place: route.origin.clone(),
            hosts: route.hosts.iter().map(ToString::to_string).collect(),
            path: path_text(&route.path),
            verdict,
            why,
        }
    };
    routes.iter().enumerate().map(of_route).collect()
}

fn fits(hosts: &[HostPattern], path: &PathMatch, host: &str, asked: &str) -> bool {
    Router::new([(hosts.to_vec(), path.clone(), ())]).find(host, asked).is_some()
}

/// None if it is for other hosts.
fn closeness(route: &Route, host: &str) -> Option<Closeness> {
    if route.hosts.is_empty() {
        return Some(Closeness::Any);
    }
    let all = PathMatch::Prefix("/".to_owned());
    let named = route.hosts.iter().filter(|pattern| fits(&[(*pattern).clone()], &all, host, "/"));
    named.map(|pattern| if let HostPattern::Exact(_) = pattern { Closeness::Exact } else { Closeness::Wildcard }).max()
}

fn why_chosen(route: &Route, host: &str) -> String {
    let host = match closeness(route, host) {
        Some(Closeness::Exact) => "names the host",
        Some(Closeness::Wildcard) => "its wildcard takes the host",
        Some(Closeness::Any) | None => "takes any host",
    };
    let path = match &route.path {
        PathMatch::Exact(_) => "the path exactly",
        PathMatch::Regex(_) => "its pattern matches the path, the first that does",
        PathMatch::Prefix(_) => "the longest prefix of the path",
    };
    format!("{host}; {path}")
}

/// The first difference in the order of precedence.
fn why_outranked(route: &Route, winner: Option<&Route>, host: &str) -> String {
    let Some(winner) = winner else { return "no route was chosen".to_owned() };
    if closeness(winner, host) > closeness(route, host) {
        return format!("{} names the host more closely", winner.name);
    }
    match (&winner.path, &route.path) {
        (PathMatch::Exact(_), PathMatch::Regex(_) | PathMatch::Prefix(_)) => {
            format!("{} has this path exactly, which goes first", winner.name)
        }
        (PathMatch::Regex(_), PathMatch::Prefix(_)) => {
            format!("{} is a pattern, which goes before prefixes", winner.name)
        }
        (PathMatch::Prefix(_), PathMatch::Prefix(_)) => format!("{} has a longer prefix", winner.name),
        _ => format!("{} stands before it in the file", winner.name),
    }
}

fn path_text(path: &PathMatch) -> String {
    match path {
        PathMatch::Prefix(prefix) => prefix.clone(),
        PathMatch::Exact(exact) => format!("={exact}"),
        PathMatch::Regex(pattern) => format!("~{pattern}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    /// Hosts, and a path as `tried` writes it. The verdicts are given by their first letters.
    fn check(rows: &[(&str, &str)], host: &str, path: &str, expected: &str) {
        let route = |(hosts, path): &(&str, &str)| {
            let key = match path.split_at(1) {
                ("=", path) => format!("path_exact = {path:?}"),
                ("~", pattern) => format!("path_regex = {pattern:?}"),
                _ => format!("path = {path:?}"),
            };
            let hosts: Vec<_> = hosts.split_whitespace().collect();
            format!("[[route]]\nhosts = {hosts:?}\n{key}\ntext = \"\"\n")
        };
        let text = format!("[[listen]]\naddress = \"127.0.0.1:0\"\n{}", rows.iter().map(route).collect::<String>());
        let config = config::parse("config.toml", &text, &Environment::bare()).unwrap().config;
        let rows = config.routes.iter().enumerate().map(|(at, one)| (one.hosts.clone(), one.path.clone(), at));
        let chosen = Router::new(rows).find(host, path).copied();
        let found = tried(&config.routes, chosen, host, path);
        let letter = |tried: &Tried| match tried.verdict {
            Verdict::Chosen => 'c',
            Verdict::Outranked => 'r',
            Verdict::OtherHost => 'h',
            Verdict::OtherPath => 'p',
        };
        assert_eq!(found.iter().map(letter).collect::<String>(), expected, "{host} {path}: {found:#?}");
    }

    #[test]
    fn one_is_chosen_and_of_the_others_it_is_said_why_not() {
        let rows = &[("", "/"), ("", "/a"), ("a.example", "/a"), ("*.example", "/"), ("", "~^/a/.*x$"), ("", "=/a/x")];
        check(rows, "a.example", "/a/x", "rrcrrr");
        check(rows, "a.example", "/b", "rppcpp");
        check(rows, "b.example", "/a", "rrhcpp");
        check(rows, "c.test", "/a/x", "rrhhrc");
        check(rows, "c.test", "/a/yx", "rrhhcp");
        check(rows, "c.test", "/a/y", "rchhpp");
        check(&[("a.example", "/")], "b.example", "/", "h");
        check(&[("", "/a")], "b.example", "/", "p");
    }

    #[test]
    fn the_reason_is_the_first_difference() {
        let check = |winner: &str, loser: &str, expected: &str| {
            let rows = format!(
                "[[listen]]\naddress = \"127.0.0.1:0\"\n[[route]]\nname = \"w\"\n{winner}\ntext = \"\"\n\
                 [[route]]\nname = \"l\"\n{loser}\ntext = \"\"\n"
            );
            let config = config::parse("config.toml", &rows, &Environment::bare()).unwrap().config;
            let [winner, loser] = &config.routes[..] else { panic!("{rows}") };
            assert_eq!(why_outranked(loser, Some(winner), "a.example"), expected);
        };
        check("hosts = [\"a.example\"]\npath = \"/\"", "path_exact = \"/x\"", "w names the host more closely");
        check("path_exact = \"/x\"", "path = \"/\"", "w has this path exactly, which goes first");
        check("path_regex = \"^/x\"", "path = \"/\"", "w is a pattern, which goes before prefixes");
        check("path = \"/x\"", "path = \"/\"", "w has a longer prefix");
        check("path_regex = \"^/x\"", "path_regex = \"^/\"", "w stands before it in the file");
    }
}
