//! What a purge takes out of the cache: by place, by name, and by what depends on it.
//!
//! Pure: whether a purge means a response. When it takes effect is decided in `bans`.

use std::collections::BTreeSet;
use std::time::SystemTime;

use thiserror::Error;

use super::pattern::{Pattern, PatternError};
use super::tags::{Label, Tags};
use super::target::Target;

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

impl Purge {
    pub fn matches(&self, target: &Target, tags: &Tags) -> bool {
        self.host.as_deref().is_none_or(|host| host == target.host())
            && self.what.iter().any(|what| what.matches(target, tags))
    }
}

impl What {
    /// A name as an operator writes it: what begins with `/` is a path, all else a tag.
    pub fn named(text: &str) -> Result<Self, PatternError> {
        let pattern = Pattern::new(text)?;
        Ok(if text.starts_with('/') { Self::Path(pattern) } else { Self::Tag(pattern) })
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

/// What else goes when something goes: `"user:*" = ["user-profile:*", "playlists:*"]`.
///
/// A name with `*` is concerned by all that has a name in common with it, and what depends on it goes as it is written:
/// a purge of `user:7` takes all of `user-profile:*`. What a star stood for is not carried over, because
/// `playlists:7` need not be the playlists of that user, and a purge that is too narrow leaves wrong answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dependencies(Vec<(What, Vec<What>)>);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("with all that depends on it, a purge has at most {WHAT_MAX} names")]
pub struct TooMuch;

impl Dependencies {
    /// Rows of what is purged, and what goes with it; both as `What::named` reads them.
    pub fn new(rows: Vec<(What, Vec<What>)>) -> Self {
        Self(rows)
    }

    /// What is asked for and all that depends on it, directly or not. Rows that go round in circles end: each name is
    /// taken once.
    pub fn closure(&self, asked: Vec<What>) -> Result<Vec<What>, TooMuch> {
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
        // Nothing is left for the others to name.
        if taken.contains(&What::All) {
            return Ok(vec![What::All]);
        }
        Ok(taken.into_iter().collect())
    }
}
