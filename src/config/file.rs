//! Every table and key of `config.toml`, declared once. See [`section`](super::section) for what is made of it.
//!
//! The sentences here are the operator's: they go to `docs/configuration.md` and into the JSON schema.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use ipnet::IpNet;

use super::decode::{Decode, Decoder, Field, Map, Switch};
use super::diagnostics::Origin;
use super::section::Fallback::{Absent, ByProfile, Required, Value};
use super::section::{Key, List, Section, SectionShape, Setting, Shape, section};
use super::tree::{Kind, Node, Table};
use super::value::{
    Count, FieldValue, FilePath, HostPolicyText, Limit, Pattern, Protocol, SecretText, Size, StatusPage, StatusRanges,
    UrlPath, target,
};
use super::{
    AccessFormat, Balance, HostPattern, LogLevel, LogTarget, Profile, Reload, Target, TlsVersion, UpstreamProtocol,
    WhenAllFail,
};

/// The whole file.
pub fn root() -> SectionShape {
    File::SHAPE
}

section! {
    /// Tables and keys at the top of `config.toml`.
    File "the file" {
        /// The set of defaults that the rest of the file starts from.
        profile: Setting<Profile> = Value("\"production\""), restart;
        /// Further files, `*` standing for any part of a file's name, relative to this file. They may hold everything but `profile`, `include` and `[server]`; a key given in two files is an error.
        include: Setting<List<String>> = Value("[]"), nginx "include";
        /// The process as a whole.
        server: Setting<Server> = Value("{}");
        /// Addresses that are served.
        listen: Setting<List<Listen>> = Value("[]"), nginx "server";
        /// Certificates, chosen by the name that the client asks for (SNI).
        certificate: Setting<List<Certificate>> = Value("[]");
        /// What is asked of clients.
        client: Setting<Client> = Value("{}");
        /// How names of endpoints are resolved.
        dns: Setting<Dns> = Value("{}");
        /// Groups of endpoints, by name.
        upstream: Setting<Map<Upstream>> = Value("{}"), nginx "upstream";
        /// What is done with requests. Exact paths win over patterns, patterns (in the order of the file) over prefixes, and the longest prefix wins.
        route: Setting<List<Route>> = Value("[]"), nginx "location";
        /// The listener for operators: health, metrics, status, control.
        admin: Option<Setting<Admin>> = Absent("no admin listener and no control socket");
        /// Logs.
        log: Setting<Log> = Value("{}");
    }
}

section! {
    /// The process as a whole.
    Server "[server]" {
        /// Worker threads; 0 is one a core.
        workers: Setting<Count<0, 1024>> = Value("0"), restart, nginx "worker_processes";
        /// Connections from clients at a time, over all workers; 0 is what the limit of open files leaves.
        connections_max: Setting<Count<0, 10_000_000>> = Value("0"), nginx "worker_connections";
        /// How long new connections are still accepted after `/readyz` says 503, so that load balancers see it.
        drain_delay: Setting<Duration> = Value("\"0s\"");
        /// How long open requests may take once no connection is accepted any more.
        drain_timeout: Setting<Duration> = ByProfile { development: "\"1s\"", staging: "\"30s\"", production: "\"30s\"" }, nginx "worker_shutdown_timeout";
        /// `watch`: a changed file is read at once. `signal`: at SIGHUP or `tollgate reload` only.
        reload: Setting<Reload> = Value("\"watch\"");
    }
}

section! {
    /// One address that is served.
    Listen "[[listen]]" {
        /// IP address and port; port 0 takes a free one.
        address: Option<Setting<SocketAddr>> = Required, nginx "listen";
        /// TLS: `true`, or a table with details.
        tls: Option<Setting<Switch<ListenTls>>> = Absent("cleartext"), nginx "ssl";
        /// What is spoken. Without TLS, h2 is by prior knowledge.
        protocols: Option<Setting<List<Protocol>>> = Absent("h1 and h2 with TLS, h1 without"), nginx "http2";
        /// Answer every request with a redirect to the port of the first listener with TLS.
        https_redirect: Setting<bool> = Value("false");
        /// Send `Strict-Transport-Security`: `true`, or a table with details. With TLS only.
        hsts: Option<Setting<Switch<Hsts>>> = Absent("not sent");
    }
}

