//! Active health checks: asks each endpoint in turn and reports what came.
//!
//! This module decides when to ask and whether an answer passes. It does not connect, that is
//! [`ProbeTransport`]; and how many results make a verdict is up to [`health`](super::health).

use std::collections::HashSet;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use memchr::memmem;
use tokio::time;

use super::{Endpoint, Pool};
use crate::config::HealthCheck;

/// Sent as `User-Agent`, so that an origin can tell probes from traffic.
pub const USER_AGENT: &str = "tollgate-probe";
/// Bytes of an answer's body that are read and searched.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The longest pause before an endpoint without a verdict is asked again: a replica that has just been
/// started, or a dead one that DNS has just named, is known sooner than by the usual interval.
const UNKNOWN_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Sends one `GET path` with the endpoint's authority as `Host` and [`USER_AGENT`], on a connection of
/// its own, and reads at most [`BODY_BYTES_MAX`] of the body. The time limit is the caller's.
pub trait ProbeTransport {
    fn get(&self, endpoint: &Endpoint, path: &str) -> impl Future<Output = Result<Answer, TransportError>>;
}

pub type TransportError = Box<dyn Error + Send + Sync>;

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("probe: no answer within {0:?}")]
    Timeout(Duration),
    #[error("probe: {0}")]
    Transport(TransportError),
    #[error("probe: status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("probe: the answer does not contain what is expected")]
    Body,
}

/// Whether an answer passes.
fn judge(check: &HealthCheck, answer: &Answer) -> Result<(), ProbeError> {
    if !check.expect_status.iter().any(|range| range.contains(&answer.status.as_u16())) {
        return Err(ProbeError::Status(answer.status));
    }
    match &check.expect_body {
        Some(expected) if memmem::find(&answer.body, expected.as_bytes()).is_none() => Err(ProbeError::Body),
        _ => Ok(()),
    }
}

/// Probes the members of `pool` for as long as it is polled, new ones at once; ends at once if the
/// upstream has no health check.
pub async fn run(pool: Arc<Pool>, transport: impl ProbeTransport) {
    let (pool, transport) = (&*pool, &transport);
    let Some(check) = &pool.upstream().health else { return };
    let mut changes = pool.changes();
    let mut probed = HashSet::new();
    let mut probes = FuturesUnordered::new();
    loop {
        changes.borrow_and_update();
        for member in pool.members().iter().filter(|member| probed.insert(member.endpoint.id)) {
            probes.push(probe_while_member(pool, check, transport, Arc::clone(&member.endpoint)));
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Some(id) = probes.next() => { probed.remove(&id); }
        }
    }
}

/// Gives the id of the endpoint back once it has left the pool.
async fn probe_while_member(
    pool: &Pool,
    check: &HealthCheck,
    transport: &impl ProbeTransport,
    endpoint: Arc<Endpoint>,
) -> u64 {
    if !endpoint.is_unknown_to_probes() {
        // Its verdict is from before a reload; it joins the round at any point.
        time::sleep(check.interval.mul_f64(fastrand::f64())).await;
    }
    while pool.members().iter().any(|member| member.endpoint.id == endpoint.id) {
        let result = probe(check, transport, &endpoint).await;
        pool.report_probe(&endpoint, &result);
        time::sleep(pause(check.interval, endpoint.is_unknown_to_probes(), fastrand::f64())).await;
    }
    endpoint.id
}

/// Asks an endpoint once.
pub async fn probe(
    check: &HealthCheck,
    transport: &impl ProbeTransport,
    endpoint: &Endpoint,
) -> Result<(), ProbeError> {
    match time::timeout(check.timeout, transport.get(endpoint, &check.path)).await {
        Ok(Ok(answer)) => judge(check, &answer),
        Ok(Err(error)) => Err(ProbeError::Transport(error)),
        Err(_) => Err(ProbeError::Timeout(check.timeout)),
    }
}

