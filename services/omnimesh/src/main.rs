//! The `omnimesh` command: every role of the mesh in one binary.
//!
//! Exit codes: 0 fine, 1 something ran and failed, 2 wrong usage or configuration (nothing was started).

mod bootstrap;
mod cli;
mod client;
mod config;
mod consumer;
mod demo;
mod error;
mod gateway;
mod lakes;
mod load;
mod node;
mod output;
mod progress;
mod roles;
mod serve;
mod settle;
mod status;
mod table;
mod up;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::{cli::Cli, error::Failure};

// Gives memory back to the system after the load's peak, SQLite's too: a thread of its own does so even when nobody
// allocates any more.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.into()))
        .and_then(|runtime| runtime.block_on(cli.run()));
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    eprintln!("omnimesh: {failure}");
    failure.exit_code()
}
