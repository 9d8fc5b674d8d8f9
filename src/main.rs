use std::process::ExitCode;

use clap::Parser as _;
use tollgate::cli::{self, Arguments};

fn main() -> ExitCode {
    match cli::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            cli::say(&failure.to_string());
            ExitCode::from(failure.status())
        }
    }
}
