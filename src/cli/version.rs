//! `tollgate version`: what this binary is.

use std::env::consts::{ARCH, OS};

use serde_json::json;

use super::{Failure, output};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Print the version
#[derive(Debug, clap::Args)]
pub struct Version {
    /// Print it as JSON, with the platform and whether the backend app is in
    #[arg(long)]
    json: bool,
}

impl Version {
    pub fn run(self) -> Result<(), Failure> {
        if self.json {
            let backend = cfg!(feature = "backend");
            return output::print_json(&json!({ "version": VERSION, "os": OS, "arch": ARCH, "backend": backend }));
        }
        output::print(&format!("tollgate {VERSION}"))
    }
}
