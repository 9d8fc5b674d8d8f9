//! What this hop says of a request whose fields say none of it yet: whom it is from, for which host, how it came and
//! what it is called. The lines are those that [`forwarded`](super::forwarded), [`via`] and
//! [`request_id`](super::request_id) would put into the map.
//!
//! They are written with a head of HTTP/1.1, beside its map: to put six more fields into that took 2100 of the 30,800
//! instructions of a request that is passed on. Where a request came with one of them, and over HTTP/2, the map is where
//! what was said and what is added come together.

use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::request_id::RequestId;
use super::{Scheme, via};

const NAMES: [&str; 6] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "via", "x-request-id"];

/// The same as they are written, each with the end of the line before it: two parts a line instead of four.
const LEADS: [&str; 6] = [
    "x-forwarded-for: ",
    "\r\nx-forwarded-proto: ",
    "\r\nx-forwarded-host: ",
    "\r\nx-real-ip: ",
    "\r\nvia: ",
    "\r\nx-request-id: ",
];

/// The client is the peer: nobody has said that there is another one behind it.
#[derive(Debug, Clone)]
pub struct HopFields {
    peer: HeaderValue,
    proto: HeaderValue,
    host: HeaderValue,
    via: HeaderValue,
    request_id: RequestId,
}

impl HopFields {
    /// Whether the fields of a request say none of it.
    pub fn are_new_to(fields: &HeaderMap) -> bool {
        !fields.keys().any(|name| NAMES.contains(&name.as_str()))
    }

    /// `peer` and `host` as [`forwarded::Hop`](super::forwarded::Hop) has them; the request came by `received`.
    pub fn new(
        (peer, scheme, host): (&HeaderValue, Scheme, HeaderValue),
        received: Version,
        request_id: RequestId,
    ) -> Self {
        Self { peer: peer.clone(), proto: scheme.value(), host, via: via::mark(received), request_id }
    }

    /// Appends the lines to a head.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (lead, value) in LEADS.into_iter().zip(self.values()) {
            out.extend_from_slice(lead.as_bytes());
            out.extend_from_slice(value);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Puts them among the other fields.
    pub fn insert(&self, fields: &mut HeaderMap) {
        for (name, value) in NAMES.into_iter().zip(self.values()) {
            // Each was a value, or is made of digits.
            if let Ok(value) = HeaderValue::from_bytes(value) {
                fields.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// Those of the names.
    fn values(&self) -> [&[u8]; 6] {
        let Self { peer, proto, host, via, request_id } = self;
        [peer.as_bytes(), proto.as_bytes(), host.as_bytes(), peer.as_bytes(), via.as_bytes(), request_id.as_bytes()]
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::forwarded::{self, Hop};
    use super::super::rows::fields;
    use super::super::{request_id, write_field};
    use super::*;
    use crate::client_ip::ClientIp;

    const HOST: HeaderValue = HeaderValue::from_static("a.example:8443");

    fn peer() -> (IpAddr, HeaderValue) {
        let address = "192.0.2.1".parse().unwrap();
        (address, forwarded::address_value(address))
    }

    fn beside(received: Version) -> HopFields {
        HopFields::new((&peer().1, Scheme::Https, HOST), received, RequestId::fresh(7))
    }

    /// Puts them into the map as where something was said before.
    fn tell(fields: &mut HeaderMap, via_trusted: bool, received: Version) {
        let (peer_address, peer) = (peer().0, &peer().1);
        let client = ClientIp { address: peer_address, via_trusted };
        forwarded::tell(fields, &Hop { peer_address, peer, client, scheme: Scheme::Https, host: &HOST });
        via::append(fields, received);
        request_id::settle(fields, via_trusted, || RequestId::fresh(7));
    }

    fn head(fields: &HeaderMap) -> String {
        let mut head = Vec::new();
        fields.iter().for_each(|(name, value)| write_field(name, value, &mut head));
        String::from_utf8(head).unwrap()
    }

    fn written(fields: &HopFields) -> String {
        let mut head = Vec::new();
        fields.write(&mut head);
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn the_lines_of_a_head() {
        let expected = "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: a.example:8443\r\n\
            x-real-ip: 192.0.2.1\r\nvia: 2.0 tollgate\r\nx-request-id: 00000000000000000000000000000007\r\n";
        assert_eq!(written(&beside(Version::HTTP_2)), expected);
    }

    proptest! {
        /// Beside the map or in it, an endpoint is told the same, in the same order.
        #[test]
        fn an_endpoint_is_told_the_same(
            rows in prop::collection::vec((
                "x-forwarded-(for|proto|host|port|[a-z]{1,4})|x-real-ip|via|x-request-id|host|cookie|x-[a-z]{1,8}|[a-z]{1,3}",
                "[!-~]{0,12}",
            ), 0..6),
            via_trusted: bool,
            received in prop::sample::select(vec![Version::HTTP_10, Version::HTTP_11, Version::HTTP_2]),
        ) {
            let is_said = rows.iter().any(|(name, _)| NAMES.contains(&&**name));
            let rows: Vec<_> = rows.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let mut map = fields(&rows.join("\n"));
            forwarded::drop_unbelieved(&mut map, via_trusted);
            // What was said of it is seen, whoever said it.
            prop_assert_eq!(HopFields::are_new_to(&map), !is_said);
            if !is_said {
                let (mut told, mut inserted) = (map.clone(), map.clone());
                tell(&mut told, via_trusted, received);
                beside(received).insert(&mut inserted);
                prop_assert_eq!(head(&inserted), head(&told));
                prop_assert_eq!(head(&map) + &written(&beside(received)), head(&told));
            }
        }
    }
}
