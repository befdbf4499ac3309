//! wharf, the operator's command line: the lifecycle layer for people, without a daemon.
//!
//! It works on the same state root as every other program that uses crate `runtime`; between two calls
//! only the monitors are there.

mod args;
mod commands;
mod detach;
mod exit;
mod request;
mod setup;
mod streams;
mod table;
mod terminal;
mod users;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(cli.global.log_level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let own_failure = exit::own_failure(&cli.command);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&error.into(), own_failure),
    };
    let result = runtime.block_on(commands::run(cli));
    // A thread that still reads our standard input must not keep us.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => exit::report(&error, own_failure),
    }
}
