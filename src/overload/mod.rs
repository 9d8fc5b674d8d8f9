//! What is refused because there is too much of it: requests in flight, over all, by route and by client; connections
//! of one address; anything at all while memory is short. And what is done before it comes to that.
//!
//! The counts belong to the process and go on over reloads; the limits are those of the generation that a request is
//! served by, so they are arguments. A refusal is a comparison: nothing is read, chosen or waited for before it. How
//! many connections there may be in all is up to `listener`, because those beyond wait in the kernel's queue.

mod address;
mod count;
pub mod crowd;
pub mod memory;
pub mod recovery;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::lock::lock;

pub use self::address::{ByAddress, Client, OfAddress};
pub use self::count::{Count, Place};
pub use self::crowd::Crowded;
pub use self::memory::Pressure;
pub use self::recovery::Done;

/// A flood of connections is one line in the log for so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Which limit a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Proxy,
    Route,
    Client,
}

/// All that is counted.
#[derive(Debug, Default)]
pub struct Overload {
    requests: Arc<Count>,
    pub requests_of: Arc<ByAddress>,
    pub connections_of: Arc<ByAddress>,
    connections_refused: AtomicU64,
    /// When it was said last that there were such.
    told: Mutex<Option<Instant>>,
    routes: Mutex<BTreeMap<String, Weak<Count>>>,
    pressure: AtomicU8,
    /// The memory that the pressure was judged by.
    resident: AtomicU64,
    crowded: ArcSwap<Crowded>,
    pub done: Done,
}

/// The limits of requests in flight in one generation; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub proxy: usize,
    pub client: usize,
}

/// What a request occupies, until it is dropped.
#[derive(Debug)]
pub struct Places {
    _proxy: Option<Place>,
    _route: Option<Place>,
    _client: Option<OfAddress>,
}

impl Overload {
    /// The count of a route by its name, shared by the generations that have it.
    pub fn route(&self, name: &str) -> Arc<Count> {
        let mut routes = lock(&self.routes);
        if let Some(count) = routes.get(name).and_then(Weak::upgrade) {
            return count;
        }
        // Asked at a reload alone; what no generation holds any more goes then.
        routes.retain(|_, count| count.strong_count() > 0);
        let count = Arc::default();
        routes.insert(name.to_owned(), Arc::downgrade(&count));
        count
    }

    /// Takes a place under each limit, or none. The client is asked for where it has a limit.
    pub fn enter(
        &self,
        limits: Limits,
        route: Option<(&Arc<Count>, usize)>,
        client: impl FnOnce() -> Arc<Client>,
    ) -> Result<Option<Box<Places>>, Full> {
        if limits == (Limits { proxy: 0, client: 0 }) && route.is_none() {
            return Ok(None);
        }
        let _proxy = match limits.proxy {
            0 => None,
            max => Some(self.requests.enter(max).ok_or(Full::Proxy)?),
        };
        let _route = match route {
            None => None,
            Some((count, max)) => Some(count.enter(max).ok_or(Full::Route)?),
        };
        let _client = match limits.client {
            0 => None,
            max => Some(client().enter(max).ok_or(Full::Client)?),
        };
        Ok(Some(Box::new(Places { _proxy, _route, _client })))
    }

    /// Each limit that [`Overload::enter`] would ask, in its order: how many there are, and how many there may be.
    pub fn look(
        &self,
        limits: Limits,
        route: Option<(&Arc<Count>, usize)>,
        client: IpAddr,
    ) -> Vec<(Full, usize, usize)> {
        let proxy = (limits.proxy > 0).then(|| (Full::Proxy, self.requests.open(), limits.proxy));
        let route = route.map(|(count, max)| (Full::Route, count.open(), max));
        let client = (limits.client > 0).then(|| (Full::Client, self.requests_of.open(client), limits.client));
        [proxy, route, client].into_iter().flatten().collect()
    }

    /// Counts a connection that was closed because its address has too many. True once a minute: then it is said.
    pub fn refuse_connection(&self, now: Instant) -> bool {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
        // Who finds it taken comes while another one says it.
        let Ok(mut told) = self.told.try_lock() else { return false };
        let is_due = told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY);
        if is_due {
            *told = Some(now);
        }
        is_due
    }

    /// Connections that were closed because their address had too many.
    pub fn connections_refused(&self) -> u64 {
        self.connections_refused.load(Ordering::Relaxed)
    }

    pub fn pressure(&self) -> Pressure {
        Pressure::from_number(self.pressure.load(Ordering::Relaxed))
    }

    /// `resident`: bytes, by which it was judged.
    pub fn set_pressure(&self, pressure: Pressure, resident: u64) {
        self.pressure.store(pressure as u8, Ordering::Relaxed);
        self.resident.store(resident, Ordering::Relaxed);
    }

    /// What the pressure was judged by. To be asked by the thread that sets it.
    pub fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    pub fn crowded(&self) -> Arc<Crowded> {
        self.crowded.load_full()
    }

    pub fn set_crowded(&self, crowded: Crowded) {
        self.crowded.store(Arc::new(crowded));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn without_limits_nothing_is_counted() {
        let overload = Overload::default();
        let none = Limits { proxy: 0, client: 0 };
        assert!(overload.enter(none, None, || overload.requests_of.client(ONE)).unwrap().is_none());
    }

    #[test]
    fn each_limit_is_met_by_itself_and_a_refused_request_occupies_nothing() {
        let overload = Overload::default();
        let route = overload.route("api");
        let limits = Limits { proxy: 3, client: 2 };
        let enter = |route, address| overload.enter(limits, route, || overload.requests_of.client(address));
        let first = enter(Some((&route, 1)), ONE).unwrap();
        assert_eq!(enter(Some((&route, 1)), ONE).unwrap_err(), Full::Route);
        let second = enter(None, ONE).unwrap();
        assert_eq!(enter(None, ONE).unwrap_err(), Full::Client);
        let other = IpAddr::from([127, 0, 0, 2]);
        let third = enter(None, other).unwrap();
        assert_eq!(enter(None, other).unwrap_err(), Full::Proxy);
        drop((first, second, third));
        assert_eq!(overload.requests.open(), 0);
        assert_eq!(route.open(), 0);
        assert_eq!(overload.requests_of.addresses(), 0);
    }

    #[test]
    fn refused_connections_are_told_of_once_a_minute() {
        let (overload, start) = (Overload::default(), Instant::now());
        let told = [0, 1, 59, 60, 61, 300].map(|s| overload.refuse_connection(start + Duration::from_secs(s)));
        assert_eq!(told, [true, false, false, true, false, true]);
        assert_eq!(overload.connections_refused(), 6);
    }

    #[test]
    fn a_route_keeps_its_count_over_generations() {
        let overload = Overload::default();
        let of_first = overload.route("api");
        let place = of_first.enter(1).unwrap();
        assert!(overload.route("api").enter(1).is_none());
        // One that is gone begins anew.
        drop((of_first, place));
        assert!(overload.route("api").enter(1).is_some());
    }
}
