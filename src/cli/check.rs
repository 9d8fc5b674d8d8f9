//! `tollgate check` and `tollgate -t`: is the configuration right, and what does it amount to?

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::{self, Config, Diagnostics, Environment, Loaded, Unusable};

use super::config_file::ConfigFile;
use super::{Failure, files, names, output};

/// Read and check the configuration, and listen on nothing
#[derive(Debug, Default, clap::Args)]
#[command(
    long_about = "Read the configuration, with what it includes, and say every mistake with its line and column; then \
                  look at the certificates, roots and places of files that it names as `run` would. Nothing is listened \
                  on and nothing is changed, so that an address that is taken is found by `run` alone.\n\nWarnings are \
                  printed and do not fail; a host name that does not resolve is one, since it may do so later, and a \
                  certificate that has expired is another.",
    after_help = "Examples:\n  tollgate check\n  tollgate check new.toml\n  \
                  tollgate check --effective   every value in effect, and where it comes from\n  \
                  tollgate check --json        for editors and pipelines\n  \
                  tollgate -t -c new.toml      the same as `check`, out of habit\n\n\
                  Exit status: 0 it can be used, 78 it cannot."
)]
pub struct Check {
    /// The file to check; wins over --config
    file: Option<PathBuf>,
    /// Print every value in effect, given or not, and where it comes from
    #[arg(long)]
    effective: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let path = match &self.file {
            Some(path) => path.clone(),
            None => config.path()?,
        };
        match config::load(&path, &Environment::system()) {
            Ok(loaded) => match files::look(&loaded.config)? {
                found if found.has_errors() => self.refuse(&path, &found),
                doubts => self.report(&path, &loaded, &doubts),
            },
            Err(Unusable { diagnostics, .. }) => self.refuse(&path, &diagnostics),
        }
    }

    fn refuse(&self, path: &Path, mistakes: &Diagnostics) -> Result<(), Failure> {
        if self.json {
            output::print_json(&json!({ "ok": false, "file": path, "diagnostics": mistakes.to_json() }))?;
        }
        Err(Failure::Config(mistakes.render(output::has_colour())))
    }

    fn report(&self, path: &Path, loaded: &Loaded, doubts: &Diagnostics) -> Result<(), Failure> {
        let unresolved = names::unresolved(&loaded.config);
        if self.json {
            return output::print_json(&self.json(path, loaded, doubts, &unresolved));
        }
        warn(&loaded.warnings);
        warn(doubts);
        for name in &unresolved {
            output::say(&format!("warning: {name}"));
        }
        if self.effective {
            return output::print(&loaded.effective.to_string());
        }
        output::print(&format!("OK: {} ({})", path.display(), sizes(&loaded.config)))
    }

    fn json(
        &self,
        path: &Path,
        loaded: &Loaded,
        doubts: &Diagnostics,
        unresolved: &[names::Unresolved],
    ) -> serde_json::Value {
        let config = &loaded.config;
        let diagnostics = [&loaded.warnings, doubts].map(Diagnostics::to_json).concat();
        let mut result = json!({
            "ok": true,
            "file": path,
            "listeners": config.listeners.len(),
            "upstreams": config.upstreams.len(),
            "routes": config.routes.len(),
            "diagnostics": diagnostics,
            "unresolved": unresolved.iter().map(|name| name.host.as_str()).collect::<Vec<_>>(),
        });
        if self.effective
            && let Some(result) = result.as_object_mut()
        {
            result.insert("effective".to_owned(), loaded.effective.to_json());
        }
        result
    }
}

fn warn(warnings: &Diagnostics) {
    if !warnings.is_empty() {
        output::say(&warnings.render(output::has_colour()));
    }
}

fn sizes(config: &Config) -> String {
    let counts = [
        output::count(config.listeners.len(), "listener"),
        output::count(config.upstreams.len(), "upstream"),
        output::count(config.routes.len(), "route"),
    ];
    counts.join(", ")
}
