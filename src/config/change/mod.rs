//! What a reload changed, in an operator's words.
//!
//! Every struct is taken apart without `..`, so that a new key cannot be forgotten here.

mod compress;
mod rate_limit;
mod route;
mod telemetry;
mod upstream;

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::units::{show_duration, show_rate, show_size};
use super::{
    AccessLog, Admin, Cache, Certificate, CertificateSource, Client, Config, Dependency, Dns, H2, Listen, Log,
    LogTarget, Profile, Protocols, Reload, Server, TlsVersion,
};
use crate::overload::memory;

/// One sentence a change from `old` to `new`, in the order of the file, and one for each value of `new` that
/// the process, which began with `started`, does not take over while it runs.
pub fn describe(started: &Config, old: &Config, new: &Config) -> Vec<String> {
    let mut sentences = Changes::between(old, new).list;
    sentences.extend(Changes::between(started, new).restarts);
    sentences
}

/// Collects sentences about one subject after the other.
#[derive(Default)]
struct Changes {
    list: Vec<String>,
    /// Those that only a restart takes over.
    restarts: Vec<String>,
    subject: String,
}

impl Changes {
    fn between(old: &Config, new: &Config) -> Self {
        let Config {
            profile,
            server,
            listeners,
            certificates,
            client,
            dns,
            rate_limits,
            cache,
            upstreams,
            compress,
            routes: _,
            admin,
            log,
            telemetry,
        } = old;
        let mut changes = Changes::default();
        changes.profile(*profile, new.profile);
        changes.server(server, &new.server);
        changes.listeners(listeners, &new.listeners);
        changes.certificates(certificates, &new.certificates);
        changes.client(client, &new.client);
        changes.dns(dns, &new.dns);
        changes.rate_limits(rate_limits, &new.rate_limits);
        changes.cache(cache, &new.cache);
        changes.upstreams(upstreams, &new.upstreams);
        changes.about("");
        changes.compress(compress.as_ref(), new.compress.as_ref());
        changes.routes(old, new);
        changes.admin(admin.as_ref(), new.admin.as_ref());
        changes.log(log, &new.log);
        changes.telemetry(telemetry.as_ref(), new.telemetry.as_ref());
        changes
    }

    fn about(&mut self, subject: impl Into<String>) {
        self.subject = subject.into();
    }

    fn say(&mut self, what: impl Display) {
        self.list.push(format!("{}{what}", self.subject));
    }

    fn say_restart(&mut self, what: impl Display) {
        self.restarts.push(format!("{}{what}: needs a restart", self.subject));
    }

    /// `read timeout 60s → 10s`, if they differ.
    fn value<T: PartialEq + Shown>(&mut self, name: &str, old: &T, new: &T) {
        if old != new {
            self.say(format_args!("{name} {} → {}", old.shown(), new.shown()));
        }
    }

    /// `endpoint 10.0.0.3:3000 removed`, for members of a set.
    fn members<T: Eq + Hash + Shown>(&mut self, name: &str, old: &[T], new: &[T]) {
        let (before, now): (HashSet<&T>, HashSet<&T>) = (old.iter().collect(), new.iter().collect());
        for gone in old.iter().filter(|item| !now.contains(item)) {
            self.say(format_args!("{name} {} removed", gone.shown()));
        }
        for added in new.iter().filter(|item| !before.contains(item)) {
            self.say(format_args!("{name} {} added", added.shown()));
        }
    }

    /// `rewrite changed`, where the values are too long to show or secret.
    fn silent<T: PartialEq>(&mut self, name: &str, old: &T, new: &T) {
        if old != new {
            self.say(format_args!("{name} changed"));
        }
    }

    fn profile(&mut self, old: Profile, new: Profile) {
        self.about("");
        if old != new {
            self.say_restart(format_args!("profile {} → {}", old.word(), new.word()));
        }
    }