section! {
    /// TLS of a listener.
    ListenTls "`tls`" {
        /// The oldest version that is spoken.
        min: Setting<TlsVersion> = Value("\"1.2\""), nginx "ssl_protocols";
    }
}

section! {
    /// `Strict-Transport-Security` (RFC 6797).
    Hsts "`hsts`" {
        /// How long browsers use TLS only; `0s` takes it back.
        max_age: Setting<Duration> = Value("\"365d\"");
        /// Also for every name below this one.
        include_subdomains: Setting<bool> = Value("false");
    }
}

section! {
    /// One certificate. The first one also serves clients that ask for no name, or for one that no certificate has.
    Certificate "[[certificate]]" {
        /// Names that it is shown for.
        hosts: Option<Setting<List<HostPattern>>> = Required, nginx "server_name";
        /// Make a certificate here, for development; clients do not trust it by themselves.
        local: Setting<bool> = Value("false");
        /// PEM file: the certificate and what links it to its root.
        certificate: Option<Setting<FilePath>> = Absent("needed unless `local` is true"), nginx "ssl_certificate";
        /// PEM file: the private key.
        key: Option<Setting<FilePath>> = Absent("needed unless `local` is true"), nginx "ssl_certificate_key";
    }
}

section! {
    /// What is asked of clients.
    Client "[client]" {
        /// Peers whose `X-Forwarded-For` is believed.
        trusted: Setting<List<IpNet>> = Value("[\"127.0.0.0/8\", \"::1/128\"]"), nginx "set_real_ip_from";
        /// From the first byte to the end of a TLS handshake.
        handshake_timeout: Setting<Limit> = Value("\"10s\""), nginx "ssl_handshake_timeout";
        /// From the first byte of a request to the end of its head.
        header_timeout: Setting<Limit> = Value("\"12s\""), nginx "client_header_timeout";
        /// Silence between two reads of a body.
        body_timeout: Setting<Limit> = Value("\"12s\""), nginx "client_body_timeout";
        /// Silence between two requests on a connection.
        idle_timeout: Setting<Limit> = Value("\"15s\""), nginx "keepalive_timeout";
        /// Silence between two writes of a response.
        send_timeout: Setting<Limit> = Value("\"10s\""), nginx "send_timeout";
        /// Largest body of a request; a larger one is answered with 413.
        body_max: Setting<Size> = Value("\"10MiB\""), nginx "client_max_body_size";
    }
}

section! {
    /// How names of endpoints are resolved.
    Dns "[dns]" {
        /// An answer is asked for again after its own TTL, and never later than this.
        ttl_max: Setting<Limit> = Value("\"5s\""), nginx "resolver";
        /// Name servers to ask, with port.
        servers: Setting<List<SocketAddr>> = Value("[]"), nginx "resolver";
    }
}

