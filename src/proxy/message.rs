//! The heads of messages: what is taken off them and added to them on the way, and the answers that the edge itself
//! gives.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::header::hop_by_hop::{self, Trailers};
use crate::header::via;

/// Takes off a response what ends here.
pub fn receive(response: &mut Response<Body>) {
    let received = response.version();
    let fields = response.headers_mut();
    hop_by_hop::remove(fields, Trailers::Forward);
    via::append(fields, received);
}

pub fn redirect(location: HeaderValue, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    response
}

pub fn text(body: Bytes, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
