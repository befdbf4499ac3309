//! Endurance: a node's day in minutes. Containers come and go beside some that stay; in those, programs are executed,
//! clients attach and talk, logs are renamed and opened anew; the library is taken down and up. All answers and all
//! lines are checked, and whether memory and descriptors of the caller and of the monitors stay flat.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use model::Exit;
use runtime::{Attached, Container, CreateRequest, ExecRequest, Io, Output, Stdin};
use testkit::{Bundle, LeakCheck, unique_id};

use crate::ours::Ours;
use crate::{idle, plot};

/// Containers that stay all the time.
const STAYING: usize = 3;
/// A log is renamed, and the library taken down, each so many turns.
const ROTATE: u32 = 5;
const RESTART: u32 = 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Says each line that it reads, and how it was asked to end.
const ECHO: &str = "trap 'exit 0' TERM; while read line; do echo got $line; done";

/// What a moment was like.
struct Sample {
    seconds: f64,
    memory_kib: f64,
    descriptors: f64,
    monitor_kib: f64,
    monitor_descriptors: f64,
}

/// What was done.
#[derive(Debug, Default)]
struct Counts {
    containers: u32,
    execs: u32,
    attaches: u32,
    lines: u32,
    rotations: u32,
    restarts: u32,
}

/// One that stays.
struct Staying {
    container: Container,
    monitor: i32,
    log: PathBuf,
    /// The lines that its log must have since it was renamed last.
    logged: Vec<String>,
}

/// Soaks for so long; true if all was right and nothing grew.
pub(crate) fn run(minutes: u32) -> Result<bool> {
    // tokio keeps a pair of sockets for signals in each process that ever had a runtime.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?);
    let leaks = LeakCheck::start();
    let mut counts = Counts::default();
    let samples = {
        let mut ours = Ours::new("wharf-monitor", "wharf-oci")?;
        let stay = Bundle::new("soak", &["sh", "-c", ECHO]);
        let churn = Bundle::new("soak", &["sh", "-c", "echo hello; exit 3"]);
        let mut staying = Vec::new();
        let time = Duration::from_secs(u64::from(minutes) * 60);
        let result = (0..STAYING)
            .try_for_each(|_| start(&ours, &stay).map(|one| staying.push(one)))
            .and_then(|()| soak(&mut ours, &mut staying, &churn, time, &mut counts));
        for one in &staying {
            ours.remove(&one.container);
        }
        result?
    };
    let left = left(&leaks);
    for leak in &left {
        println!("left behind: {leak}");
    }
    report(&samples, &counts, left.is_empty())
}

/// What is left behind after a while.
fn left(leaks: &LeakCheck) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let left = leaks.leaks();
        if left.is_empty() || begin.elapsed() > PATIENCE {
            return left;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn start(ours: &Ours, bundle: &Bundle) -> Result<Staying> {
    let name = unique_id("stay");
    let log = ours.place().join(format!("{name}.log"));
    let mut request = CreateRequest::new(name.parse().context("make an id")?, bundle.path());
    request.io = Io::Pipes { stdin: Stdin::Keep };
    request.log = Some(log.clone());
    let container = ours.block_on(async {
        let container = ours.runtimes().create(request).await?;
        container.start().await?;
        anyhow::Ok(container)
    })?;
    let pid = container.status().pid.context("a running container has no pid")?;
    // The monitor is the parent of the container's init.
    let monitor = sys::proc::stat(pid)?.ppid;
    Ok(Staying { container, monitor, log, logged: Vec::new() })
}

fn soak(
    ours: &mut Ours,
    staying: &mut [Staying],
    churn: &Bundle,
    time: Duration,
    counts: &mut Counts,
) -> Result<Vec<Sample>> {
    let begin = Instant::now();
    let (mut samples, mut last, mut turn) = (Vec::new(), Duration::ZERO, 0_u32);
    while begin.elapsed() < time {
        turn += 1;
        let index = usize::try_from(turn)? % staying.len();
        let one = &mut staying[index];
        ours.block_on(async {
            life(ours, churn).await.context("a container that comes and goes")?;
            exec(one, turn).await.context("an exec")?;
            talk(one, turn).await.context("a client that attaches")?;
            anyhow::Ok(())
        })?;
        counts.containers += 1;
        counts.execs += 1;
        counts.attaches += 1;
        counts.lines += 1;
        if turn.is_multiple_of(ROTATE) {
            ours.block_on(rotate(one)).context("a log that is opened anew")?;
            counts.rotations += 1;
        }
        if turn.is_multiple_of(RESTART) {
            restart(ours, staying).context("the library, taken down and up")?;
            counts.restarts += 1;
        }
        if begin.elapsed() - last > Duration::from_secs(1) {
            last = begin.elapsed();
            samples.push(sample(last, staying)?);
        }
    }
    for one in staying {
        ours.block_on(rotate(one)).context("a log at the end")?;
        counts.rotations += 1;
    }
    Ok(samples)
}

async fn life(ours: &Ours, bundle: &Bundle) -> Result<()> {
    let id = unique_id("soak").parse().context("make an id")?;
    let mut request = CreateRequest::new(id, bundle.path());
    request.log = Some(PathBuf::from("container.log"));
    let container = ours.runtimes().create(request).await?;
    container.start().await?;
    let ended = container.wait().await?;
    ensure!(ended.exit == Exit::Code(3), "it ended with {:?}", ended.exit);
    let log = container.status().log.clone().context("no log")?;
    let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
    ensure!(text.ends_with(" stdout F hello\n"), "its log says {text:?}");
    container.delete(false).await?;
    Ok(())
}

async fn exec(one: &Staying, turn: u32) -> Result<()> {
    let line = format!("echo {turn}; exit {}", turn % 7);
    let output = one.container.exec_sync(ExecRequest::new(["sh", "-c", &line])).await?;
    let code = u8::try_from(turn % 7)?;
    ensure!(output.exit == Exit::Code(code), "it ended with {:?}, not {code}", output.exit);
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said == format!("{turn}\n"), "it said {said:?}, not {turn}");
    Ok(())
}

