//! `tollgate reload`: have the running proxy take over the file as it is now.

use http::StatusCode;
use serde::Deserialize;

use super::client::Reach;
use super::config_file::ConfigFile;
use super::{Failure, output};

/// Take over the changed configuration, wait, and say what changed
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Have the running proxy read its configuration again, wait for the result and say what changed. A \
                  reload is whole or not at all: if anything in the new file is wrong, the old configuration goes on.",
    after_help = "Exit status: 0 it is in force, 78 it was refused and the old one goes on."
)]
pub struct Reload {
    #[command(flatten)]
    reach: Reach,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct Applied {
    generation: u64,
    changes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    diagnostics: String,
}

impl Reload {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let reply = self.reach.client(config)?.post("/reload", String::new())?;
        if self.json && matches!(reply.status, StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY) {
            output::print(&reply.body)?;
        }
        if reply.status == StatusCode::UNPROCESSABLE_ENTITY {
            let refused: Refused = serde_json::from_str(&reply.body)?;
            let text = format!("{}\ntollgate: refused; the old configuration goes on", refused.diagnostics.trim_end());
            return Err(Failure::Config(text));
        }
        let applied: Applied = reply.read()?;
        if self.json { Ok(()) } else { output::print(&describe(&applied)) }
    }
}

fn describe(Applied { generation, changes }: &Applied) -> String {
    if changes.is_empty() {
        return format!("configuration {generation} is in force: nothing has changed");
    }
    let lines = changes.iter().map(|change| format!("\n  {}", output::shown(change)));
    format!("configuration {generation} is in force:{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed() {
        let check = |changes: &[&str], expected: &str| {
            let changes = changes.iter().map(|change| (*change).to_owned()).collect();
            assert_eq!(describe(&Applied { generation: 2, changes }), expected);
        };
        check(&[], "configuration 2 is in force: nothing has changed");
        check(&["route / added", "\x1b[2J"], "configuration 2 is in force:\n  route / added\n  \\u{1b}[2J");
    }
}
