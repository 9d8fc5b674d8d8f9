//! For whom an answer is, as caches read it: what may be kept, under which groups, and by which tag it is known again.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::Problem;
use crate::api::conditional::{has_already, tag};
use crate::secret::sha256_hex;

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// What an answer was made of, or what a change makes old (RFC 9875).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// Lists of items, and what is found in them.
    Media,
    Item(String),
    /// The list of public playlists.
    Playlists,
    Playlist(String),
    /// Numbers of items, which get less where an item is removed.
    Counts,
}

impl Group {
    fn name(&self) -> String {
        match self {
            Self::Media => "media".to_owned(),
            Self::Item(id) => format!("media-{id}"),
            Self::Playlists => "playlists".to_owned(),
            Self::Playlist(id) => format!("playlist-{id}"),
            Self::Counts => "playlist-counts".to_owned(),
        }
    }
}

/// For whom an answer is, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// It stays as it is until a change of one of these groups.
    Everyone(Vec<Group>),
    /// It will change without the edge being told.
    EveryoneForNow(Vec<Group>),
    /// It is for the caller alone.
    Caller,
}

impl Audience {
    pub fn everyone(is_settled: bool, groups: Vec<Group>) -> Self {
        if is_settled { Self::Everyone(groups) } else { Self::EveryoneForNow(groups) }
    }

    fn cache_control(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            // A browser hears of no invalidation, so it asks.
            Self::Everyone(_) => "public, max-age=0, s-maxage=300",
            Self::EveryoneForNow(_) => "public, no-cache",
            Self::Caller => "private, no-cache",
        })
    }

    fn groups(&self) -> &[Group] {
        match self {
            Self::Everyone(groups) | Self::EveryoneForNow(groups) => groups,
            Self::Caller => &[],
        }
    }
}

/// The answer about a version of one thing, or 304 to who has it. Its tag has a digest of what it says, so one tag never
/// stands for two answers, and the version, of which a change may speak.
pub fn answer_of(
    version: i64,
    fields: &HeaderMap,
    audience: &Audience,
    body: &impl Serialize,
) -> Result<Response, Problem> {
    tagged(fields, audience, body, |digest| tag(version, digest))
}

/// The answer that is a list, or 304 to who has it.
pub fn answer(fields: &HeaderMap, audience: &Audience, body: &impl Serialize) -> Result<Response, Problem> {
    tagged(fields, audience, body, |digest| format!("\"{digest}\""))
}

fn tagged(
    fields: &HeaderMap,
    audience: &Audience,
    body: &impl Serialize,
    tag: impl FnOnce(&str) -> String,
) -> Result<Response, Problem> {
    let body = serde_json::to_vec(body).map_err(|error| Problem::internal(&error))?;
    let digest = sha256_hex(&body);
    let tag = tag(digest.get(..32).unwrap_or(&digest));
    let mut response = if has_already(fields, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, "application/json")], body).into_response()
    };
    let head = response.headers_mut();
    head.insert(CACHE_CONTROL, audience.cache_control());
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        head.insert(ETAG, tag);
    }
    name(head, CACHE_GROUPS, audience.groups());
    Ok(response)
}

/// Says with a change what it makes old.
pub fn invalidating(mut response: Response, groups: &[Group]) -> Response {
    name(response.headers_mut(), CACHE_GROUP_INVALIDATION, groups);
    response
}

/// As a List of Strings (RFC 9651 §3.1).
fn name(head: &mut HeaderMap, field: HeaderName, groups: &[Group]) {
    let names: Vec<_> = groups.iter().map(|group| format!("\"{}\"", group.name())).collect();
    // Names are made of letters and ids, except for an id that a client made up: that is of nothing stored.
    if let Ok(value) = HeaderValue::from_str(&names.join(", "))
        && !names.is_empty()
    {
        head.insert(field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(response: &Response, name: HeaderName) -> Option<&str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn each_audience_is_told_to_caches() {
        let groups = || vec![Group::Media, Group::Item("7".to_owned())];
        for (audience, cache_control, named) in [
            (Audience::everyone(true, groups()), "public, max-age=0, s-maxage=300", Some("\"media\", \"media-7\"")),
            (Audience::everyone(false, groups()), "public, no-cache", Some("\"media\", \"media-7\"")),
            (Audience::Caller, "private, no-cache", None),
        ] {
            let response = answer(&HeaderMap::new(), &audience, &"text").unwrap();
            assert_eq!(field(&response, CACHE_CONTROL), Some(cache_control));
            assert_eq!(field(&response, CACHE_GROUPS), named);
        }
    }

    #[test]
    fn what_is_the_same_is_not_sent_again() {
        let first = answer(&HeaderMap::new(), &Audience::Caller, &"text").unwrap();
        let tag = field(&first, ETAG).unwrap();
        let known = HeaderMap::from_iter([(axum::http::header::IF_NONE_MATCH, tag.parse().unwrap())]);
        let same = answer(&known, &Audience::Caller, &"text").unwrap();
        assert_eq!((same.status().as_u16(), field(&same, ETAG)), (304, Some(tag)));
        assert_eq!(answer(&known, &Audience::Caller, &"other").unwrap().status(), 200);
    }

    #[test]
    fn a_change_of_nothing_that_is_kept_names_nothing() {
        let change = || StatusCode::NO_CONTENT.into_response();
        assert_eq!(field(&invalidating(change(), &[]), CACHE_GROUP_INVALIDATION), None);
        let told = invalidating(change(), &[Group::Playlists, Group::Playlist("7".to_owned())]);
        assert_eq!(field(&told, CACHE_GROUP_INVALIDATION), Some("\"playlists\", \"playlist-7\""));
    }
}
