//! Which files and folders a configuration was read from, and what was in them, to know when it is another one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};

/// A number for the content of each file, and for the names in each folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, u64>);

impl Files {
    /// The files as they are now.
    pub fn look(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut files = Self::default();
        paths.into_iter().for_each(|path| files.add(path));
        files
    }

    /// The same files as they are now.
    pub fn again(&self) -> Self {
        Self::look(self.0.keys().cloned())
    }

    /// A file or folder as it is now, unless it was seen before.
    pub fn add(&mut self, path: PathBuf) {
        if let Entry::Vacant(new) = self.0.entry(path) {
            let found = of_disk(new.key());
            new.insert(found);
        }
    }

    /// A file by the bytes that were read from it.
    pub fn add_read(&mut self, path: PathBuf, content: &[u8]) {
        self.0.insert(path, of_content(Some(content)));
    }

    /// These and those of `others` that are not among them.
    pub fn and(mut self, others: Self) -> Self {
        others.0.into_iter().for_each(|(path, found)| {
            self.0.entry(path).or_insert(found);
        });
        self
    }

    pub fn contains(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

fn of_disk(path: &Path) -> u64 {
    if !path.is_dir() {
        return of_content(std::fs::read(path).ok().as_deref());
    }
    let mut names: Vec<OsString> =
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    hash(&names)
}

/// None: it cannot be read.
fn of_content(content: Option<&[u8]>) -> u64 {
    hash(&content)
}

fn hash(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "a").unwrap();
        let seen = Files::look([file.clone(), folder.path().to_owned()]);
        let check = |expected: bool| assert_eq!(seen.again() == seen, expected);
        check(true);
        std::fs::write(&file, "a").unwrap();
        check(true);
        std::fs::write(&file, "b").unwrap();
        check(false);
        std::fs::write(&file, "a").unwrap();
        std::fs::write(folder.path().join("new"), "").unwrap();
        check(false);
        std::fs::remove_file(folder.path().join("new")).unwrap();
        check(true);
        std::fs::remove_file(&file).unwrap();
        check(false);
    }

    #[test]
    fn what_was_read_counts_and_not_what_came_later() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "b").unwrap();
        let mut read = Files::default();
        read.add_read(file.clone(), b"a");
        read.add(file.clone());
        assert_ne!(read.again(), read);
        std::fs::write(&file, "a").unwrap();
        assert_eq!(read.again(), read);
    }
}
