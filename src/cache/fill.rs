//! Takes what the origin sent into the cache, or says why it does not belong there.

use std::borrow::Borrow;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;

use super::cache_control::Directives;
use super::coded::Forms;
use super::entry::NewEntry;
use super::key::Key;
use super::memory::Reservation;
use super::not_kept::NotKept;
use super::policy::{self, Exchanged, HeadEffect, TargetUri, Terms, Times, Unstorable};
use super::prepared::{self, Laid};
use super::rules::{self, Policy};
use super::store::Insert;
use super::stored::{Content, Stored, Whole};
use super::tags::Tags;
use super::vary::Selecting;
use super::{Cache, Detached, Epoch, Lead, etag, target};
use crate::body::{Body, BodyError, Demand, Growing, Reader};
use crate::clock;
use crate::config::CachedCookies;
use crate::header::media_type::has_events;
use crate::header::{self, authority::Authority};

/// Room for a body of unknown length is asked for in steps.
const ROOM_STEP: u64 = 64 * 1024;

/// A request as it was when its key was made.
#[derive(Debug, Clone)]
pub struct Asked {
    pub key: Key,
    /// When it began.
    pub epoch: Arc<Epoch>,
    pub method: Method,
    /// As the client sent them.
    pub fields: Arc<HeaderMap>,
    /// What the request validates.
    pub stale: Option<Arc<Stored>>,
}

impl Asked {
    fn store(&self, cache: &Cache, policy: &Policy, stored: Arc<Stored>) {
        let Some(target) = target(self.key.borrow()) else { return };
        let selecting = (!stored.selecting.is_empty()).then(|| Arc::clone(&stored.selecting));
        let tags = stored.tags.clone();
        let new = NewEntry { selecting, target, tags, route: policy.statistics.clone(), stored };
        match cache.store.insert(&self.epoch, new) {
            Insert::Stored(_) => {}
            Insert::Purged => tracing::debug!("purged while it was fetched"),
            Insert::TooLarge => tracing::debug!("larger than what is kept"),
        }
    }
}

/// What came of it.
pub enum Taken {
    /// For anybody. What is still to come of it is to be received.
    Shared(Arc<Stored>, Option<Receiving>),
    /// For who asked.
    Passed(Response<Body>, NotKept),
    /// A 304 that is not about what was to be validated: the request is to be sent without that.
    Mismatched,
}

/// The rest of a response that is shared while it comes.
pub struct Receiving {
    cache: Arc<Cache>,
    asked: Asked,
    stored: Arc<Stored>,
    growing: Arc<Growing>,
    body: Body,
    room: Reservation,
    policy: Arc<Policy>,
}

/// What comes next of it.
enum Next {
    Data(Bytes),
    End,
    Failed(BodyError),
    /// Nobody reads it, and it is not kept or there are too many of its kind.
    Unwanted,
}

/// All of a stored response but its fields and its content.
struct Frame {
    status: StatusCode,
    terms: Terms,
    received: SystemTime,
    selecting: Arc<Selecting>,
    tags: Tags,
    has_own_tag: bool,
}

impl Frame {
    fn stored(self, key: &Key, fields: HeaderMap, content: Content, forms: Arc<Forms>) -> Arc<Stored> {
        let Self { status, terms, received, selecting, tags, has_own_tag } = self;
        // What was read is a small part of a large buffer, which would stay with them.
        let fields = header::detached(&fields);
        let Laid { key, lines, content } = prepared::laid_out(key, status, &fields, content);
        Arc::new(Stored { key, status, fields, content, terms, received, selecting, tags, has_own_tag, forms, lines })
    }
}

/// Takes a response whose head has come.
pub fn take(
    cache: &Arc<Cache>,
    asked: Asked,
    policy: &Arc<Policy>,
    mut response: Response<Body>,
    times: Times,
) -> Taken {
    if policy.cookies == CachedCookies::Ignore {
        response.headers_mut().remove(SET_COOKIE);
    }
    if response.status() == StatusCode::NOT_MODIFIED
        && let Some(stale) = &asked.stale
    {
        if !policy::concerns(&stale.fields, response.headers()) {
            return Taken::Mismatched;
        }
        return match freshened(stale, &asked, policy, response.headers(), times) {
            Ok(fresh) => {
                asked.store(cache, policy, Arc::clone(&fresh));
                Taken::Shared(fresh, None)
            }
            // What is stored stays good for others.
            Err((_, why)) if why.is_of_the_request() => Taken::Shared(Arc::clone(stale), None),
            Err((fresh, why)) => {
                cache.forget(asked.key.borrow());
                Taken::Passed(fresh.response(), why)
            }
        };
    }
    if asked.method == Method::HEAD {
        freshen_by_head(cache, &asked, policy, &response, times);
    }
    match judge(&asked, policy, &response, times) {
        Ok(frame) => keep(cache, asked, frame, policy, response),
        Err(why) => Taken::Passed(response, why),
    }
}

