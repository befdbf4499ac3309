//! The commands: each works out what was meant, does it, and says what came of it.

use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Context as _;
use runtime::{Container, Runtimes};

use crate::args::{Cli, Command, Global};
use crate::setup;

mod change;
mod exec;
mod life;
mod observe;
mod run;
mod system;
mod usage;

/// Does what the command line says.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Run(args) => run::run(global, &args).await,
        Command::Create(args) => run::create(global, &args).await,
        Command::Start(args) => run::start(global, &args).await,
        Command::Attach(args) => run::attach(global, &args).await,
        Command::Exec(args) => exec::exec(global, &args).await,
        Command::Logs(args) => observe::logs(global, &args).await,
        Command::Ps(args) => observe::ps(global, &args).await,
        Command::Top(args) => usage::top(global, &args).await,
        Command::Inspect(args) => observe::inspect(global, &args).await,
        Command::Stats(args) => usage::stats(global, &args).await,
        Command::Events(args) => observe::events(global, &args).await,
        Command::Update(args) => change::update(global, &args).await,
        Command::Pause(args) => {
            each(global, "pause", &args.containers, async |container| Ok(container.pause().await?)).await
        }
        Command::Resume(args) => {
            each(global, "resume", &args.containers, async |container| Ok(container.resume().await?)).await
        }
        Command::Kill(args) => {
            let signal = args.signal;
            let kill = async |container: Container| Ok(container.kill(signal).await?);
            each(global, "kill", &args.targets.containers, kill).await
        }
        Command::Stop(args) => life::stop(global, &args).await,
        Command::Rm(args) => life::rm(global, &args).await,
        Command::Wait(args) => life::wait(global, &args).await,
        Command::RmWhenOver(args) => life::rm_when_over(global, &args).await,
        Command::Checkpoint(args) => change::checkpoint(global, &args).await,
        Command::Handlers(args) => system::handlers(global, &args).await,
        Command::Check(args) => system::check(global, &args).await,
        Command::Recover(args) => system::recover(global, &args).await,
        Command::Completions { shell } => system::completions(shell),
        Command::Man { directory } => system::man(&directory),
    }
}

/// Does `work` with each container that is named, goes on after a failure, and prints what was done.
async fn each(
    global: &Global,
    op: &str,
    names: &[String],
    work: impl AsyncFn(Container) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let runtimes = setup::runtimes(global)?;
    each_of(&runtimes, op, names, work).await
}

async fn each_of(
    runtimes: &Runtimes,
    op: &str,
    names: &[String],
    work: impl AsyncFn(Container) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut failed: Option<anyhow::Error> = None;
    for name in names {
        let done = async {
            let container = runtimes.find(name).await?;
            work(container).await
        };
        match done.await {
            Ok(()) => print(name)?,
            Err(error) => {
                // An error of the operation itself names it.
                let named = crate::exit::text(&error).starts_with(&format!("{op} "));
                let error = if named { error } else { error.context(op.to_owned()) };
                if let Some(earlier) = failed.replace(error) {
                    complain(&earlier);
                }
            }
        }
    }
    match failed {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(error),
    }
}

/// Tells of a failure that is not the last.
fn complain(error: &anyhow::Error) {
    use std::io::Write as _;
    // Nobody is left to be told when stderr is gone.
    let _ = writeln!(std::io::stderr(), "wharf: {}", crate::exit::text(error));
}

/// A line of data on standard output.
fn print(line: impl Display) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").context("write to standard output")
}

/// A value as JSON for programs, in one line.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(serde_json::to_string(value)?)
}
