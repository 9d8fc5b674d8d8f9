//! Which bytes of a response a `Range` asks for (RFC 9110 §14).
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use super::conditional::Validators;

/// Both ends are included, and below the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    pub first: u64,
    pub last: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// 200: there is no `Range`, or it is one to be ignored.
    Whole,
    /// 206 with `Content-Range`.
    Single(Slice),
    /// 206 with `multipart/byteranges`, two to ten, without overlap.
    Several(Vec<Slice>),
    /// 416 with `Content-Range: bytes */N`.
    Unsatisfiable,
}

/// The `Range` that counts for a request: of a GET, in one line, and `If-Range` allows it.
pub fn asked<'a>(_method: &Method, _request: &'a HeaderMap, _selected: &Validators<'_>) -> Option<&'a HeaderValue> {
    unimplemented!()
}

pub fn select(_range: &[u8], _length: u64) -> Selection {
    unimplemented!()
}

impl Slice {
    pub fn len(&self) -> u64 {
        unimplemented!()
    }

    /// `bytes 0-1/11`
    pub fn content_range(&self, _length: u64) -> HeaderValue {
        unimplemented!()
    }
}

/// `bytes */11`
pub fn unsatisfied(_length: u64) -> HeaderValue {
    unimplemented!()
}

/// A body of `multipart/byteranges`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    parts: Vec<(Bytes, Slice)>,
    tail: Bytes,
    boundary: u128,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Head(Bytes),
    Slice(Slice),
    Tail(Bytes),
}

impl Multipart {
    /// `boundary` has to be random. `content_type` is that of the whole.
    pub fn new(_slices: Vec<Slice>, _length: u64, _content_type: Option<&HeaderValue>, _boundary: u128) -> Self {
        unimplemented!()
    }

    pub fn content_type(&self) -> HeaderValue {
        unimplemented!()
    }

    pub fn content_length(&self) -> u64 {
        unimplemented!()
    }

    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        std::iter::empty()
    }
}
