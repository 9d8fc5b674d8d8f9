//! The real binary between real sockets: every test starts its own edge and its own origins on free ports,
//! and waits for events, never for time to pass.

// The harness stands outside of test functions, where clippy does not see that it belongs to tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

mod admin;
mod app_accounts;
mod app_media;
mod app_shop;
mod app_workflows;
mod balance;
mod basics;
mod besieged;
mod blame;
mod breaker;
mod cache;
mod cache_mended;
mod cache_purge;
mod cache_threats;
mod certificates;
mod compress;
mod explain;
mod failover;
mod faults;
mod flood;
mod framing;
mod h1_upstream;
mod h2_downstream;
mod h2_upstream;
mod head_bombs;
mod head_requests;
mod health_report;
mod interim;
mod kept;
mod limits;
mod metrics;
mod overload;
mod pace;
mod page;
mod queue;
mod rate_limits;
mod recovery;
mod reload;
mod replicas;
mod retries;
mod routes;
mod shutdown;
mod sockets;
mod spliced;
mod streams;
mod tags;
mod tail;
mod traces;
mod under_load;
mod uploads;
mod upstream_floods;
mod upstream_threats;
