//! What the kernel says of this process, under the names that Prometheus' own clients use.
//!
//! Read at each scrape and never in between. A value that cannot be read is left out.

use std::fs;
use std::time::SystemTime;

use super::unix_seconds;
use crate::machine;
use opentelemetry::metrics::Meter;

/// Clock ticks a second in `/proc/self/stat`: a constant of Linux's interface to user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers the `process_*` instruments; `started` is when the process was.
pub fn observe(meter: &Meter, started: SystemTime) {
    let _cpu = meter
        .f64_observable_counter("process_cpu_seconds_total")
        .with_description("CPU time used, in user and system mode.")
        .with_callback(|observer| {
            if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
                observer.observe(seconds, &[]);
            }
        })
        .build();
    let _memory = meter
        .u64_observable_gauge("process_resident_memory_bytes")
        .with_description("Memory held in RAM.")
        .with_callback(|observer| {
            if let Some(bytes) = machine::memory() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
    let _open = meter
        .u64_observable_gauge("process_open_fds")
        .with_description("Open file descriptors.")
        .with_callback(|observer| {
            if let Some(count) = machine::descriptors() {
                observer.observe(count, &[]);
            }
        })
        .build();
    let _max = meter
        .u64_observable_gauge("process_max_fds")
        .with_description("The limit of open file descriptors.")
        .with_callback(|observer| {
            if let Some(limit) = machine::descriptors_limit() {
                observer.observe(limit, &[]);
            }
        })
        .build();
    let _started = meter
        .f64_observable_gauge("process_start_time_seconds")
        .with_description("When the process was started, in seconds since 1970.")
        .with_callback(move |observer| observer.observe(unix_seconds(started), &[]))
        .build();
}

/// From `/proc/self/stat`, whose second field is a name that may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    // The 14th and 15th field; the third is the first after the name.
    let mut times = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_from_stat() {
        let check = |stat, expected| assert_eq!(cpu_seconds(stat), expected, "{stat}");
        check("1 (tollgate) S 0 1 1 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 4 0 77 0 0", Some(3.0));
        check("1 (a) b) c) S 0 1 1 0 -1 4194560 9 0 0 0 1 0 0 0 20", Some(0.01));
        check("1 (tollgate) S 0 1", None);
        check("", None);
    }
}
