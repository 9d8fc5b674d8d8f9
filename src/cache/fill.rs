//! Takes what the origin sent into the cache, or says why it does not belong there.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;

use super::cache_control::Directives;
use super::key::Key;
use super::policy::{self, Exchanged, Terms, Times, Unstorable};
use super::rules::{self, Policy};
use super::store::Reservation;
use super::stored::{Content, Stored, Whole};
use super::vary::{Selecting, VaryError};
use super::{Cache, Lead, etag, tags};
use crate::body::{Body, Demand, Growing};
use crate::config::CachedCookies;

/// A request as it was when its key was made.
#[derive(Debug)]
pub struct Asked {
    pub key: Key,
    /// When it began, in purges.
    pub born: u64,
    pub method: Method,
    /// As the client sent them.
    pub fields: HeaderMap,
    /// What the request validates.
    pub stale: Option<Arc<Stored>>,
}

/// What came of it.
pub enum Taken {
    /// For anybody. What is still to come of it is to be received.
    Shared(Arc<Stored>, Option<Receiving>),
    /// For who asked.
    Passed(Response<Body>, NotKept),
}

/// Why a response is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    #[error(transparent)]
    Vary(#[from] VaryError),
    #[error("the response depends on who the client is")]
    VaryClient,
    #[error("the response is larger than what is kept")]
    TooLarge,
    #[error("the cache has no room for the response while it comes")]
    NoRoom,
}

impl NotKept {
    /// A stable name, for `Cache-Status`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unstorable(why) => why.code(),
            Self::Vary(why) => why.code(),
            Self::VaryClient => "vary-client",
            Self::TooLarge => "too-large",
            Self::NoRoom => "no-room",
        }
    }
}

/// The rest of a response that is shared while it comes.
pub struct Receiving {
    cache: Arc<Cache>,
    asked: Asked,
    stored: Arc<Stored>,
    growing: Arc<Growing>,
    body: Body,
    room: Reservation,
    object_max: u64,
}

/// Takes a response whose head has come.
pub fn take(
    cache: &Arc<Cache>,
    asked: Asked,
    policy: &Policy,
    mut response: Response<Body>,
    times: Times,
) -> Taken {
    if policy.cookies == CachedCookies::Ignore {
        response.headers_mut().remove(SET_COOKIE);
    }
    if response.status() == StatusCode::NOT_MODIFIED
        && let Some(stale) = &asked.stale
    {
        let fresh = freshened(stale, &asked, policy, response.headers(), times);
        cache.store.put(&asked.key, Arc::clone(&fresh), asked.born);
        return Taken::Shared(fresh, None);
    }
    match judge(&asked, policy, &response, times) {
        Ok(head) => keep(cache, asked, head, policy.object_max, response),
        Err(why) => Taken::Passed(response, why),
    }
}

/// All of a stored response but its content.
struct Head {
    terms: Terms,
    selecting: Selecting,
}

fn judge(asked: &Asked, policy: &Policy, response: &Response<Body>, times: Times) -> Result<Head, NotKept> {
    let exchanged = Exchanged {
        method: &asked.method,
        request: &asked.fields,
        status: response.status(),
        response: response.headers(),
    };
    let terms = policy::terms(&exchanged, &policy.of(response.headers()).rules, times)?;
    let selecting = Selecting::of(response.headers(), &asked.fields)?;
    if rules::depends_on_client(selecting.names()) {
        return Err(NotKept::VaryClient);
    }
    match response.body().size_hint().exact() {
        Some(length) if length > policy.object_max => Err(NotKept::TooLarge),
        _ => Ok(Head { terms, selecting }),
    }
}

fn keep(cache: &Arc<Cache>, asked: Asked, head: Head, object_max: u64, response: Response<Body>) -> Taken {
    let length = response.body().size_hint().exact();
    let Some(room) = cache.store.reserve(length.unwrap_or(0)) else {
        return Taken::Passed(response, NotKept::NoRoom);
    };
    let (parts, mut body) = response.into_parts();
    let mut fields = parts.headers;
    policy::strip(&mut fields, &Directives::of_response(&fields, &[]));
    let stored = |fields, content| {
        let tags = tags::of_response(&fields);
        let Head { terms, selecting } = head;
        Arc::new(Stored { status: parts.status, fields, content, terms, selecting, tags })
    };
    if let Some(bytes) = body.take_whole() {
        let content = Whole::new(vec![Bytes::copy_from_slice(&bytes)]);
        tag_by_content(&mut fields, content.pieces());
        let stored = stored(fields, Content::Whole(content));
        cache.store.put(&asked.key, Arc::clone(&stored), asked.born);
        return Taken::Shared(stored, None);
    }
    let growing = Growing::new(length);
    let stored = stored(fields, Content::Growing(Arc::clone(&growing)));
    let rest = Receiving { cache: Arc::clone(cache), asked, stored: Arc::clone(&stored), growing, body, room, object_max };
    Taken::Shared(stored, Some(rest))
}

/// A stored response after the origin has said that it still holds (RFC 9111 §4.3.4).
fn freshened(stale: &Stored, asked: &Asked, policy: &Policy, validated: &HeaderMap, times: Times) -> Arc<Stored> {
    let mut fields = stale.fields.clone();
    policy::freshen(&mut fields, validated);
    let exchanged = Exchanged { method: &Method::GET, request: &asked.fields, status: stale.status, response: &fields };
    let terms = policy::terms(&exchanged, &policy.of(&fields).rules, times).unwrap_or_else(|_| stale.terms.expired());
    Arc::new(Stored {
        status: stale.status,
        content: stale.content.clone(),
        terms,
        selecting: stale.selecting.clone(),
        tags: tags::of_response(&fields),
        fields,
    })
}

/// Makes a validator out of the content where the origin gives none.
fn tag_by_content(fields: &mut HeaderMap, pieces: &[Bytes]) {
    if fields.contains_key(ETAG) || fields.contains_key(LAST_MODIFIED) {
        return;
    }
    let mut hasher = etag::Hasher::new();
    pieces.iter().for_each(|piece| hasher.update(piece));
    let tag = hasher.finish(fields);
    fields.insert(ETAG, tag);
}

impl Receiving {
    /// Receives it to its end, for whoever reads it, and stores it. With `lead`, others join until then.
    pub async fn run(mut self, mut lead: Option<Lead>) {
        let mut received = 0;
        let mut is_kept = true;
        loop {
            if poll_fn(|cx| self.growing.poll_demand(cx)).await == Demand::None {
                return;
            }
            let Some(frame) = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await else { break };
            let data = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) => return self.growing.finish(Err(error)),
            };
            received += data.len() as u64;
            self.growing.append(&data);
            if is_kept && (received > self.object_max || !self.room.grow_to(received)) {
                is_kept = false;
                self.growing.keep_window_only();
                if let Some(lead) = lead.take() {
                    lead.leave_alone(Instant::now());
                }
            }
        }
        self.growing.finish(Ok(()));
        if let Some(pieces) = self.growing.whole() {
            self.store(pieces);
        }
    }

    fn store(self, pieces: Vec<Bytes>) {
        let Stored { status, fields, terms, selecting, tags, .. } = &*self.stored;
        let mut fields = fields.clone();
        tag_by_content(&mut fields, &pieces);
        let stored = Stored {
            status: *status,
            fields,
            content: Content::Whole(Whole::new(pieces)),
            terms: *terms,
            selecting: selecting.clone(),
            tags: tags.clone(),
        };
        drop(self.room);
        self.cache.store.put(&self.asked.key, Arc::new(stored), self.asked.born);
    }
}
