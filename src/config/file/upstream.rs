//! `[upstream.NAME]`.

use std::time::Duration;

use crate::config::decode::{Decode, Decoder, Field, Switch};
use crate::config::diagnostics::Origin;
use crate::config::section::Fallback::{Absent, ByProfile, Required, Value};
use crate::config::section::{Key, List, Section, SectionShape, Setting, Shape, section};
use crate::config::tree::{Kind, Node, Table};
use crate::config::value::{Count, FilePath, Limit, Percent, StatusRanges, UrlPath, target};
use crate::config::{Balance, HashBy, HostPattern, Target, UpstreamProtocol, WhenAllFail};

section! {
    /// A group of endpoints that do the same. It has either `endpoints` or `run`.
    Upstream "[upstream.NAME]" {
        /// `host:port` each, or a table with a weight. Every address of a name is an endpoint.
        endpoints: Option<Setting<List<Endpoint>>> = Absent(""), nginx "server";
        /// Replicas that this process starts, watches and replaces.
        run: Option<Setting<Run>> = Absent("");
        /// What the endpoints speak.
        protocol: Setting<UpstreamProtocol> = Value("\"h1\""), nginx "proxy_http_version, grpc_pass";
        /// TLS to the endpoints: `true`, or a table with details. Names are verified.
        tls: Option<Setting<Switch<UpstreamTls>>> = Absent("cleartext"), nginx "proxy_ssl_verify";
        /// Which endpoint is next: the one with the fewest requests in flight, each in turn, the better of two that are
        /// drawn, or always the same one for the same key.
        balance: Setting<Balance> = Value("\"least-connections\""), nginx "least_conn, random";
        /// The key of `balance = "hash"`: "client-ip", "path", "header:NAME" or "cookie:NAME". Without it in a request, the
        /// fewest requests in flight decide.
        hash_by: Option<Setting<HashBy>> = Absent("`\"client-ip\"`"), nginx "hash, ip_hash";
        /// An endpoint with more requests in flight than this part of the even share passes keys of `balance = "hash"` on.
        hash_load_max: Option<Setting<Percent<100, 10_000>>> = Absent("no bound");
        /// Requests in flight over all endpoints; 0 is no limit.
        requests_max: Setting<Count<0, 1_000_000>> = Value("0");
        /// Requests in flight at each endpoint; 0 is no limit. A tunnel, a stream of events and a call of gRPC count until they have begun.
        endpoint_requests_max: Setting<Count<0, 1_000_000>> =
            ByProfile { development: "10", staging: "50", production: "200" }, nginx "max_conns";
        /// What is over these limits waits for its turn; `false` refuses it at once.
        queue: Setting<Switch<Queue>> = Value("{}"), nginx "queue";
        /// Failures within `fail_timeout` that take an endpoint out, unless it is the last; 0 switches this off.
        fails_max: Setting<Count<0, 1_000_000>> = Value("3"), nginx "max_fails";
        /// Failures count for this long, and an endpoint stays out for this long.
        fail_timeout: Setting<Limit> = Value("\"30s\""), nginx "fail_timeout";
        /// One that fails again soon after it came back stays out twice as long each time, up to this.
        fail_timeout_max: Setting<Limit> = Value("\"5min\"");
        /// Take out an endpoint that answers much worse than the others; `outlier = {}` does so with the defaults.
        outlier: Option<Setting<Outlier>> = Absent("statuses do not count");
        /// An endpoint that is added or comes back gets its share little by little, within this time.
        slow_start: Option<Setting<Limit>> = Absent("the whole share at once"), nginx "slow_start";
        /// Idle connections to the endpoints.
        keepalive: Setting<Keepalive> = Value("{}"), nginx "keepalive";
        /// Time limits; a route can have its own.
        timeout: Setting<Timeout> = Value("{}");
        /// Ask each endpoint regularly whether it is well; `health = {}` does so with the defaults.
        health: Option<Setting<Health>> = Absent("failures of requests alone decide");
        /// When too many requests fail, nothing is sent for a while; `breaker = {}` has the defaults.
        breaker: Option<Setting<Breaker>> = Absent("no breaker");
        /// Sending a request again to another endpoint.
        retry: Setting<Retry> = Value("{}"), nginx "proxy_next_upstream";
    }
}

