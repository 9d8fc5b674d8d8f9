//! What a configuration may ask of the machine, handed in, so that everything else here stays pure.

use std::fmt;
use std::io;
use std::path::Path;

/// Variables, files and limits.
pub struct Environment {
    pub variable: Box<dyn Fn(&str) -> Option<String> + Send + Sync>,
    /// The text of a file; a certificate or a key is text as well (PEM).
    pub read: Box<dyn Fn(&Path) -> io::Result<String> + Send + Sync>,
    /// The limit of open files of this process.
    pub open_files_max: u64,
    /// Worker threads that `workers = 0` stands for.
    pub cores: usize,
}

impl Environment {
    /// No variables, every file there and empty, no limits: for tests of what the text alone says.
    pub fn bare() -> Self {
        Self { variable: Box::new(|_| None), read: Box::new(|_| Ok(String::new())), open_files_max: u64::MAX, cores: 1 }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { open_files_max, cores, .. } = self;
        f.debug_struct("Environment").field("open_files_max", open_files_max).field("cores", cores).finish()
    }
}