/// Attaches, says a line, and waits for the answer.
async fn talk(one: &mut Staying, turn: u32) -> Result<()> {
    let client = one.container.attach().await?;
    client.write(format!("{turn}\n").as_bytes()).await?;
    let answer = format!("got {turn}");
    tokio::time::timeout(PATIENCE, hear(&client, &answer)).await.context("no answer")??;
    one.logged.push(answer);
    Ok(())
}

async fn hear(client: &Attached, text: &str) -> Result<()> {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(&format!("{text}\n")) {
        match client.read().await? {
            Some(Output::Stdout(bytes) | Output::Stderr(bytes)) => heard.extend(bytes),
            None => anyhow::bail!("the connection ended after {:?}", String::from_utf8_lossy(&heard)),
        }
    }
    Ok(())
}

/// As the kubelet does it; what was said since the last time must be in the old file, and nothing else.
async fn rotate(one: &mut Staying) -> Result<()> {
    let old = one.log.with_extension("old");
    fs::rename(&one.log, &old).with_context(|| format!("rename {}", one.log.display()))?;
    one.container.reopen_log().await?;
    // A client may hear a line before the log has it.
    let (begin, expected) = (Instant::now(), std::mem::take(&mut one.logged));
    loop {
        let lines = said(&old)?;
        if lines == expected {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "the log has {lines:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the lines of a log say.
fn said(log: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    Ok(text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(str::to_owned).collect())
}

/// The library's whole state goes; another one recovers from the files and finds the containers.
fn restart(ours: &mut Ours, staying: &mut [Staying]) -> Result<()> {
    ours.restart()?;
    let recovered = ours.block_on(ours.runtimes().recover())?;
    ensure!(recovered.failed.is_empty(), "recovery failed: {:?}", recovered.failed);
    let found = recovered.undone.len() + recovered.exited.len() + recovered.deleted.len();
    ensure!(found == 0, "recovery found something to do: {recovered:?}");
    for one in staying {
        one.container = ours.block_on(ours.runtimes().get(one.container.id()))?;
    }
    Ok(())
}

fn sample(at: Duration, staying: &[Staying]) -> Result<Sample> {
    let own = i32::try_from(std::process::id()).context("own pid")?;
    let mut sample = Sample {
        seconds: at.as_secs_f64(),
        memory_kib: idle::memory(own)?.0,
        descriptors: descriptors(own)?,
        monitor_kib: 0.0,
        monitor_descriptors: 0.0,
    };
    for one in staying {
        sample.monitor_kib += idle::memory(one.monitor)?.0;
        sample.monitor_descriptors += descriptors(one.monitor)?;
    }
    Ok(sample)
}

fn descriptors(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/fd");
    let count = fs::read_dir(&path).with_context(|| format!("read {path}"))?.count();
    Ok(f64::from(u32::try_from(count)?))
}

/// What is watched: its name, how to get it, and by how much it may grow in a minute, and at all.
type Watched = (&'static str, fn(&Sample) -> f64, f64, f64);

const WATCHED: [Watched; 4] = [
    ("caller's private dirty memory, KiB", |sample| sample.memory_kib, 256.0, 1024.0),
    ("caller's descriptors", |sample| sample.descriptors, 1.0, 2.0),
    ("the staying monitors' private dirty memory, KiB", |sample| sample.monitor_kib, 16.0, 64.0),
    ("the staying monitors' descriptors", |sample| sample.monitor_descriptors, 0.5, 1.0),
];

fn report(samples: &[Sample], counts: &Counts, clean: bool) -> Result<bool> {
    ensure!(samples.len() >= 10, "too short to judge: {} samples", samples.len());
    let series = WATCHED.map(|(name, pick, ..)| {
        (name, samples.iter().map(|sample| (sample.seconds, pick(sample))).collect::<Vec<_>>())
    });
    let svg = plot::lines("soak: containers, execs, clients, logs, restarts, over and over", &series);
    let path = testkit::workspace().join("target/soak.svg");
    fs::write(&path, svg).with_context(|| format!("write {}", path.display()))?;
    let mut failed = usize::from(!clean);
    println!("left behind: {}", if clean { "nothing" } else { "see above" });
    for ((name, _, a_minute, at_all), (_, points)) in WATCHED.iter().zip(&series) {
        // The first third is for caches to fill.
        let points = &points[points.len() / 3..];
        let minutes = (points[points.len() - 1].0 - points[0].0) / 60.0;
        let slope = slope(points) * 60.0;
        let flat = slope <= *a_minute || slope * minutes <= *at_all;
        failed += usize::from(!flat);
        let last = points[points.len() - 1].1;
        println!("{name}: {last:.0}, {slope:+.2} a minute, {}", if flat { "flat" } else { "GROWING" });
    }
    println!("plot: {}", path.display());
    let Counts { containers, execs, attaches, lines, rotations, restarts } = counts;
    println!(
        "{containers} containers, {execs} execs, {attaches} attaches, {lines} lines, {rotations} rotations, {restarts} \
         restarts; {} passed, {failed} failed",
        WATCHED.len() + 1 - failed
    );
    Ok(failed == 0)
}

/// The median of the slopes between all points, by x (Theil and Sen): one odd sample does not move it.
fn slope(points: &[(f64, f64)]) -> f64 {
    // Some hundred points are enough.
    let step = points.len().div_ceil(300).max(1);
    let points: Vec<_> = points.iter().step_by(step).collect();
    let mut slopes: Vec<f64> = Vec::new();
    for (at, one) in points.iter().enumerate() {
        let later = points[at + 1..].iter().filter(|two| two.0 > one.0);
        slopes.extend(later.map(|two| (two.1 - one.1) / (two.0 - one.0)));
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_found_and_not_moved_by_one_point() {
        let mut points: Vec<(f64, f64)> = (0..50).map(|x| (f64::from(x), 2.0 * f64::from(x) + 1.0)).collect();
        assert!((slope(&points) - 2.0).abs() < 1e-9);
        points[20].1 = 1e6;
        assert!((slope(&points) - 2.0).abs() < 1e-9);
        assert!(slope(&[(1.0, 1.0)]).abs() < 1e-9);
    }

    #[test]
    fn growth_is_told_from_noise() {
        let sample = |second: u32, descriptors: f64| Sample {
            seconds: f64::from(second),
            memory_kib: 5000.0,
            descriptors,
            monitor_kib: 900.0,
            monitor_descriptors: 60.0,
        };
        let flat: Vec<_> = (0..100).map(|x| sample(x, 20.0 + f64::from(x % 3))).collect();
        assert!(report(&flat, &Counts::default(), true).unwrap());
        assert!(!report(&flat, &Counts::default(), false).unwrap());
        let growing: Vec<_> = (0..100).map(|x| sample(x, f64::from(x))).collect();
        assert!(!report(&growing, &Counts::default(), true).unwrap());
    }
}
