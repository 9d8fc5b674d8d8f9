//! A request on a route that proxies: what the cache says to it, how it goes on, and to whom.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderName, Method};

use super::shape::{Breaker, By, Cached, Changes, Endpoint, Key, Outcome, Upstream, Variant};
use super::{Read, Walk, changes, coding, outcome};
use crate::balance::{Asker, Preview, Previewed};
use crate::cache::{self, Directives, Found, Line, Permit, Said, Stored, Usable, Wanted, Why};
use crate::client_ip::ClientIp;
use crate::clock;
use crate::compress::Recoding;
use crate::config::HostPolicy;
use crate::error::Reason;
use crate::header::request_id::X_REQUEST_ID;
use crate::proxy::arrival::SentOn;
use crate::proxy::cached::{Beside, Caching, Hit, Miss, Ruling, answer, ask_for_all, rule};
use crate::proxy::outgoing::receive_request;
use crate::proxy::{Answer, Passing};
use crate::snapshot::{Action, HeldRoute};

impl Walk<'_> {
    pub(super) fn proxied(
        &mut self,
        mut request: Read,
        route: &Arc<HeldRoute>,
        (client, path): (ClientIp, &Cow<'_, str>),
        (caching, recoding): (Option<Caching<'_>>, Option<Recoding<'_>>),
    ) -> Result<Outcome, Reason> {
        let Action::Proxy(pass) = &route.action else { return Err(Reason::NoRoute) };
        let came = request.headers().clone();
        let upgrade = receive_request(&mut request, route, pass);
        let path = if let Cow::Owned(path) = path { Some(path.clone()) } else { None };
        // How a head is written does not change what it says.
        let passing = Passing { route, pass, client, path, upgrade, keeps_fields: false, recoding: None };
        let mut stands_in = false;
        match caching {
            None => self.found.cache = Some(off()),
            Some(caching) => match self.cached(&mut request, &passing, caching, recoding.as_ref())? {
                Kept::Answers(outcome) => return Ok(outcome),
                Kept::Passes { may_stand_in } => stands_in = may_stand_in,
            },
        }
        self.found.coding = recoding.as_ref().map(coding::of_unknown);
        let sent = self.send_on(request, &passing, &came);
        match sent {
            Err(reason) if stands_in && reason.falls_back() => Ok(outcome(
                By::Cache,
                None,
                "something stale stands in for what the upstream does not bring (RFC 5861 §4)",
            )),
            sent => sent,
        }
    }

    /// What the cache says, and what that leaves of the request.
    fn cached(
        &mut self,
        request: &mut Read,
        passing: &Passing<'_>,
        mut caching: Caching<'_>,
        recoding: Option<&Recoding<'_>>,
    ) -> Result<Kept, Reason> {
        let (is_live, now) = (self.ground.is_live, self.ground.now.into_std());
        let beside = caching.settle(request, passing);
        let (cache, time) = (caching.cache, (now, clock::system_time as fn() -> _));
        let variants = cache.peek_all(&caching.key, time);
        let (url, key_fields) = cache::describe_key(&caching.key);
        let mut told = Cached {
            key: Some(Key { url, fields: key_fields }),
            variants: is_live.then(|| variants.iter().map(|found| variant(found, request, now)).collect()),
            ..off()
        };
        if let Some(beside) = beside {
            let said = Said::Forwarded(cache::Forwarded::passed(beside.forward(), None));
            (told.verdict, told.cache_status) = ("bypass".to_owned(), Some(said.to_string()));
            (told.why, told.rfc) = why_beside(beside);
            self.found.cache = Some(told);
            return Ok(Kept::Passes { may_stand_in: false });
        }
        let directives = Directives::of_request(request.headers());
        let ruling = rule(cache.peek(&caching.key, request.headers(), time), &directives, request.headers(), now);
        (told.why, told.rfc) = why_ruled(&ruling);
        if let Ruling::Use(found, _) = &ruling {
            told.age_s = Some(found.terms().age(now).as_secs());
            told.fresh_for_s = Some(found.terms().ttl(now));
        }
        match ruling.follow(&directives, *request.method() == Method::HEAD) {
            Ok(Hit { found, revalidate }) => {
                told.verdict = if revalidate.is_some() { "stale" } else { "hit" }.to_owned();
                Ok(Kept::Answers(self.hit(request, passing, (found, told), recoding)))
            }
            Err(miss) => self.missed(request, &caching, &miss, told),
        }
    }

    fn hit(
        &mut self,
        request: &Read,
        passing: &Passing<'_>,
        (found, mut told): (Found, Cached),
        recoding: Option<&Recoding<'_>>,
    ) -> Outcome {
        let now = self.ground.now.into_std();
        let said = Said::Hit { ttl_s: found.terms().ttl(now), detail: None };
        told.cache_status = Some(said.to_string());
        let stored: Arc<Stored> = Arc::clone(&found.stored);
        let wanted = Wanted { method: request.method(), fields: request.headers() };
        let status = match answer(found, wanted, passing, (said, now)) {
            Answer::Kept(response, _) | Answer::Response(response) => {
                let status = response.status();
                let of_stored = |recoding| coding::of_stored(recoding, &passing.route.config, *response, &stored);
                self.found.coding = recoding.map(of_stored);
                Some(status)
            }
            Answer::Tunnel(_) | Answer::Prepared(..) => None,
        };
        let why = format!("it is stored: {}", told.why);
        self.found.cache = Some(told);
        outcome(By::Cache, status, why)
    }

    fn missed(
        &mut self,
        request: &mut Read,
        caching: &Caching<'_>,
        miss: &Miss,
        mut told: Cached,
    ) -> Result<Kept, Reason> {
        let now = self.ground.now.into_std();
        let said = Said::Forwarded(cache::Forwarded::passed(miss.why, None));
        (told.verdict, told.cache_status) = ("miss".to_owned(), Some(said.to_string()));
        let line = if miss.is_alone { Line::Alone } else { caching.cache.line(&caching.key, now) };
        let word = match line {
            Line::Leads => "leads",
            Line::Follows => "follows",
            Line::Alone => "alone",
        };
        told.line = self.ground.is_live.then(|| word.to_owned());
        if miss.directives.only_if_cached {
            told.rfc = Some("RFC 9111 §5.2.1.7".to_owned());
        }
        self.found.cache = Some(told);
        if miss.directives.only_if_cached {
            return Err(Reason::CacheOnly);
        }
        ask_for_all(request.headers_mut(), line != Line::Alone, miss.stale.as_deref());
        let usable = |stale: &Arc<Stored>| stale.terms.usable_on_error(&miss.directives, now);
        Ok(Kept::Passes { may_stand_in: miss.stale.as_ref().is_some_and(usable) })
    }

    /// How it goes on, and to whom.
    fn send_on(&mut self, mut request: Read, passing: &Passing<'_>, came: &http::HeaderMap) -> Result<Outcome, Reason> {
        let &Passing { pass, client, route, .. } = passing;
        let uri = request.uri().clone();
        let SentOn { request_id: id, beside } = self.arrival.send_on(&mut request, passing)?;
        let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        if pass.upstream.pool.chooses_by_client() {
            request.extensions_mut().insert(Asker(client.address));
        }
        let (mut head, _) = request.into_parts();
        if let Some(beside) = beside {
            beside.insert(&mut head.headers);
        }
        let preview = pass.upstream.pool.preview(pass.upstream.pool.key(&head), self.ground.now.into_std());
        if pass.host == HostPolicy::Upstream
            && let Some(first) = preview.endpoints.first().filter(|endpoint| endpoint.place.is_some())
        {
            head.headers.insert(HOST, first.authority.clone());
        }
        if let Some(trace) = &self.trace {
            trace.foretell().insert(&mut head.headers);
        }
        let set = &route.config.request_fields.set;
        let conceals = |name: &HeaderName| !self.ground.shows_secrets && set.iter().any(|(of_file, _)| of_file == name);
        let is_named = id.is_given();
        let fresh =
            |name: &HeaderName| (*name == X_REQUEST_ID && !is_named) || changes::is_fresh(self.trace.as_ref(), name);
        let rewritten = uri.path_and_query().map(ToString::to_string).as_deref() != Some(&target);
        let changes = changes::changes(came, &head.headers, conceals, fresh);
        self.found.request = Some(Changes { target, rewritten, ..changes });
        self.upstream(passing, preview)
    }

    fn upstream(&mut self, passing: &Passing<'_>, preview: Preview) -> Result<Outcome, Reason> {
        let (is_live, now) = (self.ground.is_live, self.ground.now.into_std());
        let pool = &passing.pass.upstream.pool;
        let config = pool.upstream();
        let refuses = pool.breaker().is_some_and(|breaker| breaker.would_refuse(now));
        let breaker = |status: crate::balance::BreakerStatus| Breaker { state: status.state.to_owned(), refuses };
        let has_none = preview.endpoints.iter().all(|endpoint| endpoint.place.is_none()) && !preview.is_full;
        let is_queued = config.queue.is_some() && (preview.is_full || !pool.queue().is_empty());
        let first = preview.endpoints.first().map(|endpoint| endpoint.status.address);
        self.found.upstream = Some(Upstream {
            name: config.name.clone(),
            balance: config.balance.word().to_owned(),
            by_chance: preview.is_chance,
            uses_all: preview.uses_all,
            breaker: pool.breaker_status(now).filter(|_| is_live).map(breaker),
            waiting: is_live.then(|| pool.queue().status().waiting),
            endpoints: preview.endpoints.iter().map(|one| endpoint(one, is_live)).collect(),
        });
        let name = &config.name;
        match () {
            () if refuses => Err(Reason::BreakerOpen),
            () if !is_live => Ok(outcome(By::Origin, None, format!("an endpoint of {name} answers"))),
            () if is_queued => Ok(outcome(By::Origin, None, format!("it waits for room at {name}"))),
            () if preview.is_full => Err(Reason::UpstreamFull),
            () if has_none => Err(Reason::NoEndpoint),
            () => {
                let first = first.map(|first| first.to_string()).unwrap_or_default();
                let chance = if preview.is_chance { ", or another one by chance" } else { "" };
                Ok(outcome(By::Origin, None, format!("{first} of {name} answers{chance}")))
            }
        }
    }
}

