//! Entity tags for answers that pass and are not kept, on routes that want them.
//!
//! A private page that has not changed is made by its origin each time, but need not be sent each time: it is read
//! whole, hashed, and answered by 304 to a client that has it. Nothing stays here. What is no 200 to a GET, has
//! a validator already, has no end, or is larger than the route says, goes on as it came.

use http::header::{CONTENT_LENGTH, ETAG, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;

use crate::body::{Body, Gathered, gather};
use crate::cache::{self, Wanted};
use crate::clock;
use crate::error::Reason;
use crate::header::etag;
use crate::header::media_type::has_events;
use crate::snapshot::Pass;

/// What has to be known of a request when its answer comes.
pub struct Tagging {
    body_max: usize,
    /// The tags that the client has, as they were before any coding.
    known: HeaderMap,
}

impl Tagging {
    /// For a GET on a route that has its answers tagged.
    pub fn of<B>(pass: &Pass, request: &Request<B>) -> Option<Self> {
        let body_max = pass.etag_body_max.filter(|_| *request.method() == Method::GET)?;
        let lines = request.headers().get_all(IF_NONE_MATCH).iter();
        let mut known: HeaderMap = lines.map(|line| (IF_NONE_MATCH, line.clone())).collect();
        etag::take_off_marks(&mut known);
        Some(Self { body_max, known })
    }

    /// Tags an answer, and leaves out what the client has already.
    pub async fn apply(&self, mut response: Response<Body>) -> Result<Response<Body>, Reason> {
        if !self.is_meant(&response) {
            return Ok(response);
        }
        let gathered = gather(response.body_mut(), self.body_max).await;
        let (content, trailers) = match gathered.map_err(|error| Reason::of_response(&error))? {
            Gathered::Whole(content) => (content, None),
            Gathered::WithTrailers(content, trailers) => (content, Some(trailers)),
            Gathered::Part(read) => return Ok(response.map(|rest| rest.preceded(read))),
        };
        let tag = cache::tag_of(response.headers(), &content);
        response.headers_mut().insert(ETAG, tag);
        *response.body_mut() = match trailers {
            None => {
                response.headers_mut().insert(CONTENT_LENGTH, content.len().into());
                Body::whole(content)
            }
            Some(trailers) => Body::trailing(trailers).preceded(content),
        };
        cache::settle_passed(&mut response, Wanted { method: &Method::GET, fields: &self.known }, clock::system_time());
        Ok(response)
    }

    fn is_meant(&self, response: &Response<Body>) -> bool {
        let (fields, length) = (response.headers(), response.body().size_hint().exact());
        let has_validator = fields.contains_key(ETAG) || fields.contains_key(LAST_MODIFIED);
        let is_small = length.is_none_or(|length| length <= self.body_max as u64);
        response.status() == StatusCode::OK && !has_validator && !has_events(fields) && is_small
    }
}
