//! Entity tags (RFC 9110 §8.8.3).
use http::{HeaderMap, HeaderName, HeaderValue};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strength {
    Strong,
    Weak,
}

/// An entity tag; `opaque` is without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntityTag<'a> {
    pub strength: Strength,
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// None if it is malformed.
    pub fn parse(_value: &'a [u8]) -> Option<Self> {
        unimplemented!()
    }

    /// That of the `ETag` field.
    pub fn of(_fields: &'a HeaderMap) -> Option<Self> {
        unimplemented!()
    }

    pub fn strongly_equals(&self, _other: &EntityTag<'_>) -> bool {
        unimplemented!()
    }

    pub fn weakly_equals(&self, _other: &EntityTag<'_>) -> bool {
        unimplemented!()
    }

    pub fn value(&self) -> Option<HeaderValue> {
        unimplemented!()
    }

    /// The tag of the same content in a coding, `"abc"` → `"abc~gzip"`; a weak one stays as it is.
    pub fn coded(&self, _coding: &str) -> Option<HeaderValue> {
        unimplemented!()
    }

    /// Without what `coded` added; None if nothing was.
    pub fn uncoded(&self) -> Option<EntityTag<'a>> {
        unimplemented!()
    }
}

/// Every well-formed tag in the lines of a list field.
pub fn list<'a>(_fields: &'a HeaderMap, _name: &HeaderName) -> impl Iterator<Item = EntityTag<'a>> {
    std::iter::empty()
}

/// Takes off what `coded` added from If-None-Match and If-Match before they go upstream.
pub fn uncode_preconditions(_request: &mut HeaderMap) {
    unimplemented!()
}
