//! Puts the members of a pool together from what is configured, what names stand for at the moment and
//! the endpoints that are known already.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::endpoint::Endpoint;
use super::least_connections::Load;
use super::queue::Queue;
use super::round_robin::Credit;
use super::slow_start::{self, WHOLE};
use crate::config::{EndpointAddress, Source, Target, Upstream};

/// An endpoint and its part in one pool.
#[derive(Debug)]
pub struct Member {
    pub endpoint: Arc<Endpoint>,
    pub weight: u32,
    pub(super) credit: Credit,
}

impl Member {
    /// With the share that it has now, if endpoints that begin get theirs within `slow_start`.
    pub(super) fn load(&self, slow_start: Option<Duration>, now: Instant) -> Load {
        self.load_at(slow_start.and_then(|ramp| Some((self.endpoint.age(ramp, now)?, ramp))))
    }

    /// The same, for those who only look.
    pub(super) fn load_seen(&self, slow_start: Option<Duration>, now: Instant) -> Load {
        self.load_at(slow_start.and_then(|ramp| Some((self.endpoint.age_seen(ramp, now)?, ramp))))
    }

    fn load_at(&self, age: Option<(Duration, Duration)>) -> Load {
        let full = self.weight.max(1).saturating_mul(WHOLE);
        let share = age.map_or(full, |(age, ramp)| slow_start::share(self.weight, age, ramp));
        Load { in_flight: self.endpoint.in_flight(), share, begins: share < full }
    }
}

/// The configured sources; replicas that the proxy starts are one source without a configured address.
pub(super) fn configured(upstream: &Upstream) -> &[EndpointAddress] {
    match &upstream.source {
        Source::Endpoints(endpoints) => endpoints,
        Source::Run(_) => &[],
    }
}

/// The addresses of each source of `upstream` to start with: those of `previous` where a name, or the
/// replicas, are the same.
pub(super) fn initial_addresses(
    upstream: &Upstream,
    previous: Option<(&Upstream, &[Vec<SocketAddr>])>,
) -> Vec<Vec<SocketAddr>> {
    match &upstream.source {
        Source::Run(_) => match previous {
            Some((Upstream { source: Source::Run(_), .. }, addresses)) => addresses.to_vec(),
            _ => vec![Vec::new()],
        },
        Source::Endpoints(endpoints) => endpoints.iter().map(|e| addresses_of(&e.target, previous)).collect(),
    }
}

fn addresses_of(target: &Target, previous: Option<(&Upstream, &[Vec<SocketAddr>])>) -> Vec<SocketAddr> {
    if let Target::Socket(address) = target {
        return vec![*address];
    }
    previous
        .and_then(|(upstream, addresses)| {
            configured(upstream).iter().zip(addresses).find(|(source, _)| source.target == *target)
        })
        .map(|(_, addresses)| addresses.clone())
        .unwrap_or_default()
}

/// An endpoint of an address as the first source of `upstream` would have it, unknown to every pool.
pub(super) fn stranger(upstream: &Upstream, address: SocketAddr) -> Arc<Endpoint> {
    let name = name(configured(upstream).first().map(|source| &source.target), address);
    Endpoint::new(address, &name, authority(upstream, &name, address), &Arc::default())
}

/// One member for each address; the first source that has it decides name and weight. `drained` are the
/// addresses that were drained by hand, and `queue` is that of the upstream.
pub(super) fn assemble(
    upstream: &Upstream,
    addresses: &[Vec<SocketAddr>],
    known: &[Member],
    same_transport: bool,
    (drained, queue): (&HashSet<SocketAddr>, &Arc<Queue>),
) -> Vec<Member> {
    let known: HashMap<SocketAddr, &Arc<Endpoint>> =
        known.iter().map(|member| (member.endpoint.address, &member.endpoint)).collect();
    let mut seen = HashSet::new();
    let mut members = Vec::new();
    for (index, addresses) in addresses.iter().enumerate() {
        let source = configured(upstream).get(index);
        for &address in addresses.iter().filter(|&&address| seen.insert(address)) {
            let name = name(source.map(|source| &source.target), address);
            let endpoint = match known.get(&address) {
                Some(endpoint) if same_transport && *endpoint.name == *name => Arc::clone(endpoint),
                _ => {
                    let endpoint = Endpoint::new(address, &name, authority(upstream, &name, address), queue);
                    if drained.contains(&address) {
                        endpoint.drain();
                    }
                    // Where all are new, all begin alike.
                    if !known.is_empty() {
                        endpoint.begin_slowly();
                    }
                    endpoint
                }
            };
            members.push(Member {
                endpoint,
                weight: source.map_or(1, |source| source.weight),
                credit: Credit::default(),
            });
        }
    }
    members
}

