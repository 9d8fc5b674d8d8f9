//! `[upstream.NAME]`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::decode::Map;
use crate::config::diagnostics::{Diagnostic, Origin};
use crate::config::file::{self, Health};
use crate::config::section::{List, Setting};
use crate::config::value::Limit;
use crate::config::{
    Balance, Breaker, EndpointAddress, HashBy, HealthCheck, HostPattern, Keepalive, Outlier, Queue, Retry, Run, Source,
    Timeouts, Upstream, UpstreamTls, units,
};

use super::Lowering;

/// The first pause before a retry.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

impl Lowering<'_> {
    pub(super) fn upstreams(&mut self, upstreams: &Map<file::Upstream>) -> Vec<Upstream> {
        upstreams.entries.iter().filter_map(|(name, section)| self.upstream(name, section)).collect()
    }

    fn upstream(&mut self, name: &Setting<String>, setting: &Setting<file::Upstream>) -> Option<Upstream> {
        let section = &setting.value;
        // The name is a label of metrics and a part of control paths.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if name.value.is_empty() || name.value.len() > 64 || !name.value.chars().all(plain) {
            let error = Diagnostic::error(name.origin, format!("`{}` is not a name for an upstream", name.value));
            self.report(error.label("expected up to 64 letters, digits, `-`, `_` and `.`"));
        }
        self.keys_of_hash(section);
        self.caps_of_queue(section);
        let source = self.source(&name.value, setting)?;
        Some(Upstream {
            name: name.value.clone(),
            source,
            protocol: section.protocol.value,
            tls: self.upstream_tls(section),
            balance: section.balance.value,
            hash_by: section.hash_by.as_ref().map_or(HashBy::ClientIp, |by| by.value.clone()),
            hash_load_max: section.hash_load_max.as_ref().map(|percent| percent.value.0),
            requests_max: section.requests_max.value.to_usize(),
            endpoint_requests_max: section.endpoint_requests_max.value.to_usize(),
            queue: section.queue.value.0.as_ref().map(queue),
            fails_max: section.fails_max.value.0,
            fail_timeout: section.fail_timeout.value.0,
            fail_timeout_max: section.fail_timeout_max.value.0,
            outlier: section.outlier.as_ref().map(|section| outlier(&section.value)),
            slow_start: section.slow_start.as_ref().map(|limit| limit.value.0),
            keepalive: keepalive(&section.keepalive.value),
            timeout: self.timeouts(&section.timeout.value),
            health: section.health.as_ref().map(|health| health_check(&health.value)),
            breaker: section.breaker.as_ref().map(|section| breaker(&section.value)),
            retry: self.retry(&section.retry.value),
        })
    }

    /// They mean nothing beside another policy.
    fn keys_of_hash(&mut self, section: &file::Upstream) {
        if section.balance.value == Balance::Hash || section.balance.tainted {
            return;
        }
        let by = section.hash_by.as_ref().map(|by| ("hash_by", by.origin));
        let load = section.hash_load_max.as_ref().map(|load| ("hash_load_max", load.origin));
        for (key, origin) in [by, load].into_iter().flatten() {
            let word = section.balance.value.word();
            let error = Diagnostic::error(origin, format!("`{key}` has no effect with `balance = \"{word}\"`"));
            self.report(error.help("add `balance = \"hash\"`"));
        }
    }

    /// Nobody waits where everybody is let in.
    fn caps_of_queue(&mut self, section: &file::Upstream) {
        let caps = [&section.requests_max, &section.endpoint_requests_max];
        let is_capped = caps.iter().any(|cap| cap.value.to_usize() > 0 || cap.tainted);
        if is_capped || section.queue.value.0.is_none() || section.queue.origin.span().is_none() {
            return;
        }
        let error = Diagnostic::error(section.queue.origin, "`queue` has no effect without a limit of requests");
        self.report(error.help("set `requests_max` or `endpoint_requests_max`, or leave `queue` out"));
    }

    fn timeouts(&mut self, timeout: &file::Timeout) -> Timeouts {
        let timeouts = Timeouts {
            connect: timeout.connect.value.0,
            send: timeout.send.value.0,
            read: timeout.read.value.0,
            tunnel_idle: timeout.tunnel_idle.value.0,
            total: timeout.total.as_ref().map(|limit| limit.value.0),
            attempt: timeout.attempt.as_ref().map(|limit| limit.value.0),
        };
        self.attempt_within_total(&timeouts, timeout.attempt.as_ref().or(timeout.total.as_ref()));
        timeouts
    }

    /// `key` is the one that a limit of attempts which never fires is told of.
    pub(super) fn attempt_within_total(&mut self, timeouts: &Timeouts, key: Option<&Setting<Limit>>) {
        if let (Some(attempt), Some(total), Some(key)) = (timeouts.attempt, timeouts.total, key)
            && attempt > total
        {
            let (attempt, total) = (units::show_duration(attempt), units::show_duration(total));
            let message = format!("an attempt may take {attempt}, but all of them together {total}");
            let warning = Diagnostic::warning(key.origin, message).label("`attempt` never ends anything");
            self.report(warning.help("`total` is over all attempts: with several, `attempt` is a part of it"));
        }
    }

    fn source(&mut self, name: &str, section: &Setting<file::Upstream>) -> Option<Source> {
        match (&section.value.endpoints, &section.value.run) {
            (Some(endpoints), Some(run)) => {
                let message = format!("upstream `{name}` has both `endpoints` and `run`");
                let error = Diagnostic::error(run.origin, message).label("replicas that are started here");
                self.report(error.also(endpoints.origin, "endpoints that run elsewhere").help("keep one of them"));
                None
            }
            (None, None) => {
                if !section.tainted {
                    let message = format!("upstream `{name}` has no endpoints");
                    let error = Diagnostic::error(section.origin, message);
                    self.report(error.help("add `endpoints = [\"host:port\"]`, or `run` to start replicas here"));
                }
                None
            }
            (Some(endpoints), None) => {
                if endpoints.value.is_empty() && !endpoints.tainted {
                    self.report(Diagnostic::error(endpoints.origin, format!("upstream `{name}` has no endpoints")));
                }
                Some(Source::Endpoints(self.endpoints(&endpoints.value)))
            }
            (None, Some(run)) => self.run(&run.value).map(Source::Run),
        }
    }

    fn endpoints(&mut self, list: &List<file::Endpoint>) -> Vec<EndpointAddress> {
        let mut endpoints: Vec<(EndpointAddress, Origin)> = Vec::new();
        for Setting { value: endpoint, .. } in list {
            let Some(address) = &endpoint.address else { continue };
            if let Some((_, first)) = endpoints.iter().find(|(known, _)| known.target == address.value) {
                let error = Diagnostic::error(address.origin, "the same endpoint twice").label("again here");
                self.report(error.also(*first, "first here").help("for a larger share use `weight`"));
            }
            let target = address.value.clone();
            endpoints.push((EndpointAddress { target, weight: endpoint.weight }, address.origin));
        }
        endpoints.into_iter().map(|(endpoint, _)| endpoint).collect()
    }

    fn run(&mut self, run: &file::Run) -> Option<Run> {
        let command = run.command.as_ref()?;
        let folder = self.folder(command.origin).display().to_string();
        let words: Vec<String> = command.value.iter().map(|word| word.value.replace("{folder}", &folder)).collect();
        if words.first().is_none_or(String::is_empty) && !command.tainted {
            let error = Diagnostic::error(command.origin, "`command` names no program");
            self.report(error.help("the first item is the program, as in [\"{self}\", \"backend\"]"));
        }
        for word in &command.value {
            let known = ["{self}", "{folder}", "{address}", "{port}"];
            let left = known.iter().fold(word.value.clone(), |text, known| text.replace(known, ""));
            let unknown =
                left.find('{').and_then(|start| left.get(start..)).and_then(|rest| rest.split_inclusive('}').next());
            if let Some(unknown) = unknown.filter(|unknown| unknown.ends_with('}') && !unknown.contains(' ')) {
                let warning = Diagnostic::warning(word.origin, format!("`{unknown}` is not filled in"));
                self.report(warning.help("what is filled in are {self}, {folder}, {address} and {port}"));
            }
        }
        Some(Run { command: words, replicas: run.replicas.value.to_usize() })
    }

    fn retry(&mut self, retry: &file::Retry) -> Retry {
        let status = retry.status.as_ref().map(|status| status.value.0.clone()).unwrap_or_default();
        if let Some(good) = status.iter().map(|range| *range.start()).find(|first| *first < 400) {
            let origin = retry.status.as_ref().map_or(Origin::Default, |status| status.origin);
            let error = Diagnostic::error(origin, format!("{good} is no failure"));
            self.report(error.label("expected status codes from 400 to 599"));
        }
        if retry.backoff.value > BACKOFF_MAX {
            let error = Diagnostic::error(retry.backoff.origin, "a pause of more than ten seconds");
            self.report(error.label("at most \"10s\"").help("the client waits meanwhile, and later pauses are longer"));
        }
        Retry {
            attempts: retry.attempts.value.0,
            status,
            backoff: retry.backoff.value,
            budget_percent: retry.budget.value.0,
        }
    }

    fn upstream_tls(&mut self, section: &file::Upstream) -> Option<UpstreamTls> {
        let tls = section.tls.as_ref()?.value.0.as_ref()?;
        let server_name = tls.server_name.as_ref().and_then(|name| match &name.value {
            HostPattern::Exact(host) => Some(host.clone()),
            HostPattern::Wildcard(_) => {
                self.report(Diagnostic::error(name.origin, "the name to verify is one name, not a pattern"));
                None
            }
        });
        Some(UpstreamTls { server_name, ca: tls.ca.as_ref().map(|ca| self.readable(ca).0) })
    }

    /// A warning for each upstream that no route names.
    pub(super) fn unused_upstreams(&mut self, upstreams: &Map<file::Upstream>, routes: &List<file::Route>) {
        // A route that could not be read may be the one that names it.
        if routes.iter().any(|route| route.tainted) {
            return;
        }
        let named = routes.iter().filter_map(|route| route.value.upstream.as_ref());
        let named: BTreeSet<&str> = named.map(|upstream| upstream.value.as_str()).collect();
        for (name, _) in &upstreams.entries {
            if !named.contains(name.value.as_str()) {
                let message = format!("upstream `{}` is used by no route", name.value);
                self.report(Diagnostic::warning(name.origin, message).label("never asked"));
            }
        }
    }
}

