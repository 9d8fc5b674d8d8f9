//! Notices that a file of the configuration has changed.
//!
//! It watches folders, not files: a file that is renamed over, or a link that is swapped somewhere on the way
//! to it, gives no event on the file itself. Links are followed, so that the mounts of Kubernetes work. What
//! else happens in those folders, a log that is written say, is ignored.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// An editor writes a file in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// A longer chain of links is a loop.
const LINKS_MAX: usize = 16;

pub struct Watch {
    watcher: RefCell<Option<RecommendedWatcher>>,
    files: Rc<RefCell<Files>>,
}

#[derive(Debug, Default)]
struct Files {
    paths: Vec<PathBuf>,
    places: Places,
    hash: u64,
}

/// Where a change to the files can show.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    folders: BTreeSet<PathBuf>,
    /// The files, and every link on the way to them.
    names: BTreeSet<PathBuf>,
    /// Folders in which every file counts.
    whole: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches nothing; `tollgate reload` and SIGHUP are left.
    pub fn off() -> Self {
        Self { watcher: RefCell::default(), files: Rc::default() }
    }

    /// Calls `changed` when the content of a file is not what it was. To be called on a `LocalSet`.
    pub fn start(paths: Vec<PathBuf>, changed: impl Fn() + 'static) -> Self {
        let (events, received) = mpsc::unbounded_channel();
        let watch = Self::off();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if event.kind.is_access() => {}
            Ok(event) => drop(events.send(event.paths)),
            // Events were lost: anything may have changed.
            Err(_) => drop(events.send(Vec::new())),
        });
        match watcher {
            Ok(watcher) => {
                watch.watcher.replace(Some(watcher));
                tokio::task::spawn_local(report(received, Rc::clone(&watch.files), changed));
            }
            Err(error) => tracing::warn!("cannot watch the configuration: {error}; use SIGHUP or `tollgate reload`"),
        }
        warn_of_mounts(&paths);
        watch.follow(paths);
        watch
    }

    /// From now on these files are watched.
    pub fn follow(&self, paths: Vec<PathBuf>) {
        let Some(watcher) = &mut *self.watcher.borrow_mut() else { return };
        let (hash, places) = (hash_of(&paths), Places::of(&paths));
        let before = self.files.replace(Files { paths, places, hash }).places.folders;
        let now = &self.files.borrow().places.folders;
        for folder in before.difference(now) {
            // It may be gone, and its watch with it.
            let _gone = watcher.unwatch(folder);
        }
        for folder in now.difference(&before) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!("cannot watch {}: {error}", folder.display());
            }
        }
    }
}

/// Says which of the files is a mount of its own, as Docker makes it of `-v config.toml:/config.toml`: a new
/// file that an editor renames over the old one is never seen through it.
fn warn_of_mounts(paths: &[PathBuf]) {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return };
    for path in paths {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        if path.is_file() && is_mount_point(&mounts, &absolute) {
            tracing::warn!(
                "{} is a mount point: changes that replace the file are not seen; mount its folder instead",
                path.display()
            );
        }
    }
}

/// The fifth field of a line of mountinfo is where it is mounted, with octal escapes for blanks.
fn is_mount_point(mountinfo: &str, path: &Path) -> bool {
    let written = path.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
    mountinfo.lines().any(|line| line.split(' ').nth(4) == Some(written.as_str()))
}

async fn report(mut events: mpsc::UnboundedReceiver<Vec<PathBuf>>, files: Rc<RefCell<Files>>, changed: impl Fn()) {
    while let Some(paths) = events.recv().await {
        if !files.borrow().places.concern(&paths) {
            continue;
        }
        tokio::time::sleep(DEBOUNCE).await;
        let mut files = files.borrow_mut();
        let hash = hash_of(&files.paths);
        if std::mem::replace(&mut files.hash, hash) != hash {
            changed();
        }
    }
}

impl Places {
    fn of(paths: &[PathBuf]) -> Self {
        let mut places = Self::default();
        for path in paths {
            places.add(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        }
        places
    }

    fn add(&mut self, mut path: PathBuf) {
        if path.is_dir() {
            self.folders.insert(path.clone());
            self.whole.insert(path.clone());
        }
        for _ in 0..LINKS_MAX {
            self.add_name(&path);
            let Some(link) = path.ancestors().find(|part| part.is_symlink()) else { return };
            self.add_name(link);
            let Ok(target) = std::fs::read_link(link) else { return };
            let rest = path.strip_prefix(link).unwrap_or(Path::new(""));
            let target = folder_of(link).join(target);
            path = if rest.as_os_str().is_empty() { target } else { target.join(rest) };
        }
    }

    fn add_name(&mut self, path: &Path) {
        self.names.insert(path.to_owned());
        self.folders.insert(folder_of(path));
    }

    fn concern(&self, paths: &[PathBuf]) -> bool {
        let in_whole = |path: &PathBuf| path.parent().is_some_and(|folder| self.whole.contains(folder));
        paths.is_empty() || paths.iter().any(|path| self.names.contains(path) || in_whole(path))
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

fn hash_of(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        path.hash(&mut hasher);
        if path.is_dir() {
            names_in(path).hash(&mut hasher);
        } else {
            std::fs::read(path).ok().hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn names_in(folder: &Path) -> BTreeSet<std::ffi::OsString> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_and_neighbours_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("one")).unwrap();
        std::fs::write(at("one/config.toml"), "").unwrap();
        symlink("one", at("..data")).unwrap();
        symlink("..data/config.toml", at("config.toml")).unwrap();
        let places = Places::of(&[at("config.toml")]);
        let check = |name: &str, expected: bool| assert_eq!(places.concern(&[at(name)]), expected, "{name}");
        check("config.toml", true);
        check("..data", true);
        check("one/config.toml", true);
        check("access.log", false);
        check("one/other", false);
        assert!(places.concern(&[]), "lost events concern everything");
        assert_eq!(places.folders, BTreeSet::from([folder.path().to_owned(), at("..data"), at("one")]));
    }

    #[test]
    fn every_file_of_an_include_folder_counts() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::of(&[folder.path().to_owned()]);
        assert!(places.concern(&[folder.path().join("new.toml")]));
    }

    #[test]
    fn a_file_that_is_mounted_is_known() {
        let mounts =
            "22 1 254:0 / / rw - ext4 /dev/vda rw\n36 22 254:0 /x /etc/my\\040app/config.toml rw - ext4 /dev/vda rw\n";
        assert!(is_mount_point(mounts, Path::new("/etc/my app/config.toml")));
        assert!(!is_mount_point(mounts, Path::new("/etc/my app")));
    }

    #[test]
    fn content_decides_and_not_the_event() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "a").unwrap();
        let before = hash_of(std::slice::from_ref(&file));
        std::fs::write(&file, "a").unwrap();
        assert_eq!(hash_of(std::slice::from_ref(&file)), before);
        std::fs::write(&file, "b").unwrap();
        assert_ne!(hash_of(&[file]), before);
    }
}
