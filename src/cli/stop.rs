//! `tollgate stop`: end the running proxy gracefully.

use serde::de::IgnoredAny;

use super::client::Reach;
use super::config_file::ConfigFile;
use super::{Failure, output};

/// End the running proxy, as SIGTERM does
#[derive(Debug, clap::Args)]
#[command(long_about = "Tell the running proxy to stop: it takes no new connections, finishes open requests within \
                  `drain_timeout`, and ends. The command does not wait for that.")]
pub struct Stop {
    #[command(flatten)]
    reach: Reach,
}

impl Stop {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let _accepted: IgnoredAny = self.reach.client(config)?.post("/stop", String::new())?.read()?;
        output::print("stopping: open requests are being finished")
    }
}
