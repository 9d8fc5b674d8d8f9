//! Conditional requests (RFC 9110 §13).
use std::time::SystemTime;

use http::{HeaderMap, Method};

use super::entity_tag::EntityTag;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Send,
    NotModified,
    PreconditionFailed,
}

/// In whose place a precondition is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// If-Match and If-Unmodified-Since do not apply to a cache (RFC 9111 §4.3.2).
    Cache,
    /// The edge made the response or its validator itself.
    Origin,
}

/// What a selected response can be compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validators<'a> {
    pub etag: Option<EntityTag<'a>>,
    pub last_modified: Option<SystemTime>,
    pub date: Option<SystemTime>,
    /// When a stored response came. None for one that is not stored.
    pub received: Option<SystemTime>,
}

impl<'a> Validators<'a> {
    pub fn of(_response: &'a HeaderMap, _received: Option<SystemTime>) -> Self {
        unimplemented!()
    }
}

/// The order of RFC 9110 §13.2.2, for a response of 200.
pub fn evaluate(_role: Role, _method: &Method, _request: &HeaderMap, _selected: &Validators<'_>) -> Verdict {
    unimplemented!()
}

/// Whether `Range` is to be followed as far as `If-Range` says.
pub fn range_applies(_request: &HeaderMap, _selected: &Validators<'_>) -> bool {
    unimplemented!()
}

/// Leaves what a 304 carries of the fields of a 200 (RFC 9110 §15.4.5).
pub fn not_modified(_fields: &mut HeaderMap) {
    unimplemented!()
}

/// Takes out all five preconditions.
pub fn remove(_request: &mut HeaderMap) {
    unimplemented!()
}

/// Replaces the preconditions of a client by those that validate the stored responses. False: they have no validator.
pub fn validate<'a>(_request: &mut HeaderMap, _stored: impl IntoIterator<Item = &'a HeaderMap>) -> bool {
    unimplemented!()
}
