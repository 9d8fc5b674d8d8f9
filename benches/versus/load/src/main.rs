//! The generator of load of `benches/versus`, for what packaged ones don't do: a constant rate whether answers come or
//! not, with each request timed from when it was due; WebSocket messages; keys in great number; hand-shakes that are
//! surely full, or surely resumed. `echo` is the origin of uploads and messages.

mod arguments;
mod codec;
mod echo;
mod plan;
mod request;
mod run;
mod schedule;
mod stream;
mod summary;

use anyhow::Result;
use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run(load) => {
            let summary = run::Run::begin(&load)?.finish()?;
            println!("{}", serde_json::to_string(&summary)?);
            Ok(())
        }
        Command::Echo { address } => echo::serve(address),
    }
}
