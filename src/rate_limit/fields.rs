//! What clients are told of limits: `RateLimit` and `RateLimit-Policy` as draft-ietf-httpapi-ratelimit-headers-10 has
//! them, the older `X-RateLimit-…` that many clients read, and `Retry-After`.
//!
//! In the draft, `r` is what is left, and `t` the seconds until there is more of it (its section 4.1), so `t` is that
//! of the next place and not of all of them. `X-RateLimit-Reset` says the same, in seconds from now.
//!
//! Of what is left, `r`, there is never more than of the quota, `q`, which is for `w` seconds. So a burst above the
//! requests of its window is told as a quota of the burst, for the time in which all of it comes back: the same rate.

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Limit, RouteLimits, Said, Verdict};
use crate::config::{Algorithm, LimitHeaders, Quota};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

impl RouteLimits {
    /// Adds to a response what its client is told. Of a dry run nobody is told.
    pub fn tell(&self, verdict: &Verdict, fields: &mut HeaderMap) {
        let told = || self.each(verdict).filter(|(limit, _)| !limit.config.dry_run);
        self.tell_draft(told().filter(|(limit, _)| limit.config.headers.draft()), fields);
        // There is place for one: that of which the least is left.
        let scarcest = told().filter(|(limit, _)| limit.config.headers.x()).min_by_key(|(_, said)| said.remaining);
        if let Some((limit, said)) = scarcest {
            fields.insert(X_RATELIMIT_LIMIT, most_left(&limit.config.quota).into());
            fields.insert(X_RATELIMIT_REMAINING, said.remaining.into());
            fields.insert(X_RATELIMIT_RESET, said.more_after_s.into());
        }
        if let Some((_, wait_s)) = self.longest(verdict, |limit| !limit.config.dry_run) {
            fields.insert(RETRY_AFTER, wait_s.max(1).into());
        }
    }

    /// Behind what the origin says of limits of its own: both are lists, which may stand in several lines (RFC 9651 §3.1).
    fn tell_draft<'a>(&self, told: impl Iterator<Item = (&'a Limit, Said)>, fields: &mut HeaderMap) {
        for (limit, said) in told {
            fields.append(RATELIMIT_POLICY, limit.policy.clone());
            if let Some(standing) = standing(limit.name(), said) {
                fields.append(RATELIMIT, standing);
            }
        }
    }
}

/// Names are made of letters, digits and three signs, so they need no escape.
pub fn policy(name: &str, quota: &Quota) -> HeaderValue {
    let (most, requests) = (most_left(quota), u64::from(quota.requests.max(1)));
    // Rounded up: told is rather less than more.
    let window_s = (quota.window.as_secs() * u64::from(most)).div_ceil(requests);
    let text = format!("\"{name}\";q={most};w={window_s}");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("\"unnamed\""))
}

/// What clients are told that they have in all.
fn most_left(quota: &Quota) -> u32 {
    match quota.algorithm {
        Algorithm::Gcra { burst } => quota.requests.max(burst),
        Algorithm::Window => quota.requests,
    }
}

fn standing(name: &str, said: Said) -> Option<HeaderValue> {
    let (mut left, mut after) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (left, after) = (left.format(said.remaining).as_bytes(), after.format(said.more_after_s).as_bytes());
    // As long as it is: what has room to grow would cost another allocation.
    let text = match said.more_after_s {
        0 => [b"\"", name.as_bytes(), b"\";r=", left].concat(),
        _ => [b"\"", name.as_bytes(), b"\";r=", left, b";t=", after].concat(),
    };
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

impl LimitHeaders {
    fn draft(self) -> bool {
        matches!(self, Self::Draft | Self::Both)
    }

    fn x(self) -> bool {
        matches!(self, Self::X | Self::Both)
    }
}
