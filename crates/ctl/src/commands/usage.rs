//! top and stats.

use std::process::ExitCode;
use std::time::Duration;

use model::quantity::format_size;
use runtime::{Container, Runtimes};
use serde_json::json;

use super::{print, print_json};
use crate::args::{Global, StatsArgs, TopArgs};
use crate::setup;
use crate::table::table;

/// Between two samples of `stats --stream`.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn top(global: &Global, args: &TopArgs) -> anyhow::Result<ExitCode> {
    let container = setup::runtimes(global)?.find(&args.container).await?;
    let processes = container.processes().await?;
    if args.json {
        print_json(&processes)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |p: &runtime::Process| {
        vec![
            p.inner_pid.to_string(),
            p.pid.to_string(),
            p.ppid.to_string(),
            p.uid.to_string(),
            p.command.clone(),
        ]
    };
    let rows: Vec<_> = processes.iter().map(row).collect();
    print(table(&["PID", "HOST PID", "HOST PPID", "UID", "COMMAND"], &rows).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// What a container used, and when that was read.
struct Sample {
    container: Container,
    stats: runtime::Stats,
}

pub(super) async fn stats(global: &Global, args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let runtimes = setup::runtimes(global)?;
    let mut before: Vec<Sample> = Vec::new();
    loop {
        let samples = sample(&runtimes, &args.containers).await?;
        if args.json {
            for sample in &samples {
                print_json(
                    &json!({"id": sample.container.id(), "name": sample.container.name(), "stats": sample.stats}),
                )?;
            }
        } else {
            let rows: Vec<_> = samples.iter().map(|now| row(now, &before)).collect();
            print(
                table(
                    &["CONTAINER", "NAME", "CPU", "CPU TIME", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN"],
                    &rows,
                )
                .trim_end(),
            )?;
        }
        if !args.stream {
            return Ok(ExitCode::SUCCESS);
        }
        before = samples;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Those that were named, or all that run. One that ends meanwhile is left out unless it was named.
async fn sample(runtimes: &Runtimes, names: &[String]) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for name in names {
        let container = runtimes.find(name).await?;
        let stats = container.stats().await?;
        samples.push(Sample { container, stats });
    }
    if names.is_empty() {
        for container in runtimes.list().await?.into_iter().filter(|c| c.status().state.is_alive()) {
            match container.stats().await {
                Ok(stats) => samples.push(Sample { container, stats }),
                Err(error) => tracing::debug!(container = %container.id(), %error, "no stats"),
            }
        }
    }
    Ok(samples)
}

fn row(now: &Sample, before: &[Sample]) -> Vec<String> {
    let earlier = before.iter().find(|s| s.container.id() == now.container.id());
    let stats = &now.stats;
    let share = earlier.and_then(|earlier| {
        let wall = stats.time_ns.checked_sub(earlier.stats.time_ns).filter(|ns| *ns > 0)?;
        let used = stats.cpu.usage_ns.saturating_sub(earlier.stats.cpu.usage_ns);
        Some(format!("{}.{} %", used * 100 / wall, used * 1000 / wall % 10))
    });
    vec![
        now.container.id().short().to_owned(),
        now.container.name().map(|name| name.to_string()).unwrap_or_default(),
        share.unwrap_or_else(|| "-".to_owned()),
        format!("{} ms", stats.cpu.usage_ns / 1_000_000),
        format_size(stats.memory.working_set),
        stats.memory.limit.map_or_else(|| "-".to_owned(), format_size),
        stats.pids.current.to_string(),
        format_size(stats.io.read_bytes),
        format_size(stats.io.write_bytes),
    ]
}
