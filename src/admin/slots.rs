//! Who keeps a place when the admin listener has too many connections.
//!
//! A connection that has no request in progress costs its client nothing, so it has no right to its place: the
//! oldest of those gives way. An address that holds more than its share gives way to itself first, so that a
//! stranger who opens many cannot push out the operator, whose address is another.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::{Rc, Weak};

use super::access::Via;

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub all: usize,
    /// From one address, or one /64 of IPv6, which is what one client has. The control socket counts as one.
    pub of_a_peer: usize,
}

/// The open connections, in the order in which they came. `H` ends one.
#[derive(Debug)]
pub struct Slots<H> {
    limits: Limits,
    open: VecDeque<Slot<H>>,
}

#[derive(Debug)]
struct Slot<H> {
    peer: Option<IpAddr>,
    /// Gone with the connection.
    busy: Weak<Cell<bool>>,
    handle: H,
}

/// What its connection holds: whether a request is in progress.
pub type Busy = Rc<Cell<bool>>;

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission<H> {
    Free,
    /// It takes the place of this one.
    InPlaceOf(H),
    /// Every place that it could have is at work.
    Refused,
}

impl<H> Slots<H> {
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: VecDeque::new() }
    }

    /// Decides about a connection that has come; an admitted one is to be added.
    pub fn admit(&mut self, via: Via) -> Admission<H> {
        self.open.retain(|slot| slot.busy.strong_count() > 0);
        let peer = peer(via);
        let of_peer = self.open.iter().filter(|slot| slot.peer == peer).count();
        let crowded = of_peer >= self.limits.of_a_peer;
        if !crowded && self.open.len() < self.limits.all {
            return Admission::Free;
        }
        let idle = |slot: &Slot<H>| slot.busy.upgrade().is_none_or(|busy| !busy.get());
        let oldest = self.open.iter().position(|slot| (!crowded || slot.peer == peer) && idle(slot));
        match oldest.and_then(|index| self.open.remove(index)) {
            Some(slot) => Admission::InPlaceOf(slot.handle),
            None => Admission::Refused,
        }
    }

    pub fn add(&mut self, via: Via, busy: &Busy, handle: H) {
        self.open.push_back(Slot { peer: peer(via), busy: Rc::downgrade(busy), handle });
    }
}

/// Whose share a connection is counted in.
fn peer(via: Via) -> Option<IpAddr> {
    match via {
        Via::Socket => None,
        Via::Tcp { peer, .. } => Some(match peer.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
            address @ IpAddr::V4(_) => address,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(peer: &str) -> Via {
        Via::Tcp { peer: peer.parse().unwrap(), local: IpAddr::from([127, 0, 0, 1]) }
    }

    /// Slots for four, two of them of one peer, and who holds them: `+` is busy.
    #[track_caller]
    fn check(held: &[&str], newcomer: &str, expected: Admission<&str>) {
        let mut slots = Slots::new(Limits { all: 4, of_a_peer: 2 });
        let mut busy = Vec::new();
        for held in held {
            let connection = Rc::new(Cell::new(held.ends_with('+')));
            slots.add(tcp(held.trim_end_matches('+')), &connection, *held);
            busy.push(connection);
        }
        assert_eq!(slots.admit(tcp(newcomer)), expected, "{held:?} {newcomer}");
    }

    #[test]
    fn the_oldest_without_a_request_gives_way() {
        let full = &["10.0.0.1+", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
        check(&full[..3], "10.0.0.5", Admission::Free);
        check(full, "10.0.0.5", Admission::InPlaceOf("10.0.0.2"));
        check(&["10.0.0.1+", "10.0.0.2+", "10.0.0.3+", "10.0.0.4+"], "10.0.0.5", Admission::Refused);
    }

    #[test]
    fn an_address_that_has_its_share_gives_way_to_itself() {
        check(&["10.0.0.9", "10.0.0.1", "10.0.0.1"], "10.0.0.1", Admission::InPlaceOf("10.0.0.1"));
        check(&["10.0.0.9", "10.0.0.1+", "10.0.0.1+"], "10.0.0.1", Admission::Refused);
        check(&["10.0.0.1", "::ffff:10.0.0.1"], "10.0.0.1", Admission::InPlaceOf("10.0.0.1"));
        check(&["2001:db8::1", "2001:db8::2"], "2001:db8::3", Admission::InPlaceOf("2001:db8::1"));
        check(&["2001:db8::1", "2001:db8::2"], "2001:db8:0:1::3", Admission::Free);
    }

    #[test]
    fn what_has_ended_leaves_room() {
        let mut slots = Slots::new(Limits { all: 1, of_a_peer: 1 });
        let busy = Busy::default();
        slots.add(Via::Socket, &busy, "ended");
        assert_eq!(slots.admit(Via::Socket), Admission::InPlaceOf("ended"));
        slots.add(Via::Socket, &busy, "ended");
        drop(busy);
        assert_eq!(slots.admit(Via::Socket), Admission::Free);
    }
}
