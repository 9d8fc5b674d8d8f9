//! Who and what is let in, by what the head of a request says.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};

use crate::client_ip::ClientIp;
use crate::error::Reason;
use crate::header::framing;
use crate::rate_limit::Asked;
use crate::record::Record;
use crate::snapshot::Route;

/// The only expectation there is (RFC 9110 §10.1.1); over HTTP/1.1 the guard has looked already.
pub fn refuse_expectation(fields: &HeaderMap) -> Result<(), Reason> {
    match fields.get(EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(Reason::ExpectationFailed),
        _ => Ok(()),
    }
}

pub fn admit(route: &Route, client: ClientIp) -> Result<(), Reason> {
    let within = |networks: &[ipnet::IpNet]| networks.iter().any(|network| network.contains(&client.address));
    let (allow, deny) = (&route.config.allow, &route.config.deny);
    if within(deny) || !(allow.is_empty() || within(allow)) { Err(Reason::AccessDenied) } else { Ok(()) }
}

/// Asks the rate limits of the route, if it has any.
pub fn admit_rate(route: &Route, client: ClientIp, fields: &HeaderMap, record: &mut Record) -> Result<(), Reason> {
    let Some(limits) = &route.rate_limits else { return Ok(()) };
    let asked = Asked { client: client.address, fields, route: &route.config.name };
    // The head was read a moment ago: the clock need not be read again.
    let verdict = record.rate_limits.insert(limits.check(&asked, record.started()));
    if limits.refusing(verdict).is_some() { Err(Reason::RateLimited) } else { Ok(()) }
}

/// Tells the client how it stands with the rate limits of its route.
pub fn tell_rate(record: &Record, fields: &mut HeaderMap) {
    if let Some(verdict) = &record.rate_limits
        && let Some(limits) = record.route.as_ref().and_then(|route| route.rate_limits.as_ref())
    {
        limits.tell(verdict, fields);
    }
}

pub fn admit_body(route: &Route, fields: &HeaderMap) -> Result<(), Reason> {
    let announced = fields.get(CONTENT_LENGTH).and_then(|value| framing::length(value.as_bytes()));
    match announced {
        Some(length) if length > route.config.body_max => Err(Reason::BodyTooLarge),
        _ => Ok(()),
    }
}
