//! How much of the machine this process has and may have.

use rustix::process::{Resource, getrlimit};

use super::judge::Usage;
use crate::capacity;
use crate::telemetry::metrics::process;

/// Memory held in RAM, against the limit of the control group or, without one, the memory of the machine.
pub fn memory() -> Option<Usage> {
    let limit = capacity::memory_max()?;
    Some(Usage { used: process::resident_memory()?, limit })
}

pub fn descriptors() -> Option<Usage> {
    let limit = getrlimit(Resource::Nofile).current?;
    Some(Usage { used: process::open_descriptors()?, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        assert!(memory().is_some_and(|memory| memory.used > 0));
        assert!(descriptors().is_some_and(|descriptors| descriptors.used > 0));
    }
}