section! {
    /// One endpoint with details.
    EndpointTable "`endpoints`" {
        /// `host:port`.
        address: Option<Setting<Target>> = Required;
        /// Its share compared with the others'.
        weight: Setting<Count<1, 1000>> = Value("1"), nginx "weight";
    }
}

section! {
    /// Requests that wait until there is room at the endpoints: first come, first served.
    Queue "`queue`" {
        /// So many may wait; one more gets 503 at once.
        requests_max: Setting<Count<1, 1_000_000>> = Value("1000");
        /// One that has waited for so long gets 503.
        timeout: Setting<Limit> = Value("\"5s\"");
    }
}

section! {
    /// Replicas that this process starts.
    Run "`run`" {
        /// Program and arguments. `{self}` is this program, `{folder}` that of this file, `{address}` and `{port}` where the replica must listen.
        command: Option<Setting<List<String>>> = Required;
        /// How many.
        replicas: Setting<Count<1, 256>> = Value("1");
    }
}

section! {
    /// TLS to the endpoints.
    UpstreamTls "`tls` of an upstream" {
        /// The name that is sent and verified.
        server_name: Option<Setting<HostPattern>> = Absent("the endpoint's own name"), nginx "proxy_ssl_name";
        /// PEM file of the roots that are trusted.
        ca: Option<Setting<FilePath>> = Absent("those of the system"), nginx "proxy_ssl_trusted_certificate";
    }
}

section! {
    /// Idle connections to the endpoints.
    Keepalive "`keepalive`" {
        /// Kept per endpoint and worker; more that were in use stay open for a second. 0 keeps none.
        connections: Setting<Count<0, 100_000>> = Value("32"), nginx "keepalive";
        /// Requests that one connection carries before it is closed.
        requests: Setting<Count<1, 1_000_000_000>> = Value("100"), nginx "keepalive_requests";
        /// A connection idle for longer is closed.
        idle: Setting<Limit> = Value("\"60s\""), nginx "keepalive_timeout";
    }
}

section! {
    /// Time limits towards an upstream. Those not named `total` or `attempt` count silence between two operations.
    Timeout "`timeout`" {
        /// To open a connection, TLS included.
        connect: Setting<Limit> = Value("\"5s\""), nginx "proxy_connect_timeout";
        /// Silence between two writes to the endpoint.
        send: Setting<Limit> = Value("\"10s\""), nginx "proxy_send_timeout";
        /// From the end of a request to the whole head of its response, then silence between two reads.
        read: Setting<Limit> = Value("\"30s\""), nginx "proxy_read_timeout";
        /// Silence in both directions of a tunnel, such as a WebSocket. Once the endpoint has closed its side this is 10 seconds, once the client has, a minute, where that is less.
        tunnel_idle: Setting<Limit> = Value("\"1h\"");
        /// From the request's head to the response's head, over all attempts.
        total: Option<Setting<Limit>> = Absent("no limit"), nginx "proxy_next_upstream_timeout";
        /// The same for one attempt.
        attempt: Option<Setting<Limit>> = Absent("no limit");
    }
}

section! {
    /// A regular question to each endpoint.
    Health "`health`" {
        /// Path that is asked for.
        path: Setting<UrlPath> = Value("\"/health\""), nginx "health_check";
        /// From one question to the next.
        interval: Setting<Limit> = Value("\"5s\"");
        /// For the whole answer.
        timeout: Setting<Limit> = Value("\"2s\"");
        /// Good answers in a row that bring an endpoint back.
        healthy_after: Setting<Count<1, 1000>> = Value("2");
        /// Bad answers in a row that take it out.
        unhealthy_after: Setting<Count<1, 1000>> = Value("3");
        /// What a good answer is.
        expect: Setting<Expect> = Value("{}");
        /// When no endpoint is well: use them all, or answer 503.
        when_all_fail: Setting<WhenAllFail> = Value("\"use-all\"");
    }
}