fn name(target: Option<&Target>, address: SocketAddr) -> String {
    match target {
        Some(Target::Name { host, .. }) => host.clone(),
        Some(Target::Socket(_)) | None => address.ip().to_string(),
    }
}

/// `host` or `host:port`; the scheme's own port is left out (RFC 9110 §4.2.3).
fn authority(upstream: &Upstream, name: &str, address: SocketAddr) -> HeaderValue {
    let own_port = if upstream.tls.is_some() { 443 } else { 80 };
    let host = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
    let text = if address.port() == own_port { host } else { format!("{host}:{}", address.port()) };
    // A name that is no field value cannot come from a checked configuration; digits and dots always fit.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::{named, upstream, upstream_of};
    use crate::config::UpstreamTls;

    #[test]
    fn the_authority_is_what_was_configured() {
        let check = |host: Option<&str>, address: &str, tls: bool, expected: &str| {
            let address: SocketAddr = address.parse().unwrap();
            let target = match host {
                Some(host) => Target::Name { host: host.to_owned(), port: address.port() },
                None => Target::Socket(address),
            };
            let mut upstream = upstream_of(vec![(target, 1)]);
            upstream.tls = tls.then_some(UpstreamTls { server_name: None, ca: None });
            let members = assemble(&upstream, &[vec![address]], &[], true, (&HashSet::new(), &Arc::default()));
            assert_eq!(members[0].endpoint.authority, expected);
        };
        check(Some("app"), "10.0.0.3:3000", false, "app:3000");
        check(Some("app"), "10.0.0.3:80", false, "app");
        check(Some("app"), "10.0.0.3:80", true, "app:80");
        check(Some("app"), "10.0.0.3:443", true, "app");
        check(None, "10.0.0.3:3000", false, "10.0.0.3:3000");
        check(None, "[::1]:3000", false, "[::1]:3000");
        check(None, "[::1]:80", false, "[::1]");
    }

    #[test]
    fn an_address_of_two_sources_is_one_endpoint_of_the_first() {
        let upstream = upstream_of(vec![(named("a"), 3), (named("b"), 1)]);
        let shared = ([10, 0, 0, 1], 3000).into();
        let own = ([10, 0, 0, 2], 3000).into();
        let members =
            assemble(&upstream, &[vec![shared], vec![shared, own]], &[], true, (&HashSet::new(), &Arc::default()));
        let shown: Vec<_> = members.iter().map(|m| (m.endpoint.address, &*m.endpoint.name, m.weight)).collect();
        assert_eq!(shown, [(shared, "a", 3), (own, "b", 1)]);
    }

    #[test]
    fn endpoints_are_kept_by_address_name_and_transport() {
        let drain = HashSet::from([address(2)]);
        let before =
            assemble(&upstream(2), &[vec![address(1)], vec![address(2)]], &[], true, (&drain, &Arc::default()));
        let kept =
            assemble(&upstream(2), &[vec![address(1)], vec![address(2)]], &before, true, (&drain, &Arc::default()));
        assert!(Arc::ptr_eq(&kept[0].endpoint, &before[0].endpoint));
        let moved =
            assemble(&upstream(2), &[vec![address(1)], vec![address(2)]], &before, false, (&drain, &Arc::default()));
        assert!(!Arc::ptr_eq(&moved[0].endpoint, &before[0].endpoint));
        let drained = |members: &[Member]| members.iter().map(|m| m.endpoint.is_drained()).collect::<Vec<_>>();
        assert_eq!(drained(&moved), [false, true]);
        let renamed = assemble(
            &upstream_of(vec![(named("app"), 1)]),
            &[vec![address(2)]],
            &before,
            true,
            (&drain, &Arc::default()),
        );
        assert!(!Arc::ptr_eq(&renamed[0].endpoint, &before[1].endpoint));
        assert_eq!(drained(&renamed), [true]);
    }

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 3000).into()
    }

    #[test]
    fn names_and_replicas_keep_their_addresses_and_others_start_empty() {
        let before = upstream_of(vec![(named("a"), 1), (named("b"), 1)]);
        let addresses = vec![vec![address(1)], vec![address(2), address(3)]];
        let after = upstream_of(vec![(named("c"), 1), (named("b"), 5), (Target::Socket(address(9)), 1)]);
        let kept = initial_addresses(&after, Some((&before, &addresses)));
        assert_eq!(kept, [vec![], vec![address(2), address(3)], vec![address(9)]]);

        let run = Upstream {
            source: Source::Run(crate::config::Run { command: vec![], replicas: 2 }),
            fail_timeout: Duration::ZERO,
            ..before.clone()
        };
        assert_eq!(initial_addresses(&run, Some((&before, &addresses))), [vec![]] as [Vec<SocketAddr>; 1]);
        let replicas = vec![vec![address(4)]];
        assert_eq!(initial_addresses(&run, Some((&run, &replicas))), replicas);
    }
}
