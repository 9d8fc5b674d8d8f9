//! Why a request would go the way it goes: the path of [`proxy`](super) for a request that nobody sends.
//!
//! Each stage is the one that the path asks, called in the same order; where a stage counts or takes something, what it
//! decides by is asked instead. So the answer is the truth of this moment, and nothing is changed by it: no place
//! is taken, no limit spent, nothing in the cache becomes newer, and no endpoint has its turn.
//!
//! A request is explained as one of HTTP/1.1. What the origin will answer is not known here, nor which of two requests
//! comes first.

mod admission;
mod changes;
mod coding;
mod proxied;
mod question;
mod routes;
pub mod shape;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, Request, StatusCode};
use tokio::time::Instant;

pub use self::question::Unclear;
use self::question::Written;
use self::shape::{By, Edits, Explanation, Outcome, Question, Target};
use super::Caching;
use super::admit::refuse_expectation;
use super::arrival::Arrival;
use super::message::{redirect, text};
use crate::cache::{Cache, TargetUri};
use crate::compress::Recoding;
use crate::config::{FieldEdits, TlsVersion};
use crate::connection::Downstream;
use crate::error::Reason;
use crate::guard::Complete;
use crate::header::{Scheme, authority, forwarded};
use crate::overload::Overload;
use crate::path;
use crate::snapshot::{Action, HeldRoute, Snapshot, View};
use crate::stub_status::{self, Totals};
use crate::telemetry::traces::{Trace, X_SPAN_ID, X_TRACE_ID};

/// What an explanation stands on.
pub struct Ground<'a> {
    pub snapshot: &'a Arc<Snapshot>,
    pub cache: &'a Arc<Cache>,
    pub overload: &'a Overload,
    /// What configured addresses were bound to.
    pub bound: &'a BTreeMap<SocketAddr, SocketAddr>,
    /// It serves. Otherwise nothing of the moment is known.
    pub is_live: bool,
    /// Who asks may read the configuration, with what it sends to origins.
    pub shows_secrets: bool,
    pub now: Instant,
}

/// Explains what would become of a request.
pub fn explain(ground: &Ground<'_>, question: &Question) -> Result<Explanation, Unclear> {
    let written = Written::of(question)?;
    let (listener, is_tls) = listener(ground, question.listen, written.scheme)?;
    let peer = SocketAddr::new(question.client.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0);
    let downstream = Downstream {
        peer,
        peer_value: forwarded::address_value(peer.ip()),
        listener,
        tls: is_tls.then_some(TlsVersion::Tls13),
    };
    let view = View::new(ground.snapshot);
    let arrival = Arrival { downstream: &downstream, snapshot: &view };
    let mut walk = Walk { ground, arrival, found: begin(ground, question, &arrival), route: None, trace: None };
    let outcome = match written.read() {
        Ok((request, complete)) => walk.pass(request, &complete),
        Err(reason) => {
            let method = question.method.parse().unwrap_or_default();
            walk.trace = arrival.trace(&method, &HeaderMap::new());
            Err(reason)
        }
    };
    walk.found.outcome = outcome.unwrap_or_else(|reason| walk.refusal(reason));
    walk.found.response = Some(walk.response());
    Ok(walk.found)
}

/// Whether it can be a request at all.
pub fn check(question: &Question) -> Result<(), Unclear> {
    Written::of(question).map(drop)
}

/// The listener that is meant, as it is configured.
fn listener(ground: &Ground<'_>, listen: Option<SocketAddr>, scheme: Scheme) -> Result<(SocketAddr, bool), Unclear> {
    let listeners = || ground.snapshot.config.listeners.iter();
    let found = match listen {
        Some(address) => {
            listeners().find(|one| one.address == address || ground.bound.get(&one.address) == Some(&address))
        }
        None => listeners().find(|one| one.tls.is_some() == (scheme == Scheme::Https)),
    };
    let found = found.ok_or_else(|| {
        let known: Vec<_> = listeners()
            .map(|one| format!("{} ({})", one.address, if one.tls.is_some() { "https" } else { "http" }))
            .collect();
        let what = listen.map_or_else(|| format!("for {}", scheme.as_str()), |address| format!("at {address}"));
        Unclear {
            error: format!("there is no listener {what} among {}", known.join(", ")),
            expected: "a URL of a scheme that is listened for, or the address of a listener",
        }
    })?;
    Ok((found.address, found.tls.is_some()))
}