/// A HEAD that went to the origin may say that what is stored still holds, or that it does not (RFC 9111 §4.3.5).
fn freshen_by_head(cache: &Cache, asked: &Asked, policy: &Policy, response: &Response<Body>, times: Times) {
    let Some(stale) = &asked.stale else { return };
    let Some(length) = stale.content.length() else { return };
    match policy::head_effect(response.status(), response.headers(), &stale.fields, length) {
        HeadEffect::Freshen => {
            if let Ok(fresh) = freshened(stale, asked, policy, response.headers(), times) {
                asked.store(cache, policy, fresh);
            }
        }
        HeadEffect::Outdated => cache.forget(asked.key.borrow()),
        HeadEffect::Nothing => {}
    }
}

fn judge(asked: &Asked, policy: &Policy, response: &Response<Body>, times: Times) -> Result<Frame, NotKept> {
    let (status, fields) = (response.status(), response.headers());
    // Those who come later would get the events from the first one on, and the origin would go on for nobody.
    if has_events(fields) {
        return Err(NotKept::Events);
    }
    let terms = terms(asked, policy, &asked.method, (status, fields), times)?;
    if has_fields_for_one(fields, policy) {
        return Err(NotKept::FieldsForOne);
    }
    let selecting = Arc::new(Selecting::of(fields, &asked.fields)?);
    if rules::depends_on_client(selecting.names()) {
        return Err(NotKept::VaryClient);
    }
    let tags = Tags::of(fields)?;
    match response.body().size_hint().exact() {
        Some(length) if length > policy.object_max => Err(NotKept::TooLarge),
        _ => Ok(Frame { status, terms, received: times.clock, selecting, tags, has_own_tag: false }),
    }
}

/// Whether there is a field that `private` or `no-cache` name. It could be kept without (RFC 9111 §5.2.2.4, §5.2.2.7),
/// but then its own client would have to be sent another response than the rest.
fn has_fields_for_one(fields: &HeaderMap, policy: &Policy) -> bool {
    let directives = Directives::of_response(fields, &policy.of(fields).rules.targets);
    directives.no_cache.fields().iter().chain(directives.private.fields()).any(|name| fields.contains_key(name))
}

fn terms(
    asked: &Asked,
    policy: &Policy,
    method: &Method,
    (status, response): (StatusCode, &HeaderMap),
    times: Times,
) -> Result<Terms, Unstorable> {
    let Some(parts) = asked.key.parts() else { return Err(Unstorable::Method) };
    let authority = Authority::from_parts(parts.host, parts.port);
    let target = TargetUri { scheme: parts.scheme, authority: &authority, path: parts.path, query: parts.query };
    let exchanged = Exchanged { method, target: &target, request: &asked.fields, status, response };
    policy::terms(&exchanged, &policy.of(response).rules, times)
}

fn keep(cache: &Arc<Cache>, asked: Asked, frame: Frame, policy: &Arc<Policy>, response: Response<Body>) -> Taken {
    let length = response.body().size_hint().exact();
    let Some(room) = cache.store.reserve(length.unwrap_or(0)) else {
        return Taken::Passed(response, NotKept::NoRoom);
    };
    let (parts, mut body) = response.into_parts();
    let mut fields = parts.headers;
    let forms = Forms::new(cache.store.memory().clone(), policy.object_max);
    if let Some(bytes) = body.take_whole() {
        // A copy: what was read may be a small part of a large buffer, and this stays. What is small is copied as it is laid out.
        let content = Whole::from(if prepared::is_small(&bytes) { bytes } else { Bytes::copy_from_slice(&bytes) });
        let has_own_tag = tag_by_content(frame.status, &mut fields, content.pieces());
        let stored = Frame { has_own_tag, ..frame }.stored(&asked.key, fields, Content::Whole(content), forms);
        asked.store(cache, policy, Arc::clone(&stored));
        return Taken::Shared(stored, None);
    }
    let growing = Growing::new(length);
    let stored = frame.stored(&asked.key, fields, Content::Growing(Arc::clone(&growing)), forms);
    let (cache, policy) = (Arc::clone(cache), Arc::clone(policy));
    let rest = Receiving { cache, asked, stored: Arc::clone(&stored), growing, body, room, policy };
    Taken::Shared(stored, Some(rest))
}