fn keepalive(keepalive: &file::Keepalive) -> Keepalive {
    Keepalive {
        connections: keepalive.connections.value.to_usize(),
        requests: keepalive.requests.value.0.into(),
        idle: keepalive.idle.value.0,
    }
}

fn queue(queue: &file::Queue) -> Queue {
    Queue { requests_max: queue.requests_max.value.to_usize(), timeout: queue.timeout.value.0 }
}

fn outlier(outlier: &file::Outlier) -> Outlier {
    Outlier {
        share: outlier.share.value.0,
        requests: outlier.requests.value.0,
        window: outlier.window.value.0,
        status: outlier.status.value.0.clone(),
        ejected_max: outlier.ejected_max.value.0,
    }
}

fn breaker(breaker: &file::Breaker) -> Breaker {
    Breaker {
        failures: breaker.failures.value.0,
        window: breaker.window.value.0,
        share: breaker.share.value.0,
        open: breaker.open.value.0,
        status: breaker.status.value.0.clone(),
    }
}

fn health_check(health: &Health) -> HealthCheck {
    HealthCheck {
        path: health.path.value.0.clone(),
        interval: health.interval.value.0,
        timeout: health.timeout.value.0,
        healthy_after: health.healthy_after.value.0,
        unhealthy_after: health.unhealthy_after.value.0,
        expect_status: health.expect.value.status.value.0.clone(),
        expect_body: health.expect.value.body.as_ref().map(|body| body.value.clone()),
        when_all_fail: health.when_all_fail.value,
    }
}
