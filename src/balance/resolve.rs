//! Keeps the members of a pool in step with DNS.
//!
//! Every address of a name is an endpoint, of A and AAAA alike. A name is asked for again when its answer
//! has expired, at the latest after `dns.ttl_max`, and at once after a failed connect. An answer that
//! fails changes nothing: the last good one stays in use. This module never judges endpoints.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use tokio::time;

use super::{NamedSource, Pool};
use crate::config::Dns;

/// A name is never asked for more often than this, whatever its TTL and however often it is wanted.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause after failures in a row, which doubles with each.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// All servers, repetitions and search domains of one question together.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// Endpoints that one name can stand for; the highest addresses beyond it are left out.
const ADDRESSES_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error(transparent)]
    Lookup(#[from] NetError),
    #[error("no answer within {LOOKUP_TIMEOUT:?}")]
    Timeout,
    #[error("the answer holds no address")]
    NoAddress,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    addresses: BTreeSet<IpAddr>,
    ttl: Duration,
}

/// Asks the configured name servers, or those of the system.
pub struct Resolver {
    resolver: TokioResolver,
    ttl_max: Duration,
}

impl Resolver {
    /// With servers of its own the configuration takes the place of `resolv.conf`, search domains
    /// included. The hosts file is read once, here.
    pub fn new(dns: &Dns) -> Result<Self, ResolveError> {
        let (config, mut options) = if dns.servers.is_empty() {
            read_system_conf().unwrap_or_else(|error| {
                tracing::warn!(%error, "resolv.conf is of no use; the name server on this host is asked");
                servers(&[([127, 0, 0, 1], 53).into()])
            })
        } else {
            servers(&dns.servers)
        };
        options.use_hosts_file = ResolveHosts::Always;
        options.cache_size = 0;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Resolver { resolver: builder.build()?, ttl_max: dns.ttl_max })
    }

    async fn lookup(&self, host: &str) -> Result<Answer, ResolveError> {
        // A cache of size zero still gives an entry back that was stored a moment ago.
        self.resolver.clear_cache();
        let lookup = time::timeout(LOOKUP_TIMEOUT, self.resolver.lookup_ip(host));
        let found = lookup.await.map_err(|_| ResolveError::Timeout)??;
        let addresses: BTreeSet<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress);
        }
        let ttl_s = found.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        let addresses = addresses.into_iter().take(ADDRESSES_MAX).collect();
        Ok(Answer { addresses, ttl: Duration::from_secs(ttl_s.into()) })
    }
}

fn servers(addresses: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let servers = addresses.iter().map(|address| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.into())
    });
    (ResolverConfig::from_name_servers(servers.collect()), ResolverOpts::default())
}

/// Follows all names of `pool` for as long as it is polled; ends at once if there is none.
pub async fn follow(resolver: Arc<Resolver>, pool: Arc<Pool>) {
    let (resolver, pool) = (&*resolver, &*pool);
    join_all(pool.names().map(|name| follow_name(pool, name, resolver.ttl_max, move || resolver.lookup(name.host))))
        .await;
}

