//! What the kernel says of this process, under the names that Prometheus' own clients use.
//!
//! Read at each scrape and never in between. A value that cannot be read is left out.

use std::fs;
use std::time::SystemTime;

use opentelemetry::metrics::Meter;
use rustix::process::{Resource, getrlimit};

use super::unix_seconds;

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
            if let Some(bytes) = resident_memory() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
    let _open = meter
        .u64_observable_gauge("process_open_fds")
        .with_description("Open file descriptors.")
        .with_callback(|observer| {
            if let Some(count) = open_descriptors() {
                observer.observe(count, &[]);
            }
        })
        .build();
    let _max = meter
        .u64_observable_gauge("process_max_fds")
        .with_description("The limit of open file descriptors.")
        .with_callback(|observer| {
            if let Some(limit) = getrlimit(Resource::Nofile).current {
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

/// Memory of this process that is held in RAM, in bytes.
pub fn resident_memory() -> Option<u64> {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status))
}

pub fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 the size of the folder is the count; listing 100,000 entries takes long.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
        count => Some(count),
    }
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

/// From `/proc/self/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
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

    #[test]
    fn resident_memory_from_status() {
        let check = |status, expected| assert_eq!(resident_bytes(status), expected, "{status}");
        check("Name:\tx\nVmHWM:\t  90 kB\nVmRSS:\t   12 kB\nThreads:\t1\n", Some(12 * 1024));
        check("Name:\tx\n", None);
        check("VmRSS: many kB", None);
    }
}