section! {
    /// A group of endpoints that do the same. It has either `endpoints` or `run`.
    Upstream "[upstream.NAME]" {
        /// `host:port` each, or a table with a weight. Every address of a name is an endpoint.
        endpoints: Option<Setting<List<Endpoint>>> = Absent("`run` is given in its place"), nginx "server";
        /// Replicas that this process starts, watches and replaces.
        run: Option<Setting<Run>> = Absent("`endpoints` are given in its place");
        /// What the endpoints speak.
        protocol: Setting<UpstreamProtocol> = Value("\"h1\""), nginx "proxy_http_version, grpc_pass";
        /// TLS to the endpoints: `true`, or a table with details. Names are verified.
        tls: Option<Setting<Switch<UpstreamTls>>> = Absent("cleartext"), nginx "proxy_ssl_verify";
        /// Which endpoint is next: the one with the fewest requests in flight, or each in turn.
        balance: Setting<Balance> = Value("\"least-connections\""), nginx "least_conn";
        /// Failures within `fail_timeout` that take an endpoint out; 0 switches this off.
        fails_max: Setting<Count<0, 1_000_000>> = Value("3"), nginx "max_fails";
        /// Failures count for this long, and an endpoint stays out for this long.
        fail_timeout: Setting<Limit> = Value("\"30s\""), nginx "fail_timeout";
        /// Idle connections to the endpoints.
        keepalive: Setting<Keepalive> = Value("{}"), nginx "keepalive";
        /// Time limits; a route can have its own.
        timeout: Setting<Timeout> = Value("{}");
        /// Ask each endpoint regularly whether it is well; `health = {}` does so with the defaults.
        health: Option<Setting<Health>> = Absent("failures of requests alone decide");
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
    /// Replicas that this process starts.
    Run "`run`" {
        /// Program and arguments. `{self}` is this program, `{address}` and `{port}` where the replica must listen.
        command: Option<Setting<List<String>>> = Required;
        /// How many.
        replicas: Setting<Count<1, 256>> = Value("1");
    }
}

section! {
    /// TLS to the endpoints.
    UpstreamTls "`tls` of an upstream" {
        /// The name that is sent and verified.
        server_name: Option<Setting<HostPattern>> = Absent("the endpoint's own name or address"), nginx "proxy_ssl_name";
        /// PEM file of the roots that are trusted.
        ca: Option<Setting<FilePath>> = Absent("those of the system"), nginx "proxy_ssl_trusted_certificate";
    }
}

section! {
    /// Idle connections to the endpoints.
    Keepalive "`keepalive`" {
        /// Kept per endpoint and worker; 0 keeps none.
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
        /// Silence between two reads from the endpoint.
        read: Setting<Limit> = Value("\"30s\""), nginx "proxy_read_timeout";
        /// Silence in both directions of a tunnel, such as a WebSocket.
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
    /// Sending a request again to another endpoint. Only what is safe to repeat is sent again.
    Retry "`retry`" {
        /// Attempts in all: 2 is one retry, 1 is none.
        attempts: Setting<Count<1, 16>> = Value("2"), nginx "proxy_next_upstream_tries";
    }
}

section! {
    /// What is done with some requests. It has one of `path`, `path_exact`, `path_regex`, and one of `upstream`, `redirect`, `text`, `status`.
    Route "[[route]]" {
        /// Its name in logs and metrics.
        name: Option<Setting<String>> = Absent("the path as written");
        /// Hosts it is for.
        hosts: Setting<List<HostPattern>> = Value("[]"), nginx "server_name";
        /// That path and what lies below it, by whole segments.
        path: Option<Setting<UrlPath>> = Absent("another kind of path is given");
        /// That path alone.
        path_exact: Option<Setting<UrlPath>> = Absent("another kind of path is given");
        /// Paths that contain a match of this pattern.
        path_regex: Option<Setting<Pattern>> = Absent("another kind of path is given");
        /// Pass requests on to this upstream.
        upstream: Option<Setting<String>> = Absent("another action is given"), nginx "proxy_pass";
        /// Redirect to this URL; `{host}`, `{path}` and `{uri}` (path and query) are filled in.
        redirect: Option<Setting<String>> = Absent("another action is given"), nginx "return";
        /// Answer with this text.
        text: Option<Setting<String>> = Absent("another action is given");
        /// Answer with a page of the proxy's own: `stub` is nginx's stub status.
        status: Option<Setting<StatusPage>> = Absent("another action is given"), nginx "stub_status";
        /// Status of `redirect` or `text`.
        code: Option<Setting<StatusCode>> = Absent("308 for `redirect`, 200 for `text`");
        /// What `Host` the endpoint sees: the client's, the endpoint's own, or a fixed one.
        host: Setting<HostPolicyText> = Value("\"preserve\"");
        /// Take this off the front of the path before it is sent on.
        strip_prefix: Option<Setting<UrlPath>> = Absent("the path is kept");
        /// Rewrite the path before it is sent on.
        rewrite: Option<Setting<Rewrite>> = Absent("the path is kept"), nginx "rewrite";
        /// Fields of the request to the endpoint.
        request: Setting<Fields> = Value("{}"), nginx "proxy_set_header";
        /// Fields of the response to the client.
        response: Setting<Fields> = Value("{}"), nginx "add_header, proxy_hide_header";
        /// Networks that are let in; all if there is none.
        allow: Setting<List<IpNet>> = Value("[]"), nginx "allow";
        /// Networks that are kept out, even where `allow` lets them in.
        deny: Setting<List<IpNet>> = Value("[]"), nginx "deny";
        /// Write these requests to the access log.
        access_log: Setting<bool> = Value("true"), nginx "access_log";
        /// Largest body of a request.
        body_max: Option<Setting<Size>> = Absent("that of [client]"), nginx "client_max_body_size";
        /// Time limits other than the upstream's.
        timeout: Option<Setting<RouteTimeout>> = Absent("those of the upstream");
        /// How far to read ahead of the slower side.
        buffer: Setting<BufferTable> = Value("{}"), nginx "proxy_buffering";
    }
}

section! {
    /// Time limits of one route.
    RouteTimeout "`timeout`" {
        /// To open a connection, TLS included.
        connect: Option<Setting<Limit>> = Absent("the upstream's");
        /// Silence between two writes to the endpoint.
        send: Option<Setting<Limit>> = Absent("the upstream's");
        /// Silence between two reads from the endpoint.
        read: Option<Setting<Limit>> = Absent("the upstream's");
        /// Silence in both directions of a tunnel, such as a WebSocket.
        tunnel_idle: Option<Setting<Limit>> = Absent("the upstream's");
        /// From the request's head to the response's head, over all attempts.
        total: Option<Setting<Limit>> = Absent("the upstream's");
        /// The same for one attempt.
        attempt: Option<Setting<Limit>> = Absent("the upstream's");
    }
}

section! {
    /// Rewriting of a path.
    Rewrite "`rewrite`" {
        /// What is replaced.
        regex: Option<Setting<Pattern>> = Required;
        /// What stands in its place; `$1` and `${name}` are the groups of `regex`.
        to: Option<Setting<String>> = Required;
    }
}

section! {
    /// Changes to the fields of a message.
    Fields "`request` and `response`" {
        /// Set these, in place of what is there.
        set: Setting<Map<FieldValue>> = Value("{}");
        /// Remove these.
        remove: Setting<List<String>> = Value("[]");
    }
}

section! {
    /// How far to read ahead of the slower side, so that slow clients do not hold endpoints. Tunnels pass through.
    BufferTable "`buffer`" {
        /// Of a request's body.
        request: Setting<Size> = Value("\"64KiB\""), nginx "client_body_buffer_size";
        /// Of a response's body.
        response: Setting<Size> = Value("\"64KiB\""), nginx "proxy_buffers";
    }
}

section! {
    /// The listener for operators. Reading is open to `allow`; control needs the socket or a token.
    Admin "[admin]" {
        /// IP address and port, in cleartext.
        address: Setting<SocketAddr> = Value("\"127.0.0.1:9900\"");
        /// Values of `Host` that are answered, without port: a page in a browser must not reach it under a name of its own.
        hosts: Setting<List<HostPattern>> = Value("[\"localhost\", \"127.0.0.1\", \"::1\"]");
        /// Networks that may read.
        allow: Setting<List<IpNet>> = Value("[\"127.0.0.0/8\", \"::1/128\"]");
        /// Who may reload, stop and drain.
        control: Setting<Control> = Value("{}");
    }
}

section! {
    /// Who may reload, stop and drain.
    Control "`control`" {
        /// Unix socket, relative to this file; the rights of the file decide who may use it. `off`: none.
        socket: Setting<FilePath> = Value("\"tollgate.sock\"");
        /// Bearer token for control over TCP: `${NAME}` of the environment or `file:path`, at least 16 characters.
        token: Option<Setting<SecretText>> = Absent("control by the socket only");
        /// File that holds the token.
        token_file: Option<Setting<FilePath>> = Absent("control by the socket only");
    }
}

section! {
    /// Logs.
    Log "[log]" {
        /// How much the proxy says of itself, on stderr. It never filters the access log, the start banner or the results of a reload.
        level: Setting<LogLevel> = ByProfile { development: "\"debug\"", staging: "\"info\"", production: "\"warn\"" }, nginx "error_log";
        /// One line for each request.
        access: Setting<Access> = Value("{}"), nginx "access_log";
    }
}

section! {
    /// The access log.
    Access "`access`" {
        /// `line` is for people, `json` for programs, `combined` for tools that read nginx's logs.
        format: Setting<AccessFormat> = ByProfile { development: "\"line\"", staging: "\"json\"", production: "\"json\"" }, nginx "log_format";
        /// Where it goes.
        path: Setting<LogTarget> = Value("\"stdout\"");
        /// Query parameters whose values are written as `***`.
        redact: Setting<List<String>> = Value("[\"token\", \"access_token\", \"password\", \"secret\", \"api_key\"]");
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
        Some(Self { address: Some(Setting { value, origin: node.origin }), weight: 1 })
    }
}
