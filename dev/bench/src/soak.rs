//! Endurance: churn for a time, and see whether memory and descriptors stay flat.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use runtime::{CreateRequest, ExecRequest};
use testkit::{Bundle, unique_id};

use crate::ours::Ours;
use crate::{idle, plot};

/// A growth of the caller's private memory that is still called flat: KiB a minute, after the first third.
const FLAT_KIB: f64 = 512.0;

/// What a moment was like.
struct Sample {
    seconds: f64,
    memory_kib: f64,
    descriptors: f64,
    monitor_kib: f64,
    containers: f64,
}

/// Creates, execs in, and deletes containers beside one that stays; samples once a second.
pub(crate) fn run(minutes: u32) -> Result<bool> {
    let ours = Ours::new("wharf-monitor", "wharf-oci")?;
    let (stay, churn) = (Bundle::sleeper("soak"), Bundle::new("soak", &["true"]));
    let fixed = ours.start(&stay)?;
    let result = churn_for(&ours, &fixed, &churn, Duration::from_secs(u64::from(minutes) * 60));
    ours.remove(&fixed);
    let samples = result?;
    report(&samples)
}

fn churn_for(
    ours: &Ours,
    fixed: &runtime::Container,
    bundle: &Bundle,
    time: Duration,
) -> Result<Vec<Sample>> {
    let begin = Instant::now();
    let (mut samples, mut containers, mut last) = (Vec::new(), 0_u32, Duration::ZERO);
    let monitor = monitor_of(ours, fixed);
    while begin.elapsed() < time {
        ours.block_on(async {
            let id = unique_id("soak").parse().context("make an id")?;
            let container = ours.runtimes().create(CreateRequest::new(id, bundle.path())).await?;
            container.start().await?;
            let ended = container.wait().await?;
            ensure!(ended.code == 0, "a container ended with {}", ended.code);
            container.delete(false).await?;
            let output = fixed.exec_sync(ExecRequest::new(["echo", "ahoy"])).await?;
            ensure!(output.stdout == b"ahoy\n", "an exec said {:?}", String::from_utf8_lossy(&output.stdout));
            Ok(())
        })?;
        containers += 1;
        if begin.elapsed() - last > Duration::from_secs(1) {
            last = begin.elapsed();
            let pid = i32::try_from(std::process::id()).context("own pid")?;
            samples.push(Sample {
                seconds: last.as_secs_f64(),
                memory_kib: idle::memory(pid)?.0,
                #[expect(clippy::cast_precision_loss, reason = "a small count")]
                descriptors: fs::read_dir("/proc/self/fd").context("read /proc/self/fd")?.count() as f64,
                monitor_kib: monitor.and_then(|pid| idle::memory(pid).ok()).map_or(0.0, |(dirty, _)| dirty),
                containers: f64::from(containers),
            });
        }
    }
    Ok(samples)
}

/// The monitor is the parent of the container's init.
fn monitor_of(ours: &Ours, fixed: &runtime::Container) -> Option<i32> {
    let _ = ours;
    let pid = fixed.status().pid?;
    sys::proc::stat(pid).ok().map(|stat| stat.ppid)
}

fn report(samples: &[Sample]) -> Result<bool> {
    ensure!(samples.len() > 5, "too short to judge: {} samples", samples.len());
    let series = |pick: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        samples.iter().map(|sample| (sample.seconds, pick(sample))).collect()
    };
    let memory = series(|sample| sample.memory_kib);
    let descriptors = series(|sample| sample.descriptors);
    let monitor = series(|sample| sample.monitor_kib);
    let svg = plot::lines(
        "soak: create, start, wait, delete, exec, over and over",
        &[
            ("caller's private dirty memory, KiB", memory.clone()),
            ("caller's descriptors", descriptors.clone()),
            ("the staying monitor's private dirty memory, KiB", monitor.clone()),
        ],
    );
    let path = testkit::workspace().join("target/soak.svg");
    fs::write(&path, svg).with_context(|| format!("write {}", path.display()))?;
    let flat =
        [("memory", &memory, FLAT_KIB), ("descriptors", &descriptors, 1.0), ("monitor", &monitor, 64.0)];
    let mut failed = 0;
    for (name, points, limit) in flat {
        let slope = slope(&points[points.len() / 3..]) * 60.0;
        let good = slope <= limit;
        failed += usize::from(!good);
        println!("{name}: {slope:+.2} a minute{}", if good { ", flat" } else { ", GROWING" });
    }
    println!("plot: {}", path.display());
    let containers = samples.last().map_or(0.0, |sample| sample.containers);
    println!("{containers:.0} containers, {} passed, {failed} failed", 3 - failed);
    Ok(failed == 0)
}

/// The slope of the straight line through points (least squares), by x.
fn slope(points: &[(f64, f64)]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_found() {
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
        assert!(slope(&[(1.0, 1.0)]).abs() < 1e-9);
    }
}
