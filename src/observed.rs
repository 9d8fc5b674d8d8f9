//! What the metrics do not count but read of others, at the moment when they are asked for.
//!
//! It runs on a thread that may block and takes no lock that a request waits for.

use std::sync::Arc;

use crate::balance::{BreakerStatus, Member, QueueStatus};
use crate::cache::{Cache, Report, Role, Statistics};
use crate::clock;
use crate::config::RateLimit;
use crate::control::Control;
use crate::overload::crowd::Use;
use crate::rate_limit::{Limit, Tally};
use crate::recovery;
use crate::telemetry::metrics::{
    BreakerSample, CacheSample, CachedRouteSample, EndpointSample, QueueSample, RateLimitSample, UpstreamSample,
    families, gather_certificates, overload, spans,
};
use crate::upstream::Upstream;

/// Called once, when all that it reads is there.
pub fn observe(control: &Control) {
    let metrics = &control.shared.metrics;
    metrics.config_loaded(1, control.started_at);
    let log = control.access.clone();
    metrics.observe(move |to| to.add(&families::LOG_DROPPED, [], log.dropped()));
    let spans = Arc::clone(control.exporting.counts());
    metrics.observe(move |to| spans::gather(&spans, to));
    let certificates = Arc::clone(&control.certificates);
    metrics.observe(move |to| {
        let first =
            certificates.info().into_iter().filter_map(|info| Some((info.hosts.first()?.to_string(), info.not_after)));
        gather_certificates(first, to);
    });
    let shared = control.shared.clone();
    metrics.observe(move |to| {
        let Use { max, .. } = shared.cap.in_use();
        to.add(&families::CONNECTIONS_MAX, [], max as u64);
        to.add(&families::CONNECTIONS_BUSY, [], shared.totals().busy as u64);
        to.add(&families::IN_FLIGHT, [], shared.requests_in_flight());
        to.add(&families::WORKERS, [], shared.counts.len() as u64);
        let generation = shared.live.load();
        overload::gather(&shared.overload, &recovery::report(&generation, &shared.overload), to);
        generation.rate_limits.values().for_each(|limit| limit_sample(limit).gather(to));
        generation.upstreams.values().for_each(|upstream| upstream_sample(upstream).gather(to));
        cache_sample(&shared.cache).gather(to);
    });
}

fn cache_sample(cache: &Cache) -> CacheSample {
    let Report { usage, routes } = cache.report();
    let sample = |(route, statistics): (String, Statistics)| {
        let Statistics { entries, bytes, roles, evictions, purged, lookups } = statistics;
        let outcomes = Role::ALL.into_iter().map(Role::word).zip(roles).collect();
        CachedRouteSample { route, entries, bytes, evictions, purged, outcomes, lookups }
    };
    CacheSample {
        stored_bytes: usage.stored_bytes,
        stored_bytes_max: usage.stored_bytes_max,
        fetching_bytes: usage.fetching_bytes,
        fetching_bytes_max: usage.fetching_bytes_max,
        routes: routes.into_iter().map(sample).collect(),
    }
}

fn limit_sample(limit: &Limit) -> RateLimitSample {
    let (keys, Tally { allowed, limited, dry_run, evicted }) = limit.totals();
    let RateLimit { name, keys_max, .. } = limit.config();
    let (limit, keys, keys_max) = (name.clone(), keys as u64, *keys_max as u64);
    RateLimitSample { limit, allowed, limited, dry_run, evicted, keys, keys_max }
}

fn upstream_sample(upstream: &Upstream) -> UpstreamSample {
    let name: Arc<str> = upstream.config().name.as_str().into();
    let breaker = upstream.pool.breaker_status(clock::now().into_std());
    let breaker = breaker.map(|BreakerStatus { state, opened, refused, .. }| BreakerSample { state, opened, refused });
    let QueueStatus { requests_max, waiting, waited, waited_s, full, timed_out, .. } = upstream.pool.queue().status();
    let (requests_max, waiting) = (requests_max.map(|max| max as u64), waiting as u64);
    let queue = QueueSample { requests_max, waiting, waited, waited_s, full, timed_out };
    let members = upstream.pool.members();
    let endpoints = members.iter().map(|member| endpoint_sample(&name, upstream, member)).collect();
    UpstreamSample { name, breaker, queue, endpoints }
}

fn endpoint_sample(name: &Arc<str>, upstream: &Upstream, member: &Member) -> EndpointSample {
    let (endpoint, verdict) = (&member.endpoint, member.endpoint.verdict());
    let Use { max, .. } = upstream.pool.queue().in_use_at(endpoint);
    let (requests, failures) = endpoint.totals();
    EndpointSample {
        upstream: Arc::clone(name),
        is_tls: upstream.tls.is_some(),
        address: endpoint.address,
        state: verdict.label(),
        is_up: verdict.is_given_requests(),
        in_flight: endpoint.in_flight() as u64,
        requests_max: (max > 0).then_some(max as u64),
        requests,
        failures,
        ejections: endpoint.ejections(),
        metrics: endpoint.metrics.clone(),
    }
}