/// The interval, up to a tenth more or less by `roll` in 0..1, so that endpoints and proxies that were
/// started together do not probe in step.
fn pause(interval: Duration, unknown: bool, roll: f64) -> Duration {
    let interval = if unknown { interval.min(UNKNOWN_PAUSE_MAX) } else { interval };
    interval.mul_f64(0.9 + 0.2 * roll)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;
    use crate::balance::tests::{address, check_of, named, upstream, upstream_of};
    use crate::config::Upstream;
    use crate::lock::lock;

    #[test]
    fn answers_are_judged_by_status_and_body() {
        let check = |expect: (&[(u16, u16)], Option<&str>), answer: (u16, &'static str), expected: &str| {
            let check = HealthCheck {
                expect_status: expect.0.iter().map(|&(from, to)| from..=to).collect(),
                expect_body: expect.1.map(str::to_owned),
                ..check_of("/health")
            };
            let answer = Answer { status: StatusCode::from_u16(answer.0).unwrap(), body: answer.1.into() };
            let shown = judge(&check, &answer).map_or_else(|error| error.to_string(), |()| "passed".to_owned());
            assert_eq!(shown, expected, "{expect:?} {answer:?}");
        };
        check((&[(200, 399)], None), (200, ""), "passed");
        check((&[(200, 399)], None), (399, ""), "passed");
        check((&[(200, 399)], None), (400, ""), "probe: status 400");
        check((&[(200, 200), (204, 204)], None), (204, ""), "passed");
        check((&[(200, 200), (204, 204)], None), (201, ""), "probe: status 201");
        check((&[], None), (200, ""), "probe: status 200");
        let lacks = "probe: the answer does not contain what is expected";
        check((&[(200, 299)], Some("\"ok\"")), (200, r#"{"status":"ok"}"#), "passed");
        check((&[(200, 299)], Some("\"ok\"")), (200, r#"{"status":"degraded"}"#), lacks);
        check((&[(200, 299)], Some("ok")), (503, "ok"), "probe: status 503");
        check((&[(200, 299)], Some("")), (200, ""), "passed");
    }

    #[test]
    fn pauses_are_spread_around_the_interval() {
        let ms = Duration::from_millis;
        for (interval, unknown, roll, expected) in
            [(5000, false, 0.0, 4500), (5000, false, 0.5, 5000), (5000, true, 0.5, 1000), (200, true, 0.5, 200)]
        {
            assert_eq!(pause(ms(interval), unknown, roll), ms(expected));
        }
    }

    /// Answers by address: a status, an error, or silence where there is none. Notes when it was asked.
    #[derive(Default)]
    struct Origins {
        replies: Mutex<HashMap<SocketAddr, Result<u16, &'static str>>>,
        asked: Mutex<Vec<(SocketAddr, Instant)>>,
    }

    impl Origins {
        fn set(&self, last: u8, reply: Result<u16, &'static str>) {
            lock(&self.replies).insert(address(last), reply);
        }

        /// The times of the probes of one endpoint, in seconds after `start`.
        fn times(&self, last: u8, start: Instant) -> Vec<f64> {
            let asked = lock(&self.asked);
            asked.iter().filter(|(at, _)| *at == address(last)).map(|(_, t)| (*t - start).as_secs_f64()).collect()
        }
    }

    impl ProbeTransport for &Origins {
        async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<Answer, TransportError> {
            assert_eq!(path, "/health");
            lock(&self.asked).push((endpoint.address, Instant::now()));
            let reply = lock(&self.replies).get(&endpoint.address).copied();
            match reply {
                Some(Ok(status)) => Ok(Answer { status: StatusCode::from_u16(status)?, body: Bytes::new() }),
                Some(Err(error)) => Err(error.into()),
                None => std::future::pending().await,
            }
        }
    }

    fn checked(upstream: Upstream) -> Upstream {
        Upstream { health: Some(check_of("/health")), ..upstream }
    }

    /// Lets the probes run for a while of paused time.
    async fn probing(pool: &Arc<Pool>, origins: &Origins, seconds: u64) {
        let _ = time::timeout(Duration::from_secs(seconds), run(Arc::clone(pool), origins)).await;
    }

    fn states(pool: &Pool) -> Vec<&'static str> {
        pool.snapshot(Instant::now().into_std()).iter().map(|endpoint| endpoint.state).collect()
    }

    #[test]
    fn the_task_can_be_spawned() {
        fn check(_: impl Send) {}
        check(run(Arc::new(Pool::new(&upstream(1), None)), &Origins::default()));
    }

    #[tokio::test(start_paused = true)]
    async fn each_endpoint_is_probed_at_once_and_then_every_interval() {
        let (pool, origins, start) =
            (Arc::new(Pool::new(&checked(upstream(2)), None)), Origins::default(), Instant::now());
        origins.set(1, Ok(200));
        origins.set(2, Ok(204));
        probing(&pool, &origins, 60).await;
        for last in [1, 2] {
            let times = origins.times(last, start);
            assert_eq!(times[0], 0.0);
            assert!(times.windows(2).all(|pair| (4.4..5.6).contains(&(pair[1] - pair[0]))), "{times:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn results_in_a_row_take_an_endpoint_out_and_bring_it_back() {
        let (pool, origins) = (Arc::new(Pool::new(&checked(upstream(3)), None)), Origins::default());
        origins.set(1, Ok(200));
        origins.set(2, Ok(503));
        let endpoint = Arc::clone(&pool.members()[2].endpoint);
        let seen = endpoint.ejections();
        probing(&pool, &origins, 20).await;
        assert_eq!(states(&pool), ["usable", "unhealthy", "unhealthy"]);
        endpoint.ejected(seen).await;
        let errors: Vec<_> =
            pool.snapshot(Instant::now().into_std()).into_iter().map(|e| e.last_error.unwrap_or_default()).collect();
        assert_eq!(errors, ["".into(), "probe: status 503".into(), Box::<str>::from("probe: no answer within 2s")]);
        origins.set(2, Ok(200));
        origins.set(3, Err("connection refused"));
        probing(&pool, &origins, 20).await;
        assert_eq!(states(&pool), ["usable", "usable", "unhealthy"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_without_a_verdict_is_asked_sooner() {
        let (pool, origins, start) =
            (Arc::new(Pool::new(&checked(upstream(1)), None)), Origins::default(), Instant::now());
        origins.set(1, Err("connection refused"));
        probing(&pool, &origins, 9).await;
        let times = origins.times(1, start);
        assert!(times[1] < 1.2 && times[2] < 2.4 && times[3] > 6.0, "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn new_members_are_probed_at_once_and_former_ones_no_more() {
        let pool = Arc::new(Pool::new(&checked(upstream_of(vec![(named("app"), 1)])), None));
        let (origins, start) = (Origins::default(), Instant::now());
        origins.set(1, Ok(200));
        origins.set(2, Ok(200));
        let changes = async {
            pool.set_members(0, [address(1)]);
            pool.wait_healthy(&[address(1)]).await;
            time::sleep(Duration::from_secs(7)).await;
            pool.set_members(0, [address(2)]);
            pool.wait_healthy(&[address(2)]).await;
            assert_eq!(origins.times(2, start), [7.0]);
            time::sleep(Duration::from_secs(30)).await;
        };
        tokio::select! {
            () = run(Arc::clone(&pool), &origins) => unreachable!("it never ends"),
            () = changes => {}
        }
        assert!(origins.times(1, start).iter().all(|&at| at < 7.0));
        assert!(origins.times(2, start).len() > 5);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_reload_known_endpoints_wait_their_turn() {
        let upstream = checked(upstream(1));
        let (pool, origins) = (Arc::new(Pool::new(&upstream, None)), Origins::default());
        origins.set(1, Ok(200));
        probing(&pool, &origins, 1).await;
        let next = Arc::new(Pool::new(&upstream, Some(&pool)));
        next.activate();
        let reload = Instant::now();
        probing(&next, &origins, 30).await;
        assert!(next.are_healthy(&[address(1)]));
        let times = origins.times(1, reload);
        assert!((4..=8).contains(&times.len()), "{times:?}");
    }
}
