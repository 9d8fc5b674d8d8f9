//! A client that the cache did not answer at once, and the answer that it gets in the end.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};

use super::super::{Answer, Passing};
use super::look::{Caching, Miss, answer};
use super::origin::is_failure;
use crate::cache::{self, Forwarded, Said, Stored, Taken, Usable, Wanted};
use crate::clock;
use crate::error::Reason;
use crate::fetch::FetchError;

/// A client that was not answered at once.
pub struct Client<'a> {
    pub method: Method,
    pub passing: &'a Passing<'a>,
    pub caching: &'a Caching<'a>,
    pub miss: &'a Miss,
}

impl Client<'_> {
    /// Whether a response that came meanwhile will do.
    pub fn takes(&self, stored: &Stored, fields: &HeaderMap) -> bool {
        let usable = stored.terms.usable(&self.miss.directives, clock::now().into_std());
        stored.terms.answers(fields) && matches!(usable, Usable::Fresh | Usable::Stale(_))
    }

    fn answer(&self, stored: &Arc<Stored>, fields: &HeaderMap, said: Said) -> Answer {
        let wanted = Wanted { method: &self.method, fields };
        answer(Arc::clone(stored).into(), wanted, self.passing, (said, clock::now().into_std()))
    }

    pub fn hit(&self, stored: &Arc<Stored>, fields: &HeaderMap) -> Answer {
        let ttl_s = stored.terms.ttl(clock::now().into_std());
        self.answer(stored, fields, Said::Hit { ttl_s, detail: None })
    }

    /// What another one fetched.
    pub fn collapsed(&self, stored: &Arc<Stored>, fields: &HeaderMap) -> Answer {
        let ttl_s = Some(stored.terms.ttl(clock::now().into_std()));
        let forwarded = Forwarded { collapsed: true, ttl_s, ..Forwarded::passed(self.miss.why, None) };
        self.answer(stored, fields, Said::Forwarded(forwarded))
    }

    /// Something stale, where the origin failed and it is allowed to stand in.
    pub fn stand_in(&self, fields: &HeaderMap, status: Option<StatusCode>) -> Option<Answer> {
        self.miss.stale.as_ref()?;
        let now = clock::now().into_std();
        // The one that was found at first may have been purged since.
        let stale = self.caching.stored(fields)?;
        let stale = Some(stale).filter(|stale| stale.terms.usable_on_error(&self.miss.directives, now))?;
        let forwarded = Forwarded { status, ..Forwarded::passed(self.miss.why, Some("stale-if-error")) };
        Some(self.answer(&stale, fields, Said::Forwarded(forwarded)))
    }

    /// Makes the answer of what the origin's response came to.
    pub fn conclude(
        &self,
        taken: Result<Taken, Arc<FetchError>>,
        fields: &HeaderMap,
        status: Option<StatusCode>,
    ) -> Result<Answer, Reason> {
        match taken {
            Err(error) => self.stand_in(fields, None).ok_or_else(|| Reason::from(&*error)),
            Ok(Taken::Shared(stored, _)) => {
                let ttl_s = Some(stored.terms.ttl(clock::now().into_std()));
                let status = status.filter(|status| *status != stored.status);
                let forwarded = Forwarded { status, stored: true, ttl_s, ..Forwarded::passed(self.miss.why, None) };
                Ok(self.answer(&stored, fields, Said::Forwarded(forwarded)))
            }
            Ok(Taken::Passed(mut response, why)) => {
                if is_failure(response.status())
                    && let Some(stale) = self.stand_in(fields, Some(response.status()))
                {
                    return Ok(stale);
                }
                cache::settle_passed(&mut response, Wanted { method: &self.method, fields }, clock::system_time());
                let forwarded = Forwarded::passed(self.miss.why, Some(why.code()));
                cache::annotate(response.headers_mut(), &Said::Forwarded(forwarded));
                Ok(Answer::Response(Box::new(response)))
            }
            Ok(Taken::Mismatched) => Err(Reason::UpstreamProtocol),
        }
    }
}
