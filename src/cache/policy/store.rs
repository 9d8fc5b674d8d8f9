//! Whether a response may be stored (RFC 9111 §3), and on which terms.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LOCATION, COOKIE, ETAG, LAST_MODIFIED, SET_COOKIE, VARY};
use http::{HeaderMap, Method, StatusCode};
use thiserror::Error;

use super::age::{self, Lifetime, is_heuristically_cacheable};
use super::{Audience, Basis, Exchanged, Rules, Seen, Staleness, TargetUri, Terms, Times};
use crate::cache::cache_control::{Directives, Scope};
use crate::header::date;

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Unstorable {
    #[error("responses to this method are not stored")]
    Method,
    #[error("the request says no-store")]
    RequestNoStore,
    #[error("a status of {} is not about the resource as such, or not understood", .0.as_u16())]
    Status(StatusCode),
    #[error("the response says no-store")]
    NoStore,
    #[error("the response says private")]
    Private,
    #[error("the request has credentials, and the response does not say that others may have it")]
    Authorization,
    #[error("the response sets a cookie")]
    SetCookie,
    #[error("the response depends on more than the request")]
    VaryAny,
    #[error("the request has a cookie, and the response does not say how long others may have it")]
    Cookie,
    #[error("neither the response nor a rule gives a lifetime")]
    NoLifetime,
    #[error("the response is stale already and could not be validated")]
    Stale,
}

impl Unstorable {
    #[cfg(test)]
    pub const ALL: [Self; 11] = [
        Self::Method,
        Self::RequestNoStore,
        Self::Status(StatusCode::PARTIAL_CONTENT),
        Self::NoStore,
        Self::Private,
        Self::Authorization,
        Self::SetCookie,
        Self::VaryAny,
        Self::Cookie,
        Self::NoLifetime,
        Self::Stale,
    ];

    /// A stable name for logs, metrics and the `detail` of `Cache-Status`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestNoStore => "request-no-store",
            Self::Status(_) => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::VaryAny => "vary-any",
            Self::Cookie => "cookie",
            Self::NoLifetime => "no-lifetime",
            Self::Stale => "stale",
        }
    }

    /// The reason lies in the request: the answer to another one may be stored, and what is stored stays good.
    pub const fn is_of_the_request(self) -> bool {
        matches!(self, Self::Method | Self::RequestNoStore | Self::Authorization | Self::Cookie)
    }
}

/// Judges a response, with the fields that the origin sent.
///
/// One that a 304 has freshened is judged anew, as an answer to the request that validated it. If it is refused for a
/// reason [of that request](Unstorable::is_of_the_request), what was stored stays as it was.
pub fn terms(exchanged: &Exchanged<'_>, rules: &Rules, times: Times) -> Result<Terms, Unstorable> {
    let directives = Directives::of_response(exchanged.response, &rules.targets);
    permitted(exchanged, &directives, rules)?;
    let lifetime = age::lifetime(exchanged, &directives, rules, &times);
    if !lifetime.is_explicit && exchanged.method == Method::POST {
        // RFC 9110 §9.3.3 wants explicit freshness.
        return Err(Unstorable::Method);
    }
    let has_validator = has_validator(exchanged.response, &times);
    let may_be_guessed = is_heuristically_cacheable(exchanged.status) || directives.public;
    if lifetime.basis == Basis::Absent {
        // Worth its place if the origin expects to be asked each time.
        if directives.no_cache != Scope::All || !has_validator || !may_be_guessed {
            return Err(Unstorable::NoLifetime);
        }
    } else if audience(&directives, rules, lifetime) == Audience::WithoutCredentials {
        // Requests with `Authorization` do not get here.
        if exchanged.request.contains_key(COOKIE) {
            return Err(Unstorable::Cookie);
        }
    }
    let terms = settle(exchanged, &directives, rules, lifetime, times);
    if !has_validator && terms.of_use_until().is_none() {
        return Err(Unstorable::Stale);
    }
    Ok(terms)
}

/// What stands against storing it, whatever its lifetime is.
fn permitted(exchanged: &Exchanged<'_>, directives: &Directives, rules: &Rules) -> Result<(), Unstorable> {
    let Exchanged { method, target, request, status, response } = *exchanged;
    let answers_get = match *method {
        Method::GET => true,
        // RFC 9110 §9.3.3: it is what a GET of that resource would have got.
        Method::POST => status == StatusCode::OK && is_of_target(response, target),
        _ => false,
    };
    if !answers_get {
        return Err(Unstorable::Method);
    }
    if Directives::of_request(request).no_store {
        return Err(Unstorable::RequestNoStore);
    }
    if !is_about_the_resource(status) || (directives.must_understand && !is_understood(status)) {
        return Err(Unstorable::Status(status));
    }
    // Of a status that is understood, `no-store` beside `must-understand` is for other caches (RFC 9111 §5.2.2.3).
    if directives.no_store && !directives.must_understand {
        return Err(Unstorable::NoStore);
    }
    if directives.private == Scope::All {
        return Err(Unstorable::Private);
    }
    if request.contains_key(AUTHORIZATION) && !allows_credentials(directives) {
        return Err(Unstorable::Authorization);
    }
    let stripped = |scope: &Scope| scope.fields().contains(&SET_COOKIE);
    if response.contains_key(SET_COOKIE)
        && !rules.store_set_cookie
        && !stripped(&directives.no_cache)
        && !stripped(&directives.private)
    {
        return Err(Unstorable::SetCookie);
    }
    if varies_by_anything(response) {
        return Err(Unstorable::VaryAny);
    }
    Ok(())
}

