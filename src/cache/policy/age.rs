//! How old a response was when it came (RFC 9111 §4.2.3), and how long it is fresh (§4.2.1, §4.2.2).

use std::time::Duration;

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::{Basis, Exchanged, Rules, Times};
use crate::cache::cache_control::{DELTA_MAX, Directives, Scope, delta_seconds};
use crate::header::date::{self, Told};

/// Which others saw it already, or what it was on the way for.
pub(super) fn initial(response: &HeaderMap, times: &Times) -> Duration {
    let date = date::field(response, DATE, times.clock).date();
    // Dates have whole seconds. Less than one is the cut of a fraction, and no age.
    let apparent = date.and_then(|date| times.clock.duration_since(date).ok()).map_or(0, |age| age.as_secs());
    let delay = times.answered.saturating_duration_since(times.asked);
    let corrected = told(response).unwrap_or_default().saturating_add(delay);
    corrected.max(Duration::from_secs(apparent)).min(DELTA_MAX)
}

/// What `Age` says. Of several values the first one counts, and one that is no number of seconds is as if absent
/// (RFC 9111 §5.1). Parameters, which the field does not have, do not hide the number: an age is better believed.
fn told(response: &HeaderMap) -> Option<Duration> {
    let line = response.get(AGE)?.as_bytes();
    let value = line.split(|byte| matches!(byte, b',' | b';')).next()?;
    delta_seconds(value.trim_ascii())
}

/// How long a response is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// From its generation.
    pub length: Duration,
    pub basis: Basis,
    /// The response gives one, whether or not it is the one that counts.
    pub is_explicit: bool,
}

/// A lifetime of the rules begins when the response comes, because they speak about this cache.
pub(super) fn lifetime(exchanged: &Exchanged<'_>, directives: &Directives, rules: &Rules, times: &Times) -> Lifetime {
    let from_now = |ttl: Duration| initial(exchanged.response, times).saturating_add(ttl);
    let succeeded = is_success(exchanged.status);
    let explicit = explicit(exchanged.response, directives, times);
    let is_explicit = explicit.is_some();
    let lifetime = |(length, basis)| Lifetime { length, basis, is_explicit };
    if let Some(ttl) = rules.ttl_edge.filter(|_| succeeded) {
        // Who says that it is never fresh has not said for whom it would be.
        let is_explicit = explicit.is_some_and(|(length, _)| !length.is_zero());
        return Lifetime { length: from_now(ttl), basis: Basis::Rule, is_explicit };
    }
    if let Some(explicit) = explicit {
        return lifetime(explicit);
    }
    // A response that is not heuristically cacheable may be made so (RFC 9111 §4.2.2).
    if directives.no_cache != Scope::All && (is_heuristically_cacheable(exchanged.status) || directives.public) {
        if let Some(ttl) = rules.default_ttl.filter(|_| succeeded) {
            return lifetime((from_now(ttl), Basis::Default));
        }
        if let Some(guess) = guess(exchanged.response, rules, times) {
            return lifetime((guess, Basis::Heuristic));
        }
    }
    lifetime((Duration::ZERO, Basis::Absent))
}

/// The lifetime that the response gives. What makes no sense is none (RFC 9111 §4.2.1, §5.3).
fn explicit(response: &HeaderMap, directives: &Directives, times: &Times) -> Option<(Duration, Basis)> {
    if let Some(seconds) = directives.s_maxage {
        return Some((seconds, Basis::SharedMaxAge));
    }
    if let Some(seconds) = directives.max_age {
        return Some((seconds, Basis::MaxAge));
    }
    if directives.targeted {
        return None;
    }
    let lifetime = match date::field(response, EXPIRES, times.clock) {
        Told::Nothing => return None,
        Told::Nonsense => Duration::ZERO,
        Told::Date(expires) => {
            let from = date::field(response, DATE, times.clock).date().unwrap_or(times.clock);
            expires.duration_since(from).unwrap_or_default().min(DELTA_MAX)
        }
    };
    Some((lifetime, Basis::Expires))
}

fn guess(response: &HeaderMap, rules: &Rules, times: &Times) -> Option<Duration> {
    let heuristic = rules.heuristic?;
    let modified = date::field(response, LAST_MODIFIED, times.clock).date()?;
    let generated = date::field(response, DATE, times.clock).date().unwrap_or(times.clock);
    let unchanged = generated.duration_since(modified).ok()?.min(DELTA_MAX);
    let part = unchanged.saturating_mul(heuristic.percent) / 100;
    Some(part.min(heuristic.max)).filter(|guess| !guess.is_zero())
}

/// Statuses whose responses may be given a lifetime (RFC 9110 §15.1); 206 is not stored at all.
pub(super) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Statuses that rules about lifetimes are meant for. An error that they would keep for a year is worse than one that
/// is asked for again.
fn is_success(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308)
}
