//! What is to be sent.

use http::Request;
use http::request::Parts;

use crate::body::{Body, Payload};
use crate::header::hop_fields::HopFields;

/// A request as it goes upstream. It is filled in where it stays: to hand it on took a thousand
/// instructions more.
pub struct Outgoing {
    pub head: Parts,
    /// What goes with the head beside its map, over HTTP/1.1; None if that has all of it.
    pub beside: Option<HopFields>,
    pub payload: Payload,
}

impl Outgoing {
    /// The head of a request, whose body is taken apart.
    pub fn take_head<B>(&mut self, request: &mut Request<B>) {
        std::mem::swap(&mut self.head.method, request.method_mut());
        std::mem::swap(&mut self.head.uri, request.uri_mut());
        std::mem::swap(&mut self.head.version, request.version_mut());
        std::mem::swap(&mut self.head.headers, request.headers_mut());
        std::mem::swap(&mut self.head.extensions, request.extensions_mut());
    }
}

/// A new request, without a body.
impl Default for Outgoing {
    fn default() -> Self {
        let (head, ()) = Request::new(()).into_parts();
        Self { head, beside: None, payload: Payload::new(Body::empty()) }
    }
}
