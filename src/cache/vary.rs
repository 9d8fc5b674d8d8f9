//! For which other requests a stored response is right.
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

/// The fields that `Vary` names, and what the request that brought the response said in them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selecting {
    names: Box<[HeaderName]>,
    values: Box<[u8]>,
}

/// Why no other request can use a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum VaryError {
    #[error("Vary is `*`")]
    Star,
    #[error("Vary names something that is no field")]
    Malformed,
    #[error("Vary names too many fields")]
    TooMany,
}

impl Selecting {
    /// From the `Vary` of a response and the request that it answers, as it was sent upstream.
    pub fn of(_response: &HeaderMap, _request: &HeaderMap) -> Result<Self, VaryError> {
        unimplemented!()
    }

    /// Whether it names no field.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Names and values; equal bytes are the same variant.
    pub fn as_bytes(&self) -> &[u8] {
        &self.values
    }
}

/// Whether a response selected by `selecting` may answer a request (RFC 9111 §4.1). Allocates nothing.
pub fn matches(_selecting: &Selecting, _request: &HeaderMap) -> bool {
    unimplemented!()
}

/// The most recent of the variants that match.
pub fn select<'a, V>(
    _variants: &'a [V],
    _request: &HeaderMap,
    _view: impl Fn(&V) -> (&Selecting, SystemTime),
) -> Option<&'a V> {
    unimplemented!()
}

/// The codings that the edge knows, with the values of `Accept-Encoding` that can come of them.
#[derive(Debug, Clone)]
pub struct KnownCodings {
    names: Vec<&'static str>,
    values: Vec<HeaderValue>,
}

impl KnownCodings {
    /// In the order in which they are to be sent, at most 8.
    pub fn new(_names: &[&'static str]) -> Self {
        unimplemented!()
    }
}

/// Leaves one of few spellings in `Accept-Encoding`, for the origin and for the comparison.
pub fn normalise_accept_encoding(_fields: &mut HeaderMap, _known: &KnownCodings) {
    unimplemented!()
}
