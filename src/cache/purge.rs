//! What a purge takes out of the cache: by place, by name, and by what depends on it.
//!
//! Pure: whether a purge means a response. When it takes effect is decided in `bans`.

use std::collections::BTreeSet;
use std::fmt;
use std::time::SystemTime;

use http::HeaderValue;
use http::header::GetAll;
use thiserror::Error;

use super::tags::{Label, Tags};
use super::target::Target;
use crate::config;
use crate::pattern::{Pattern, PatternError};

/// Names of one purge with all that depends on them.
const WHAT_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Only what this host answered, spelled as in `Target`. None: all hosts.
    pub host: Option<Box<str>>,
    /// A response goes if one of these means it.
    pub what: Vec<What>,
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is gone.
    Hard,
    /// It is stale from this time on. It may still be validated, and served where a rule allows stale responses.
    Soft(SystemTime),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    All,
    /// One path with its query, in all variants.
    Url(Box<str>),
    /// Path and query begin with it.
    Prefix(Box<str>),
    /// The path, with any query; or path and query, if the pattern holds a `?`.
    Path(Pattern),
    /// A tag, or a group of RFC 9875 by the same name.
    Tag(Pattern),
    /// A group of RFC 9875 and no tag. `Purge::host` names the origin that it belongs to.
    Group(Box<str>),
}

/// As it is shown to operators.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Url(url) => write!(f, "url {url}"),
            Self::Prefix(prefix) => write!(f, "prefix {prefix}"),
            Self::Path(pattern) => write!(f, "pattern {}", pattern.as_str()),
            Self::Tag(pattern) => write!(f, "tag {}", pattern.as_str()),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

impl Purge {
    pub fn matches(&self, target: &Target, tags: &Tags) -> bool {
        self.host.as_deref().is_none_or(|host| host == target.host())
            && self.what.iter().any(|what| what.matches(target, tags))
    }
}

impl What {
    /// A name as an operator writes it.
    pub fn named(text: &str) -> Result<Self, PatternError> {
        Pattern::new(text).map(Self::of)
    }

    /// What begins with `/` is a path, all else a tag.
    pub fn of(pattern: Pattern) -> Self {
        if pattern.as_str().starts_with('/') { Self::Path(pattern) } else { Self::Tag(pattern) }
    }

    pub fn matches(&self, target: &Target, tags: &Tags) -> bool {
        match self {
            Self::All => true,
            Self::Url(url) => **url == *target.path_and_query(),
            Self::Prefix(prefix) => target.path_and_query().starts_with(&**prefix),
            Self::Path(pattern) if pattern.as_str().contains('?') => pattern.matches(target.path_and_query()),
            Self::Path(pattern) => pattern.matches(target.path()),
            Self::Tag(pattern) => tags.iter().any(|label| pattern.matches(label.name())),
            Self::Group(name) => tags.iter().any(|label| label == Label::Group(name)),
        }
    }

    /// Whether a purge of this concerns what is called so in the table of dependencies.
    fn concerns(&self, name: &Self) -> bool {
        match (self, name) {
            (Self::All, _) => true,
            (Self::Tag(one), Self::Tag(other)) | (Self::Path(one), Self::Path(other)) => one.overlaps(other),
            (Self::Url(url), Self::Path(pattern)) => {
                let path = url.split_once('?').map_or(&**url, |(path, _)| path);
                pattern.matches(if pattern.as_str().contains('?') { url } else { path })
            }
            (Self::Prefix(prefix), Self::Path(pattern)) => match Pattern::new(&format!("{prefix}*")) {
                Ok(prefix) => prefix.overlaps(pattern),
                // Too long for a pattern: nothing goes too much.
                Err(_) => true,
            },
            _ => false,
        }
    }
}

/// What the lines of a field name: names as `What::named` reads them, with commas between. What cannot be read is no
/// name of anything.
pub fn named_in(lines: GetAll<'_, HeaderValue>) -> Vec<What> {
    let texts = lines.iter().filter_map(|line| str::from_utf8(line.as_bytes()).ok());
    let names = texts.flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty());
    names.filter_map(|name| What::named(name).ok()).collect()
}

/// What else goes when something goes: `"user:*" = ["user-profile:*", "playlists:*"]`.
///
/// A name with `*` is concerned by all that has a name in common with it, and what depends on it goes as it is written:
/// a purge of `user:7` takes all of `user-profile:*`. What a star stood for is not carried over, because
/// `playlists:7` need not be the playlists of that user, and a purge that is too narrow leaves wrong answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dependencies(Vec<(What, Vec<What>)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("with all that depends on it, a purge has at most {WHAT_MAX} names")]
pub struct TooMuch;

impl Dependencies {
    pub fn of(config: &config::Cache) -> Self {
        let row = |row: &config::Dependency| {
            (What::of(row.name.clone()), row.dependents.iter().cloned().map(What::of).collect())
        };
        Self(config.dependencies.iter().map(row).collect())
    }

    /// Rows of what is purged, and what goes with it; both as `What::named` reads them.
    #[cfg(test)]
    pub fn new(rows: Vec<(What, Vec<What>)>) -> Self {
        Self(rows)
    }

