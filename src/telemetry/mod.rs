//! What operators see of the running proxy: the access log, metrics, traces and diagnostics.
//!
//! Nothing here decides anything about a request, and nothing here may hold one up.

pub mod access_log;
pub mod log;
pub mod metrics;
mod resource;
pub mod semconv;
pub mod traces;

pub use access_log::{AccessWriter, Entry, UpstreamEntry};
pub use metrics::{EndpointMetrics, Metrics, RouteMetrics, UpstreamMetrics};
