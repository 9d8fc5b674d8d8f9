//! How much of the machine this process has and may have, as the kernel says it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

const CGROUPS: &str = "/sys/fs/cgroup";
/// Clock ticks a second in `/proc/self/stat`: a constant of Linux's interface to user space.
const TICKS_PER_SECOND: u64 = 100;

/// What a thread frees of another one's memory goes back in batches under a lock for each size. glibc's allocator joins and
/// searches all that is free under one, and held up whoever allocated, for seconds, while a million stored responses were
/// taken out.
#[cfg(not(fuzzing))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Memory of this process that is held in RAM, in bytes.
pub fn memory() -> Option<u64> {
    status(|status| kib_field(status, "VmRSS:"))
}

/// The size of this process's address space, in bytes.
pub fn address_space() -> Option<u64> {
    status(|status| kib_field(status, "VmSize:"))
}

pub fn threads() -> Option<u64> {
    status(|status| status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok())
}

/// Of all threads, in user and system mode.
pub fn processor_time() -> Option<Duration> {
    fs::read_to_string("/proc/self/stat").ok().and_then(|stat| processor_time_of(&stat))
}

/// How many processors this process may use at a time, by its affinity and its control group.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The disk that a folder is on: bytes in use, and bytes that programs without privileges may fill in all.
pub fn disk(folder: &Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let all = used.saturating_add(disk.f_bavail);
    Some((used.saturating_mul(disk.f_frsize), all.saturating_mul(disk.f_frsize)))
}

fn status<T>(read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| read(&status))
}

/// The limit of the control group or, without one, the memory of the machine.
pub fn memory_limit() -> Option<u64> {
    smallest_memory_limit(|path| fs::read_to_string(path).ok())
}

pub fn descriptors() -> Option<u64> {
    // Since Linux 6.2 the size of the folder is the count; listing 100,000 entries takes long.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
        count => Some(count),
    }
}

pub fn descriptors_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Has the allocator give back to the machine what it keeps for later. It goes over all of its arenas, so it is for
/// threads that may block.
#[cfg(not(fuzzing))]
#[allow(unsafe_code)]
pub fn trim_memory() {
    use std::ptr::null_mut;
    // MALLCTL_ARENAS_ALL is 4096.
    let name = c"arena.4096.purge";
    // SAFETY: the name ends in NUL, and this order takes and returns nothing.
    unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
}

#[cfg(fuzzing)]
pub fn trim_memory() {}

/// A line of `/proc/self/status` such as `VmRSS:     1234 kB`, in bytes.
fn kib_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

/// From `/proc/self/stat`, whose second field is a name that may hold spaces and parentheses.
fn processor_time_of(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    // The 14th and 15th field; the third is the first after the name.
    let mut times = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(Duration::from_millis(user.checked_add(system)?.checked_mul(1_000 / TICKS_PER_SECOND)?))
}

/// A control group is held to the limits of its ancestors too.
fn smallest_memory_limit(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let total = read(Path::new("/proc/meminfo")).and_then(|text| memory_total(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let of_groups = groups.lines().filter_map(limit_files).flatten().filter_map(|file| {
        // Without a limit it is the word `max`, in version 1 a number that no machine has.
        read(&file)?.trim().parse().ok()
    });
    of_groups.chain(total).min()
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

/// Where the limits of one line of `/proc/self/cgroup` stand: `0::/path`, in version 1 `4:memory:/path`.
fn limit_files(line: &str) -> Option<Vec<PathBuf>> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    let (root, file) = if controllers.is_empty() {
        (PathBuf::from(CGROUPS), "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        (Path::new(CGROUPS).join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    let group = Path::new(group.trim_start_matches('/'));
    Some(group.ancestors().map(|ancestor| root.join(ancestor).join(file)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_memory_holds() {
        let check = |files: &[(&str, &str)], expected: Option<u64>| {
            let read = |path: &Path| {
                files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(smallest_memory_limit(read), expected, "{files:?}");
        };
        let meminfo = ("/proc/meminfo", "MemTotal:       1024 kB\nMemFree: 7 kB\n");
        check(&[], None);
        check(&[meminfo], Some(1 << 20));
        let group = ("/proc/self/cgroup", "0::/a/b\n");
        check(&[meminfo, group], Some(1 << 20));
        check(&[meminfo, group, ("/sys/fs/cgroup/a/b/memory.max", "4096\n")], Some(4096));
        check(&[meminfo, group, ("/sys/fs/cgroup/a/memory.max", "4096\n")], Some(4096));
        check(&[meminfo, group, ("/sys/fs/cgroup/a/b/memory.max", "max\n")], Some(1 << 20));
        check(&[meminfo, group, ("/sys/fs/cgroup/a/b/memory.max", "9999999999\n")], Some(1 << 20));
        let container = ("/proc/self/cgroup", "0::/\n");
        check(&[meminfo, container, ("/sys/fs/cgroup/memory.max", "8192\n")], Some(8192));
        let first_version = ("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n");
        let limit = ("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "512\n");
        check(&[meminfo, first_version, limit], Some(512));
    }

    #[test]
    fn fields_of_status_in_bytes() {
        let check = |status, expected| assert_eq!(kib_field(status, "VmRSS:"), expected, "{status}");
        check("Name:\tx\nVmHWM:\t  90 kB\nVmRSS:\t   12 kB\nThreads:\t1\n", Some(12 * 1024));
        check("Name:\tx\n", None);
        check("VmRSS: many kB", None);
        check("VmRSS: 18446744073709551615 kB", None);
    }

    #[test]
    fn processor_time_from_stat() {
        let check = |stat, millis: Option<u64>| {
            assert_eq!(processor_time_of(stat), millis.map(Duration::from_millis), "{stat}");
        };
        check("1 (tollgate) S 0 1 1 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 4 0 77 0 0", Some(3_000));
        check("1 (a) b) c) S 0 1 1 0 -1 4194560 9 0 0 0 1 0 0 0 20", Some(10));
        check("1 (tollgate) S 0 1", None);
        check("", None);
    }

    #[test]
    fn this_process_uses_something() {
        assert!(memory().is_some_and(|bytes| bytes > 0) && memory() < memory_limit());
        assert!(descriptors().is_some_and(|open| open > 0) && descriptors() < descriptors_limit());
        assert!(memory() < address_space() && threads().is_some_and(|count| count > 0) && processors() > 0);
        assert!(processor_time().is_some() && disk(Path::new("/")).is_some_and(|(used, all)| used <= all && all > 0));
        trim_memory();
    }
}
