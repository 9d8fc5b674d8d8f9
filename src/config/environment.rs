//! What a configuration may ask of the machine, handed in, so that everything else here stays pure.

use std::io;
use std::path::Path;

/// Variables, files and limits.
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    pub variable: fn(&str) -> Option<String>,
    /// The text of a file; a certificate or a key is text as well (PEM).
    pub read: fn(&Path) -> io::Result<String>,
    /// The limit of open files of this process.
    pub open_files_max: u64,
    /// Worker threads that `workers = 0` stands for.
    pub cores: usize,
    /// What the process may have: of its control group or of the machine.
    pub memory_limit: Option<u64>,
}

impl Environment {
    /// No variables, every file there and empty, no limits: for tests of what the text alone says.
    pub fn bare() -> Self {
        Self { variable: |_| None, read: |_| Ok(String::new()), open_files_max: u64::MAX, cores: 1, memory_limit: None }
    }
}
