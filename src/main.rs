//! The binary: parses, runs, and maps the outcome to an exit code.
//!
//! 0: ended as asked. 1: failed while running. 2: wrong options or configuration; nothing was started. 130: a second
//! signal cut the stop short. `audit` has codes of its own: 0 clean, 1 findings, 2 can't be read.

mod audit;
mod banner;
mod check;
mod cli;
mod config;
mod desk;
mod export;
mod openapi;
mod progress;
mod reload;
mod repartition;
mod room;
mod run;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
