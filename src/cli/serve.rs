//! `tollgate run`, and `tollgate` alone: serve until told to stop.

use crate::config::Diagnostics;
use crate::control::Options;
use crate::server::{self, StartError};

use super::config_file::ConfigFile;
use super::{Failure, output};

/// Serve: the default
#[derive(Debug, Default, clap::Args)]
#[command(
    long_about = "Serve what the configuration says until SIGTERM, SIGINT or SIGQUIT; then finish open requests and \
                  end. A second signal ends it at once.\n\nThe files of the configuration are watched, and a change \
                  is taken over while it runs, whole or not at all; SIGHUP does the same. SIGUSR1 opens the log files again.",
    after_help = "Examples:\n  tollgate run -c /etc/tollgate/config.toml\n  \
                  tollgate run --ready-fd 3 3>ready.json   one line of JSON with the bound addresses, once it serves\n\n\
                  Exit status: 0 it was told to stop, 1 it failed, 78 the configuration cannot be used."
)]
pub struct Run {
    /// Write one line of JSON with the bound addresses to this descriptor once connections are accepted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..))]
    ready_fd: Option<i32>,
}

impl Run {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let options = Options { config: config.path()?, ready_fd: self.ready_fd };
        match server::run(options) {
            // It was told to stop, and did; the log says what was cut.
            Ok(_ended) => Ok(()),
            Err(StartError::Config(unusable)) => {
                Err(Failure::Config(unusable.diagnostics.render(output::has_colour())))
            }
            Err(error) if error.is_of_configuration() => {
                Err(Failure::Config(Diagnostics::plain(error.to_string()).render(output::has_colour())))
            }
            Err(error) => Err(error.into()),
        }
    }
}
