//! Whether a stored response may be used for a request (RFC 9111 §4, §5.2.1; RFC 5861; RFC 8246).

use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

use super::{Audience, Staleness, Terms};
use crate::cache::cache_control::{DELTA_MAX, Directives, MaxStale, Scope};

/// What may be done with a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usable {
    Fresh,
    /// It is stale and may be used nevertheless.
    Stale(Permit),
    /// Only if the origin says that it is still valid.
    Validate(Why),
}

/// Who permits the use of a stale response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permit {
    /// The origin or the configuration, while it is validated in the background.
    WhileRevalidating,
    /// The client, by `max-stale`.
    Client,
}

/// Why a stored response has to be validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The response says `no-cache`.
    NoCache,
    Stale,
    /// It is fresh, and the client wants it fresher than that.
    Request,
}

impl Terms {
    /// Since the origin made or validated it (RFC 9111 §4.2.3). The `Age` field has its whole seconds.
    pub fn age(&self, now: Instant) -> Duration {
        self.initial_age.saturating_add(now.saturating_duration_since(self.at)).min(DELTA_MAX)
    }

    /// The same, but stale for so long already, whatever the lifetime was.
    pub fn stale_for(self, ago: Duration, now: Instant) -> Self {
        Self { lifetime: self.lifetime.min(self.age(now).saturating_sub(ago)), immutable: false, ..self }
    }

    #[cfg(test)]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    #[cfg(test)]
    pub fn basis(&self) -> super::Basis {
        self.basis
    }

    /// Whether clients may be told another lifetime: what is to be validated each time has its own.
    pub fn may_be_told_fresh(&self, now: Instant) -> bool {
        !self.seen.no_cache && self.ttl(now) > 0
    }

    /// Whether its content is to reach clients as it is.
    pub fn no_transform(&self) -> bool {
        self.seen.no_transform
    }

    /// How many seconds it is still fresh, or, below zero, has been stale.
    pub fn ttl(&self, now: Instant) -> i64 {
        let age = self.age(now);
        let left = self.lifetime.saturating_sub(age).as_secs();
        let over = age.saturating_sub(self.lifetime).as_millis().div_ceil(1000);
        i64::try_from(left).unwrap_or(i64::MAX).saturating_sub_unsigned(u64::try_from(over).unwrap_or(u64::MAX))
    }

    /// Until when it can be used without validation, if nobody's request permits more.
    pub fn of_use_until(&self) -> Option<Instant> {
        if self.stale == Staleness::AlwaysValidate {
            return None;
        }
        let window = self.stale_while_revalidate.max(self.stale_if_error);
        let left = self.lifetime.saturating_add(window).checked_sub(self.initial_age).filter(|left| !left.is_zero())?;
        self.at.checked_add(left)
    }

    /// Whether it may answer a request with these fields at all. If not, it is as if nothing were stored.
    pub fn answers(&self, request: &HeaderMap) -> bool {
        match self.audience {
            Audience::Everyone => true,
            Audience::WithoutAuthorization => !request.contains_key(AUTHORIZATION),
            Audience::WithoutCredentials => !request.contains_key(AUTHORIZATION) && !request.contains_key(COOKIE),
        }
    }

    /// Whether it may be used for a request with these directives.
    pub fn usable(&self, request: &Directives, now: Instant) -> Usable {
        if self.stale == Staleness::AlwaysValidate {
            return Usable::Validate(Why::NoCache);
        }
        let age = self.age(now);
        if age < self.lifetime {
            let left = self.lifetime - age;
            // A reload has nothing to find where the origin promised that nothing changes. The client says `no-cache`
            // if it means it (RFC 8246 §2).
            let too_old = request.max_age.is_some_and(|max| age > max) && !self.immutable;
            let too_short = request.min_fresh.is_some_and(|wanted| left < wanted);
            return if too_old || too_short || request.no_cache == Scope::All {
                Usable::Validate(Why::Request)
            } else {
                Usable::Fresh
            };
        }
        // Who limits the age without a word on staleness wants no stale response (RFC 9111 §5.2.1.1).
        let wants_fresh = request.no_cache == Scope::All
            || request.min_fresh.is_some()
            || request.max_age.is_some_and(|max| age > max || request.max_stale == MaxStale::None);
        if wants_fresh {
            return Usable::Validate(Why::Stale);
        }
        let staleness = age - self.lifetime;
        if staleness < self.stale_while_revalidate {
            return Usable::Stale(Permit::WhileRevalidating);
        }
        if self.stale == Staleness::Permitted && request.max_stale.permits(staleness) {
            return Usable::Stale(Permit::Client);
        }
        Usable::Validate(Why::Stale)
    }

    /// Whether no request without wishes of its own is answered by it any more.
    pub fn needs_validation(&self, now: Instant) -> bool {
        matches!(self.usable(&Directives::default(), now), Usable::Validate(_))
    }

    /// Whether it may stand in where the origin failed: was not reached, or answered 500, 502, 503 or 504
    /// (RFC 5861 §4).
    pub fn usable_on_error(&self, request: &Directives, now: Instant) -> bool {
        if self.stale == Staleness::AlwaysValidate || request.no_cache == Scope::All {
            return false;
        }
        let age = self.age(now);
        if age < self.lifetime {
            return true;
        }
        let staleness = age - self.lifetime;
        let by_client = self.stale == Staleness::Permitted
            && (request.stale_if_error.is_some_and(|window| staleness < window)
                || request.max_stale.permits(staleness));
        staleness < self.stale_if_error || by_client
    }
}

impl MaxStale {
    fn permits(self, staleness: Duration) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::For(limit) => staleness <= limit,
        }
    }
}
