//! What a group uses.

use serde::{Deserialize, Serialize};

use super::{Cgroup, Place, Version, file};
use crate::{Result, proc};

mod parse;

/// What a group and those below it use. A part is missing where the group has no such controller.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// When it was read ([`proc::now_ns`]).
    pub time_ns: i64,
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub io: Vec<IoStats>,
    /// How tasks waited for the processor.
    pub cpu_pressure: Option<Pressure>,
    /// How tasks waited for memory.
    pub memory_pressure: Option<Pressure>,
    /// How tasks waited for block devices.
    pub io_pressure: Option<Pressure>,
}

/// Processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuStats {
    /// In all, in nanoseconds.
    pub usage_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Periods of the quota that have passed with something to run.
    pub periods: u64,
    /// Periods in which it had to wait for the next.
    pub throttled_periods: u64,
    /// How long it had to wait.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryStats {
    /// Charged in all.
    pub usage: u64,
    /// The most that was ever charged.
    pub peak: Option<u64>,
    /// The limit, if any.
    pub limit: Option<u64>,
    /// The usage without file pages that are not in active use: what can't be taken back easily.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// File pages.
    pub cache: u64,
    /// Files that are mapped.
    pub mapped_file: u64,
    /// Swapped out, where that is counted.
    pub swap: Option<u64>,
    /// The limit on it, if any; of version 1 the limit on memory and swap together.
    pub swap_limit: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that had to read.
    pub major_page_faults: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many may be, if limited.
    pub limit: Option<u64>,
}

/// One block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IoStats {
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub read_ops: u64,
    /// Writes.
    pub write_ops: u64,
}

/// Pressure stall information: how much of the time tasks waited (the kernel's accounting/psi).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one waited.
    pub some: PressureLine,
    /// All waited.
    pub full: Option<PressureLine>,
}

/// One line of it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PressureLine {
    /// Per cent of the last 10 s.
    pub avg10: f64,
    /// Per cent of the last 60 s.
    pub avg60: f64,
    /// Per cent of the last 300 s.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total_us: u64,
}

impl Cgroup {
    /// What the group uses now.
    ///
    /// # Errors
    /// [`crate::Error::is_gone`] if the group exists nowhere. A file that is missing is no error.
    pub fn stats(&self) -> Result<Stats> {
        if !self.places().iter().any(Place::exists) {
            return Err(self.nowhere("read stats of"));
        }
        let pressure = |file: &str| match self.v2().map(|place| optional(place, file)) {
            Some(text) => Ok::<_, crate::Error>(text?.and_then(|text| parse::pressure(&text))),
            None => Ok(None),
        };
        Ok(Stats {
            time_ns: proc::now_ns(),
            cpu: self.cpu_stats()?,
            memory: self.memory_stats()?,
            pids: self.pids_stats()?,
            io: self.io_stats()?,
            cpu_pressure: pressure("cpu.pressure")?,
            memory_pressure: pressure("memory.pressure")?,
            io_pressure: pressure("io.pressure")?,
        })
    }

    fn cpu_stats(&self) -> Result<Option<CpuStats>> {
        let Some(place) = self.place("cpuacct") else { return Ok(None) };
        if place.version == Version::V2 {
            return Ok(optional(place, "cpu.stat")?.map(|text| parse::cpu_v2(&text)));
        }
        let Some(usage_ns) = number(place, "cpuacct.usage")? else { return Ok(None) };
        let mut stats = CpuStats {
            usage_ns,
            user_ns: number(place, "cpuacct.usage_user")?.unwrap_or(0),
            system_ns: number(place, "cpuacct.usage_sys")?.unwrap_or(0),
            ..CpuStats::default()
        };
        if let Some(place) = self.place("cpu").filter(|place| place.version == Version::V1)
            && let Some(text) = optional(place, "cpu.stat")?
        {
            parse::throttling_v1(&text, &mut stats);
        }
        Ok(Some(stats))
    }

    fn memory_stats(&self) -> Result<Option<MemoryStats>> {
        let Some(place) = self.place("memory") else { return Ok(None) };
        let Some(stat) = optional(place, "memory.stat")? else { return Ok(None) };
        let stats = match place.version {
            Version::V1 => {
                let usage = number(place, "memory.usage_in_bytes")?;
                let both = number(place, "memory.memsw.usage_in_bytes")?;
                MemoryStats {
                    usage: usage.unwrap_or(0),
                    peak: number(place, "memory.max_usage_in_bytes")?,
                    limit: number(place, "memory.limit_in_bytes")?.filter(parse::is_limit_v1),
                    swap: both.map(|both| both.saturating_sub(usage.unwrap_or(0))),
                    swap_limit: number(place, "memory.memsw.limit_in_bytes")?.filter(parse::is_limit_v1),
                    ..parse::memory_v1(&stat)
                }
            }
            Version::V2 => {
                let from_stat = parse::memory_v2(&stat);
                MemoryStats {
                    // The root has no such file.
                    usage: number(place, "memory.current")?
                        .unwrap_or(from_stat.rss.saturating_add(from_stat.cache)),
                    peak: number(place, "memory.peak")?,
                    limit: number(place, "memory.max")?,
                    swap: number(place, "memory.swap.current")?,
                    swap_limit: number(place, "memory.swap.max")?,
                    ..from_stat
                }
            }
        };
        // The parser leaves the inactive file pages here.
        Ok(Some(MemoryStats { working_set: stats.usage.saturating_sub(stats.working_set), ..stats }))
    }

    fn pids_stats(&self) -> Result<Option<PidsStats>> {
        let Some(place) = self.place("pids") else { return Ok(None) };
        let Some(current) = number(place, "pids.current")? else { return Ok(None) };
        Ok(Some(PidsStats { current, limit: number(place, "pids.max")? }))
    }

    fn io_stats(&self) -> Result<Vec<IoStats>> {
        let Some(place) = self.place("blkio") else { return Ok(Vec::new()) };
        if place.version == Version::V2 {
            return Ok(optional(place, "io.stat")?.map(|text| parse::io_v2(&text)).unwrap_or_default());
        }
        let bytes = optional(place, "blkio.throttle.io_service_bytes_recursive")?.unwrap_or_default();
        let ops = optional(place, "blkio.throttle.io_serviced_recursive")?.unwrap_or_default();
        Ok(parse::io_v1(&bytes, &ops))
    }
}

/// Reads a text as each of the files that [`Cgroup::stats`] reads.
pub(crate) fn read_texts(text: &str) {
    let mut cpu = parse::cpu_v2(text);
    parse::throttling_v1(text, &mut cpu);
    let memory = [parse::memory_v1(text), parse::memory_v2(text)];
    assert!(memory.iter().all(|stats| stats.usage == 0));
    let (first, second) = text.split_once("\n\n").unwrap_or((text, ""));
    let devices = parse::io_v1(first, second).len() + parse::io_v2(text).len();
    assert!(devices <= 2 * text.lines().count());
    parse::pressure(text);
}

/// A file's number; `None` if there is no such file, or it says `max`.
fn number(place: &Place, file: &str) -> Result<Option<u64>> {
    Ok(optional(place, file)?.and_then(|text| text.trim().parse().ok()))
}

/// A file's text, `None` if there is no such file or the kernel has that switched off.
fn optional(place: &Place, name: &str) -> Result<Option<String>> {
    match file::read(place, name) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_gone() || error.errno() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}
