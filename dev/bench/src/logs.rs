//! How fast output becomes log.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testkit::Bundle;

use crate::Scale;
use crate::bare::PATIENCE;
use crate::idle::MONITORS;
use crate::measure::since;
use crate::monitored::Monitored;
use crate::report::{Row, Table};

const TEXT: &str = "A container that writes as fast as its monitor takes it, in lines of one length, into a log in CRI form on a tmpfs; \
                    megabytes of the container's output a second, and the monitor's processor seconds for each GiB. Median of five.";
const ROUNDS: usize = 5;
const END: &[u8] = b"the-end-of-the-output";

pub(crate) fn measure(scale: Scale) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for (key, length) in [("logs-100", 100_usize), ("logs-2", 2), ("logs-4096", 4096)] {
        // Short lines are slow: less of them is enough.
        let bytes = if length < 10 { scale.log_bytes / 16 } else { scale.log_bytes };
        let mut table = Table {
            key,
            title: format!("log copy, lines of {length} bytes"),
            text: TEXT.to_owned(),
            columns: ["MB/s", "CPU s per GiB"].map(str::to_owned).to_vec(),
            rows: Vec::new(),
            missing: Vec::new(),
        };
        let data = write_data(length, bytes)?;
        let mut samples = vec![Vec::new(); MONITORS.len()];
        for _ in 0..(if scale.rounds > 1 { ROUNDS } else { 1 }) {
            for ((name, monitor), samples) in MONITORS.iter().zip(&mut samples) {
                match copy(monitor, &data, bytes) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => table.missing.push(format!("{name}: {error:#}")),
                }
            }
        }
        for ((name, _), mut samples) in MONITORS.iter().zip(samples) {
            samples.sort_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((rate, cpu)) = samples.get(samples.len() / 2) {
                table.rows.push(Row { name: (*name).to_owned(), values: vec![*rate, *cpu] });
            }
        }
        tables.push(table);
    }
    Ok(tables)
}

/// A bundle whose root file system has the output ready in `/data`.
fn write_data(length: usize, bytes: u64) -> Result<Bundle> {
    let bundle = Bundle::shell("logs", "cat /data; exec sleep 100000").in_cgroup();
    let mut line = vec![b'x'; length - 1];
    line.push(b'\n');
    let path = bundle.rootfs().join("data");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).context("create the data")?);
    for _ in 0..bytes / length as u64 {
        file.write_all(&line).context("write the data")?;
    }
    file.write_all(END).context("write the data")?;
    file.write_all(b"\n").context("write the data")?;
    file.flush().context("write the data")?;
    Ok(bundle)
}

/// Megabytes a second, and seconds of the monitor's processor time for a GiB.
fn copy(monitor: &str, bundle: &Bundle, bytes: u64) -> Result<(f64, f64)> {
    let monitored = Monitored::new(monitor, "runc")?;
    let made = monitored.create(bundle)?;
    let before = processor_seconds(made.monitor.pid())?;
    let begin = Instant::now();
    monitored.bare.call(&["start", &made.id])?;
    let ended = wait_for_end(&made.log, begin);
    let used = processor_seconds(made.monitor.pid());
    monitored.remove(&made)?;
    let seconds = ended?;
    #[expect(clippy::cast_precision_loss, reason = "a size well below 2^52")]
    let bytes = bytes as f64;
    Ok((bytes / 1e6 / seconds, (used? - before) / (bytes / f64::from(1 << 30))))
}

fn wait_for_end(log: &Path, begin: Instant) -> Result<f64> {
    let mut file = fs::File::open(log).with_context(|| format!("open {}", log.display()))?;
    let mut last = (0, Instant::now());
    loop {
        let size = file.metadata().context("stat the log")?.len();
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(size.saturating_sub(100))).context("seek in the log")?;
        file.read_to_end(&mut tail).context("read the log")?;
        if tail.windows(END.len()).any(|window| window == END) {
            return Ok(since(begin) / 1e3);
        }
        if size != last.0 {
            last = (size, Instant::now());
        }
        ensure!(last.1.elapsed() < PATIENCE, "the log stopped at {size} bytes");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Time on a processor (the first field of schedstat, in ns).
fn processor_seconds(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let nanoseconds: f64 = text.split_whitespace().next().unwrap_or("").parse().context("parse schedstat")?;
    Ok(nanoseconds / 1e9)
}