    fn server(&mut self, old: &Server, new: &Server) {
        let Server {
            workers,
            connections_max,
            idle_close_at,
            requests_max,
            memory,
            drain_delay,
            drain_timeout,
            reload,
        } = old;
        self.about("server: ");
        if *workers != new.workers {
            self.say_restart(format_args!("workers {workers} → {}", new.workers));
        }
        self.value("most connections", connections_max, &new.connections_max);
        self.value("idle connections are closed at", &idle_close_at.map(Percent), &new.idle_close_at.map(Percent));
        self.value("most requests in flight", &Most(*requests_max), &Most(new.requests_max));
        let limits =
            |memory: Option<memory::Limits>| memory.map(|limits| (Bytes(limits.soft), Bytes(limits.hard))).unzip();
        let (before, now) = (limits(*memory), limits(new.memory));
        self.value("soft limit of memory", &before.0, &now.0);
        self.value("hard limit of memory", &before.1, &now.1);
        self.value("drain delay", drain_delay, &new.drain_delay);
        self.value("drain timeout", drain_timeout, &new.drain_timeout);
        self.value("reload", reload, &new.reload);
    }

    fn cache(&mut self, old: &Cache, new: &Cache) {
        let Cache { enabled, memory, object_max, entries_max, targets, rules, dependencies, warm } = old;
        self.about("cache: ");
        match (*enabled, new.enabled) {
            (false, true) => self.say("switched on"),
            (true, false) => self.say("switched off"),
            _ => {}
        }
        self.value("memory", &Bytes(*memory), &Bytes(new.memory));
        self.value("largest response", &Bytes(*object_max), &Bytes(new.object_max));
        self.value("most responses", entries_max, &new.entries_max);
        self.silent("targets", targets, &new.targets);
        self.silent("rules", rules, &new.rules);
        self.silent("what is warmed at a start", warm, &new.warm);
        let names = |rows: &[Dependency]| rows.iter().map(|row| row.name.as_str().to_owned()).collect::<Vec<_>>();
        self.members("dependencies of", &names(dependencies), &names(&new.dependencies));
        for Dependency { name, dependents } in dependencies {
            if let Some(now) = new.dependencies.iter().find(|now| now.name == *name) {
                self.silent(&format!("dependencies of {}", name.as_str()), dependents, &now.dependents);
            }
        }
    }

    fn listeners(&mut self, old: &[Listen], new: &[Listen]) {
        self.about("");
        let addresses = |listeners: &[Listen]| listeners.iter().map(|listen| listen.address).collect::<Vec<_>>();
        self.members("listener", &addresses(old), &addresses(new));
        for listen in old {
            let Some(now) = new.iter().find(|now| now.address == listen.address) else { continue };
            let Listen { address, tls, protocols, https_redirect, hsts } = listen;
            self.about(format!("listener {address}: "));
            self.value("TLS from", &tls.as_ref().map(|tls| tls.min), &now.tls.as_ref().map(|tls| tls.min));
            self.value("protocols", protocols, &now.protocols);
            self.value("redirect to https at port", https_redirect, &now.https_redirect);
            self.silent("Strict-Transport-Security", hsts, &now.hsts);
        }
    }

    fn certificates(&mut self, old: &[Certificate], new: &[Certificate]) {
        self.about("");
        let names = |certificates: &[Certificate]| certificates.iter().map(names).collect::<Vec<_>>();
        self.members("certificate for", &names(old), &names(new));
        for Certificate { hosts, source } in old {
            if let Some(now) = new.iter().find(|now| now.hosts == *hosts) {
                self.value(&format!("certificate for {}:", self::names(now)), source, &now.source);
            }
        }
    }

