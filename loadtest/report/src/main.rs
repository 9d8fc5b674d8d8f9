//! Makes of what a load test leaves behind what people read: a baseline report of a run, a comparison of runs, and a check
//! against budgets. It measures nothing itself.
//!
//! [`run`] reads the folder of a run: [`summary`] is what k6 counted, [`exposition`] what the edge says in its metrics, [`memory`]
//! what grew.
//! [`baseline`] arranges that as a [`document`], which is written as Markdown or as a page with [`plot`]s. [`compare`] decides what
//! has become worse, with the [`statistics`] of repeated runs; [`budget`] decides what is beyond its budget.

mod baseline;
mod budget;
mod compare;
mod document;
mod exposition;
mod memory;
mod plot;
mod run;
mod statistics;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::budget::Budgets;
use crate::compare::{Comparison, Severity};
use crate::run::Run;

#[derive(Parser)]
#[command(name = "tollgate-report", about = "Reports of load tests")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write report.md and report.html into the folder of a run.
    Baseline { run: PathBuf },
    /// Say what has become worse from A to B, each the folder of a run or one with several runs of the same type.
    /// Ends with 1 if there is a warning, with 2 if something is critical, and with 3 if they are of different kinds.
    Compare { a: PathBuf, b: PathBuf },
    /// Say what of a run is beyond its budget, and end with 1 then.
    Budgets {
        run: PathBuf,
        #[arg(long, default_value = "loadtest/budgets.toml")]
        budgets: PathBuf,
    },
}

/// No verdict is possible: its own status, since 1 is a warning.
const FAILED: u8 = 4;
const NOT_COMPARABLE: u8 = 3;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(told) => {
            let _ = told.print();
            // Its own status would be that of something critical.
            return if told.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
        }
    };
    carry_out(args.command).unwrap_or_else(|error| {
        eprintln!("tollgate-report: {error:#}");
        ExitCode::from(FAILED)
    })
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Baseline { run } => {
            let report = baseline::report(&Run::read(&run)?);
            for (name, text) in [("report.md", report.markdown()), ("report.html", report.html())] {
                let path = run.join(name);
                std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
                println!("{}", path.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Compare { a, b } => {
            let comparison = match Comparison::between(&Run::read_all(&a)?, &Run::read_all(&b)?) {
                Ok(comparison) => comparison,
                Err(differ) => {
                    println!("{differ}");
                    return Ok(ExitCode::from(NOT_COMPARABLE));
                }
            };
            print!("{}", comparison.document().markdown());
            Ok(match comparison.severity() {
                Severity::Fine => ExitCode::SUCCESS,
                Severity::Warning => ExitCode::from(1),
                Severity::Critical => ExitCode::from(2),
            })
        }
        Command::Budgets { run, budgets } => {
            let read = Budgets::read(&budgets)?;
            let verdicts = read.verdicts(&Run::read(&run)?).with_context(|| format!("in {}", budgets.display()))?;
            print!("{}", budget::document(&verdicts).markdown());
            Ok(if verdicts.iter().all(|verdict| verdict.is_kept) { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
    }
}