fn settle(
    exchanged: &Exchanged<'_>,
    directives: &Directives,
    rules: &Rules,
    lifetime: Lifetime,
    times: Times,
) -> Terms {
    let initial_age = age::initial(exchanged.response, &times);
    let stale = staleness(directives);
    // A window that the configuration gives makes the most of a lifetime. Where there was none, it would be one.
    let was_fresh = lifetime.length > initial_age;
    let window = |said: Option<Duration>, by_rule: Option<Duration>| match stale {
        Staleness::AlwaysValidate | Staleness::NeverStale => Duration::ZERO,
        Staleness::Permitted => said.or(by_rule.filter(|_| was_fresh)).unwrap_or_default(),
    };
    Terms {
        at: times.answered,
        initial_age,
        lifetime: lifetime.length,
        basis: lifetime.basis,
        stale,
        stale_while_revalidate: window(directives.stale_while_revalidate, rules.stale_while_revalidate),
        stale_if_error: window(directives.stale_if_error, rules.stale_if_error),
        immutable: directives.immutable,
        seen: seen(exchanged, directives, rules),
        audience: audience(directives, rules, lifetime),
    }
}

fn seen(exchanged: &Exchanged<'_>, directives: &Directives, rules: &Rules) -> Seen {
    let of = |seen: &Directives| Seen { no_cache: seen.no_cache == Scope::All, no_transform: seen.no_transform };
    if rules.targets.is_empty() { of(directives) } else { of(&Directives::of_response(exchanged.response, &[])) }
}

fn audience(directives: &Directives, rules: &Rules, lifetime: Lifetime) -> Audience {
    if lifetime.is_explicit || directives.public || lifetime.basis == Basis::Absent {
        Audience::Everyone
    } else if rules.ignore_cookie {
        Audience::WithoutAuthorization
    } else {
        Audience::WithoutCredentials
    }
}

fn staleness(directives: &Directives) -> Staleness {
    if directives.no_cache == Scope::All {
        Staleness::AlwaysValidate
    } else if directives.must_revalidate || directives.proxy_revalidate || directives.s_maxage.is_some() {
        // `s-maxage` has the meaning of `proxy-revalidate`, and no window beside it changes that
        // (RFC 9111 §4.2.4, §5.2.2.10).
        Staleness::NeverStale
    } else {
        Staleness::Permitted
    }
}

/// The directives that let a shared cache use it for others (RFC 9111 §3.5).
fn allows_credentials(directives: &Directives) -> bool {
    directives.public || directives.must_revalidate || directives.s_maxage.is_some()
}

/// Statuses whose rules for caches this one implements, as `must-understand` wants to know (RFC 9111 §5.2.2.3).
fn is_understood(status: StatusCode) -> bool {
    is_heuristically_cacheable(status)
        || matches!(
            status.as_u16(),
            201 | 202 | 205 | 302 | 303 | 307 | 400 | 402 | 403 | 406 | 409 | 411 | 413 | 415 | 422 | 451 | 500 | 502
                ..=505
        )
}

/// Whether the answer is for everybody who asks for this, whatever else they ask.
fn is_about_the_resource(status: StatusCode) -> bool {
    match status.as_u16() {
        // Interim responses, and the end of HTTP on this connection.
        ..200 => false,
        // A part of a response, and the word that there is no need for one.
        206 | 304 => false,
        // They are about the credentials and the preconditions, ranges and expectations of one request.
        401 | 407 | 412 | 416 | 417 => false,
        // About how it came, or when: RFC 9110 §15.5.9 and §15.5.20, RFC 8470 §5.2, RFC 6585 §3 to §6.
        408 | 421 | 425 | 426 | 428 | 429 | 431 | 511 => false,
        _ => true,
    }
}

fn is_of_target(response: &HeaderMap, target: &TargetUri<'_>) -> bool {
    let mut lines = response.get_all(CONTENT_LOCATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let located = std::str::from_utf8(line.as_bytes()).ok().and_then(|reference| target.resolve(reference));
    located.is_some_and(|located| located == target.resource())
}

fn varies_by_anything(response: &HeaderMap) -> bool {
    let lines = response.get_all(VARY).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).any(|member| member.trim_ascii() == b"*")
}

fn has_validator(response: &HeaderMap, times: &Times) -> bool {
    response.contains_key(ETAG) || date::field(response, LAST_MODIFIED, times.clock).date().is_some()
}
