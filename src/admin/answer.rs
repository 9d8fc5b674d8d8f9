//! The responses of the admin listener. Whatever is shown goes through JSON, which escapes it, or is plain text of ours.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use serde::Serialize;

use super::access::Refusal;
use super::live::{Events, Part};
use crate::telemetry::access_log::Following;

pub type Answer = Response<Content>;

#[derive(Debug)]
pub enum Content {
    Whole(Full<Bytes>),
    Events(Events),
    /// Lines of the access log as they come.
    Lines(Following),
}

const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What went wrong, and what would have been right.
#[derive(Debug, Serialize)]
struct Problem<'a> {
    error: &'a str,
    expected: &'a str,
}

pub fn text(status: StatusCode, body: &'static str) -> Answer {
    answer(status, TEXT, Bytes::from_static(body.as_bytes()))
}

/// A file of the live page.
pub fn page(part: Part) -> Answer {
    let mut answer = answer(StatusCode::OK, part.content_type(), Bytes::from_static(part.text().as_bytes()));
    Part::protect(answer.headers_mut());
    answer
}

/// Goes on until one of the sides ends it.
pub fn events(events: Events) -> Answer {
    answer(StatusCode::OK, EVENTS, Content::Events(events))
}

/// Goes on until one of the sides ends it.
pub fn lines(following: Following) -> Answer {
    answer(StatusCode::OK, LINES, Content::Lines(following))
}

pub fn metrics(body: Bytes, is_gzip: bool) -> Answer {
    let mut answer = answer(StatusCode::OK, PROMETHEUS, body);
    answer.headers_mut().insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    if is_gzip {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            answer(status, JSON, Bytes::from(body))
        }
        Err(error) => {
            tracing::error!("cannot write a status as JSON: {error}");
            text(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the answer as JSON\n")
        }
    }
}

pub fn problem(status: StatusCode, error: &str, expected: &str) -> Answer {
    json(status, &Problem { error, expected })
}

pub fn method_not_allowed(method: &http::Method, allowed: &'static str) -> Answer {
    let error = format!("{method} does not work here");
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, &error, allowed);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

pub fn refused(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::Network(peer) => {
            problem(StatusCode::FORBIDDEN, &format!("{peer} may not read"), "an address within `admin.allow`")
        }
        Refusal::Host(host) => problem(
            StatusCode::MISDIRECTED_REQUEST,
            &format!("{host:?} is not a name of this listener"),
            "one `Host` that is localhost, the address of this listener, or within `admin.hosts`",
        ),
        Refusal::SocketOnly => problem(
            StatusCode::FORBIDDEN,
            "control over TCP is off",
            "the control socket, or a token configured as `admin.control.token_file`",
        ),
        Refusal::Token => problem(
            StatusCode::FORBIDDEN,
            "the token is missing or wrong",
            "Authorization: Bearer, with the token that `admin.control` names",
        ),
        Refusal::Origin => problem(
            StatusCode::FORBIDDEN,
            "a page of another origin sent this",
            "no `Origin`, or that of this listener",
        ),
    }
}

fn answer(status: StatusCode, content_type: HeaderValue, content: impl Into<Content>) -> Answer {
    let mut answer = Response::new(content.into());
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, content_type);
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

impl From<Bytes> for Content {
    fn from(whole: Bytes) -> Self {
        Self::Whole(Full::new(whole))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(context),
            Self::Lines(following) => {
                let lines = ready!(following.poll_lines(context));
                Poll::Ready(Some(Ok(Frame::data(lines))))
            }
            Self::Events(events) => Pin::new(events).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Lines(_) => false,
            Self::Events(events) => events.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Lines(_) => SizeHint::default(),
            Self::Events(events) => events.size_hint(),
        }
    }
}
