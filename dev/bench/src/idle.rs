//! What a monitor costs while nothing happens, and how soon it tells of a death.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sys::inotify::Inotify;
use testkit::Bundle;

use crate::Scale;
use crate::bare::PATIENCE;
use crate::measure::{Contestant, in_turn, since};
use crate::monitored::{Made, Monitored};
use crate::report::{Row, Table};

const TEXT: &str = "Each monitor over a sleeping container made by runc. Private dirty and PSS in KiB, of one alone and of one among many \
                    (which share their pages); wake-ups are voluntary context switches in the time stated.";

/// How long monitors are left alone before their wake-ups are counted.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) const MONITORS: [(&str, &str); 2] =
    [("conmon", "conmon"), ("ours: wharf-monitor", "wharf-monitor")];

pub(crate) fn measure(scale: Scale) -> Result<Vec<Table>> {
    let mut table = Table {
        key: "idle",
        title: "idle monitors".to_owned(),
        text: TEXT.to_owned(),
        columns: vec![
            format!("private dirty, one of {}", scale.monitors),
            format!("PSS, one of {}", scale.monitors),
            "private dirty, one".to_owned(),
            "PSS, one".to_owned(),
            format!("wake-ups in {} s", scale.idle_seconds),
        ],
        rows: Vec::new(),
        missing: Vec::new(),
    };
    for (name, monitor) in MONITORS {
        match row(monitor, scale) {
            Ok(values) => table.rows.push(Row { name: name.to_owned(), values }),
            Err(error) => table.missing.push(format!("{name}: {error:#}")),
        }
    }
    Ok(vec![table])
}

fn row(monitor: &str, scale: Scale) -> Result<Vec<f64>> {
    let monitored = Monitored::new(monitor, "runc")?;
    let bundles: Vec<Bundle> =
        (0..scale.monitors).map(|_| Bundle::new("idle", &["sleep", "100000"]).in_cgroup()).collect();
    let mut made = Vec::new();
    let result = sample(&monitored, &bundles, &mut made, scale);
    for one in &made {
        if let Err(error) = monitored.remove(one) {
            eprintln!("bench: {error:#}");
        }
    }
    result
}

fn sample(monitored: &Monitored, bundles: &[Bundle], made: &mut Vec<Made>, scale: Scale) -> Result<Vec<f64>> {
    let mut alone = (0.0, 0.0);
    for (index, bundle) in bundles.iter().enumerate() {
        made.push(monitored.start(bundle)?);
        if index == 0 {
            // It has settled when it waits for the next thing.
            std::thread::sleep(Duration::from_millis(300));
            alone = memory(made[0].monitor.pid())?;
        }
    }
    // The last one, too, has done by now what it does once after its start.
    std::thread::sleep(SETTLE);
    let before: u64 = made.iter().map(|one| switches(one.monitor.pid())).sum::<Result<u64>>()?;
    std::thread::sleep(Duration::from_secs(scale.idle_seconds));
    let after: u64 = made.iter().map(|one| switches(one.monitor.pid())).sum::<Result<u64>>()?;
    let all: Vec<(f64, f64)> = made.iter().map(|one| memory(one.monitor.pid())).collect::<Result<_>>()?;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (count, woken) = (all.len() as f64, (after - before) as f64);
    let mean = |pick: fn(&(f64, f64)) -> f64| all.iter().map(pick).sum::<f64>() / count;
    Ok(vec![mean(|one| one.0), mean(|one| one.1), alone.0, alone.1, woken / count])
}

/// Private dirty and PSS of a process, in KiB.
pub(crate) fn memory(pid: i32) -> Result<(f64, f64)> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let field = |name: &str| -> Result<f64> {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("find {name}"))?;
        line.trim().trim_end_matches(" kB").parse().with_context(|| format!("parse {name}"))
    };
    Ok((field("Private_Dirty:")?, field("Pss:")?))
}

fn switches(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).context("find voluntary_ctxt_switches")
}

const EXIT_TEXT: &str = "From the SIGKILL that ends a container to its exit file in the directory where engines wait for it (inotify).";

pub(crate) fn measure_exit(scale: Scale) -> Result<Vec<Table>> {
    let bundle = Bundle::new("exit", &["sleep", "100000"]).in_cgroup();
    let contestants = MONITORS.map(|(name, monitor)| {
        let bundle = &bundle;
        let run = Monitored::new(monitor, "runc").map(|monitored| {
            move || {
                let made = monitored.start(bundle)?;
                let time = death(&monitored, &made);
                monitored.bare.call(&["delete", "--force", &made.id])?;
                made.monitor.wait(Some(PATIENCE))?;
                Ok(vec![("exit", time?)])
            }
        });
        Contestant::of(name, run)
    });
    let series = in_turn(scale.rounds, contestants.into());
    Ok(vec![Table::of_times("exit", "death to exit record", EXIT_TEXT, &series)])
}

fn death(monitored: &Monitored, made: &Made) -> Result<f64> {
    let watch = Inotify::new()?;
    watch.add(monitored.exits(), sys::inotify::WatchFlags::MOVED_TO | sys::inotify::WatchFlags::CREATE)?;
    let begin = Instant::now();
    made.init.signal(9)?;
    let file = monitored.exits().join(&made.id);
    while !file.exists() {
        ensure!(sys::poll::readable(&watch, Some(PATIENCE))?, "no exit file");
        watch.take()?;
    }
    Ok(since(begin))
}