/// What the cache leaves to do.
enum Kept {
    Answers(Outcome),
    /// Something stale may answer if the upstream fails.
    Passes {
        may_stand_in: bool,
    },
}

fn off() -> Cached {
    Cached {
        verdict: "off".to_owned(),
        cache_status: None,
        why: "the route keeps no responses".to_owned(),
        rfc: None,
        key: None,
        age_s: None,
        fresh_for_s: None,
        variants: None,
        line: None,
    }
}

fn variant(found: &Found, request: &Read, now: std::time::Instant) -> Variant {
    let stored = &found.stored;
    Variant {
        vary: stored.selecting.names().iter().map(|name| name.as_str().to_owned()).collect(),
        matches: stored.is_for(request.headers()),
        status: stored.status.as_u16(),
        age_s: found.terms().age(now).as_secs(),
        fresh_for_s: found.terms().ttl(now),
        bytes: stored.content.length(),
    }
}

fn endpoint(Previewed { status, place, is_full, .. }: &Previewed, is_live: bool) -> Endpoint {
    Endpoint {
        place: *place,
        address: status.address,
        name: status.name.to_string(),
        state: is_live.then(|| status.state.to_owned()),
        weight: status.weight,
        in_flight: is_live.then_some(status.in_flight),
        full: *is_full,
    }
}

