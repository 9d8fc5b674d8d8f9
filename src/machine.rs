//! How much of the machine this process has and may have, as the kernel says it.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Memory of this process that is held in RAM, in bytes.
pub fn memory() -> Option<u64> {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status))
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
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn trim_memory() {
    // SAFETY: it takes a number, and works on the allocator's own locks as `free` does.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn trim_memory() {}

/// Has the allocator join small pieces of memory as they are freed, and not all of them at once: it would hold up
/// whoever allocates meanwhile, for a second while 200,000 stored responses are taken out. Of a million it is slow all
/// the same (`benches/purge/results`). Called before there are other threads.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn keep_allocator_even() {
    // SAFETY: it takes two numbers. M_MXFAST of 0 means that no freed piece is kept apart.
    unsafe { libc::mallopt(libc::M_MXFAST, 0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn keep_allocator_even() {}

/// From `/proc/self/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
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
    fn resident_memory_from_status() {
        let check = |status, expected| assert_eq!(resident_bytes(status), expected, "{status}");
        check("Name:\tx\nVmHWM:\t  90 kB\nVmRSS:\t   12 kB\nThreads:\t1\n", Some(12 * 1024));
        check("Name:\tx\n", None);
        check("VmRSS: many kB", None);
    }

    #[test]
    fn this_process_uses_something() {
        assert!(memory().is_some_and(|bytes| bytes > 0) && memory() < memory_limit());
        assert!(descriptors().is_some_and(|open| open > 0) && descriptors() < descriptors_limit());
        trim_memory();
    }
}
