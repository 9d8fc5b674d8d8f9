//! Which answer is kept, by the request that brought it, and for whom it is of use.

use super::reference::{Line, Purged};

/// The lifetime that the route gives where a response gives none.
pub const DEFAULT_TTL: u64 = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Anybody,
    WithAuthorization,
    WithCookie,
}

/// A request, as far as it decides what it may have.
#[derive(Debug, Clone, Copy)]
pub struct Asks {
    pub page: usize,
    pub user: User,
    /// The fields that `Vary` may name.
    pub x: Option<u8>,
    pub y: Option<u8>,
    pub no_cache: bool,
    pub no_store: bool,
    pub max_age: Option<u64>,
    pub max_stale: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Control {
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub while_revalidate: Option<u64>,
    pub if_error: Option<u64>,
    pub must_revalidate: bool,
    pub public: bool,
    pub private: bool,
    pub no_store: bool,
    pub no_cache: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vary {
    Nothing,
    X,
    XAndY,
    Star,
}

/// What the origin says.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub number: u64,
    /// It changes when a 304 freshens the answer.
    pub edition: u64,
    pub status: u16,
    pub control: Control,
    pub has_tag: bool,
    pub tags: usize,
    pub vary: Vary,
    pub age: u64,
    pub sets_cookie: bool,
}

/// An answer that may be used again.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    pub answer: Answer,
    /// What brought it.
    pub asks: Asks,
    at: u64,
    age: u64,
    lifetime: u64,
    windows: (u64, u64),
    stale_since: Option<(u64, u64)>,
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The next request may fare better.
    ForTheRequest,
    ForTheAnswer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Fresh,
    Client,
    WhileRevalidating,
    /// The client wants it fresher.
    Unwanted,
    Stale,
    /// It is for others.
    NotForThem,
}

pub type Values = (Option<u8>, Option<Option<u8>>);

/// What a variant is known by.
fn values(vary: Vary, asks: &Asks) -> Option<Values> {
    match vary {
        Vary::Nothing | Vary::Star => None,
        Vary::X => Some((asks.x, None)),
        Vary::XAndY => Some((asks.x, Some(asks.y))),
    }
}

impl Kept {
    /// RFC 9111 §3, for what this world's answers say.
    pub fn judge(asks: Asks, answer: Answer, (sent, now): (u64, u64)) -> Result<Self, Refused> {
        let Control { max_age, s_maxage, must_revalidate, public, private, no_store, no_cache, .. } = answer.control;
        if asks.no_store {
            return Err(Refused::ForTheRequest);
        }
        if matches!(answer.status, 206 | 401) || no_store || private {
            return Err(Refused::ForTheAnswer);
        }
        if asks.user == User::WithAuthorization && !(public || must_revalidate || s_maxage.is_some()) {
            return Err(Refused::ForTheRequest);
        }
        if answer.sets_cookie || answer.vary == Vary::Star {
            return Err(Refused::ForTheAnswer);
        }
        let age = answer.age + (now - sent);
        let explicit = s_maxage.or(max_age);
        let lifetime = match explicit {
            Some(explicit) => explicit,
            None if answer.status == 200 && !no_cache => age + DEFAULT_TTL,
            None if no_cache && answer.has_tag && (public || matches!(answer.status, 200 | 404)) => 0,
            None => return Err(Refused::ForTheAnswer),
        };
        let is_assumed = explicit.is_none() && !public && !no_cache;
        if is_assumed && asks.user == User::WithCookie {
            return Err(Refused::ForTheRequest);
        }
        let may_be_stale = !(no_cache || must_revalidate || s_maxage.is_some());
        let window = |seconds: Option<u64>| seconds.filter(|_| may_be_stale).unwrap_or(0);
        let windows = (window(answer.control.while_revalidate), window(answer.control.if_error));
        let is_of_use = !no_cache && lifetime + windows.0.max(windows.1) > age;
        if !is_of_use && !answer.has_tag {
            return Err(Refused::ForTheAnswer);
        }
        Ok(Self { answer, asks, at: now, age, lifetime, windows, stale_since: None })
    }

