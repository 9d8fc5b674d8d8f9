//! What changed in routes. A route is the same one if its hosts and its path are.

use std::collections::{HashMap, HashSet};

use crate::config::{
    Action, Compress, Config, FieldEdits, HostPolicy, PathMatch, PathRewrite, ProxyPass, Route, Timeouts, Upstream,
};

use super::upstream::by_name;
use super::{Bytes, Changes, Most, Shown, on};

/// What routes take over from the rest of their configuration.
struct Around<'a> {
    body_max: u64,
    compress: &'a Option<Compress>,
    upstreams: HashMap<&'a str, &'a Upstream>,
}

impl<'a> Around<'a> {
    fn of(config: &'a Config) -> Self {
        Self { body_max: config.client.body_max, compress: &config.compress, upstreams: by_name(&config.upstreams) }
    }
}

impl Changes {
    pub(super) fn routes(&mut self, old: &Config, new: &Config) {
        self.about("");
        let labels = |config: &Config| config.routes.iter().map(label).collect::<Vec<_>>();
        let (before, after) = (labels(old), labels(new));
        self.members("route", &before, &after);
        let around = (Around::of(old), Around::of(new));
        let now: HashMap<&String, &Route> = after.iter().zip(&new.routes).rev().collect();
        for (route, label) in old.routes.iter().zip(&before) {
            if let Some(now) = now.get(label) {
                self.about(format!("route {label}: "));
                self.route(route, now, (&around.0, &around.1));
            }
        }
        self.order_of_patterns(old, new);
    }

    fn route(&mut self, old: &Route, new: &Route, configs: (&Around<'_>, &Around<'_>)) {
        let Route {
            name,
            origin: _,
            hosts: _,
            path: _,
            action,
            allow,
            deny,
            request_fields,
            response_fields,
            requests_max,
            access_log,
            body_max,
            compress,
            reflects_input,
        } = old;
        self.value("name", name, &new.name);
        self.action(action, &new.action, configs);
        self.members("allowed network", allow, &new.allow);
        self.members("denied network", deny, &new.deny);
        self.fields("request", request_fields, &new.request_fields);
        self.fields("response", response_fields, &new.response_fields);
        self.value("most requests in flight", &Most(*requests_max), &Most(new.requests_max));
        self.value("access log", &on(*access_log), &on(new.access_log));
        // What comes from [client] or [compress] has been told there.
        let inherited = *body_max == configs.0.body_max && new.body_max == configs.1.body_max;
        if !inherited {
            self.value("largest body", &Bytes(*body_max), &Bytes(new.body_max));
        }
        let inherited = *compress == *configs.0.compress && new.compress == *configs.1.compress;
        if !inherited {
            self.compress(compress.as_ref(), new.compress.as_ref());
        }
        self.value("reflects input", &on(*reflects_input), &on(new.reflects_input));
    }

    fn action(&mut self, old: &Action, new: &Action, configs: (&Around<'_>, &Around<'_>)) {
        match (old, new) {
            (Action::Proxy(old), Action::Proxy(new)) => self.proxy(old, new, configs),
            (Action::Redirect { to, status }, Action::Redirect { to: new_to, status: new_status }) => {
                self.value("redirect", to, new_to);
                self.value("code", status, new_status);
            }
            (Action::Text { body, status }, Action::Text { body: new_body, status: new_status }) => {
                self.silent("text", body, new_body);
                self.value("code", status, new_status);
            }
            (Action::StubStatus, Action::StubStatus) => {}
            (old, new) => self.say(format_args!("{} → {}", kind(old), kind(new))),
        }
    }

