//! Whose request this is: the address that access rules, upstreams and logs go by.
//!
//! It decides by the peer's address and by `X-Forwarded-For`, and believes that field only as far as
//! trusted proxies wrote it. It never looks at `Forwarded`, `X-Real-IP` or the like.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// More proxies than this in a row are a loop or an attack; the walk ends at the last one seen.
const HOPS_MAX: usize = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp {
    /// An IPv4 address is never in its IPv6-mapped form.
    pub address: IpAddr,
    /// The peer is a trusted proxy, so what it says about the client may be believed.
    pub via_trusted: bool,
}

/// Walks from the peer towards the client, as long as each hop is trusted: an element is believed
/// because the hop to its right wrote it. Ends at the first address that is not trusted; an element
/// that is no address ends the walk too, at the hop that wrote it.
pub fn resolve(trusted: &[IpNet], peer: IpAddr, fields: &HeaderMap) -> ClientIp {
    walk(trusted, peer, fields, |_| {})
}

/// One address on the way, from the peer on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop<'a> {
    /// As the hop before it wrote it; empty for the peer.
    pub said: &'a [u8],
    /// None: it is no address, and the walk ends.
    pub address: Option<IpAddr>,
    pub is_trusted: bool,
}

/// The same, with every hop that was looked at.
pub fn hops<'a>(trusted: &[IpNet], peer: IpAddr, fields: &'a HeaderMap) -> Vec<Hop<'a>> {
    let mut hops = Vec::new();
    walk(trusted, peer, fields, |hop| hops.push(hop));
    hops
}

fn walk<'a>(trusted: &[IpNet], peer: IpAddr, fields: &'a HeaderMap, mut seen: impl FnMut(Hop<'a>)) -> ClientIp {
    let peer = peer.to_canonical();
    let via_trusted = is_trusted(trusted, peer);
    seen(Hop { said: b"", address: Some(peer), is_trusted: via_trusted });
    if !via_trusted {
        return ClientIp { address: peer, via_trusted: false };
    }
    let mut address = peer;
    let elements = fields
        .get_all(X_FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    for element in elements.take(HOPS_MAX) {
        // Empty elements of a list are ignored (RFC 9110 §5.6.1).
        if element.is_empty() {
            continue;
        }
        let hop = parse(element);
        let goes_on = hop.is_some_and(|hop| is_trusted(trusted, hop));
        seen(Hop { said: element, address: hop, is_trusted: goes_on });
        address = hop.unwrap_or(address);
        if !goes_on {
            break;
        }
    }
    ClientIp { address, via_trusted: true }
}

/// Who counts as one client (C6): an address of IPv4, in its mapped form, or the network that begins an address of IPv6,
/// which one subscriber has whole.
pub fn network(client: IpAddr, ipv6_prefix: u8) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => {
            let prefix = u32::from(ipv6_prefix).clamp(1, u128::BITS);
            address.to_bits() & (u128::MAX << (u128::BITS - prefix))
        }
    }
}

/// Whether a peer is one whose word is believed.
pub fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`: proxies write all of them.
fn parse(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let address = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?),
        None => match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn nets() -> Vec<IpNet> {
        ["10.0.0.0/8", "::1/128"].map(|net| net.parse().unwrap()).to_vec()
    }

    fn fields(lines: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        fields
    }

    #[track_caller]
    fn check(peer: &str, lines: &[&str], client: &str) {
        let found = resolve(&nets(), peer.parse().unwrap(), &fields(lines));
        assert_eq!(found.address, client.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
    }

    #[test]
    fn an_untrusted_peer_is_the_client() {
        check("192.0.2.1", &[], "192.0.2.1");
        check("192.0.2.1", &["198.51.100.1"], "192.0.2.1");
        check("::ffff:192.0.2.1", &["198.51.100.1"], "192.0.2.1");
        assert!(!resolve(&nets(), "192.0.2.1".parse().unwrap(), &fields(&[])).via_trusted);
        assert!(!resolve(&[], "10.0.0.1".parse().unwrap(), &fields(&["192.0.2.1"])).via_trusted);
    }

    #[test]
    fn a_trusted_chain_is_walked_from_the_right() {
        assert!(resolve(&nets(), "10.0.0.1".parse().unwrap(), &fields(&[])).via_trusted);
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        check("::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        check("10.0.0.1", &["192.0.2.1, 10.0.0.2"], "192.0.2.1");
        check("10.0.0.1", &["203.0.113.9, 192.0.2.1, 10.0.0.2"], "192.0.2.1");
        check("10.0.0.1", &["203.0.113.9", "192.0.2.1", "10.0.0.2,10.0.0.3"], "192.0.2.1");
        check("10.0.0.1", &["10.9.9.9, 10.0.0.2"], "10.9.9.9");
        check("10.0.0.1", &["192.0.2.1, , 10.0.0.2,"], "192.0.2.1");
    }

    #[test]
    fn forms_of_an_address() {
        check("::1", &["192.0.2.1:4711"], "192.0.2.1");
        check("::1", &["2001:db8::1"], "2001:db8::1");
        check("::1", &["[2001:db8::1]"], "2001:db8::1");
        check("::1", &["[2001:db8::1]:443"], "2001:db8::1");
        check("::1", &["::ffff:192.0.2.1"], "192.0.2.1");
        check("::1", &["192.0.2.7, ::ffff:10.0.0.1"], "192.0.2.7");
        check("::1", &["\t192.0.2.1 "], "192.0.2.1");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        for bad in ["unknown", "_hidden", "192.0.2.256", "[192.0.2.1]", "192.0.2.1:99999", "\"192.0.2.1\"", "\u{e9}"] {
            check("10.0.0.1", &[bad], "10.0.0.1");
            check("10.0.0.1", &["192.0.2.1", bad, "10.0.0.2"], "10.0.0.2");
        }
    }

    #[test]
    fn the_walk_is_bounded() {
        let chain = format!("192.0.2.1{}", ", 10.0.0.2".repeat(HOPS_MAX - 1));
        check("10.0.0.1", &[&chain], "192.0.2.1");
        let chain = format!("192.0.2.1{}", ", 10.0.0.2".repeat(HOPS_MAX));
        check("10.0.0.1", &[&chain], "10.0.0.2");
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u8..4).prop_map(|last| IpAddr::from([10, 0, 0, last])),
            (0u8..4).prop_map(|last| IpAddr::from([192, 0, 2, last])),
            (0u16..4).prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
        ]
    }

    proptest! {
        /// A trusted address is the client only when nobody else is in the chain.
        #[test]
        fn trusted_only_if_all_are(peer in any_address(), chain in prop::collection::vec(any_address(), 0..8)) {
            let line = chain.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
            let found = resolve(&nets(), peer, &fields(&[&line]));
            let outsider = chain.iter().chain([&peer]).rfind(|address| !is_trusted(&nets(), **address));
            match outsider {
                Some(outsider) => prop_assert_eq!(found.address, *outsider),
                None => prop_assert_eq!(found.address, chain.first().copied().unwrap_or(peer)),
            }
            prop_assert_eq!(found.via_trusted, is_trusted(&nets(), peer));
        }

        /// Whatever the client wrote stands to the left of what the trusted proxy added.
        #[test]
        fn a_client_cannot_choose(forged in "[ -~]{0,40}") {
            let line = format!("{forged}, 192.0.2.1");
            let found = resolve(&nets(), IpAddr::from([10, 0, 0, 1]), &fields(&[&line]));
            prop_assert_eq!(found.address, IpAddr::from([192, 0, 2, 1]));
        }
    }
}
