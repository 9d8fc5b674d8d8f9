//! What this machine and its limits leave room for.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::{self, Config, Environment};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Of the memory, heads of open streams may have one part in so many, if the config does not say.
const HEADS_SHARE: u64 = 32;
const HEADS_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// What the config says, or what the limit of open files leaves.
pub fn connections_max(config: &Config) -> usize {
    if config.server.connections_max > 0 {
        return config.server.connections_max;
    }
    let open_files_max = Environment::system().open_files_max;
    let left = config::connections_left(open_files_max, worker_count(config), config.listeners.len());
    usize::try_from(left).unwrap_or(usize::MAX).max(1)
}

/// The soft limit of open files is for programs that use `select`; this one takes what it may have.
pub fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("the limit of open files stays as it is: {error}");
    }
}

/// Workers that the configuration asks for: 0 is one a core.
pub fn worker_count(config: &Config) -> usize {
    match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// What heads of open streams may take in all: what the config says, or a share of the memory.
pub fn heads_max(config: &Config) -> u64 {
    let share = || memory_max().map_or(0, |memory| memory / HEADS_SHARE).max(HEADS_BYTES_MIN);
    config.client.h2.heads_max.unwrap_or_else(share)
}

/// The limit of the control group or, without one, the memory of the machine.
pub fn memory_max() -> Option<u64> {
    memory_limit(|path| fs::read_to_string(path).ok())
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
}
