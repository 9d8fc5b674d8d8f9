//! What changed in upstreams.

use std::collections::HashMap;

use crate::config::{
    Breaker, EndpointAddress, HealthCheck, Keepalive, Queue, Retry, Run, Source, Target, Timeouts, Upstream,
};

use super::{Changes, Shown};

pub(super) fn by_name(upstreams: &[Upstream]) -> HashMap<&str, &Upstream> {
    upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream)).collect()
}

impl Changes {
    pub(super) fn upstreams(&mut self, old: &[Upstream], new: &[Upstream]) {
        self.about("");
        let names = |upstreams: &[Upstream]| upstreams.iter().map(|upstream| upstream.name.clone()).collect::<Vec<_>>();
        self.members("upstream", &names(old), &names(new));
        let now = by_name(new);
        for upstream in old {
            if let Some(now) = now.get(upstream.name.as_str()) {
                self.upstream(upstream, now);
            }
        }
    }

    fn upstream(&mut self, old: &Upstream, new: &Upstream) {
        let Upstream {
            name,
            source,
            protocol,
            tls,
            balance,
            hash_by,
            hash_load_max,
            requests_max,
            endpoint_requests_max,
            queue,
            fails_max,
            fail_timeout,
            fail_timeout_max,
            outlier,
            slow_start,
            keepalive,
            timeout,
            health,
            breaker,
            retry,
        } = old;
        self.about(format!("upstream {name}: "));
        self.source(source, &new.source);
        self.value("protocol", &protocol.word(), &new.protocol.word());
        self.silent("TLS", tls, &new.tls);
        self.value("balance", &balance.word(), &new.balance.word());
        self.value("failures that take an endpoint out", fails_max, &new.fails_max);
        self.value("hash key", &hash_by.to_string(), &new.hash_by.to_string());
        self.value("hash load", hash_load_max, &new.hash_load_max);
        self.value("requests in flight", requests_max, &new.requests_max);
        self.value("requests in flight at an endpoint", endpoint_requests_max, &new.endpoint_requests_max);
        self.queue(queue.as_ref(), new.queue.as_ref());
        self.value("fail timeout", fail_timeout, &new.fail_timeout);
        self.value("longest fail timeout", fail_timeout_max, &new.fail_timeout_max);
        self.silent("outliers", outlier, &new.outlier);
        self.value("slow start", slow_start, &new.slow_start);
        let Keepalive { connections, requests, idle } = keepalive;
        self.value("idle connections", connections, &new.keepalive.connections);
        self.value("requests of a connection", requests, &new.keepalive.requests);
        self.value("idle timeout", idle, &new.keepalive.idle);
        self.timeouts(timeout, &new.timeout);
        self.health(health.as_ref(), new.health.as_ref());
        self.breaker(breaker.as_ref(), new.breaker.as_ref());
        let Retry { attempts, status, backoff, budget_percent } = retry;
        self.value("attempts", attempts, &new.retry.attempts);
        self.silent("status that is tried again", status, &new.retry.status);
        self.value("pause before a retry", backoff, &new.retry.backoff);
        self.value("percent of requests that may be retries", budget_percent, &new.retry.budget_percent);
    }

    fn source(&mut self, old: &Source, new: &Source) {
        match (old, new) {
            (Source::Endpoints(old), Source::Endpoints(new)) => self.endpoints(old, new),
            (Source::Run(Run { command, replicas }), Source::Run(new)) => {
                self.value("command", &command.join(" "), &new.command.join(" "));
                self.value("replicas", replicas, &new.replicas);
            }
            (Source::Endpoints(_), Source::Run(_)) => self.say("replicas are started here in place of endpoints"),
            (Source::Run(_), Source::Endpoints(_)) => self.say("endpoints in place of replicas that were started here"),
        }
    }

    fn endpoints(&mut self, old: &[EndpointAddress], new: &[EndpointAddress]) {
        let targets =
            |endpoints: &[EndpointAddress]| endpoints.iter().map(|one| one.target.clone()).collect::<Vec<_>>();
        self.members("endpoint", &targets(old), &targets(new));
        for EndpointAddress { target, weight } in old {
            if let Some(now) = new.iter().find(|now| now.target == *target) {
                self.value(&format!("weight of {}", target.shown()), weight, &now.weight);
            }
        }
    }

    pub(super) fn timeouts(&mut self, old: &Timeouts, new: &Timeouts) {
        let Timeouts { connect, send, read, tunnel_idle, total, attempt } = old;
        self.value("connect timeout", connect, &new.connect);
        self.value("send timeout", send, &new.send);
        self.value("read timeout", read, &new.read);
        self.value("tunnel idle timeout", tunnel_idle, &new.tunnel_idle);
        self.value("total timeout", total, &new.total);
        self.value("attempt timeout", attempt, &new.attempt);
    }

    fn queue(&mut self, old: Option<&Queue>, new: Option<&Queue>) {
        let (old, new) = match (old, new) {
            (None, None) => return,
            (None, Some(_)) => return self.say("requests wait for room"),
            (Some(_), None) => return self.say("requests no longer wait for room"),
            (Some(old), Some(new)) => (old, new),
        };
        let Queue { requests_max, timeout } = old;
        self.value("requests that may wait", requests_max, &new.requests_max);
        self.value("longest wait for room", timeout, &new.timeout);
    }

    fn breaker(&mut self, old: Option<&Breaker>, new: Option<&Breaker>) {
        let (old, new) = match (old, new) {
            (None, None) => return,
            (None, Some(_)) => return self.say("breaker added"),
            (Some(_), None) => return self.say("breaker removed"),
            (Some(old), Some(new)) => (old, new),
        };
        let Breaker { failures, window, share, open, status } = old;
        self.value("failures that open the breaker", failures, &new.failures);
        self.value("breaker window", window, &new.window);
        self.value("share that opens the breaker", share, &new.share);
        self.value("breaker open time", open, &new.open);
        self.silent("status that the breaker counts", status, &new.status);
    }

    fn health(&mut self, old: Option<&HealthCheck>, new: Option<&HealthCheck>) {
        let (old, new) = match (old, new) {
            (None, None) => return,
            (None, Some(_)) => return self.say("health check added"),
            (Some(_), None) => return self.say("health check removed"),
            (Some(old), Some(new)) => (old, new),
        };
        let HealthCheck {
            path,
            interval,
            timeout,
            healthy_after,
            unhealthy_after,
            expect_status,
            expect_body,
            when_all_fail,
        } = old;
        self.value("health path", path, &new.path);
        self.value("health interval", interval, &new.interval);
        self.value("health timeout", timeout, &new.timeout);
        self.value("healthy after", healthy_after, &new.healthy_after);
        self.value("unhealthy after", unhealthy_after, &new.unhealthy_after);
        self.silent("expected health status", expect_status, &new.expect_status);
        self.silent("expected health body", expect_body, &new.expect_body);
        self.value("when all fail", &when_all_fail.word(), &new.when_all_fail.word());
    }
}

impl Shown for Target {
    fn shown(&self) -> String {
        match self {
            Self::Socket(address) => address.to_string(),
            Self::Name { host, port } => format!("{host}:{port}"),
        }
    }
}
