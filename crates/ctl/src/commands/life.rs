//! stop, rm, wait.

use std::process::ExitCode;
use std::time::Duration;

use model::signal::Signal;
use runtime::{Container, Kind, Runtimes};

use super::{each, each_of, print};
use crate::args::{Global, RmArgs, StopArgs, Targets};
use crate::{request, setup};

pub(super) async fn stop(global: &Global, args: &StopArgs) -> anyhow::Result<ExitCode> {
    let runtimes = setup::runtimes(global)?;
    let names = named(&runtimes, args.all, &args.containers, |c| c.status().state.is_alive()).await?;
    each_of(&runtimes, "stop", &names, async |container| stop_one(&container, args.signal, args.time).await)
        .await
}

async fn stop_one(container: &Container, signal: Option<Signal>, grace: Duration) -> anyhow::Result<()> {
    let signal = match signal {
        Some(signal) => Some(signal),
        None => container.status().annotations.get(request::STOP_SIGNAL).and_then(|text| text.parse().ok()),
    };
    container.stop(signal.unwrap_or(Signal::TERM), grace).await?;
    Ok(())
}

/// The ids that `--all` means, or what was named.
async fn named(
    runtimes: &Runtimes,
    all: bool,
    given: &[String],
    which: impl Fn(&Container) -> bool,
) -> anyhow::Result<Vec<String>> {
    if !all {
        return Ok(given.to_vec());
    }
    let containers = runtimes.list().await?;
    Ok(containers.iter().filter(|c| which(c)).map(|c| c.id().to_string()).collect())
}

pub(super) async fn rm(global: &Global, args: &RmArgs) -> anyhow::Result<ExitCode> {
    let runtimes = setup::runtimes(global)?;
    let names = named(&runtimes, args.all, &args.containers, |_| true).await?;
    let mut there = Vec::new();
    for name in names {
        match runtimes.find(&name).await {
            Err(error) if args.force && error.kind() == Kind::NotFound => print(&name)?,
            _ => there.push(name),
        }
    }
    each_of(&runtimes, "rm", &there, async |container| Ok(container.delete(args.force).await?)).await
}

pub(super) async fn wait(global: &Global, args: &Targets) -> anyhow::Result<ExitCode> {
    let runtimes = setup::runtimes(global)?;
    for name in &args.containers {
        let ended = runtimes.find(name).await?.wait().await?;
        print(ended.code)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `run --detach --rm` leaves behind: it waits for the end and removes the container.
pub(super) async fn rm_when_over(global: &Global, args: &Targets) -> anyhow::Result<ExitCode> {
    each(global, "rm", &args.containers, async |container| {
        match container.wait().await {
            Ok(_) => Ok(container.delete(false).await?),
            // Somebody else removed it.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

pub(super) fn spawn_rm_when_over(global: &Global, container: &Container) -> anyhow::Result<()> {
    let config = setup::config(global)?;
    let mut arguments = vec!["--root".into(), config.root.into_os_string()];
    if let Some(file) = &global.config {
        arguments.extend(["--config".into(), file.clone().into_os_string()]);
    }
    arguments.extend(["rm-when-over".into(), container.id().as_str().into()]);
    super::exec::background(arguments.into_iter())?;
    Ok(())
}