/// A stored response after the origin has said that it still holds (RFC 9111 §4.3.4). What it says now may forbid to
/// keep it.
fn freshened(
    stale: &Stored,
    asked: &Asked,
    policy: &Policy,
    validated: &HeaderMap,
    times: Times,
) -> Result<Arc<Stored>, (Arc<Stored>, NotKept)> {
    let mut fields = stale.fields.clone();
    policy::freshen(&mut fields, validated, &policy.of(&stale.fields).rules);
    let terms = terms(asked, policy, &Method::GET, (stale.status, &fields), times).map_err(NotKept::from);
    let selecting = Selecting::of(&fields, &asked.fields).map_err(NotKept::from);
    let tags = Tags::of(&fields).map_err(NotKept::from);
    let judged = match (terms, selecting, tags) {
        (Ok(_), ..) if has_fields_for_one(&fields, policy) => Err(NotKept::FieldsForOne),
        (Ok(_), Ok(selecting), Ok(_)) if selecting.names() != stale.selecting.names() => Err(NotKept::VaryChanged),
        (Ok(terms), Ok(_), Ok(tags)) => Ok((terms, tags)),
        (Err(why), ..) | (_, Err(why), _) | (_, _, Err(why)) => Err(why),
    };
    let (received, selecting) = (times.clock, Arc::clone(&stale.selecting));
    let (status, content, forms) = (stale.status, stale.content.clone(), Arc::clone(&stale.forms));
    let has_own_tag = stale.has_own_tag;
    match judged {
        Ok((terms, tags)) => {
            Ok(Frame { status, terms, received, selecting, tags, has_own_tag }
                .stored(&asked.key, fields, content, forms))
        }
        Err(why) => {
            let (terms, tags) = (stale.terms, stale.tags.clone());
            let frame = Frame { status, terms, received, selecting, tags, has_own_tag };
            Err((frame.stored(&asked.key, fields, content, forms), why))
        }
    }
}

/// Makes a validator out of the content where the origin gives none; says whether it did.
fn tag_by_content(status: StatusCode, fields: &mut HeaderMap, pieces: &[Bytes]) -> bool {
    if status != StatusCode::OK || fields.contains_key(ETAG) || fields.contains_key(LAST_MODIFIED) {
        return false;
    }
    let tag = match pieces {
        [all] => etag::of(fields, all),
        pieces => {
            let mut hasher = etag::Hasher::new(fields);
            pieces.iter().for_each(|piece| hasher.update(piece));
            hasher.finish()
        }
    };
    fields.insert(ETAG, tag);
    true
}

impl Receiving {
    /// Stands for a reader that is still to come: without any, what is not kept is not received.
    pub fn hold(&self) -> Reader {
        self.growing.reader(0, u64::MAX)
    }

    /// Receives it to its end, for whoever reads it, and stores it. With `lead`, others join until then. Once nobody
    /// reads it any more it has to have a place for that.
    pub async fn run(mut self, mut lead: Option<Lead>, mut detached: Option<Detached>) {
        let mut received = 0;
        let mut is_kept = true;
        loop {
            let data = match poll_fn(|cx| self.poll_next(cx, &mut detached)).await {
                Next::Data(data) => data,
                Next::End => break,
                Next::Failed(error) => return self.growing.finish(Err(error)),
                Next::Unwanted => return,
            };
            received += data.len() as u64;
            self.growing.append(&data);
            if !is_kept {
                self.room.shrink_to(self.growing.held());
            }
            if is_kept && (received > self.policy.object_max || !self.has_room(received)) {
                is_kept = false;
                self.growing.keep_window_only();
                if let Some(lead) = lead.take() {
                    lead.leave_alone(clock::now().into_std());
                }
            }
        }
        self.growing.finish(Ok(()));
        if let Some(pieces) = self.growing.whole() {
            self.store(pieces);
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, detached: &mut Option<Detached>) -> Poll<Next> {
        if ready!(self.growing.poll_demand(cx)) == Demand::None {
            return Poll::Ready(Next::Unwanted);
        }
        if detached.is_none() && self.growing.poll_unread(cx).is_ready() {
            *detached = self.cache.detach();
            if detached.is_none() {
                return Poll::Ready(Next::Unwanted);
            }
        }
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => Next::End,
            Some(Ok(frame)) => Next::Data(frame.into_data().unwrap_or_default()),
            Some(Err(error)) => Next::Failed(error),
        })
    }

    fn has_room(&mut self, bytes: u64) -> bool {
        bytes <= self.room.bytes() || self.room.grow((bytes - self.room.bytes()).max(ROOM_STEP))
    }

    fn store(&self, pieces: Vec<Bytes>) {
        let (content, mut stored) = (Whole::new(pieces), (*self.stored).clone());
        stored.has_own_tag = tag_by_content(stored.status, &mut stored.fields, content.pieces());
        let content = Content::Whole(content);
        let Laid { key, lines, content } = prepared::laid_out(&stored.key, stored.status, &stored.fields, content);
        self.asked.store(&self.cache, &self.policy, Arc::new(Stored { key, lines, content, ..stored }));
    }
}

/// Nobody waits for what does not come any more.
impl Drop for Receiving {
    fn drop(&mut self) {
        self.growing.finish(Err(BodyError::Stopped));
    }
}