/// Why nothing is looked for, and where that stands.
fn why_beside(beside: Beside) -> (String, Option<String>) {
    let (why, rfc) = match beside {
        Beside::Method => ("only GET and HEAD are answered from the cache", "RFC 9111 §4, RFC 9110 §9.2.3"),
        Beside::ForOrigin => ("`If-Match` and `If-Unmodified-Since` are for the origin", "RFC 9111 §4.3.2"),
        Beside::Upgrade => ("it asks for another protocol", "RFC 9110 §7.8"),
        Beside::Body => ("it comes with a body, which the key does not know", "RFC 9110 §9.3.1"),
        Beside::Rule => {
            return ("the route's `cache.bypass` or `cache.cookies` has it pass".to_owned(), None);
        }
    };
    (why.to_owned(), Some(rfc.to_owned()))
}

/// What decides over what was found, and where that stands.
fn why_ruled(ruling: &Ruling) -> (String, Option<String>) {
    let (why, rfc) = match ruling {
        Ruling::UriMiss => ("nothing is stored for this key", "RFC 9111 §4"),
        Ruling::VaryMiss => ("what is stored for this key is for other requests, by `Vary`", "RFC 9111 §4.1"),
        Ruling::ForOthers => ("what is stored is for requests without credentials", "RFC 9111 §3.5"),
        Ruling::Use(_, Usable::Fresh) => ("it is fresh", "RFC 9111 §4.2"),
        Ruling::Use(_, Usable::Stale(Permit::WhileRevalidating)) => {
            ("it is stale, and is used while it is validated behind the client's back", "RFC 5861 §3")
        }
        Ruling::Use(_, Usable::Stale(Permit::Client)) => {
            ("it is stale, and the client takes it by `max-stale`", "RFC 9111 §5.2.1.2")
        }
        Ruling::Use(_, Usable::Validate(Why::NoCache)) => {
            ("each use is validated, since the response says `no-cache`", "RFC 9111 §5.2.2.4")
        }
        Ruling::Use(_, Usable::Validate(Why::Stale)) => ("it is stale and has to be validated", "RFC 9111 §4.2.4"),
        Ruling::Use(_, Usable::Validate(Why::Request)) => {
            ("it is fresh, and the client wants it fresher", "RFC 9111 §5.2.1")
        }
    };
    (why.to_owned(), Some(rfc.to_owned()))
}
