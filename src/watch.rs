//! Notices that a file of the configuration has changed.
//!
//! It watches folders, not files: a file that is renamed over, or a link that is swapped somewhere on the way
//! to it, gives no event on the file itself. Links are followed, so that the mounts of Kubernetes work. What
//! else happens in those folders, a log that is written say, is ignored.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc};

use crate::config::Files;
use crate::lock::lock;

/// An editor writes a file in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// A longer chain of links is a loop.
const LINKS_MAX: usize = 16;

pub struct Watch {
    /// None while nothing is to be watched, or nothing can be.
    watcher: RefCell<Option<RecommendedWatcher>>,
    /// Something has happened to what is followed.
    events: mpsc::UnboundedSender<()>,
    followed: Rc<RefCell<Files>>,
    places: Arc<Mutex<Places>>,
    /// Those of the configuration in force.
    in_force: RefCell<Files>,
}

/// Where a change to the files can show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Places {
    folders: BTreeSet<PathBuf>,
    /// The files, and every link on the way to them.
    names: BTreeSet<PathBuf>,
    /// Folders in which every file counts.
    whole: BTreeSet<PathBuf>,
}

impl Watch {
    /// Notifies `changed` when the content of a followed file is not what it was. To be called on a
    /// `LocalSet`.
    pub fn start(changed: Rc<Notify>) -> Self {
        let (events, received) = mpsc::unbounded_channel();
        let followed = Rc::<RefCell<Files>>::default();
        tokio::task::spawn_local(report(received, Rc::clone(&followed), changed));
        Self { watcher: RefCell::default(), events, followed, places: Arc::default(), in_force: RefCell::default() }
    }

    /// From now on these files are watched, those of the configuration in force, as they were read. One that
    /// was changed since then is a change. None: nothing is watched, `tollgate reload` and SIGHUP are left.
    pub fn follow(&self, files: Files) {
        self.in_force.replace(files.clone());
        self.turn_to(files);
    }

    /// Watches these files of a refused version too, as they were read: it is most likely mended there.
    pub fn follow_too(&self, files: Files) {
        if self.in_force.borrow().is_empty() {
            return;
        }
        let in_force = self.in_force.borrow().again();
        self.turn_to(files.and(in_force));
    }

    fn turn_to(&self, files: Files) {
        warn_of_mounts(files.paths().filter(|path| !self.followed.borrow().contains(path)));
        let now = Places::of(&files);
        // First of all: what happens from here on is either seen below or told by an event.
        let before = std::mem::replace(&mut *lock(&self.places), now.clone());
        self.watch_folders(&before.folders, &now.folders);
        let is_changed = files.again() != files;
        self.followed.replace(files);
        if is_changed {
            // It may still be written, so it takes the way of all events.
            let _ending = self.events.send(());
        }
    }

    fn watch_folders(&self, before: &BTreeSet<PathBuf>, now: &BTreeSet<PathBuf>) {
        let mut watcher = self.watcher.borrow_mut();
        if watcher.is_none() && !now.is_empty() {
            let (places, events) = (Arc::clone(&self.places), self.events.clone());
            match notify::recommended_watcher(move |event| heed(event, &places, &events)) {
                Ok(new) => drop(watcher.replace(new)),
                Err(error) => {
                    return tracing::warn!("cannot watch the configuration: {error}; use SIGHUP or `tollgate reload`");
                }
            }
        }
        let Some(watcher) = &mut *watcher else { return };
        for folder in before.difference(now) {
            // It may be gone, and its watch with it.
            let _gone = watcher.unwatch(folder);
        }
        for folder in now.difference(before) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!("cannot watch {}: {error}", folder.display());
            }
        }
    }
}

/// On the thread that hears of each write of a log beside the configuration: what is of no concern wakes nobody else.
fn heed(event: notify::Result<notify::Event>, places: &Mutex<Places>, events: &mpsc::UnboundedSender<()>) {
    let is_meant = match event {
        Ok(event) => !event.kind.is_access() && lock(places).concern(&event.paths),
        // Events were lost: anything may have changed.
        Err(_) => true,
    };
    if is_meant {
        let _ending = events.send(());
    }
}

/// Says which of the files is a mount of its own, as Docker makes it of `-v config.toml:/config.toml`: a new
/// file that an editor renames over the old one is never seen through it.
fn warn_of_mounts<'a>(paths: impl Iterator<Item = &'a Path>) {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return };
    for path in paths {
        let absolute = absolute(path);
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

async fn report(mut events: mpsc::UnboundedReceiver<()>, followed: Rc<RefCell<Files>>, changed: Rc<Notify>) {
    while events.recv().await.is_some() {
        tokio::time::sleep(DEBOUNCE).await;
        let mut followed = followed.borrow_mut();
        let now = followed.again();
        if *followed != now {
            *followed = now;
            changed.notify_one();
        }
    }
}

impl Places {
    fn of(files: &Files) -> Self {
        let mut places = Self::default();
        files.paths().for_each(|path| places.add(absolute(path)));
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

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
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
        let places = Places::of(&Files::look([at("config.toml")]));
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
        let places = Places::of(&Files::look([folder.path().to_owned()]));
        assert!(places.concern(&[folder.path().join("new.toml")]));
    }

    #[test]
    fn what_is_written_beside_the_configuration_wakes_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let places = Mutex::new(Places::of(&Files::look([folder.path().join("config.toml")])));
        let (events, mut received) = mpsc::unbounded_channel();
        let mut is_told = |event| {
            heed(event, &places, &events);
            received.try_recv().is_ok()
        };
        let write = |name: &str| {
            let kind = notify::EventKind::Modify(notify::event::ModifyKind::Any);
            Ok(notify::Event::new(kind).add_path(folder.path().join(name)))
        };
        assert!(!is_told(write("access.log")));
        assert!(is_told(write("config.toml")));
        assert!(is_told(Err(notify::Error::generic("events were lost"))));
    }

    #[test]
    fn a_file_that_is_mounted_is_known() {
        let mounts =
            "22 1 254:0 / / rw - ext4 /dev/vda rw\n36 22 254:0 /x /etc/my\\040app/config.toml rw - ext4 /dev/vda rw\n";
        assert!(is_mount_point(mounts, Path::new("/etc/my app/config.toml")));
        assert!(!is_mount_point(mounts, Path::new("/etc/my app")));
    }

    /// Whether a change is told in time.
    async fn is_told(changed: &Notify) -> bool {
        tokio::time::timeout(2 * DEBOUNCE, changed.notified()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_not_as_it_was_read_has_changed() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let folder = tempfile::tempdir().unwrap();
                let at = |name: &str| folder.path().join(name);
                std::fs::write(at("config.toml"), "new").unwrap();
                let changed = Rc::new(Notify::new());
                let watch = Watch::start(Rc::clone(&changed));
                watch.follow(Files::look([at("config.toml")]));
                assert!(!is_told(&changed).await);
                let mut old = Files::default();
                old.add_read(at("config.toml"), b"old");
                watch.follow(old);
                assert!(is_told(&changed).await);
                // It may be another now, and the refused version did not read it.
                std::fs::write(at("config.toml"), "newer").unwrap();
                watch.follow_too(Files::look([at("part.toml")]));
                assert!(!is_told(&changed).await);
                let names = &lock(&watch.places).names;
                assert!(names.contains(&at("config.toml")) && names.contains(&at("part.toml")));
            })
            .await;
    }
}
