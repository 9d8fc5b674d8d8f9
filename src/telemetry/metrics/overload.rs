//! What is refused because there is too much, and what the process does by itself when something is short. Refused requests
//! are counted by their reason.

use super::families;
use super::gathered::Gathered;
use crate::overload::Overload;
use crate::overload::recovery::{Recovery, Side};

pub fn gather(overload: &Overload, recoveries: &[Recovery], to: &mut Gathered) {
    to.add(&families::CONNECTIONS_REFUSED, [], overload.connections_refused());
    to.add(&families::MEMORY_PRESSURE, [], overload.pressure() as u64);
    for (side, label) in [(Side::Client, "client"), (Side::Endpoint, "endpoint")] {
        to.add(&families::IDLE_CLOSED, [label.into()], overload.done.closed(side));
    }
    for Recovery { action, active, times, .. } in recoveries {
        to.add(&families::RECOVERY_ACTIVE, [action.label().into()], *active);
        to.add(&families::RECOVERIES, [action.label().into()], *times);
    }
}