async fn follow_name<F>(pool: &Pool, name: NamedSource<'_>, ttl_max: Duration, lookup: impl Fn() -> F)
where
    F: Future<Output = Result<Answer, ResolveError>>,
{
    let mut schedule = Schedule::new(ttl_max);
    loop {
        let was_failing = schedule.is_failing();
        // The question that starts now is what former nudges asked for.
        let _ = pool.nudged(name.source).now_or_never();
        let pause = match lookup().await {
            Ok(answer) => {
                if was_failing {
                    tracing::info!(upstream = %pool.upstream().name, host = name.host, "the name resolves again");
                }
                pool.set_members(name.source, answer.addresses.iter().map(|&ip| SocketAddr::new(ip, name.port)));
                schedule.resolved(answer.ttl)
            }
            Err(error) => {
                if !was_failing {
                    let upstream = &pool.upstream().name;
                    tracing::warn!(%upstream, host = name.host, %error, "the name does not resolve; its last addresses stay");
                }
                schedule.failed()
            }
        };
        time::sleep(PAUSE_MIN).await;
        // Either way it is time to ask again.
        let _ = time::timeout(pause.saturating_sub(PAUSE_MIN), pool.nudged(name.source)).await;
    }
}

/// When a name is asked for again.
#[derive(Debug)]
struct Schedule {
    ttl_max: Duration,
    failures: u32,
}

impl Schedule {
    fn new(ttl_max: Duration) -> Self {
        Schedule { ttl_max: ttl_max.max(PAUSE_MIN), failures: 0 }
    }

    fn is_failing(&self) -> bool {
        self.failures > 0
    }

    fn resolved(&mut self, ttl: Duration) -> Duration {
        self.failures = 0;
        ttl.clamp(PAUSE_MIN, self.ttl_max)
    }

    fn failed(&mut self) -> Duration {
        let pause = PAUSE_MIN.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(BACK_OFF_MAX);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::Ipv4Addr;
    use std::str::FromStr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hickory_resolver::Hosts;
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::{RData, Record, RecordType};
    use tokio::net::UdpSocket;
    use tokio::time::Instant;

    use super::*;
    use crate::balance::tests::{named, upstream_of};
    use crate::lock::lock;

    /// A name server that knows `app.test` alone.
    #[derive(Default)]
    struct NameServer {
        answer: Mutex<(Vec<Ipv4Addr>, u32)>,
        queries: AtomicUsize,
    }

    impl NameServer {
        /// Starts it and gives a resolver that asks it.
        async fn start() -> (Arc<NameServer>, Resolver) {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let dns = Dns { ttl_max: Duration::from_secs(5), servers: vec![socket.local_addr().unwrap()] };
            let server = Arc::new(NameServer::default());
            tokio::spawn(Arc::clone(&server).serve(socket));
            (server, Resolver::new(&dns).unwrap())
        }

        fn set(&self, addresses: &[[u8; 4]], ttl_s: u32) {
            *lock(&self.answer) = (addresses.iter().map(|&octets| octets.into()).collect(), ttl_s);
        }

        async fn serve(self: Arc<Self>, socket: UdpSocket) {
            let mut buffer = [0; 1500];
            while let Ok((read, peer)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..read]).unwrap();
                socket.send_to(&self.reply(query).to_vec().unwrap(), peer).await.unwrap();
            }
        }

        fn reply(&self, query: Message) -> Message {
            self.queries.fetch_add(1, Ordering::Relaxed);
            let asked = query.queries[0].clone();
            let mut reply = query.into_response();
            reply.edns = None;
            let (addresses, ttl_s) = lock(&self.answer).clone();
            if asked.name().to_ascii() != "app.test." || addresses.is_empty() {
                reply.metadata.response_code = ResponseCode::NXDomain;
            } else if asked.query_type() == RecordType::A {
                for address in addresses {
                    reply.add_answer(Record::from_rdata(asked.name().clone(), ttl_s, RData::A(address.into())));
                }
            }
            reply
        }
    }

    fn answer(last: &[u8], ttl_s: u64) -> Answer {
        let addresses = last.iter().map(|&last| IpAddr::from([10, 0, 0, last])).collect();
        Answer { addresses, ttl: Duration::from_secs(ttl_s) }
    }

    #[tokio::test]
    async fn each_lookup_asks_the_server_and_sees_what_it_says_now() {
        let (server, resolver) = NameServer::start().await;
        server.set(&[[10, 0, 0, 2], [10, 0, 0, 1]], 600);
        assert_eq!(resolver.lookup("app.test").await.unwrap(), answer(&[1, 2], 600));
        assert_eq!(server.queries.load(Ordering::Relaxed), 2, "A and AAAA");
        server.set(&[[10, 0, 0, 3]], 1);
        assert_eq!(resolver.lookup("app.test").await.unwrap(), answer(&[3], 1));
        assert_eq!(server.queries.load(Ordering::Relaxed), 4);
        server.set(&[], 0);
        assert!(matches!(resolver.lookup("app.test").await, Err(ResolveError::Lookup(_))));
        server.set(&[[10, 0, 0, 4]], 0);
        assert_eq!(resolver.lookup("app.test").await.unwrap(), answer(&[4], 0), "no memory of a failure");
    }

    #[tokio::test]
    async fn localhost_and_the_hosts_file_need_no_server() {
        let (server, mut resolver) = NameServer::start().await;
        let local = resolver.lookup("localhost").await.unwrap();
        assert!(local.addresses.iter().all(IpAddr::is_loopback), "{local:?}");
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"10.0.0.7 db db.internal # a comment\nfd00::7 db\n"[..]).unwrap();
        resolver.resolver.set_hosts(Arc::new(hosts));
        let expected = ["10.0.0.7", "fd00::7"].map(|ip| IpAddr::from_str(ip).unwrap());
        assert_eq!(resolver.lookup("db").await.unwrap().addresses, BTreeSet::from(expected));
        assert_eq!(server.queries.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn following_fills_the_pool_and_can_be_spawned() {
        let (server, resolver) = NameServer::start().await;
        server.set(&[[10, 0, 0, 1]], 600);
        let pool = Arc::new(Pool::new(&upstream_of(vec![(named("app.test"), 1)]), None));
        let follower = tokio::spawn(follow(Arc::new(resolver), Arc::clone(&pool)));
        pool.wait_healthy(&[([10, 0, 0, 1], 3000).into()]).await;
        follower.abort();
    }

    #[test]
    fn the_next_question_comes_by_ttl_or_back_off() {
        let seconds = Duration::from_secs;
        let mut schedule = Schedule::new(seconds(5));
        for (ttl, pause) in [(600, 5), (5, 5), (3, 3), (1, 1), (0, 1)] {
            assert_eq!(schedule.resolved(seconds(ttl)), seconds(pause), "TTL {ttl}");
        }
        let pauses: Vec<u64> = (0..40).map(|_| schedule.failed().as_secs()).collect();
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert!(pauses[7..].iter().all(|&pause| pause == 30));
        assert_eq!(schedule.resolved(seconds(2)), seconds(2));
        assert_eq!(schedule.failed(), seconds(1));
    }

    /// Follows a name for `seconds` of paused time. `script` gives the answers one after another (its
    /// last one stays), `nudges` the seconds of failed connects. Gives the seconds of the questions and
    /// the members at the end.
    async fn followed(script: &[Option<Answer>], nudges: &[u64], seconds: u64) -> (Vec<u64>, Vec<String>) {
        let pool = Pool::new(&upstream_of(vec![(named("app"), 1)]), None);
        let start = Instant::now();
        let asked = Mutex::new(Vec::new());
        let position = Cell::new(0);
        let lookup = || {
            lock(&asked).push(start.elapsed().as_secs());
            let answer = script[position.get().min(script.len() - 1)].clone();
            position.set(position.get() + 1);
            async move { answer.ok_or(ResolveError::NoAddress) }
        };
        let nudging = async {
            for &second in nudges {
                time::sleep_until(start + Duration::from_secs(second)).await;
                pool.nudge();
            }
            std::future::pending::<()>().await;
        };
        let name = pool.names().next().unwrap();
        tokio::select! {
            biased;
            () = follow_name(&pool, name, Duration::from_secs(5), lookup) => unreachable!("it never ends"),
            () = nudging => unreachable!("it never ends"),
            () = time::sleep(Duration::from_millis(seconds * 1000 + 500)) => {}
        }
        let members = pool.members().iter().map(|member| member.endpoint.address.to_string()).collect();
        let asked = lock(&asked).clone();
        (asked, members)
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_ttl_is_cut_and_changes_are_seen() {
        let script = [Some(answer(&[1], 600)), Some(answer(&[2, 1], 2)), Some(answer(&[2], 600))];
        let (asked, members) = followed(&script, &[], 12).await;
        assert_eq!(asked, [0, 5, 7, 12]);
        assert_eq!(members, ["10.0.0.2:3000"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_keeps_the_last_answer_and_backs_off() {
        let (asked, members) = followed(&[Some(answer(&[1], 5)), None], &[], 20).await;
        assert_eq!(asked, [0, 5, 6, 8, 12, 20]);
        assert_eq!(members, ["10.0.0.1:3000"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_does_not_resolve_yet_is_found_later() {
        let (asked, members) = followed(&[None, None, None, Some(answer(&[1], 5))], &[], 7).await;
        assert_eq!(asked, [0, 1, 3, 7]);
        assert_eq!(members, ["10.0.0.1:3000"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_nudge_asks_at_once_but_not_twice_a_second() {
        let (asked, _) = followed(&[Some(answer(&[1], 600))], &[2, 2, 2, 4], 9).await;
        assert_eq!(asked, [0, 2, 4, 9]);
        let (asked, _) = followed(&[Some(answer(&[1], 600))], &[0, 0, 1], 4).await;
        assert_eq!(asked, [0, 1, 2], "those of the first second are one");
        let (asked, _) = followed(&[None], &[10], 11).await;
        assert_eq!(asked, [0, 1, 3, 7, 10], "a nudge ends a back-off");
    }
}
