//! The names of routes. What is counted of a route is counted by its name, so no two have the same one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::config::diagnostics::{Diagnostic, Origin};
use crate::config::section::Setting;
use crate::config::{NO_ROUTE, OTHERS, PathMatch, Route};

use super::Lowering;

const RESERVED: [&str; 2] = [NO_ROUTE, OTHERS];

/// What the file says of one route: its `name`, and where its path stands.
pub(super) type Given<'a> = (Option<&'a Setting<String>>, Origin);

impl Lowering<'_> {
    /// Names routes by what was given of each.
    pub(super) fn name_routes(&mut self, routes: &mut [Route], given: &[Given<'_>]) {
        for name in given.iter().filter_map(|(name, _)| *name).filter(|name| RESERVED.contains(&name.value.as_str())) {
            let error = Diagnostic::error(name.origin, format!("no route can be named `{}`", name.value));
            let help = "metrics tell by this name of requests that no route took, or of routes beyond those that are told apart";
            self.report(error.label("another name is expected").help(help));
        }
        let own: Vec<_> = given.iter().map(|(name, _)| name.map(|name| name.value.as_str())).collect();
        let names = names(routes, &own);
        for (route, name) in routes.iter_mut().zip(names) {
            route.name = name;
        }
        let mut taken: HashMap<&str, Given<'_>> = HashMap::new();
        for (route, &(own, path)) in routes.iter().zip(given) {
            let first = match taken.entry(&route.name) {
                Entry::Vacant(free) => {
                    free.insert((own, path));
                    continue;
                }
                Entry::Occupied(first) => *first.get(),
            };
            let (named, other) = match (own, first) {
                (Some(own), (other, path)) => (own, other.map_or(path, |other| other.origin)),
                (None, (Some(named), _)) => (named, path),
                // Same hosts, same path: that the second is never reached is said elsewhere.
                (None, (None, _)) => continue,
            };
            let error = Diagnostic::error(named.origin, format!("two routes are named `{}`", route.name));
            let error = error.label("a name of its own is expected").also(other, "the other one");
            self.report(error.help("limits, metrics and the log go by name; without one it is made of hosts and path"));
        }
    }
}

/// The name of each route: its own; or its path as written, where no other route could be meant by that; or else what
/// tells it apart, `a.example=/x`.
fn names(routes: &[Route], own: &[Option<&str>]) -> Vec<String> {
    let full: Vec<_> = routes.iter().map(full_name).collect();
    let mut claims: HashMap<&str, usize> = RESERVED.into_iter().map(|name| (name, 1)).collect();
    for ((route, own), full) in routes.iter().zip(own).zip(&full) {
        let path = path_text(&route.path);
        let claimed = match own {
            Some(own) => [Some(*own), None],
            None => [Some(path), Some(full.as_str()).filter(|full| *full != path)],
        };
        for name in claimed.into_iter().flatten() {
            *claims.entry(name).or_default() += 1;
        }
    }
    let name = |((route, own), full): ((&Route, &Option<&str>), &String)| {
        let path = path_text(&route.path);
        own.unwrap_or(if claims.get(path) == Some(&1) { path } else { full }).to_owned()
    };
    routes.iter().zip(own).zip(&full).map(name).collect()
}

/// Hosts, the sign of nginx for the kind of path, and the path. Hosts have no such sign, no slash and no comma in them,
/// so routes that differ in any of the three differ here.
fn full_name(route: &Route) -> String {
    let hosts: Vec<_> = route.hosts.iter().map(ToString::to_string).collect();
    let kind = match &route.path {
        PathMatch::Prefix(_) => "",
        PathMatch::Exact(_) => "=",
        PathMatch::Regex(_) => "~",
    };
    format!("{}{kind}{}", hosts.join(","), path_text(&route.path))
}

pub(super) fn path_text(path: &PathMatch) -> &str {
    match path {
        PathMatch::Prefix(path) | PathMatch::Exact(path) => path,
        PathMatch::Regex(regex) => regex.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::environment::Environment;
    use crate::config::parse::parse;

    /// Rows are what stands in `[[route]]`, with the name that comes of it.
    #[track_caller]
    fn check(rows: &[(&str, &str)]) {
        let routes: String = rows.iter().map(|(keys, _)| format!("[[route]]\n{keys}\ntext = \"x\"\n")).collect();
        let text = format!("[[listen]]\naddress = \"127.0.0.1:80\"\n{routes}");
        let parsed = parse("config.toml", &text, &Environment::system()).unwrap_or_else(|found| panic!("{found}"));
        let names: Vec<_> = parsed.config.routes.iter().map(|route| route.name.as_str()).collect();
        let expected: Vec<_> = rows.iter().map(|(_, name)| *name).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_path_that_one_route_has_is_its_name() {
        check(&[
            ("path = \"/\"", "/"),
            ("hosts = [\"a.test\"]\npath_exact = \"/x\"", "/x"),
            ("path_regex = \"^/y$\"", "^/y$"),
            ("name = \"own\"\npath = \"/z\"", "own"),
        ]);
    }

    #[test]
    fn routes_that_share_a_path_are_told_apart() {
        check(&[
            ("hosts = [\"a.test\"]\npath = \"/\"", "a.test/"),
            ("hosts = [\"b.test\", \"*.c.test\"]\npath = \"/\"", "b.test,*.c.test/"),
            ("path = \"/\"", "/"),
            ("hosts = [\"a.test\"]\npath = \"/alone\"", "/alone"),
        ]);
        check(&[
            ("path = \"/x\"", "/x"),
            ("path_exact = \"/x\"", "=/x"),
            ("path_regex = \"/x\"", "~/x"),
            ("hosts = [\"a.test\"]\npath_exact = \"/x\"", "a.test=/x"),
        ]);
    }

    #[test]
    fn names_that_are_given_make_way_for_nobody() {
        check(&[("path_exact = \"/x\"", "=/x"), ("name = \"/x\"\npath = \"/y\"", "/x")]);
        check(&[
            ("name = \"front\"\nhosts = [\"a.test\"]\npath = \"/\"", "front"),
            ("hosts = [\"b.test\"]\npath = \"/\"", "/"),
        ]);
        // A pattern that reads like the hosts and path of another route.
        check(&[
            ("hosts = [\"a.test\"]\npath = \"/\"", "a.test/"),
            ("path = \"/\"", "/"),
            ("path_regex = \"a.test/\"", "~a.test/"),
        ]);
        // A pattern that reads like no route at all.
        check(&[("path_regex = \"none\"", "~none"), ("path_regex = \"other\"", "~other")]);
    }
}
