//! Tollgate: an edge reverse proxy in one process with one configuration file.
//!
//! # The life of a request
//!
//! A process has one control thread and a few workers. [`cli`] reads the arguments, and [`server`] reads the
//! configuration, builds what lives as long as the process and starts the workers; from then on the control
//! thread carries [`admin`], [`watch`] and [`reload`], [`background`] (names, probes), [`recovery`] (memory, room), [`lately`] (signs of the health report), [`warm`] and [`supervise`]
//! (replicas of its own), so that they answer when every worker is busy, until [`shutdown`] ends it. What they
//! all work on is one value, [`control::Control`].
//!
//! A [`worker`] is a thread with a runtime of its own. It accepts by [`listener`] on sockets from [`sockets`], one a
//! worker for each address, and the kernel spreads the connections over them. From here to its end a request stays on
//! this thread: what it touches is not shared with another, or is one of few atomics, as the counts of endpoints,
//! which every choice has to see.
//!
//! [`connection`] serves one client: the handshake of [`tls`], then HTTP/2, or HTTP/1.1 as the [`guard`] reads it.
//! Each byte of a client passes the guard. What an origin might read differently becomes no request; it is answered
//! when the requests before it are, and the connection ends. The body of a request is read when somebody upstream
//! has asked for more of it. How slowly a client may send and take while it is waited for, [`pace`] says.
//! What either side may do with the frames of HTTP/2 beside asking and answering, [`frames`] says.
//!
//! [`proxy`] is the path, with every branch of it in one place. It takes the [`snapshot`], the generation of the
//! configuration that is in force, and keeps it to the end. It settles which host is asked for
//! ([`header::authority`]), under which canonical [`path`], and on whose behalf ([`client_ip`]). [`route`] finds the
//! route. Networks, limits of [`rate_limit`] and the announced size of the body say whether it may pass. One that answers by itself is done: a redirect, a text, the [`stub_status`]. For the others [`rewrite`]
//! makes the path, and [`header`] the fields, that go upstream.
//!
//! What comes beyond a limit of requests in flight, or while memory is short, is refused here ([`overload`]).
//!
//! On a route that keeps responses, [`cache`] is asked first. It belongs to the process, and a hit takes one short lock,
//! or two where responses have variants, and copies no content. What it does not have is fetched once for all who ask meanwhile, over all workers, by
//! a task that goes on when its first client has left; they read the content as it grows. A cache that fails
//! is no failure: the request goes to the origin, and `Cache-Status` says why nothing was kept.
//!
//! [`fetch`] is the origin's side and knows no client. It asks [`balance`] for the endpoint with the least to do, waits in
//! the upstream's queue where all have as much as they may have,
//! has [`upstream`] send the request there on a pooled connection, reports what became of it, and decides
//! by the rules of [`upstream::retry`] and within [`upstream::budget`] whether the next endpoint may be tried. Connections
//! belong to the worker, so nobody else is in the way.
//!
//! What an endpoint says before its answer, as 103, goes to the client by [`interim`], past all of this.
//!
//! A response to a client over HTTP/1.1 whose fields nobody here looks at passes as the lines that it came as, without a map between;
//! [`upstream`] decides that by its head. Otherwise on its way back a response passes [`compress`], which decides by both heads whether it is coded, changes what the
//! head says of its bytes, and codes them, whole or as they come.
//!
//! The response goes back as a [`body`]. Counts are given back by being dropped: the connection and the
//! in-flight count of the endpoint ride in the source of the body, and the record of the request, which
//! [`record`] began, rides around it. When the last byte has been written, when a time limit fires, or
//! when the client leaves and everything is dropped, the endpoint is free again and the record goes once to
//! the access log, the metrics and, if it is sampled, the exporter of spans in [`telemetry`]. A client that is slower than its endpoint does not hold it:
//! [`body::ReadAhead`] takes the response over, up to a bound. Long content that nobody has to look at is not even read:
//! between sockets without TLS [`splice`] has the kernel move it. A response of 101 has no body; the connection
//! becomes a [`tunnel`] once it is written.
//!
//! Whatever ends a request otherwise is a row of [`error`]: a status, and a code that the log, the metrics and
//! `docs/troubleshooting.md` share.
//!
//! Why a request would go the way it goes, [`proxy::explain`] says: it walks the same path, calls the same stages, and where one
//! of them counts or takes something asks what it would say. Nothing is changed by it, and nothing sent.
//!
//! # Where state lives
//!
//! | state | owner | at a reload |
//! |---|---|---|
//! | routes, limits, TLS policies, trusted networks | [`snapshot::Snapshot`] | replaced whole; a request keeps its own |
//! | health, in-flight counts, drain by hand | [`balance::Endpoint`], by address | carried over to the next pool |
//! | breakers | each [`balance::Pool`], by the upstream's name | carried over unless their keys changed |
//! | retry budgets | each [`upstream::Upstream`], by name | kept |
//! | stored responses, and fetches that many wait for | [`cache::Cache`] | kept; what does not fit new limits goes |
//! | what rate limits have counted | [`rate_limit::Limit`], by name | kept unless the quota or what it counts by changed |
//! | idle upstream connections | each worker's [`upstream::Connections`] | kept for endpoints that stay |
//! | certificates and ticket keys | [`tls::Certificates`] | replaced while connections go on |
//! | listen sockets | each worker, by address; [`sockets::Sockets`] knows of all | a socket whose address stays is not touched |
//! | replicas | [`supervise::Supervisor`] | replaced one by one if their command changed |
//! | who waits for room at an upstream | [`balance::Queue`], by name | kept; the caps are those of the newest generation |
//! | requests in flight, connections of an address | [`overload::Overload`] | kept; the limits are the generation's |
//! | counts and series | [`telemetry::Metrics`] | kept |
//! | the last minutes, and the live pages that are open | [`admin`] | kept; pages ask again if `[admin]` changed |
//! | spans that wait | [`telemetry::traces::Exporting`] | kept, and sent to where the new generation says |
//!
//! Nothing of this is on disk. Global are the subscriber of `tracing`, the roots of the system once they are read, and,
//! for each worker, the desk that records are handed in at, which a body cannot hold because it is `Send`, the
//! compressor that it used last, the pipe that content is moved through, and the buffers that are kept at hand for the next message and the next key.
//!
//! # Taken otherwise than first designed
//!
//! - The configuration is declared by one macro, `section!`, and read from a tree with places, not by a mirror
//!   for serde: serde stops at the first error, and an operator wants all of them. The same declaration
//!   makes the schema, the reference and `check --effective`.
//! - HTTP/1.1 is spoken by codecs of our own, and not by hyper, which speaks HTTP/2 to both sides. Its client,
//!   in whose place `upstream::h1` stands, runs each connection as a task, and every request and frame crosses to
//!   it and back, with channels and a copy of the head for the next attempt. Its server takes more than an edge may
//!   take, so the guard had read every byte before it: in `connection::h1` the guard is the one parser, and the
//!   request is made of the places that it found. Responses of endpoints are parsed by httparse.
//! - Metrics are counted by each thread for itself and summed at a scrape. OpenTelemetry's bound instruments
//!   are shared by all threads; the cost is in the docs of `telemetry::metrics::requests`. What they would be called and have as
//!   attributes is kept: one list of families is what a scrape and a push are made of.
//! - Spans are made of what the access log is told of a request, when it ends, and carried by `tollgate-otlp`, which the app
//!   shares. The SDK of OpenTelemetry wants attributes while the request runs, reads its variables by itself and counts nothing.
//! - [`timers`]: time limits are numbers that one sweep a worker looks at twenty times a second. A proxy
//!   sets several a request and almost none fires, so a timer for each is work for nothing. A limit fires
//!   up to 0.1 s late and never early.
//! - Clients that are slow to read are served by [`body::ReadAhead`], which begins once they fall behind, and not by a
//!   buffer that every response passes. Bodies of requests are read ahead, up to a size, if it is announced.
//! - [`record`] stands beside [`proxy`]: what the log must know of a request outlives the path, so it is a value
//!   of its own that ends with the body.
//! - A client that closes its sending side while it waits counts as gone, as in nginx. Otherwise a client
//!   that left could not be told from one that will still read, and its request would be worked on for nobody.
//! - [`compress`] drives the codecs of async-compression by hand. Its readers and writers do not tell a source that
//!   waits from one that goes on, and an event has to be flushed at the first and must not be at the second. What is
//!   whole goes to libdeflate, which takes half the time.
//! - A retry is paid for by the attempt before it, if that reached its endpoint: what follows an attempt that did not is
//!   the first that an endpoint sees of the request, so arrivals are bounded, and not attempts. Requests are
//!   counted on their thread, and only a retry adds the counts up.
//!
//! # The order of modules
//!
//! It is the order in which a request flows. A module imports what stands below it; `tests/tidy.rs` holds that,
//! and names the few exceptions with their reasons. Public is what `main.rs` and the fuzz targets use, so that the
//! compiler finds dead code in the rest.

