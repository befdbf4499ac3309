//! Many containers, each probed by an exec once a second: what a node's health checks cost.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use runtime::ExecRequest;
use testkit::Bundle;

use crate::Scale;
use crate::monitored::Monitored;
use crate::ours::Ours;
use crate::report::{Row, Table};

const TEXT: &str = "Each of many containers is probed by an exec of a static no-op once a second. Processor seconds are the whole \
                    machine's (/proc/stat), less what it used in as long a time before the probes began.";

pub(crate) fn measure(scale: Scale) -> Result<Vec<Table>> {
    let mut table = Table {
        key: "probes",
        title: format!("{} containers probed once a second for {} s", scale.probed, scale.probe_seconds),
        text: TEXT.to_owned(),
        columns: ["CPU s", "execs", "CPU ms per exec"].map(str::to_owned).to_vec(),
        rows: Vec::new(),
        missing: Vec::new(),
    };
    let mut add = |name: &str, result: Result<Vec<f64>>| match result {
        Ok(values) => table.rows.push(Row { name: name.to_owned(), values }),
        Err(error) => table.missing.push(format!("{name}: {error:#}")),
    };
    for runtime in ["runc", "crun"] {
        add(&format!("conmon -e + {runtime}"), contract(runtime, scale));
    }
    add("ours: wharf-monitor + wharf-oci", ours(scale));
    Ok(vec![table])
}

fn bundle() -> Bundle {
    Bundle::new("probe", &["sleep", "100000"]).seccomp()
}

fn contract(runtime: &str, scale: Scale) -> Result<Vec<f64>> {
    let monitored = Monitored::new("conmon", runtime)?;
    let bundles: Vec<Bundle> = (0..scale.probed).map(|_| bundle().in_cgroup()).collect();
    let mut made = Vec::new();
    let result = (|| {
        for bundle in &bundles {
            made.push(monitored.start(bundle)?);
        }
        let spec = bundles
            .first()
            .context("no containers")
            .and_then(|bundle| monitored.process(bundle, &["true"]))?;
        probe(scale, |index| monitored.exec(&made[index], &spec).map(drop))
    })();
    for one in &made {
        if let Err(error) = monitored.remove(one) {
            eprintln!("bench: {error:#}");
        }
    }
    result
}

fn ours(scale: Scale) -> Result<Vec<f64>> {
    let ours = Ours::new("wharf-monitor", "wharf-oci")?;
    let bundle = bundle();
    let mut containers = Vec::new();
    let result = (|| {
        for _ in 0..scale.probed {
            containers.push(ours.start(&bundle)?);
        }
        probe(scale, |index| {
            let output = ours.block_on(containers[index].exec_sync(ExecRequest::new(["true"])))?;
            ensure!(output.exit == model::Exit::Code(0), "exec: {:?}", output.exit);
            Ok(())
        })
    })();
    containers.iter().for_each(|container| ours.remove(container));
    result
}

/// Processor seconds, execs, and milliseconds for each; the containers' probes are spread over the second.
fn probe(scale: Scale, exec: impl Fn(usize) -> Result<()> + Sync) -> Result<Vec<f64>> {
    let time = Duration::from_secs(scale.probe_seconds);
    let rest = processor_seconds()?;
    std::thread::sleep(time);
    let before = processor_seconds()?;
    let (begin, done) = (Instant::now(), AtomicU32::new(0));
    std::thread::scope(|scope| -> Result<()> {
        let (exec, done) = (&exec, &done);
        let probers: Vec<_> = (0..scale.probed)
            .map(|index| {
                scope.spawn(move || -> Result<()> {
                    let step = Duration::from_secs(1)
                        .mul_f64(f64::from(u32::try_from(index)?) / f64::from(u32::try_from(scale.probed)?));
                    let mut next = step;
                    while next < time {
                        std::thread::sleep(next.saturating_sub(begin.elapsed()));
                        exec(index)?;
                        done.fetch_add(1, Ordering::Relaxed);
                        next += Duration::from_secs(1);
                    }
                    Ok(())
                })
            })
            .collect();
        for prober in probers {
            prober.join().map_err(|_| anyhow::anyhow!("a prober panicked"))??;
        }
        Ok(())
    })?;
    let used = processor_seconds()? - before - (before - rest);
    let execs = f64::from(done.into_inner());
    Ok(vec![used, execs, used * 1e3 / execs])
}

/// Seconds in which any processor worked: user, nice, system, irq, softirq (proc(5); hundredths).
fn processor_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = text.lines().next().unwrap_or("");
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() > 6, "parse /proc/stat");
    Ok((ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / 100.0)
}
