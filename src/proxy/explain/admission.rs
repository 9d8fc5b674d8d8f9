//! Whether a request is let in: who asks, which networks may, and how limits stand that would be asked.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use super::shape::{Access, Body, Client, Hop, InFlight, LimitState, RateLimit};
use super::{Read, Walk};
use crate::client_ip::{self, ClientIp};
use crate::config::Algorithm;
use crate::error::Reason;
use crate::guard::{self, Complete};
use crate::header::framing;
use crate::overload::{Full, Pressure};
use crate::proxy::admit::{admit, admit_body};
use crate::rate_limit::{Asked, Looked};
use crate::snapshot::Route;

impl Walk<'_> {
    /// On whose behalf it is sent.
    pub(super) fn client(&mut self, request: &Read) -> ClientIp {
        let client = self.arrival.client(request);
        let peer = self.arrival.downstream.peer.ip();
        let trusted = &self.arrival.snapshot.config.client.trusted;
        let hops = client_ip::hops(trusted, peer, request.headers());
        let why = match (client.via_trusted, hops.len()) {
            (false, _) => "the other end of the connection, which is not in `client.trusted`",
            (true, 1) => "the other end of the connection, which is trusted and names no client",
            (true, _) => "`X-Forwarded-For`, read from the right as long as each hop is trusted",
        };
        let hop = |hop: &client_ip::Hop<'_>| Hop {
            said: (!hop.said.is_empty()).then(|| String::from_utf8_lossy(hop.said).into_owned()),
            address: hop.address,
            trusted: hop.is_trusted,
        };
        let chain = hops.iter().map(hop).collect();
        self.found.client = Some(Client { address: client.address, why: why.to_owned(), chain });
        client
    }

    /// The stages that refuse, in their order.
    pub(super) fn admission(
        &mut self,
        route: &Route,
        client: ClientIp,
        fields: &HeaderMap,
        complete: &Complete,
    ) -> Result<(), Reason> {
        self.enter(route, client)?;
        self.access(route, client)?;
        self.rate(route, client, fields)?;
        let fits = admit_body(route, fields);
        let announced = match complete.body {
            guard::Body::Chunked => None,
            guard::Body::Length(_) => {
                let value = fields.get(CONTENT_LENGTH);
                Some(value.and_then(|value| framing::length(value.as_bytes())).unwrap_or_default())
            }
        };
        self.found.body = Some(Body { max: route.config.body_max, announced, fits: fits.is_ok() });
        fits
    }

    /// Is there room for one request more?
    fn enter(&mut self, route: &Route, client: ClientIp) -> Result<(), Reason> {
        let overload = self.ground.overload;
        if overload.pressure() == Pressure::Hard {
            return Err(Reason::MemoryShort);
        }
        let of_route = route.in_flight.as_ref().map(|(count, max)| (count, *max));
        let limits = overload.look(self.arrival.snapshot.limits, of_route, client.address);
        let in_flight = |(full, open, max): &(Full, usize, usize)| InFlight {
            limit: match full {
                Full::Proxy => "server.requests_max",
                Full::Route => "route.requests_max",
                Full::Client => "client.requests_max",
            }
            .to_owned(),
            max: *max,
            open: self.ground.is_live.then_some(*open),
        };
        self.found.in_flight = limits.iter().map(in_flight).collect();
        let full = limits.into_iter().find(|(_, open, max)| open >= max);
        full.map_or(Ok(()), |(full, _, _)| Err(full.into()))
    }

    fn access(&mut self, route: &Route, client: ClientIp) -> Result<(), Reason> {
        let admitted = admit(route, client);
        let (allow, deny) = (&route.config.allow, &route.config.deny);
        let within = |networks: &[ipnet::IpNet]| networks.iter().find(|net| net.contains(&client.address)).copied();
        let why = match (within(deny), within(allow)) {
            (Some(network), _) => format!("`deny` has {network}"),
            (None, Some(network)) => format!("`allow` has {network}"),
            (None, None) if allow.is_empty() => "the route lets everybody in".to_owned(),
            (None, None) => "`allow` does not have it".to_owned(),
        };
        self.found.access = Some(Access { admitted: admitted.is_ok(), why });
        admitted
    }

    fn rate(&mut self, route: &Route, client: ClientIp, fields: &HeaderMap) -> Result<(), Reason> {
        let Some(limits) = &route.rate_limits else { return Ok(()) };
        let asked = Asked { client: client.address, fields, route: &route.config.name };
        let (verdict, looked) = limits.look(&asked, self.ground.now);
        self.found.rate_limits = looked.iter().map(|looked| rate_limit(looked, self.ground.is_live)).collect();
        if limits.refusing(&verdict).is_some() { Err(Reason::RateLimited) } else { Ok(()) }
    }
}

fn rate_limit(Looked { limit, seen }: &Looked<'_>, is_live: bool) -> RateLimit {
    let config = limit.config();
    let state = seen.filter(|_| is_live).map(|seen| LimitState {
        remaining: seen.standing.remaining,
        capacity: seen.standing.capacity,
        more_after_s: seen.standing.more_after.as_millis() as f64 / 1_000.0,
        refuses: seen.wait.is_some(),
    });
    RateLimit {
        name: config.name.clone(),
        key: config.quota.key.to_string(),
        requests: config.quota.requests,
        window_s: config.quota.window.as_secs(),
        burst: match config.quota.algorithm {
            Algorithm::Gcra { burst } => Some(burst),
            Algorithm::Window => None,
        },
        dry_run: config.dry_run,
        exempt: seen.is_none(),
        state,
    }
}
