//! Under which bytes a response is stored.
use std::borrow::{Borrow, Cow};
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::header::Scheme;

/// What of a request goes into its key.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    pub scheme: Scheme,
    /// As `header::authority` spells it.
    pub host: &'a str,
    /// None is the default port of the scheme.
    pub port: Option<u16>,
    /// Canonical.
    pub path: &'a str,
    /// As it came, without `?`.
    pub query: Option<&'a str>,
    pub fields: &'a HeaderMap,
}

/// Which parts of a request tell two responses apart, beside scheme, host and path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRules {
    pub query: QueryRule,
    /// Parameters in the order of their names. Those of one name keep theirs.
    pub sort: bool,
    pub fields: Vec<HeaderName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum QueryRule {
    #[default]
    All,
    None,
    Ignore(Vec<NamePattern>),
    Keep(Vec<NamePattern>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl NamePattern {
    /// A `*` at the end stands for anything.
    pub fn new(_text: &str) -> Self {
        unimplemented!()
    }
}

impl KeyRules {
    /// The query that is in the key, and that has to be sent upstream in place of the one that came.
    pub fn query<'a>(&self, _raw: Option<&'a str>) -> Option<Cow<'a, str>> {
        unimplemented!()
    }
}

/// Writes the key into `out`, which is emptied first.
pub fn write(_out: &mut Vec<u8>, _parts: &Parts<'_>, _rules: &KeyRules) {
    unimplemented!()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<[u8]>);

/// What a key was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParts<'a> {
    pub scheme: Scheme,
    pub host: &'a str,
    pub port: Option<u16>,
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// Name and value of the chosen fields; None is a field that the request did not have.
    pub fields: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl Key {
    /// None only if the bytes are not from `write`.
    pub fn parts(&self) -> Option<KeyParts<'_>> {
        unimplemented!()
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}
