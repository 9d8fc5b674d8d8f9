//! Who is counted for himself: 128 bits for each key of a limit.
//!
//! An address is its own key, so that two never share one and an operator can be shown it. What is longer goes through
//! two keyed hashes whose secrets are drawn when the limit is made: nobody outside can find two texts that meet, and
//! the values of fields, which may be secrets, are not kept.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;

use crate::client_ip;
use crate::config::{LimitKey, Quota};

/// What a request is counted by.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub client: IpAddr,
    pub fields: &'a HeaderMap,
    /// The name of its route.
    pub route: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub u128);

#[derive(Debug)]
pub struct Keys {
    by: LimitKey,
    ipv6_prefix: u8,
    secrets: [RandomState; 2],
}

/// What is hashed, told apart.
#[derive(Hash)]
enum Text<'a> {
    Line(&'a [u8]),
    Address(u128),
    Route(&'a str),
}

impl Keys {
    pub fn new(quota: &Quota) -> Self {
        Self { by: quota.key.clone(), ipv6_prefix: quota.ipv6_prefix, secrets: Default::default() }
    }

    pub fn of(&self, asked: &Asked<'_>) -> Key {
        match &self.by {
            LimitKey::ClientIp => Key(self.network(asked.client)),
            LimitKey::Route => self.of_route(asked.route),
            LimitKey::All => Key(0),
            LimitKey::Field(name) => {
                let mut lines = asked.fields.get_all(name).iter().map(|line| line.as_bytes());
                match (lines.next(), lines.next()) {
                    (Some(line), None) => self.hash(&Text::Line(line)),
                    // To leave the field out must not be a way around the limit. Nor must it be to send it twice: some
                    // applications read the first line, some the last, and whichever were counted, the other could hold
                    // the key that is used, beside another made up value in each request. By its address the client
                    // has no more than the limits of its key and of one address.
                    (None, _) | (Some(_), Some(_)) => self.hash(&Text::Address(self.network(asked.client))),
                }
            }
        }
    }

    /// The key under which requests of this address are counted, if it depends on addresses.
    pub fn of_address(&self, client: IpAddr) -> Option<Key> {
        match self.by {
            LimitKey::ClientIp => Some(Key(self.network(client))),
            LimitKey::Field(_) => Some(self.hash(&Text::Address(self.network(client)))),
            LimitKey::Route | LimitKey::All => None,
        }
    }

    pub fn of_route(&self, route: &str) -> Key {
        self.hash(&Text::Route(route))
    }

    /// The address of a key by client, without what its network leaves open.
    pub fn address(&self, key: Key) -> Option<IpAddr> {
        matches!(self.by, LimitKey::ClientIp).then(|| IpAddr::V6(Ipv6Addr::from_bits(key.0)).to_canonical())
    }

    fn network(&self, client: IpAddr) -> u128 {
        client_ip::network(client, self.ipv6_prefix)
    }

    fn hash(&self, text: &Text<'_>) -> Key {
        let [high, low] = self.secrets.each_ref().map(|secret| u128::from(secret.hash_one(text)));
        Key(high << 64 | low)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::Algorithm;

    fn keys(by: LimitKey, ipv6_prefix: u8) -> Keys {
        let window = Duration::from_secs(1);
        Keys::new(&Quota { key: by, ipv6_prefix, requests: 1, window, algorithm: Algorithm::Window })
    }

    fn key(keys: &Keys, client: &str, lines: &[&str], route: &str) -> Key {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append("x-key", HeaderValue::from_str(line).unwrap());
        }
        keys.of(&Asked { client: client.parse().unwrap(), fields: &fields, route })
    }

    /// C6: clients of IPv6 count by network.
    #[test]
    fn addresses_and_networks() {
        let same = |prefix, one: &str, other: &str, expected| {
            let keys = keys(LimitKey::ClientIp, prefix);
            assert_eq!(key(&keys, one, &[], "/") == key(&keys, other, &[], "/"), expected, "{one} {other} /{prefix}");
        };
        same(64, "192.0.2.1", "192.0.2.1", true);
        same(64, "192.0.2.1", "192.0.2.2", false);
        same(64, "192.0.2.1", "::ffff:192.0.2.1", true);
        same(64, "2001:db8::1", "2001:db8::ffff:1", true);
        same(64, "2001:db8::1", "2001:db8:0:1::1", false);
        same(56, "2001:db8::1", "2001:db8:0:1::1", true);
        same(128, "2001:db8::1", "2001:db8::2", false);
        same(1, "192.0.2.1", "192.0.2.2", false);
    }

    #[test]
    fn addresses_are_shown_as_they_are_counted() {
        let keys = keys(LimitKey::ClientIp, 64);
        let shown = |client: &str| keys.address(key(&keys, client, &[], "/")).unwrap().to_string();
        assert_eq!(shown("192.0.2.1"), "192.0.2.1");
        assert_eq!(shown("2001:db8::1"), "2001:db8::");
    }

    #[test]
    fn fields_routes_and_all() {
        let by_field = keys(LimitKey::Field(HeaderName::from_static("x-key")), 64);
        let of = |client: &str, lines: &[&str]| key(&by_field, client, lines, "/");
        assert_eq!(of("192.0.2.1", &["a"]), of("192.0.2.2", &["a"]));
        assert_ne!(of("192.0.2.1", &["a"]), of("192.0.2.1", &["b"]));
        assert_ne!(of("192.0.2.1", &[]), of("192.0.2.2", &[]), "without the field the address counts");
        for lines in [&["a", "b"], &["b", "a"], &["a", "a"], &["a", ""]] {
            assert_eq!(of("192.0.2.1", lines), of("192.0.2.1", &[]), "with {lines:?} it counts as well");
            assert_ne!(of("192.0.2.1", lines), of("192.0.2.2", lines), "{lines:?}");
        }
        assert_eq!(by_field.of_address("192.0.2.1".parse().unwrap()), Some(of("192.0.2.1", &[])));
        let by_route = keys(LimitKey::Route, 64);
        assert_eq!(key(&by_route, "192.0.2.1", &[], "/a"), key(&by_route, "192.0.2.2", &["x"], "/a"));
        assert_ne!(key(&by_route, "192.0.2.1", &[], "/a"), key(&by_route, "192.0.2.1", &[], "/b"));
        let all = keys(LimitKey::All, 64);
        assert_eq!(key(&all, "192.0.2.1", &[], "/a"), key(&all, "192.0.2.2", &["x"], "/b"));
        assert_eq!(all.of_address("192.0.2.1".parse().unwrap()), None);
    }
}