    fn proxy(&mut self, old: &ProxyPass, new: &ProxyPass, configs: (&Around<'_>, &Around<'_>)) {
        let ProxyPass { upstream, host, path, timeout, buffer, etag_body_max, cache, fallback } = old;
        self.value("upstream", upstream, &new.upstream);
        self.value("host", host, &new.host);
        self.value("path to the endpoint", path, &new.path);
        let inherits = |config: &Around<'_>, timeout: &Timeouts, name: &str| {
            config.upstreams.get(name).is_some_and(|upstream| upstream.timeout == *timeout)
        };
        let inherited = inherits(configs.0, timeout, upstream) && inherits(configs.1, &new.timeout, &new.upstream);
        if !inherited {
            self.timeouts(timeout, &new.timeout);
        }
        let bytes = |size: usize| Bytes(size as u64);
        self.value("request buffer", &bytes(buffer.request), &bytes(new.buffer.request));
        self.value("response buffer", &bytes(buffer.response), &bytes(new.buffer.response));
        match (etag_body_max, new.etag_body_max) {
            (None, Some(_)) => self.say("answers get entity tags"),
            (Some(_), None) => self.say("answers get no entity tags any more"),
            (old, new) => self.silent("largest answer with an entity tag", old, &new),
        }
        match (cache, &new.cache) {
            (None, Some(_)) => self.say("responses are kept"),
            (Some(_), None) => self.say("responses are not kept any more"),
            (old, new) => self.silent("cache", old, new),
        }
        self.silent("fallback page", fallback, &new.fallback);
    }

    fn fields(&mut self, of: &str, old: &FieldEdits, new: &FieldEdits) {
        let FieldEdits { set, remove } = old;
        for (name, value) in set {
            match new.set.iter().find(|(now, _)| now == name) {
                None => self.say(format_args!("{of} field {name} is not set any more")),
                Some((_, now)) => self.silent(&format!("{of} field {name}"), value, now),
            }
        }
        for (name, _) in new.set.iter().filter(|(name, _)| !set.iter().any(|(old, _)| old == name)) {
            self.say(format_args!("{of} field {name} is set"));
        }
        self.members(&format!("removal of {of} field"), remove, &new.remove);
    }

    /// The first pattern that matches wins, so their order has a meaning.
    fn order_of_patterns(&mut self, old: &Config, new: &Config) {
        let order = |config: &Config, other: &Config| {
            let patterns = config.routes.iter().filter(|route| matches!(route.path, PathMatch::Regex(_))).map(label);
            let others: HashSet<_> = other.routes.iter().map(label).collect();
            patterns.filter(|label| others.contains(label)).collect::<Vec<_>>()
        };
        self.about("");
        if order(old, new) != order(new, old) {
            self.say("routes with patterns are tried in another order");
        }
    }
}

/// `example.com /api`, `= /exact`, `~ pattern`, as nginx marks them.
fn label(route: &Route) -> String {
    let path = match &route.path {
        PathMatch::Prefix(path) => path.clone(),
        PathMatch::Exact(path) => format!("= {path}"),
        PathMatch::Regex(regex) => format!("~ {regex}"),
    };
    let hosts = route.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if hosts.is_empty() { path } else { format!("{hosts} {path}") }
}

fn kind(action: &Action) -> String {
    match action {
        Action::Proxy(proxy) => format!("upstream {}", proxy.upstream),
        Action::Redirect { to, .. } => format!("redirect to {to}"),
        Action::Text { .. } => "a text".to_owned(),
        Action::StubStatus => "the status page".to_owned(),
    }
}

impl Shown for HostPolicy {
    fn shown(&self) -> String {
        match self {
            Self::Preserve => "preserve".to_owned(),
            Self::Upstream => "upstream".to_owned(),
            Self::Fixed(host) => String::from_utf8_lossy(host.as_bytes()).into_owned(),
        }
    }
}

impl Shown for PathRewrite {
    fn shown(&self) -> String {
        match self {
            Self::Keep => "as it is".to_owned(),
            Self::StripPrefix(prefix) => format!("without {prefix}"),
            Self::Regex { pattern, to } => format!("{pattern} as {to}"),
        }
    }
}
