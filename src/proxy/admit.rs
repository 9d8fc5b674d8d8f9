//! Who and what is let in, by what the head of a request says.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};

use crate::client_ip::ClientIp;
use crate::error::Reason;
use crate::header::framing;
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

pub fn admit_body(route: &Route, fields: &HeaderMap) -> Result<(), Reason> {
    let announced = fields.get(CONTENT_LENGTH).and_then(|value| framing::length(value.as_bytes()));
    match announced {
        Some(length) if length > route.config.body_max => Err(Reason::BodyTooLarge),
        _ => Ok(()),
    }
}
