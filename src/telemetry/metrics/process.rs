//! What the kernel says of this process, under the names that Prometheus' own clients use.
//!
//! Read at each scrape and never in between. A value that cannot be read is left out.

use std::time::{Duration, SystemTime};

use super::gathered::Gathered;
use super::{families, unix_seconds};
use crate::{clock, machine};

/// `started` is when the process was.
pub fn gather(started: SystemTime, to: &mut Gathered) {
    to.add(&families::BUILD, [env!("CARGO_PKG_VERSION").into()], 1u64);
    to.add(&families::STARTED, [], unix_seconds(started));
    let uptime = clock::system_time().duration_since(started).unwrap_or(Duration::ZERO);
    to.add(&families::UPTIME, [], uptime.as_secs_f64());
    to.add(&families::CPU_LIMIT, [], machine::processors() as u64);
    if let Some(used) = machine::processor_time() {
        to.add(&families::CPU, [], used.as_secs_f64());
    }
    type Read = fn() -> Option<u64>;
    let read: [(_, Read); 6] = [
        (&families::RESIDENT, machine::memory),
        (&families::VIRTUAL, machine::address_space),
        (&families::MEMORY_LIMIT, machine::memory_limit),
        (&families::THREADS, machine::threads),
        (&families::OPEN_FDS, machine::descriptors),
        (&families::MAX_FDS, machine::descriptors_limit),
    ];
    for (family, read) in read {
        if let Some(value) = read() {
            to.add(family, [], value);
        }
    }
}