    /// What is asked for and all that depends on it, directly or not. Rows that go round in circles end: each name is
    /// taken once.
    pub fn closure(&self, asked: Vec<What>) -> Result<Vec<What>, TooMuch> {
        // Nothing is left for the others to name.
        if asked.contains(&What::All) {
            return Ok(vec![What::All]);
        }
        let mut taken = BTreeSet::new();
        let mut next = asked;
        while let Some(what) = next.pop() {
            if !taken.insert(what.clone()) {
                continue;
            }
            if taken.len() > WHAT_MAX {
                return Err(TooMuch);
            }
            let concerned = self.0.iter().filter(|(name, _)| what.concerns(name));
            next.extend(concerned.flat_map(|(_, dependents)| dependents).cloned());
        }
        Ok(taken.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    fn what(text: &str) -> What {
        What::named(text).unwrap()
    }

    #[test]
    fn what_a_purge_means() {
        let mut fields = HeaderMap::new();
        fields.insert("cache-tag", HeaderValue::from_static("user:7, front"));
        fields.insert("cache-groups", HeaderValue::from_static("\"news\""));
        let tags = Tags::of(&fields).unwrap();
        let target = Target::new("example.com", "/users/7", Some("page=2"));
        let check = |what: What, expected: bool| assert_eq!(what.matches(&target, &tags), expected, "{what:?}");
        check(What::All, true);
        check(What::Url("/users/7?page=2".into()), true);
        check(What::Url("/users/7".into()), false);
        check(What::Prefix("/users".into()), true);
        check(What::Prefix("/users/7?page=".into()), true);
        check(What::Prefix("/user/".into()), false);
        check(what("/users/*"), true);
        check(what("/users/7"), true);
        check(what("/users/7?page=*"), true);
        check(what("/users/7?page=1*"), false);
        check(what("*/7"), false);
        check(what("user:*"), true);
        check(what("user:7"), true);
        check(what("user:8"), false);
        check(what("news"), true);
        check(What::Group("news".into()), true);
        check(What::Group("front".into()), false);
        for (host, expected) in [(None, true), (Some("example.com"), true), (Some("example.org"), false)] {
            let purge = Purge { host: host.map(Into::into), what: vec![what("front")], mode: Mode::Hard };
            assert_eq!(purge.matches(&target, &tags), expected);
        }
    }

    #[test]
    fn what_depends_on_it_goes_too() {
        let rows = [
            ("user:*", &["user-profile:*", "playlists:*"][..]),
            ("playlists:*", &["/playlists/*"]),
            ("/playlists/*", &["front"]),
            ("front", &["user:*"]),
            ("workflow:update", &["workflow:list", "workflow:get"]),
        ];
        let row =
            |(name, dependents): (&str, &[&str])| (what(name), dependents.iter().map(|text| what(text)).collect());
        let dependencies = Dependencies::new(rows.into_iter().map(row).collect());
        let check = |asked: What, expected: &[&str]| {
            let expected: BTreeSet<_> = expected.iter().map(|text| what(text)).chain([asked.clone()]).collect();
            assert_eq!(dependencies.closure(vec![asked]), Ok(expected.into_iter().collect()));
        };
        check(what("workflow:update"), &["workflow:list", "workflow:get"]);
        check(what("workflow:get"), &[]);
        check(what("work*"), &["workflow:list", "workflow:get"]);
        let all = ["user-profile:*", "playlists:*", "/playlists/*", "front", "user:*"];
        check(what("user:7"), &all);
        check(what("use*"), &all);
        check(What::Url("/playlists/3?all".into()), &all);
        check(What::Url("/users/3".into()), &[]);
        check(What::Prefix("/play".into()), &all);
        check(What::Prefix("/plan".into()), &[]);
        check(What::Group("front".into()), &[]);
        assert_eq!(dependencies.closure(vec![what("x"), What::All]), Ok(vec![What::All]));
        assert_eq!(dependencies.closure(Vec::new()), Ok(Vec::new()));
    }

    #[test]
    fn names_in_a_field() {
        let check = |lines: &[&'static str], expected: &[&str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append("cache-purge", HeaderValue::from_static(line));
            }
            let expected: Vec<_> = expected.iter().map(|text| what(text)).collect();
            assert_eq!(named_in(fields.get_all("cache-purge")), expected, "{lines:?}");
        };
        check(&[], &[]);
        check(&["", " , "], &[]);
        check(&["user:7, /users/*", "front page"], &["user:7", "/users/*", "front page"]);
        check(&["*********, a"], &["a"]);
    }

    #[test]
    fn a_purge_of_too_many_names_is_refused() {
        let names: Vec<_> = (0..=WHAT_MAX).map(|n| what(&n.to_string())).collect();
        assert_eq!(Dependencies::default().closure(names.clone()), Err(TooMuch));
        assert_eq!(Dependencies::default().closure(names[1..].to_vec()).unwrap().len(), WHAT_MAX);
    }

    proptest! {
        #[test]
        fn a_closure_is_closed(
            rows in proptest::collection::vec(("[ab*]{1,3}", proptest::collection::vec("[ab*]{1,3}", 0..3)), 0..6),
            asked in "[ab*]{1,3}",
        ) {
            let rows: Vec<_> = rows.iter()
                .map(|(name, dependents)| (what(name), dependents.iter().map(|text| what(text)).collect::<Vec<_>>()))
                .collect();
            let dependencies = Dependencies::new(rows.clone());
            let closure = dependencies.closure(vec![what(&asked)]).unwrap();
            prop_assert!(closure.contains(&what(&asked)));
            for taken in &closure {
                for (_, dependents) in rows.iter().filter(|(name, _)| taken.concerns(name)) {
                    prop_assert!(dependents.iter().all(|dependent| closure.contains(dependent)));
                }
            }
        }
    }
}
