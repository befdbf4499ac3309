//! Measures us beside the installed peers: `cargo xtask bench`.
//!
//! All contestants of a table are measured in one run and in turn, round after round, so that what disturbs
//! one disturbs all; the medians are compared. It measures and does not judge.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool that people read")]

mod bare;
mod counts;
mod crowd;
mod execs;
mod idle;
mod life;
mod logs;
mod machine;
mod measure;
mod monitored;
mod ours;
mod plot;
mod probes;
mod report;
mod soak;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::report::Report;

#[derive(Parser)]
#[command(about = "Measures us beside the installed peers")]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
    /// Only show that everything can be measured: few rounds, nothing written. A part
    /// of ours that can't be measured is then a failure.
    #[arg(long)]
    smoke: bool,
    /// Rounds of each table.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Only these tables: life, create, exec, status, idle, logs, exit, probes, counts. Nothing is written then, but for
    /// counts alone, which have a page of their own.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Containers for the status table.
    #[arg(long, default_value_t = 1000)]
    containers: usize,
    /// Where the report goes.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Task {
    /// Churn containers for a time and watch memory and descriptors.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 5)]
        minutes: u32,
    },
    /// Do a hot path so often and nothing else: what counts runs under valgrind.
    Work {
        /// Which.
        name: String,
        /// How often.
        rounds: usize,
    },
}

/// How much of each is measured.
#[derive(Debug, Clone, Copy)]
struct Scale {
    rounds: usize,
    containers: usize,
    monitors: usize,
    idle_seconds: u64,
    log_bytes: u64,
    probed: usize,
    probe_seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.task {
        Some(Task::Soak { minutes }) => soak::run(minutes),
        Some(Task::Work { ref name, rounds }) => work::run(name, rounds),
        None => run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let scale = if arguments.smoke {
        Scale {
            rounds: 1,
            containers: 4,
            monitors: 2,
            idle_seconds: 1,
            log_bytes: 1 << 20,
            probed: 2,
            probe_seconds: 2,
        }
    } else {
        Scale {
            rounds: arguments.rounds,
            containers: arguments.containers,
            monitors: 50,
            idle_seconds: 10,
            log_bytes: 128 << 20,
            probed: 100,
            probe_seconds: 60,
        }
    };
    type Part = fn(Scale) -> Result<Vec<report::Table>>;
    let parts: [(&str, Part); 9] = [
        ("life", life::measure),
        ("create", monitored::measure),
        ("exec", execs::measure),
        ("status", crowd::measure),
        ("idle", idle::measure),
        ("logs", logs::measure),
        ("exit", idle::measure_exit),
        ("probes", probes::measure),
        ("counts", counts::measure),
    ];
    let mut report = Report::default();
    for (name, part) in parts {
        if arguments.only.is_empty() || arguments.only.iter().any(|only| only == name) {
            eprintln!("bench: {name}");
            let tables = part(scale)?;
            tables.iter().for_each(|table| println!("{}", table.markdown()));
            report.tables.extend(tables);
        }
    }
    let missing = report.missing();
    for what in &missing {
        eprintln!("bench: NOT MEASURED: {what}");
    }
    if !arguments.smoke && arguments.only.is_empty() {
        let output = arguments.output.clone().unwrap_or_else(|| testkit::workspace().join("docs/benchmarks"));
        report.write(&output)?;
        println!("written to {}", output.display());
    }
    if let (false, [only], [table]) = (arguments.smoke, &arguments.only[..], &report.tables[..])
        && only == "counts"
    {
        let output = arguments.output.clone().unwrap_or_else(|| testkit::workspace().join("docs/benchmarks"));
        counts::write(table, &output)?;
    }
    let measured: usize = report.tables.iter().map(|table| table.rows.len()).sum();
    println!("{measured} rows measured, {} not", missing.len());
    Ok(!arguments.smoke || !missing.iter().any(|what| what.contains("ours")))
}