    /// What a 304 makes of it; the request is the one that validated it.
    pub fn freshened(&self, asks: Asks, newer: Answer, times: (u64, u64)) -> Result<Self, Refused> {
        let answer = Answer { edition: newer.edition, age: newer.age, control: newer.control, ..self.answer };
        let kept = Self::judge(asks, answer, times)?;
        Ok(Self { asks: self.asks, ..kept })
    }

    pub fn page(&self) -> usize {
        self.asks.page
    }

    pub fn values(&self) -> Option<Values> {
        values(self.answer.vary, &self.asks)
    }

    /// The line of those who ask for the same variant.
    pub fn line_of(&self, asks: &Asks) -> Line {
        (asks.page, values(self.answer.vary, asks))
    }

    pub fn is_for(&self, asks: &Asks) -> bool {
        values(self.answer.vary, asks) == self.values()
    }

    /// Since when purges may have made it stale.
    pub fn stale_since(&self) -> impl Iterator<Item = Option<u64>> + use<> {
        let (first, last) = self.stale_since.unwrap_or((0, 0));
        let is_fresh = self.stale_since.is_none();
        (first..=last).map(move |since| (!is_fresh).then_some(since))
    }

    /// The seconds left, or since it is stale.
    pub fn ttl(&self, now: u64, stale_since: Option<u64>) -> i64 {
        let age = self.age + (now - self.at);
        let lifetime = stale_since.map_or(self.lifetime, |since| self.lifetime.min(age.saturating_sub(now - since)));
        i64::try_from(lifetime).unwrap() - i64::try_from(age).unwrap()
    }

    pub fn usable(&self, asks: &Asks, ttl: i64, now: u64) -> Use {
        if !self.answers(asks) {
            return Use::NotForThem;
        }
        if self.answer.control.no_cache {
            return Use::Stale;
        }
        let too_old = asks.max_age.is_some_and(|max| self.age + (now - self.at) > max);
        if ttl > 0 {
            return if too_old || asks.no_cache { Use::Unwanted } else { Use::Fresh };
        }
        if asks.no_cache || too_old || (asks.max_age.is_some() && asks.max_stale.is_none()) {
            return Use::Stale;
        }
        let over = ttl.unsigned_abs();
        if over < self.windows.0 {
            Use::WhileRevalidating
        } else if self.may_be_stale() && asks.max_stale.is_some_and(|max| over <= max) {
            Use::Client
        } else {
            Use::Stale
        }
    }

    /// For a failed fetch (RFC 5861 §4).
    pub fn stands_in(&self, asks: &Asks, ttl: i64) -> bool {
        let over = ttl.unsigned_abs();
        let by_client = self.may_be_stale() && asks.max_stale.is_some_and(|max| over <= max);
        !self.answer.control.no_cache && !asks.no_cache && (ttl > 0 || over < self.windows.1 || by_client)
    }

    pub fn answers(&self, asks: &Asks) -> bool {
        let Control { max_age, s_maxage, public, no_cache, .. } = self.answer.control;
        let is_assumed = max_age.is_none() && s_maxage.is_none() && !public && !no_cache;
        !is_assumed || asks.user == User::Anybody
    }

    fn may_be_stale(&self) -> bool {
        let Control { s_maxage, must_revalidate, no_cache, .. } = self.answer.control;
        !(no_cache || must_revalidate || s_maxage.is_some())
    }

    /// Whether it is there after a purge.
    pub fn survives(&mut self, purge: &Purged) -> bool {
        if !purge.meets(self) {
            return true;
        }
        let Some((first, last)) = purge.soft else { return false };
        let (was_first, was_last) = self.stale_since.unwrap_or((first, last));
        self.stale_since = Some((first.min(was_first), last.min(was_last)));
        true
    }
}
