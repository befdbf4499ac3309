//! Status of many containers.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use runtime::{CreateRequest, Runtimes};
use testkit::{Bundle, unique_id};

use crate::Scale;
use crate::measure::{quantile, since};
use crate::ours::Ours;
use crate::report::{Row, Table};

const ROUNDS: usize = 50;
/// Containers that are made at a time.
const HANDS: usize = 8;

const TEXT: &str = "`list` and the status of each of many containers, all created for real through our monitor and runtime. Forks are \
                    counted by the kernel (`processes` of /proc/stat, which counts threads too and is the whole machine's): the least of \
                    all rounds, so 0 proves that a round forks nothing.";

pub(crate) fn measure(scale: Scale) -> Result<Vec<Table>> {
    let mut table = Table {
        key: "status",
        title: format!("status of {} containers", scale.containers),
        text: TEXT.to_owned(),
        columns: ["median ms", "p99 ms", "forks"].map(str::to_owned).to_vec(),
        rows: Vec::new(),
        missing: Vec::new(),
    };
    match rows(scale) {
        Ok(rows) => table.rows = rows,
        Err(error) => table.missing.push(format!("ours: {error:#}")),
    }
    Ok(vec![table])
}

fn rows(scale: Scale) -> Result<Vec<Row>> {
    let ours = Ours::new("wharf-monitor", "wharf-oci")?;
    let bundle = Bundle::new("crowd", &["sleep", "100000"]);
    let made = ours.block_on(create(ours.runtimes().clone(), &bundle, scale.containers));
    let rows = made.and_then(|()| ours.block_on(look(ours.runtimes(), scale.containers)));
    let removed = ours.block_on(remove(ours.runtimes()));
    let rows = rows?;
    removed?;
    Ok(rows)
}

async fn create(runtimes: Runtimes, bundle: &Bundle, count: usize) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        if tasks.len() >= HANDS
            && let Some(done) = tasks.join_next().await
        {
            done.context("create")??;
        }
        let id = unique_id("crowd").parse().context("make an id")?;
        let (runtimes, request) = (runtimes.clone(), CreateRequest::new(id, bundle.path()));
        tasks.spawn(async move { runtimes.create(request).await.map(drop) });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("create")??;
    }
    Ok(())
}

async fn look(runtimes: &Runtimes, count: usize) -> Result<Vec<Row>> {
    let (mut times, mut known, mut forks) = (Vec::new(), Vec::new(), u64::MAX);
    for _ in 0..ROUNDS {
        let before = processes()?;
        let begin = Instant::now();
        let containers = runtimes.list().await?;
        let seen = containers.iter().filter(|container| container.status().pid.is_some()).count();
        times.push(since(begin));
        let again = Instant::now();
        containers.iter().for_each(|container| drop(container.status()));
        known.push(since(again));
        forks = forks.min(processes()?.saturating_sub(before));
        anyhow::ensure!(seen == count, "{seen} of {count} containers are alive");
    }
    times.sort_by(f64::total_cmp);
    known.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let forks = forks as f64;
    Ok(vec![
        Row {
            name: "ours: list and status of each".into(),
            values: vec![quantile(&times, 0.5), quantile(&times, 0.99), forks],
        },
        Row {
            name: "ours: status of each".into(),
            values: vec![quantile(&known, 0.5), quantile(&known, 0.99), forks],
        },
    ])
}

async fn remove(runtimes: &Runtimes) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for container in runtimes.list().await? {
        if tasks.len() >= HANDS
            && let Some(done) = tasks.join_next().await
        {
            done.context("delete")??;
        }
        tasks.spawn(async move { container.delete(true).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("delete")??;
    }
    Ok(())
}

/// Processes and threads made since the machine's boot.
fn processes() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("processes "));
    line.and_then(|count| count.trim().parse().ok()).context("find processes in /proc/stat")
}