    fn client(&mut self, old: &Client, new: &Client) {
        let Client {
            trusted,
            connections_max,
            requests_max,
            handshake_timeout,
            header_timeout,
            body_timeout,
            idle_timeout,
            send_timeout,
            rate_min,
            body_max,
            h2: H2 { streams_max, heads_max },
        } = old;
        self.about("client: ");
        self.members("trusted network", trusted, &new.trusted);
        self.value("most connections", connections_max, &new.connections_max);
        self.value("most requests in flight", &Most(*requests_max), &Most(new.requests_max));
        self.value("handshake timeout", handshake_timeout, &new.handshake_timeout);
        self.value("header timeout", header_timeout, &new.header_timeout);
        self.value("body timeout", body_timeout, &new.body_timeout);
        self.value("idle timeout", idle_timeout, &new.idle_timeout);
        self.value("send timeout", send_timeout, &new.send_timeout);
        self.value("lowest rate", &Rate(*rate_min), &Rate(new.rate_min));
        self.value("largest body", &Bytes(*body_max), &Bytes(new.body_max));
        self.value("streams at a time", streams_max, &new.h2.streams_max);
        self.value("memory for heads", &heads_max.map(Bytes), &new.h2.heads_max.map(Bytes));
    }

    fn dns(&mut self, old: &Dns, new: &Dns) {
        let Dns { ttl_max, servers } = old;
        self.about("dns: ");
        self.value("longest life of an answer", ttl_max, &new.ttl_max);
        self.members("server", servers, &new.servers);
    }

    /// The listener is opened once; who may use it is looked up for each request.
    fn admin(&mut self, old: Option<&Admin>, new: Option<&Admin>) {
        self.about("");
        match (old, new) {
            (None, None) => {}
            (Some(old), None) => self.say_restart(format_args!("admin listener {} removed", old.address)),
            (None, Some(new)) => self.say_restart(format_args!("admin listener {} added", new.address)),
            (Some(old), Some(new)) => self.admin_table(old, new),
        }
    }

    fn admin_table(&mut self, old: &Admin, new: &Admin) {
        let Admin { address, hosts, allow, socket, token } = old;
        self.about("admin: ");
        if *address != new.address {
            self.say_restart(format_args!("address {address} → {}", new.address));
        }
        self.members("host", hosts, &new.hosts);
        self.members("allowed network", allow, &new.allow);
        if *socket != new.socket {
            let path = |socket: &Option<std::path::PathBuf>| socket.as_ref().map(|path| path.display().to_string());
            let (old, new) = (path(socket), path(&new.socket));
            self.say_restart(format_args!("control socket {} → {}", old.shown(), new.shown()));
        }
        self.silent("token", token, &new.token);
    }

    fn log(&mut self, old: &Log, new: &Log) {
        let Log { level, access: AccessLog { format, target, redact } } = old;
        self.about("log: ");
        self.value("level", &level.word(), &new.level.word());
        self.value("access format", &format.word(), &new.access.format.word());
        self.value("access log", target, &new.access.target);
        self.members("redacted parameter", redact, &new.access.redact);
    }
}

fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn names(certificate: &Certificate) -> String {
    certificate.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A value as an operator would write it.
trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_as_displayed {
    ($($type:ty)*) => {$(
        impl Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

shown_as_displayed!(bool u16 u32 u64 usize &str String IpNet SocketAddr http::StatusCode http::HeaderName);

/// A number of bytes.
#[derive(PartialEq)]
struct Bytes(u64);

impl Shown for Bytes {
    fn shown(&self) -> String {
        show_size(self.0)
    }
}

/// Bytes a second.
#[derive(PartialEq)]
struct Rate(u64);

impl Shown for Rate {
    fn shown(&self) -> String {
        show_rate(self.0)
    }
}

/// 0 is none.
#[derive(PartialEq)]
struct Most(usize);

impl Shown for Most {
    fn shown(&self) -> String {
        if self.0 == 0 { "no limit".to_owned() } else { self.0.to_string() }
    }
}

#[derive(PartialEq)]
struct Percent(u32);

impl Shown for Percent {
    fn shown(&self) -> String {
        format!("{} %", self.0)
    }
}

impl Shown for Duration {
    fn shown(&self) -> String {
        show_duration(*self)
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map_or_else(|| "off".to_owned(), Shown::shown)
    }
}

impl Shown for Reload {
    fn shown(&self) -> String {
        self.word().to_owned()
    }
}

impl Shown for TlsVersion {
    fn shown(&self) -> String {
        self.word().to_owned()
    }
}

impl Shown for Protocols {
    fn shown(&self) -> String {
        match (self.h1, self.h2) {
            (true, true) => "h1 and h2".to_owned(),
            (true, false) => "h1".to_owned(),
            (false, true) => "h2".to_owned(),
            (false, false) => "none".to_owned(),
        }
    }
}

impl Shown for CertificateSource {
    fn shown(&self) -> String {
        match self {
            Self::Local => "made here".to_owned(),
            Self::Files { certificate, .. } => certificate.display().to_string(),
        }
    }
}

impl Shown for LogTarget {
    fn shown(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Stdout => "stdout".to_owned(),
            Self::Stderr => "stderr".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};

    const BEFORE: &str = r#"
        [[listen]]
        address = "127.0.0.1:8080"
        [[listen]]
        address = "127.0.0.1:8443"
        tls = true
        [[certificate]]
        hosts = ["localhost"]
        local = true
        [client]
        body_max = "10MiB"
        trusted = ["10.0.0.0/8"]
        [upstream.app]
        endpoints = ["10.0.0.1:3000", "10.0.0.3:3000"]
        timeout = { read = "30s" }
        [upstream.jobs]
        run = { command = ["jobs", "--port", "{port}"], replicas = 2 }
        [[route]]
        path = "/api"
        upstream = "app"
        timeout = { read = "60s" }
        [[route]]
        path = "/"
        upstream = "app"
        [[route]]
        path = "/jobs"
        upstream = "jobs"
        [[route]]
        path_regex = "^/a"
        redirect = "https://{host}/"
        [[route]]
        path_regex = "^/b"
        text = "b"
        [admin]
        control = { token = "a-token-that-is-long" }
    "#;

    fn config(text: &str) -> Config {
        let parsed = parse("config.toml", text, &Environment::bare());
        parsed.unwrap_or_else(|found| panic!("{}", found.render(false))).config
    }

    #[track_caller]
    fn check(edits: &[(&str, &str)], expected: &[&str]) {
        let mut after = BEFORE.to_owned();
        for (from, to) in edits {
            assert!(after.contains(from), "{from}");
            after = after.replacen(from, to, 1);
        }
        let (before, after) = (config(BEFORE), config(&after));
        assert_eq!(describe(&before, &before, &after), expected);
    }

    #[test]
    fn a_restart_is_asked_for_until_it_is_not_needed() {
        let workers =
            |count: &str| config(&BEFORE.replacen("[client]", &format!("[server]\nworkers = {count}\n[client]"), 1));
        let check = |old: &str, new: &str, expected: &[&str]| {
            assert_eq!(describe(&workers("1"), &workers(old), &workers(new)), expected, "{old} {new}");
        };
        check("1", "2", &["server: workers 1 → 2: needs a restart"]);
        check("2", "2", &["server: workers 1 → 2: needs a restart"]);
        check("2", "1", &[]);
    }

    #[test]
    fn the_same_is_no_change() {
        check(&[], &[]);
        check(&[("[client]", "# a comment\n[client]")], &[]);
    }

    #[test]
    fn listeners_and_certificates() {
        check(
            &[("127.0.0.1:8080", "127.0.0.1:8081")],
            &["listener 127.0.0.1:8080 removed", "listener 127.0.0.1:8081 added"],
        );
        check(&[("tls = true", "tls = { min = \"1.3\" }")], &["listener 127.0.0.1:8443: TLS from 1.2 → 1.3"]);
        check(
            &[("tls = true", "tls = true\nhsts = true\nprotocols = [\"h1\"]")],
            &[
                "listener 127.0.0.1:8443: protocols h1 and h2 → h1",
                "listener 127.0.0.1:8443: Strict-Transport-Security changed",
            ],
        );
        check(
            &[("local = true", "certificate = \"a.pem\"\nkey = \"a.key\"")],
            &["certificate for localhost: made here → a.pem"],
        );
    }

    #[test]
    fn what_needs_a_restart_says_so() {
        check(
            &[("[client]", "[server]\nworkers = 4\ndrain_delay = \"5s\"\n[client]")],
            &["server: drain delay 0s → 5s", "server: workers 0 → 4: needs a restart"],
        );
        check(
            &[("\n        [[listen]]", "profile = \"staging\"\n[[listen]]")],
            &[
                "upstream app: requests in flight at an endpoint 200 → 50",
                "upstream jobs: requests in flight at an endpoint 200 → 50",
                "compression on → off",
                "log: level warn → info",
                "profile production → staging: needs a restart",
            ],
        );
    }

    #[test]
    fn compression_is_told_where_it_is_written() {
        let with = |compress: &str| [("\n        [[listen]]", format!("\n{compress}\n[[listen]]"))];
        let check = |compress: &str, expected: &[&str]| {
            let edits = with(compress);
            check(&edits.each_ref().map(|(from, to)| (*from, to.as_str())), expected);
        };
        check("compress = true", &[]);
        check("compress = false", &["compression on → off"]);
        check(
            "compress = { codings = [\"gzip\"], level = { gzip = 9 }, min_size = \"2KiB\" }",
            &[
                "compression by zstd, br, gzip → gzip",
                "level of gzip 6 → 9",
                "smallest size that is compressed 1KiB → 2KiB",
            ],
        );
    }

    #[test]
    fn upstreams() {
        check(&[(", \"10.0.0.3:3000\"", "")], &["upstream app: endpoint 10.0.0.3:3000 removed"]);
        check(
            &[("\"10.0.0.3:3000\"", "{ address = \"10.0.0.3:3000\", weight = 3 }, \"app:80\"")],
            &["upstream app: endpoint app:80 added", "upstream app: weight of 10.0.0.3:3000 1 → 3"],
        );
        check(&[("replicas = 2", "replicas = 5")], &["upstream jobs: replicas 2 → 5"]);
        check(
            &[(
                "replicas = 2 }",
                "replicas = 2 }\nrequests_max = 9\nendpoint_requests_max = 0\nqueue = { timeout = \"1s\" }",
            )],
            &[
                "upstream jobs: requests in flight 0 → 9",
                "upstream jobs: requests in flight at an endpoint 200 → 0",
                "upstream jobs: longest wait for room 5s → 1s",
            ],
        );
        check(
            &[("replicas = 2 }", "replicas = 2 }\nqueue = false")],
            &["upstream jobs: requests no longer wait for room"],
        );
        check(&[("read = \"30s\" }", "read = \"30s\" }\nhealth = {}")], &["upstream app: health check added"]);
        check(
            &[("run = {", "endpoints = [\"jobs:80\"] #")],
            &["upstream jobs: endpoints in place of replicas that were started here"],
        );
    }

    #[test]
    fn routes_tell_their_own_limits_only() {
        check(&[("read = \"60s\"", "read = \"10s\"")], &["route /api: read timeout 60s → 10s"]);
        // The limit of `/api` is its own, the one of `/` the upstream's.
        check(&[("read = \"30s\"", "read = \"5s\"")], &["upstream app: read timeout 30s → 5s"]);
        check(
            &[(
                "path = \"/\"",
                "path = \"/\"\ncompress = { types = [\"text/*\"], min_size = \"0B\" }\nreflects_input = true",
            )],
            &[
                "route /: smallest size that is compressed 1KiB → 0B",
                "route /: compressed type application/json removed",
                "route /: compressed type application/*+json removed",
                "route /: compressed type application/javascript removed",
                "route /: compressed type application/xml removed",
                "route /: compressed type application/*+xml removed",
                "route /: compressed type application/wasm removed",
                "route /: compressed type image/svg+xml removed",
                "route /: reflects input off → on",
            ],
        );
        check(&[("10MiB", "20MiB")], &["client: largest body 10MiB → 20MiB"]);
        let tagged = |etag: &'static str| [("upstream = \"app\"", format!("upstream = \"app\"\netag = {etag}"))];
        let edits = tagged("true");
        check(&edits.each_ref().map(|(old, new)| (*old, new.as_str())), &["route /api: answers get entity tags"]);
        check(
            &[("text = \"b\"", "text = \"c\"\ncode = 404")],
            &["route ~ ^/b: text changed", "route ~ ^/b: code 200 OK → 404 Not Found"],
        );
        check(
            &[("path = \"/jobs\"", "hosts = [\"jobs.example\"]\npath = \"/jobs\"")],
            &["route /jobs removed", "route jobs.example /jobs added"],
        );
        check(
            &[("^/a", "^/x"), ("^/b", "^/a"), ("^/x", "^/b")],
            &[
                "route ~ ^/a: redirect to https://{host}/ → a text",
                "route ~ ^/b: a text → redirect to https://{host}/",
                "routes with patterns are tried in another order",
            ],
        );
        check(
            &[("text = \"b\"", "text = \"b\"\nresponse = { set = { X-B = \"1\" }, remove = [\"server\"] }")],
            &["route ~ ^/b: response field x-b is set", "route ~ ^/b: removal of response field server added"],
        );
    }

    #[test]
    fn the_cache_and_what_depends_on_what() {
        let table = "\n[cache]\nmemory = \"32MiB\"\ndependencies = { \"user:*\" = [\"lists\"] }\n[client]";
        check(&[("[client]", table)], &["cache: memory 64MiB → 32MiB", "cache: dependencies of user:* added"]);
        let with = |dependents: &str| config(&BEFORE.replacen("[client]", &table.replace("\"lists\"", dependents), 1));
        let (one, two) = (with("\"lists\""), with("\"lists\", \"/front\""));
        assert_eq!(describe(&one, &one, &two), ["cache: dependencies of user:* changed"]);
    }

    #[test]
    fn telemetry() {
        let traced = |table: &str| config(&BEFORE.replacen("[client]", &format!("[telemetry]\n{table}\n[client]"), 1));
        let untraced = config(BEFORE);
        assert_eq!(describe(&untraced, &untraced, &traced("")), ["telemetry: requests are traced"]);
        assert_eq!(describe(&untraced, &traced(""), &untraced), ["telemetry: requests are no longer traced"]);
        let old = traced("otlp = \"http://a:4318\"\nsample = 1");
        let new = traced("otlp = \"http://b:4318\"\nsample = 0.5\ntimeout = \"1s\"\nservice = \"edge\"");
        assert_eq!(
            describe(&old, &old, &new),
            [
                "telemetry: collector http://a:4318/v1/traces → http://b:4318/v1/traces",
                "telemetry: time limit of a message 10s → 1s",
                "telemetry: metrics http://a:4318/v1/metrics → http://b:4318/v1/metrics",
                "telemetry: attributes of the process changed",
                "telemetry: sample 1 → 0.5",
            ]
        );
    }

    #[test]
    fn the_admin_listener_and_its_token() {
        check(
            &[("[admin]", "[log]\naccess = { format = \"combined\", path = \"off\" }\n[admin]")],
            &["log: access format json → combined", "log: access log stdout → off"],
        );
        check(&[("a-token", "another-token")], &["admin: token changed"]);
        check(
            &[("[admin]", "[admin]\naddress = \"127.0.0.1:9901\"")],
            &["admin: address 127.0.0.1:9900 → 127.0.0.1:9901: needs a restart"],
        );
        check(
            &[("control = {", "control = { socket = \"off\",")],
            &["admin: control socket tollgate.sock → off: needs a restart"],
        );
    }
}
