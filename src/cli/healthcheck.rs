//! `tollgate healthcheck`: whether the proxy is there, for supervisors that look at an exit status alone.

use std::time::Duration;

use anyhow::anyhow;

use super::client::{self, Reach};
use super::config_file::ConfigFile;
use super::{Failure, output};

/// Shorter than the limit that container engines usually set.
const LIMIT: Duration = Duration::from_secs(2);

/// Ask the running proxy whether it works, and say so by the exit status
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Ask the running proxy whether it works, by the control socket or the admin address, within two \
                  seconds. This is the health check of the container image.",
    after_help = "Examples:\n  tollgate healthcheck           it works (/livez)\n  \
                  tollgate healthcheck --ready   and takes traffic: neither draining nor out of memory (/readyz)\n\n\
                  Exit status: 0 yes, 1 no."
)]
pub struct Healthcheck {
    #[command(flatten)]
    reach: Reach,
    /// Ask whether it takes traffic
    #[arg(long)]
    ready: bool,
}

impl Healthcheck {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let path = if self.ready { "/readyz" } else { "/livez" };
        let reply = client::get_by_any(&self.reach.contact(config)?, path, LIMIT)?;
        if reply.status.is_success() {
            return output::print(&reply.body);
        }
        Err(anyhow!("{path} answered {}: {}", reply.status, output::shown(reply.body.trim_end())).into())
    }
}
