use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match tollgate_backend::run(tollgate_backend::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate-backend: {error:#}");
            ExitCode::FAILURE
        }
    }
}
