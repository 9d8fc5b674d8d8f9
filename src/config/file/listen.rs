//! `[server]`, `[[listen]]`, `[[certificate]]`, `[client]` and `[dns]`.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::decode::{Decode, Decoder, Field, Switch};
use crate::config::diagnostics::Origin;
use crate::config::section::Fallback::{Absent, ByProfile, Required, Value};
use crate::config::section::{Key, List, Section, SectionShape, Setting, Shape, section};
use crate::config::tree::{Node, Table};
use crate::config::value::{Count, FilePath, HttpsRedirect, Limit, OrFalse, Percent, Protocol, Rate, Size};
use crate::config::{HostPattern, Reload, TlsVersion};

section! {
    /// The process as a whole.
    Server "[server]" {
        /// Worker threads; 0 is one a core.
        workers: Setting<Count<0, 1024>> = Value("0"), restart, nginx "worker_processes";
        /// Connections from clients at a time, over all workers; 0 is what the limit of open files leaves.
        connections_max: Setting<Count<0, 10_000_000>> = Value("0"), nginx "worker_connections";
        /// From this share of `connections_max` on, connections that idle, to clients and to endpoints, are closed after a
        /// second; from this share of an upstream's `endpoint_requests_max` on, those to that endpoint. `false` never does so.
        idle_close_at: Setting<OrFalse<Percent<1, 100>>> = Value("\"90%\"");
        /// Requests in flight at a time, over all; those beyond are answered with 503. 0 is no limit.
        requests_max: Setting<Count<0, 10_000_000>> = Value("0");
        /// What is done as memory gets short; `false` does nothing.
        memory: Setting<Switch<Memory>> = Value("{}");
        /// How long new connections are still accepted after `/readyz` says 503, so that load balancers see it.
        drain_delay: Setting<Duration> = Value("\"0s\"");
        /// How long open requests may take once no connection is accepted any more.
        drain_timeout: Setting<Duration> = ByProfile {
            development: "\"1s\"",
            staging: "\"30s\"",
            production: "\"30s\"",
        }, nginx "worker_shutdown_timeout";
        /// `watch`: a changed file is read at once. `signal`: at SIGHUP or `tollgate reload` only.
        reload: Setting<Reload> = Value("\"watch\"");
    }
}

section! {
    /// Limits of the memory that this process has in RAM.
    Memory "`memory`" {
        /// Over this the cache gives memory back.
        soft: Option<Setting<Size>> = Absent("80 % of the limit of the control group, or of the machine's memory");
        /// Over this new requests are answered with 503.
        hard: Option<Setting<Size>> = Absent("95 % of it");
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
        /// Redirect to https: `true` to the port of the first listener with TLS, a number to that port, as behind a port mapping. A route whose path begins with `/.well-known/acme-challenge` is served all the same.
        https_redirect: Setting<HttpsRedirect> = Value("false");
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
        /// Connections of one address at a time, with IPv6 of a network of 64 bits; those beyond are closed. 0 is a
        /// quarter of all. Trusted peers are not counted.
        connections_max: Setting<Count<0, 10_000_000>> = Value("0"), nginx "limit_conn";
        /// Requests of one client in flight at a time; those beyond are answered with 503. 0 is no limit.
        requests_max: Setting<Count<0, 10_000_000>> = Value("0"), nginx "limit_conn";
        /// From the first byte to the end of a TLS handshake.
        handshake_timeout: Setting<Limit> = Value("\"10s\""), nginx "ssl_handshake_timeout";
        /// From the first byte of a request to the end of its head.
        header_timeout: Setting<Limit> = Value("\"12s\""), nginx "client_header_timeout";
        /// Silence in the middle of a body: no data of it comes while it is waited for.
        body_timeout: Setting<Limit> = Value("\"12s\""), nginx "client_body_timeout";
        /// Silence between two requests on a connection.
        idle_timeout: Setting<Limit> = Value("\"15s\""), nginx "keepalive_timeout";
        /// Silence in the middle of a response: the client takes nothing of it while that is waited for.
        send_timeout: Setting<Limit> = Value("\"10s\""), nginx "send_timeout";
        /// The least that a client has to send of a body, or take of a response, while it is what is waited for; judged over each
        /// `body_timeout` or `send_timeout` of such waiting. Of a body, until its answer begins; tunnels have no rate. `"0B/s"` is
        /// none.
        rate_min: Setting<Rate> = Value("\"256B/s\"");
        /// Largest body of a request; a larger one is answered with 413.
        body_max: Setting<Size> = Value("\"10MiB\""), nginx "client_max_body_size";
        /// Rate limits of routes that do not name their own.
        rate_limit: Setting<List<String>> = Value("[]"), nginx "limit_req";
        /// Limits of HTTP/2.
        h2: Setting<H2> = Value("{}");
    }
}

section! {
    /// What clients may do over HTTP/2. Of one connection, heads of open streams take 256 KiB at most.
    H2 "`h2`" {
        /// Streams open at a time on a connection.
        streams_max: Setting<Count<1, 10_000>> = Value("128"), nginx "http2_max_concurrent_streams";
        /// Memory for the heads of open streams of all connections; what does not fit is answered with 503.
        heads_max: Option<Setting<Size>> = Absent("1/32 of the memory, and at least 16MiB");
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
