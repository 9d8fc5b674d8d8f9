//! How much of the machine this process has and may have.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::judge::Usage;
use crate::telemetry::metrics::process;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Memory held in RAM, against the limit of the control group or, without one, the memory of the machine.
pub fn memory() -> Option<Usage> {
    let limit = memory_limit(|path| fs::read_to_string(path).ok())?;
    Some(Usage { used: process::resident_memory()?, limit })
}

pub fn descriptors() -> Option<Usage> {
    let limit = getrlimit(Resource::Nofile).current?;
    Some(Usage { used: process::open_descriptors()?, limit })
}

/// The smallest limit that holds: a control group is held to those of its ancestors too.
fn memory_limit(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
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
            assert_eq!(memory_limit(read), expected, "{files:?}");
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
    fn this_process_uses_something() {
        assert!(memory().is_some_and(|memory| memory.used > 0));
        assert!(descriptors().is_some_and(|descriptors| descriptors.used > 0));
    }
}