section! {
    /// What a good answer is.
    Expect "`expect`" {
        /// Its status: codes and ranges of them.
        status: Setting<StatusRanges> = Value("\"200-399\"");
        /// A text within the first 64 KiB of its body.
        body: Option<Setting<String>> = Absent("any body");
    }
}

section! {
    /// Spares an upstream that fails. Open, it answers every request with 503 at once; then one at a time tries it.
    Breaker "`breaker`" {
        /// Failures within `window` that open it: requests that got no response, or one of `status`.
        failures: Setting<Count<1, 1000>> = Value("5");
        /// Failures count for this long.
        window: Setting<Limit> = Value("\"120s\"");
        /// So many of the requests of the last 10 seconds, or of `window` if that is shorter, must have failed as well.
        share: Setting<Percent<1, 100>> = Value("\"50%\"");
        /// How long it stays open before a request tries the upstream.
        open: Setting<Limit> = Value("\"60s\"");
        /// Responses that count as failures.
        status: Setting<StatusRanges> = Value("\"500-599\"");
    }
}

section! {
    /// Taking out an endpoint whose answers are failures, more than twice as often as those of the others in sum.
    Outlier "`outlier`" {
        /// So many of its latest requests must have failed, or been answered with one of `status`.
        share: Setting<Percent<1, 100>> = Value("\"50%\"");
        /// With fewer requests in `window` nothing is decided.
        requests: Setting<Count<1, 1_000_000>> = Value("20");
        /// How far back its latest requests go.
        window: Setting<Limit> = Value("\"10s\"");
        /// Answers that count as failures.
        status: Setting<StatusRanges> = Value("\"500-599\"");
        /// So many of the endpoints may be out when one is taken out by this; never the last.
        ejected_max: Setting<Percent<1, 100>> = Value("\"50%\"");
    }
}

section! {
    /// Sending a request again: to the next endpoint, or to the same one if it is the only one. What may have been
    /// acted upon is sent again only if its method is idempotent (GET, HEAD, OPTIONS, PUT, DELETE).
    Retry "`retry`" {
        /// Attempts in all: 2 is one retry, 1 is none. Endpoints that cannot be reached are passed over beyond that.
        attempts: Setting<Count<1, 16>> = Value("2"), nginx "proxy_next_upstream_tries";
        /// Responses that are failures, too, if the request may be sent again.
        status: Option<Setting<StatusRanges>> = Absent("no status"), nginx "proxy_next_upstream";
        /// The pause before a retry, of which up to a half is left to chance. Each is twice the one before, up to ten
        /// times the first; the first retry that goes to another endpoint is at once.
        backoff: Setting<Duration> = Value("\"25ms\"");
        /// The share of the requests of the last ten seconds that may be sent again, beside ten a second and a hundred at
        /// once. What never reached an endpoint does not count.
        budget: Setting<Percent<0, 100>> = Value("\"20%\"");
    }
}

/// An endpoint, as a string or as a table.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub address: Option<Setting<Target>>,
    pub weight: u32,
}

impl Decode for Endpoint {
    fn shape() -> Shape {
        Shape::Either(vec![Target::shape(), EndpointTable::shape()])
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if let Kind::Table(_) = node.kind {
            let EndpointTable { address, weight, .. } = decoder.section(node)?;
            return Some(Self { address, weight: weight.value.0 });
        }
        let value = decoder.text(node, "\"host:port\" or a table with `address` and `weight`", target)?;
        let address = Setting { value, origin: node.origin, tainted: false };
        Some(Self { address: Some(address), weight: 1 })
    }
}
