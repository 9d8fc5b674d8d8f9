//! Every table and key of `config.toml`, declared once. See [`section`](super::section) for what is made of it.
//!
//! The sentences here are the operator's: they go to `docs/configuration.md` and into the JSON schema.

mod admin;
mod cache;
mod compress;
mod listen;
mod rate_limit;
mod route;
mod telemetry;
mod upstream;

use crate::config::Profile;
use crate::config::decode::{Decode, Decoder, Field, Map, Switch};
use crate::config::diagnostics::Origin;
use crate::config::section::Fallback::{Absent, ByProfile, Value};
use crate::config::section::{Key, List, Section, SectionShape, Setting, Shape, section};
use crate::config::tree::{Node, Table};

pub use self::admin::{Admin, Control, Log};
pub use self::cache::{Cache, CacheKey, CacheRule, RouteCache, Ttl, Warm};
pub use self::compress::{Compress, Levels, RouteCompress};
pub use self::listen::{Certificate, Client, Dns, H2, Hsts, Listen, Memory, Server};
pub use self::rate_limit::RateLimit;
pub use self::route::{BufferTable, FallbackPage, Fields, Route, RouteEtag, RouteTimeout};
pub use self::telemetry::Telemetry;
pub use self::upstream::{Breaker, Endpoint, Health, Keepalive, Outlier, Queue, Retry, Run, Timeout, Upstream};

/// The whole file.
pub fn root() -> SectionShape {
    File::SHAPE
}

section! {
    /// Tables and keys at the top of `config.toml`.
    File "the file" {
        /// The set of defaults that the rest of the file starts from.
        profile: Setting<Profile> = Value("\"production\""), restart;
        /// Further files, `*` standing for any part of a file's name, relative to this file. They may hold
        /// everything but `profile`, `include` and `[server]`; a key given in two files is an error.
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
        /// Rate limits, by name; routes say which of them they have.
        rate_limit: Setting<Map<RateLimit>> = Value("{}"), nginx "limit_req_zone";
        /// The store of responses.
        cache: Setting<Cache> = Value("{}"), nginx "proxy_cache_path";
        /// Compression of responses: `false`, `true` or a table.
        compress: Setting<Switch<Compress>> =
            ByProfile { development: "false", staging: "false", production: "{}" }, nginx "gzip";
        /// What is done with requests. Exact paths win over patterns, patterns (in the order of the file) over
        /// prefixes, and the longest prefix wins.
        route: Setting<List<Route>> = Value("[]"), nginx "location";
        /// The listener for operators: health, metrics, status, control.
        admin: Option<Setting<Admin>> = Absent("no admin listener and no control socket");
        /// Logs.
        log: Setting<Log> = Value("{}");
        /// Traces by OpenTelemetry.
        telemetry: Option<Setting<Telemetry>> = Absent("no traces, unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set");
    }
}