fn begin(ground: &Ground<'_>, question: &Question, arrival: &Arrival<'_>) -> Explanation {
    Explanation {
        method: question.method.clone(),
        url: question.url.clone(),
        listener: arrival.downstream.listener,
        scheme: arrival.scheme().as_str().to_owned(),
        generation: ground.is_live.then_some(ground.snapshot.generation),
        outcome: outcome(By::Origin, None, String::new()),
        target: None,
        client: None,
        routes: Vec::new(),
        access: None,
        in_flight: Vec::new(),
        rate_limits: Vec::new(),
        body: None,
        cache: None,
        coding: None,
        upstream: None,
        request: None,
        response: None,
    }
}

fn outcome(by: By, status: Option<StatusCode>, why: impl Into<String>) -> Outcome {
    Outcome { by, status: status.map(|status| status.as_u16()), reason: None, location: None, why: why.into() }
}

/// A request on its way, and what was found so far.
struct Walk<'a> {
    ground: &'a Ground<'a>,
    arrival: Arrival<'a>,
    found: Explanation,
    /// The one whose page stands in for what its upstream does not bring.
    route: Option<Arc<HeldRoute>>,
    /// None if requests like this one have none.
    trace: Option<Trace>,
}

/// The request as the stages read it. Its body is there if one comes.
type Read = Request<Option<()>>;

impl Walk<'_> {
    /// The stages, in the order of the path itself.
    fn pass(&mut self, request: Read, complete: &Complete) -> Result<Outcome, Reason> {
        let (uri, fields) = (request.uri().clone(), request.headers().clone());
        self.trace = self.arrival.trace(request.method(), &fields);
        let authority = authority::effective(&uri, &fields, self.arrival.scheme())?;
        let path = path::canonical(uri.path())?;
        let query = uri.query();
        self.found.target = Some(Target {
            host: authority.host.clone().into_owned(),
            port: authority.port(),
            path_came: uri.path().to_owned(),
            path: path.clone().into_owned(),
            query: query.map(str::to_owned),
        });
        let client = self.client(&request);
        refuse_expectation(&fields)?;
        let route = self.arrival.snapshot.route(&authority.host, &path);
        let place = route.as_ref().map(|route| route.place());
        self.found.routes = routes::tried(&self.ground.snapshot.config.routes, place, &authority.host, &path);
        let held = route.as_ref().map(|route| &***route);
        if let Some(response) = self.arrival.redirect_to_https(held, &authority.host, &path, query) {
            return Ok(coding::redirected(&response, "the listener sends everything on to https (`https_redirect`)"));
        }
        let route = Arc::clone(self.route.insert(route.ok_or(Reason::NoRoute)?));
        self.admission(&route, client, &fields, complete)?;
        let recoding = Recoding::of(&route.config, request.method(), &fields);
        let answer = match &route.action {
            Action::Redirect { to, status } => redirect(to.render(&authority.host, &path, query), *status),
            Action::Text { body, status } => text(body.clone(), *status),
            Action::StubStatus => text(stub_status::page(&Totals::default()).into(), StatusCode::OK),
            Action::Proxy(pass) => {
                let target = TargetUri { scheme: self.arrival.scheme(), authority: &authority, path: &path, query };
                let caching = Caching::of(self.ground.cache, pass, &target);
                return self.proxied(request, &route, (client, &path), (caching, recoding));
            }
        };
        self.found.coding = recoding.map(|recoding| coding::of_answer(&recoding, &route.config, &answer));
        Ok(match &route.action {
            Action::Redirect { .. } => coding::redirected(&answer, "the route is a redirect"),
            _ => outcome(By::Route, Some(answer.status()), "the route answers by itself"),
        })
    }

    /// What is done to the fields of every response, and those of the route to all but refusals.
    fn response(&self) -> Edits {
        let none = FieldEdits::default();
        let route = self.route.as_ref().filter(|_| self.found.outcome.by != By::Refusal);
        let edits = route.map_or(&none, |route| &route.config.response_fields);
        let mut edits = changes::edits(edits, self.arrival.hsts(), self.trace.as_ref());
        if self.trace.is_none() && self.arrival.snapshot.tracing.is_some() {
            edits.removed.extend([X_TRACE_ID, X_SPAN_ID].map(|name| name.as_str().to_owned()));
        }
        edits
    }

    /// The route's own page where its upstream failed, or one that says what went wrong.
    fn refusal(&self, reason: Reason) -> Outcome {
        let page = self.route.as_ref().and_then(|route| route.fallback()).filter(|_| reason.falls_back());
        let status = page.and_then(|page| page.status).unwrap_or(reason.status());
        let why = match page {
            Some(_) => "it is refused, and the route's `fallback` stands in",
            None => "it is refused",
        };
        Outcome { reason: Some(reason.code().to_owned()), ..outcome(By::Refusal, Some(status), why) }
    }
}
