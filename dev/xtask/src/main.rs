//! Build, check and test tasks: `cargo xtask TASK`. `make` and CI call nothing else.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool that people read")]

mod audit;
mod bench;
mod command;
mod dist;
mod faults;
mod fuzz;
mod programs;
mod source;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Build, check and test tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the static programs into target/static.
    Build,
    /// Check what no compiler does: dependencies, unsafe, file length, assertions, documents.
    Tidy,
    /// Run the checks and tests, all groups or one.
    Test {
        /// Only this group (see `--list`); may be given several times.
        #[arg(long)]
        group: Vec<String>,
        /// Show the groups.
        #[arg(long)]
        list: bool,
    },
    /// Formatting, clippy and tidy.
    Lint,
    /// Build the documentation of all crates; warnings are errors.
    Doc,
    /// Run the harnesses of all parsers of hostile input.
    Fuzz {
        /// For each target that is guided by coverage.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        /// Cases for each test with generated input.
        #[arg(long, default_value_t = 5_000)]
        cases: u32,
    },
    /// Check dependencies against known faults, licences and bans.
    Audit {
        /// A checkout of RUSTSEC's advisory-db: rewrites dev/advisories.toml first.
        #[arg(long)]
        database: Option<std::path::PathBuf>,
    },
    /// Run the pure tests under Miri, where a nightly toolchain has it.
    Miri,
    /// Walk all failpoints with each kind of fault, and write what they cost into docs/reliability.md.
    Faults,
    /// Measure us beside the installed peers and write docs/benchmarks.
    Bench {
        /// Given to the bench program as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Churn containers for a time and watch memory and descriptors.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 5)]
        minutes: u32,
    },
    /// Install programs, man pages and completions.
    Install {
        /// Where.
        #[arg(long, default_value = "/usr/local")]
        prefix: std::path::PathBuf,
    },
    /// Make target/dist with programs, man pages and completions.
    Dist,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Build => programs::build().map(|()| true),
        Task::Tidy => tidy::run(),
        Task::Test { list: true, .. } => {
            test::list();
            Ok(true)
        }
        Task::Test { group, .. } => test::run(&group),
        Task::Lint => test::run(&["fmt".to_owned(), "clippy".to_owned(), "tidy".to_owned()])
            .map(|good| good & audit::deny()),
        Task::Doc => test::documentation(),
        Task::Fuzz { seconds, cases } => fuzz::run(seconds, cases),
        Task::Audit { database } => audit::audit(database.as_deref()),
        Task::Miri => audit::miri(),
        Task::Faults => faults::run(),
        Task::Bench { arguments } => bench::run(&arguments),
        Task::Soak { minutes } => {
            bench::run(&["soak".to_owned(), "--minutes".to_owned(), minutes.to_string()])
        }
        Task::Install { prefix } => dist::install(&prefix).map(|()| true),
        Task::Dist => dist::dist().map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
