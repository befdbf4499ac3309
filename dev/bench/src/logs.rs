//! How fast output becomes log.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testkit::{Bundle, Scratch};

use crate::Scale;
use crate::bare::PATIENCE;
use crate::idle::MONITORS;
use crate::measure::since;
use crate::monitored::{Made, Monitored};
use crate::report::{Row, Table};

const TEXT: &str = "A container that writes as fast as its monitor takes it, in lines of one length, into a log in CRI form; megabytes of \
                    the container's output a second, and the monitor's processor seconds for each GiB. From the word to go to the last \
                    line in the log; median of five. The last row is the floor: a loop that writes as many bytes as the log has to a new \
                    file, out of one buffer, and reads and cuts nothing.";
const ROUNDS: usize = 5;
const END: &[u8] = b"the-end-of-the-output";
/// What a monitor's log of these lines is long: the head and the line.
const HEAD: u64 = 45;
const FLOOR: &str = "write(2) of the log's bytes";

/// The key, the length of lines, whether the log is on a disk.
const TABLES: [(&str, usize, bool); 5] = [
    ("logs-100", 100, false),
    ("logs-2", 2, false),
    ("logs-4096", 4096, false),
    ("logs-100-disk", 100, true),
    ("logs-2-disk", 2, true),
];

pub(crate) fn measure(scale: Scale) -> Result<Vec<Table>> {
    TABLES.into_iter().map(|(key, length, disk)| table(scale, key, length, disk)).collect()
}

fn table(scale: Scale, key: &'static str, length: usize, disk: bool) -> Result<Table> {
    // Short lines are slow: less of them is enough.
    let bytes = if length < 10 { scale.log_bytes / 8 } else { scale.log_bytes };
    let place = if disk { "on a disk" } else { "on a tmpfs" };
    let mut table = Table {
        key,
        title: format!("log copy, lines of {length} bytes, log {place}"),
        text: TEXT.to_owned(),
        columns: ["MB/s", "CPU s per GiB"].map(str::to_owned).to_vec(),
        rows: Vec::new(),
        missing: Vec::new(),
    };
    let data = write_data(length, bytes)?;
    let on_disk = Scratch::new("bench-log");
    let contestants = MONITORS.iter().copied().chain([(FLOOR, "")]);
    let mut series: Vec<_> = contestants.map(|(name, monitor)| (name, monitor, Vec::new())).collect();
    for round in 0..(if scale.rounds > 1 { ROUNDS } else { 1 }) {
        for (name, monitor, samples) in &mut series {
            let log = disk.then(|| on_disk.join(format!("{round}-{name}")));
            let sample = if monitor.is_empty() {
                floor(log.as_deref(), bytes, bytes / length as u64 * (HEAD + length as u64))
            } else {
                copy(monitor, &data, log.as_deref(), bytes)
            };
            match sample {
                Ok(sample) => samples.push(sample),
                Err(error) => table.missing.push(format!("{name}: {error:#}")),
            }
            if let Some(log) = log {
                // What is still to be written of it must not slow the next one down.
                fs::remove_file(&log).with_context(|| format!("remove {}", log.display()))?;
            }
        }
    }
    for (name, _, mut samples) in series {
        samples.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((rate, cpu)) = samples.get(samples.len() / 2) {
            table.rows.push(Row { name: name.to_owned(), values: vec![*rate, *cpu] });
        }
    }
    Ok(table)
}

/// A bundle whose root file system has the output ready in `/data`, and a fifo to wait at.
fn write_data(length: usize, bytes: u64) -> Result<Bundle> {
    let bundle = Bundle::shell("logs", "read go < /go; cat /data; exec sleep 100000").in_cgroup();
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
    let fifo = bundle.rootfs().join("go");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .with_context(|| format!("mkfifo {}", fifo.display()))?;
    Ok(bundle)
}

/// Megabytes a second, and seconds of the monitor's processor time for a GiB.
fn copy(monitor: &str, bundle: &Bundle, log: Option<&Path>, bytes: u64) -> Result<(f64, f64)> {
    let monitored = Monitored::new(monitor, "runc")?;
    let made = monitored.create_logging(bundle, log)?;
    let ended = write_and_wait(&monitored, bundle, &made);
    monitored.remove(&made)?;
    let (seconds, used) = ended?;
    Ok(rates(bytes, seconds, used))
}

fn write_and_wait(monitored: &Monitored, bundle: &Bundle, made: &Made) -> Result<(f64, f64)> {
    monitored.bare.call(&["start", &made.id])?;
    // Opening it waits for the container.
    let mut go = fs::File::options().write(true).open(bundle.rootfs().join("go")).context("open the fifo")?;
    let before = processor_seconds(made.monitor.pid())?;
    let begin = Instant::now();
    go.write_all(b"\n").context("say go")?;
    let seconds = wait_for_end(&made.log, begin)?;
    Ok((seconds, processor_seconds(made.monitor.pid())? - before))
}

/// What the writing of `log_bytes` costs by itself; rates are for `bytes` of output as in the rows above it.
fn floor(log: Option<&Path>, bytes: u64, log_bytes: u64) -> Result<(f64, f64)> {
    let scratch = Scratch::tmpfs("bench-floor", 2 << 30);
    let path = log.map_or_else(|| scratch.join("log"), Path::to_owned);
    let buffer = vec![b'x'; 64 * 1024];
    let before = processor_seconds(i32::try_from(std::process::id())?)?;
    let begin = Instant::now();
    let mut file = fs::File::options().append(true).create(true).open(&path).context("create the log")?;
    let mut left = log_bytes;
    while left > 0 {
        let len = buffer.len().min(usize::try_from(left)?);
        file.write_all(&buffer[..len]).context("write the log")?;
        left -= len as u64;
    }
    let seconds = since(begin) / 1e3;
    Ok(rates(bytes, seconds, processor_seconds(i32::try_from(std::process::id())?)? - before))
}

fn rates(bytes: u64, seconds: f64, used: f64) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "a size well below 2^52")]
    let bytes = bytes as f64;
    (bytes / 1e6 / seconds, used / (bytes / f64::from(1 << 30)))
}

fn wait_for_end(log: &Path, begin: Instant) -> Result<f64> {
    let mut file = fs::File::open(log).with_context(|| format!("open {}", log.display()))?;
    let mut last = (0, Instant::now());
    loop {
        let size = file.metadata().context("stat the log")?.len();
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(size.saturating_sub(100))).context("seek in the log")?;
        // No more: who reads to the end of a file that grows takes a processor from the container that writes.
        std::io::Read::by_ref(&mut file).take(100).read_to_end(&mut tail).context("read the log")?;
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
