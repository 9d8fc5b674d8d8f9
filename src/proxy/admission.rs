//! Whether a request may be worked on at all: the networks of its route, its rate limits, the size of its body. All of
//! it is known from the head, and costs little.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use crate::client_ip::ClientIp;
use crate::error::Reason;
use crate::header::framing;
use crate::rate_limit::{Asked, RouteLimits};
use crate::record::Record;
use crate::snapshot::Route;

pub fn admit(route: &Route, client: ClientIp, fields: &HeaderMap, record: &mut Record) -> Result<(), Reason> {
    admit_network(route, client)?;
    if let Some(limits) = &route.limits {
        let asked = Asked { client: client.address, fields, route: &route.config.name };
        admit_by_rate(limits, &asked, record)?;
    }
    admit_body(route, fields)
}

/// Tells the client how it stands with the limits of its route.
pub fn tell(record: &Record, fields: &mut HeaderMap) {
    if let Some(verdict) = &record.limits
        && let Some(limits) = record.route.as_ref().and_then(|route| route.limits.as_ref())
    {
        limits.tell(verdict, fields);
    }
}

fn admit_network(route: &Route, client: ClientIp) -> Result<(), Reason> {
    let within = |networks: &[ipnet::IpNet]| networks.iter().any(|network| network.contains(&client.address));
    let (allow, deny) = (&route.config.allow, &route.config.deny);
    if within(deny) || !(allow.is_empty() || within(allow)) { Err(Reason::AccessDenied) } else { Ok(()) }
}

fn admit_by_rate(limits: &RouteLimits, asked: &Asked<'_>, record: &mut Record) -> Result<(), Reason> {
    // The head was read a moment ago: the clock need not be read again.
    let verdict = record.limits.insert(limits.check(asked, record.started()));
    if limits.refusing(verdict).is_some() { Err(Reason::RateLimited) } else { Ok(()) }
}

fn admit_body(route: &Route, fields: &HeaderMap) -> Result<(), Reason> {
    let announced = fields.get(CONTENT_LENGTH).and_then(|value| framing::length(value.as_bytes()));
    match announced {
        Some(length) if length > route.config.body_max => Err(Reason::BodyTooLarge),
        _ => Ok(()),
    }
}
