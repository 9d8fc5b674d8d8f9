//! Compression of responses: which are coded for whom, what that changes in their heads, and the coding itself.
//!
//! [`negotiate`] decides and [`head`] changes fields; both are pure. [`encoder`] and [`decoder`] work on bytes. A content
//! of up to [`WHOLE_BYTES_MAX`] whose length is known is read first and coded whole, which is faster and keeps its
//! length in the head; one that dawdles, is larger or has no known length is coded as it comes. What takes longer
//! than a worker may be held is coded by the one thread that each worker has beside it, or in steps between which
//! others have their turn. Nothing here knows a connection, an endpoint or the cache, nor decides what is stored.

mod decoder;
mod encoder;
pub mod head;
pub mod negotiate;
#[cfg(test)]
mod tests;

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use tokio::task::JoinSet;

use self::decoder::Decoder;
pub use self::encoder::code_whole;
use self::encoder::{Encoder, failed, share};
pub use self::negotiate::{Accepted, NotCoded};
use self::negotiate::{Asked, Plan, plan};
use crate::body::{Body, BodyError, Gathered, gather};
use crate::config::{Coding, Compress, Route};
use crate::header::media_type::has_events;
use crate::header::{etag, framing};

/// A larger content is coded as it comes.
pub const WHOLE_BYTES_MAX: u64 = 256 * 1024;
/// An event is like those before it, and its stream is one of many that stay open: it does with little memory.
const EVENTS_REACH: usize = 16 * 1024;

/// What became of the coding of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Coded(Coding),
    /// From gzip.
    Decoded,
    Left(NotCoded),
}

impl Outcome {
    pub fn all() -> impl Iterator<Item = Self> {
        let coded = Coding::ALL.into_iter().map(Self::Coded);
        coded.chain([Self::Decoded]).chain(NotCoded::ALL.into_iter().map(Self::Left))
    }

    /// For the access log and the metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Coded(coding) => coding.word(),
            Self::Decoded => "decoded",
            Self::Left(why) => why.code(),
        }
    }
}

/// The coding of one response, from its request on.
#[derive(Debug)]
pub struct Recoding<'a> {
    policy: &'a Compress,
    asked: Asked,
    validating: etag::Validating,
    is_head: bool,
}

/// The body of a response failed before its head was sent.
#[derive(Debug, thiserror::Error)]
#[error("the response could not be coded")]
pub struct RecodingError(#[from] pub BodyError);

impl<'a> Recoding<'a> {
    /// Reads what counts of a request; None if its route does not compress.
    pub fn of(route: &'a Route, method: &Method, request: &HeaderMap) -> Option<Self> {
        let policy = route.compress.as_ref()?;
        let asked = Asked::by(request, route.reflects_input);
        let validating = etag::Validating::by(request);
        Some(Self { policy, asked, validating, is_head: *method == Method::HEAD })
    }

    /// Codes the response, decodes it, or leaves it, and says which.
    pub async fn apply(
        &self,
        response: Response<Body>,
        said: &mut Option<Outcome>,
    ) -> Result<Response<Body>, RecodingError> {
        let plan = self.plan_of(&response);
        let (mut parts, mut body) = response.into_parts();
        let length = self.length(&parts.headers, &body);
        let fields = &mut parts.headers;
        let outcome = match plan {
            Plan::Leave { why, varies } => {
                if varies {
                    head::vary(fields);
                } else if parts.status == StatusCode::NOT_MODIFIED && fields.contains_key(ETAG) {
                    let coding = self.asked.coding(&self.policy.codings).ok();
                    head::validate(fields, &self.validating, coding);
                }
                Outcome::Left(why)
            }
            Plan::Decode => {
                head::decode(fields);
                if !body.is_end_stream() {
                    body = body.recoded(Bytes::new(), Box::new(Decoder::new()));
                }
                Outcome::Decoded
            }
            Plan::Code(coding) => {
                head::code(fields, coding);
                if !body.is_end_stream() {
                    body = self.code(body, coding, length, has_events(fields)).await?;
                }
                if let Some(length) = body.size_hint().exact().filter(|_| !self.is_head) {
                    fields.insert(CONTENT_LENGTH, length.into());
                }
                Outcome::Coded(coding)
            }
        };
        *said = Some(outcome);
        Ok(Response::from_parts(parts, body))
    }

    /// How hard it is tried.
    pub fn level(&self, coding: Coding) -> u32 {
        self.policy.levels.of(coding)
    }

    /// What is to be done with a response; its length is given if it is known.
    pub fn plan(&self, status: StatusCode, fields: &HeaderMap, length: Option<u64>) -> Plan {
        plan(&self.asked, status, fields, length, self.policy)
    }

    /// What is to be done with this one.
    pub fn plan_of(&self, response: &Response<Body>) -> Plan {
        self.plan(response.status(), response.headers(), self.length(response.headers(), response.body()))
    }

    /// The coding of a response that may be coded at all.
    pub fn coding(&self) -> Result<Coding, NotCoded> {
        self.asked.coding(&self.policy.codings)
    }

    pub fn policy(&self) -> &'a Compress {
        self.policy
    }

    /// The length of the content, also of that which a HEAD does not bring.
    fn length(&self, fields: &HeaderMap, body: &Body) -> Option<u64> {
        let announced = || fields.get(CONTENT_LENGTH).and_then(|value| framing::length(value.as_bytes()));
        let at_hand = body.size_hint().exact();
        if self.is_head && body.is_end_stream() { announced() } else { at_hand.or_else(announced) }
    }

    async fn code(
        &self,
        mut body: Body,
        coding: Coding,
        length: Option<u64>,
        has_events: bool,
    ) -> Result<Body, BodyError> {
        let level = self.policy.levels.of(coding);
        let known = length.and_then(|length| usize::try_from(length).ok());
        let reach = known.or(has_events.then_some(EVENTS_REACH));
        let gathered = match known.filter(|known| *known as u64 <= WHOLE_BYTES_MAX) {
            Some(known) => gather(&mut body, known).await?,
            None => Gathered::Part(Bytes::new()),
        };
        match gathered {
            Gathered::Whole(bytes) => code_aside(bytes, coding, level).await.map(Body::whole),
            Gathered::Part(read) => Ok(body.recoded(read, Box::new(Encoder::new(coding, level, reach)))),
            Gathered::WithTrailers(read, trailers) => {
                let encoder = Encoder::new(coding, level, Some(read.len()));
                Ok(Body::trailing(trailers).recoded(read, Box::new(encoder)))
            }
        }
    }
}

/// Codes a content on this thread if that is quick, else on the one beside it.
pub async fn code_aside(bytes: Bytes, coding: Coding, level: u32) -> Result<Bytes, BodyError> {
    if bytes.len() <= share(coding, level) {
        return code_whole(&bytes, coding, level).map_err(failed);
    }
    // What waits for its turn there is forgotten with its client.
    let mut aside = JoinSet::new();
    aside.spawn_blocking(move || code_whole(&bytes, coding, level));
    match aside.join_next().await {
        Some(Ok(coded)) => coded.map_err(failed),
        Some(Err(panicked)) => Err(failed(io::Error::other(panicked))),
        None => Err(failed(io::ErrorKind::Interrupted.into())),
    }
}