// Who reads these pages works on the program: `.ci/run` makes them with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

// Commands and the control thread.
pub mod cli;
mod server;
mod observed;
mod shutdown;
mod admin;
mod reload;
mod control;
mod watch;
mod background;
mod recovery;
mod lately;
mod warm;
mod supervise;
mod sockets;
mod inherited;
mod signals;
mod ready;
mod capacity;

// The client's side.
mod worker;
mod listener;
mod connection;
mod proxy;
mod record;
mod error;
pub mod guard;

// What a request is served by.
mod snapshot;
mod route;
mod rewrite;
mod stub_status;
mod rate_limit;
mod cache;

// The origin's side.
mod fetch;
mod upstream;
mod tunnel;
mod timed;
mod tcp;
mod local_executor;
mod tls;
mod balance;

// What both sides stand on.
mod telemetry;
mod compress;
mod body;
pub mod frames;
mod interim;
pub mod header;
mod timers;
mod ticks;
mod pace;
mod spare;
mod splice;
pub mod config;
mod division;
mod overload;
pub mod client_ip;
mod machine;
mod pattern;
pub mod path;
mod clock;
mod lock;

/// What the fuzz targets try of the cache.
pub use cache::fuzzed as cache_parts;
/// And of routing, and of what endpoints send.
pub use route::Router;
pub use upstream::fuzzed as upstream_parts;

/// What the benches of pure parts measure beside those.
pub mod measured {
    pub use crate::connection::{Asked as Answered, Stamp, write_head};
    pub use crate::rate_limit::{Asked, RouteLimits, build};
}
