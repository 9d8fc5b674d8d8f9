//! What the tests are written in: an edge, origins that remember every byte, and clients that say exactly
//! what they are told to.

pub mod app;
mod arrivals;
mod client;
mod collector;
mod dns;
mod edge;
pub mod frames;
mod h2_origin;
mod load;
mod origin;
mod wire;

use std::time::Duration;

pub use self::arrivals::Arrivals;
pub use self::client::{Answer, Body, Client, Pending, Via, request, tls, try_tls};
pub use self::collector::{Collector, Span};
pub use self::dns::{NameServer, Said};
pub use self::edge::Edge;
pub use self::h2_origin::H2Origin;
pub use self::load::{Connecting, Load};
pub use self::origin::{Connection, Origin, ROUTE, Reply, deserted, ok, upstream};
pub use self::wire::{Request, Wire};

/// So long a test waits for what must happen. It bounds a failure; no success takes that long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at what tells no one that it has changed: a file, a process, a status page.
const GLANCE: Duration = Duration::from_millis(10);

/// Waits for `future`, and says what was waited for if it takes too long.
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(value) => value,
            Err(_elapsed) => panic!("{place}: waited in vain for {what}"),
        }
    }
}

/// Looks again and again until `look` finds something.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    within(what, async move {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(GLANCE).await;
        }
    })
}
