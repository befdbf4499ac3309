//! What a container uses, read from its cgroup: no fork, no lock, no walk over processes.

use std::path::Path;

use serde::Serialize;

use crate::blocking;
use crate::cgroups::Group;
use crate::container::Container;
use crate::{Error, Result};

/// What a container uses. A number that the kernel does not count here is zero.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// When it was read, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks: processes and threads.
    pub pids: PidsStats,
    /// Block devices.
    pub io: IoStats,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CpuStats {
    /// All of it.
    pub usage_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Periods in which it was held back for its quota.
    pub throttled_periods: u64,
    /// How long it was held back.
    pub throttled_ns: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MemoryStats {
    /// All that is charged to it, page cache included.
    pub usage: u64,
    /// Usage without the file pages that were not used lately: what the kubelet evicts by.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Pages of files.
    pub cache: u64,
    /// Swap.
    pub swap: u64,
    /// The most that was ever charged.
    pub peak: u64,
    /// The limit; None when there is none.
    pub limit: Option<u64>,
    /// Page faults.
    pub faults: u64,
    /// Those that needed I/O.
    pub major_faults: u64,
    /// How often the kernel killed something for want of memory.
    pub oom_kills: u64,
}

/// Tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// The limit; None when there is none.
    pub limit: Option<u64>,
}

/// Block devices, all together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct IoStats {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

impl Container {
    /// What it uses now.
    ///
    /// # Errors
    /// [`Error::State`] when it is over, or its cgroup is gone.
    pub async fn stats(&self) -> Result<Stats> {
        let container = self.clone();
        blocking::quick(move || {
            let record = container.present("read stats of")?;
            let group =
                record.own_group().filter(|group| record.state.is_alive() && !group.dirs().is_empty());
            let error =
                || Error::State { op: "read stats of", id: record.id.to_string(), state: record.state };
            let group = group.ok_or_else(error)?;
            Ok(Stats { time_ns: crate::clock::now_ns(), ..read(&group) })
        })
        .await
    }
}

fn read(group: &Group) -> Stats {
    let dir = |controller: &str| group.dir(controller);
    let mut stats = Stats::default();
    if let Some(dir) = dir("memory") {
        stats.memory = memory(&dir);
        stats.memory.oom_kills = group.oom_kills();
    }
    if let Some(dir) = dir("cpuacct") {
        stats.cpu = cpu(&dir, dir.join("cpuacct.usage").exists());
    }
    if let Some(dir) = dir("cpu") {
        let text = file(&dir, "cpu.stat");
        stats.cpu.throttled_periods = key(&text, "nr_throttled");
        // v1 counts nanoseconds, v2 microseconds.
        stats.cpu.throttled_ns = key(&text, "throttled_time").max(key(&text, "throttled_usec") * 1000);
    }
    if let Some(dir) = dir("pids") {
        stats.pids =
            PidsStats { current: number(&dir, "pids.current").unwrap_or(0), limit: limit(&dir, "pids.max") };
    }
    if let Some(dir) = dir("blkio") {
        stats.io = io(&dir);
    }
    stats
}

fn memory(dir: &Path) -> MemoryStats {
    let text = file(dir, "memory.stat");
    if let Some(usage) = number(dir, "memory.usage_in_bytes") {
        let with_swap = number(dir, "memory.memsw.usage_in_bytes");
        return MemoryStats {
            usage,
            working_set: usage.saturating_sub(key(&text, "total_inactive_file")),
            rss: key(&text, "total_rss"),
            cache: key(&text, "total_cache"),
            swap: with_swap.map_or_else(|| key(&text, "total_swap"), |both| both.saturating_sub(usage)),
            peak: number(dir, "memory.max_usage_in_bytes").unwrap_or(0),
            limit: limit(dir, "memory.limit_in_bytes"),
            faults: key(&text, "total_pgfault"),
            major_faults: key(&text, "total_pgmajfault"),
            oom_kills: 0,
        };
    }
    let usage = number(dir, "memory.current").unwrap_or(0);
    MemoryStats {
        usage,
        working_set: usage.saturating_sub(key(&text, "inactive_file")),
        rss: key(&text, "anon"),
        cache: key(&text, "file"),
        swap: number(dir, "memory.swap.current").unwrap_or(0),
        peak: number(dir, "memory.peak").unwrap_or(0),
        limit: limit(dir, "memory.max"),
        faults: key(&text, "pgfault"),
        major_faults: key(&text, "pgmajfault"),
        oom_kills: 0,
    }
}

fn cpu(dir: &Path, v1: bool) -> CpuStats {
    if v1 {
        let text = file(dir, "cpuacct.stat");
        // In ticks of USER_HZ.
        let ticks = |name: &str| key(&text, name) * 10_000_000;
        return CpuStats {
            usage_ns: number(dir, "cpuacct.usage").unwrap_or(0),
            user_ns: ticks("user"),
            system_ns: ticks("system"),
            ..CpuStats::default()
        };
    }
    let text = file(dir, "cpu.stat");
    CpuStats {
        usage_ns: key(&text, "usage_usec") * 1000,
        user_ns: key(&text, "user_usec") * 1000,
        system_ns: key(&text, "system_usec") * 1000,
        ..CpuStats::default()
    }
}

fn io(dir: &Path) -> IoStats {
    let v2 = file(dir, "io.stat");
    if !v2.is_empty() {
        let sum = |name: &str| {
            let fields = v2.split_whitespace().filter_map(|f| f.strip_prefix(name)?.strip_prefix('='));
            fields.filter_map(|n| n.parse::<u64>().ok()).sum()
        };
        return IoStats {
            read_bytes: sum("rbytes"),
            write_bytes: sum("wbytes"),
            reads: sum("rios"),
            writes: sum("wios"),
        };
    }
    // Only the throttling files are there with every scheduler.
    let bytes = file(dir, "blkio.throttle.io_service_bytes");
    let count = file(dir, "blkio.throttle.io_serviced");
    let sum = |text: &str, what: &str| {
        let of = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            (words.next()? == what).then(|| words.next()?.parse::<u64>().ok())?
        };
        text.lines().filter_map(of).sum()
    };
    IoStats {
        read_bytes: sum(&bytes, "Read"),
        write_bytes: sum(&bytes, "Write"),
        reads: sum(&count, "Read"),
        writes: sum(&count, "Write"),
    }
}

fn file(dir: &Path, name: &str) -> String {
    // A file that is not there counts nothing.
    std::fs::read_to_string(dir.join(name)).unwrap_or_default()
}

fn number(dir: &Path, name: &str) -> Option<u64> {
    file(dir, name).trim().parse().ok()
}

fn limit(dir: &Path, name: &str) -> Option<u64> {
    const NONE: u64 = i64::MAX as u64 - (1 << 20);
    number(dir, name).filter(|n| *n < NONE)
}

/// The value of `name` in lines of `NAME VALUE`.
fn key(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(what: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("wh-stats-{what}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn files_of_version_two() {
        let dir = dir(
            "v2",
            &[
                ("memory.current", "1000\n"),
                ("memory.max", "max\n"),
                ("memory.stat", "anon 300\nfile 400\ninactive_file 2000\npgfault 7\n"),
                ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 1\nthrottled_usec 9\n"),
                (
                    "io.stat",
                    "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n8:16 rbytes=10 wbytes=20 rios=30 wios=40\n",
                ),
            ],
        );
        let stats = memory(&dir);
        assert_eq!(
            (stats.usage, stats.working_set, stats.rss, stats.limit, stats.faults),
            (1000, 0, 300, None, 7)
        );
        let stats = cpu(&dir, false);
        assert_eq!((stats.usage_ns, stats.user_ns, stats.system_ns), (5000, 3000, 2000));
        assert_eq!(io(&dir), IoStats { read_bytes: 11, write_bytes: 22, reads: 33, writes: 44 });
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn files_of_version_one() {
        let dir = dir(
            "v1",
            &[
                ("memory.usage_in_bytes", "1000\n"),
                ("memory.limit_in_bytes", "4096\n"),
                ("memory.stat", "cache 1\ntotal_cache 400\ntotal_rss 300\ntotal_inactive_file 100\n"),
                ("cpuacct.usage", "123456789\n"),
                ("cpuacct.stat", "user 3\nsystem 2\n"),
                ("blkio.throttle.io_service_bytes", "8:0 Read 10\n8:0 Write 20\n8:16 Read 1\nTotal 31\n"),
                ("blkio.throttle.io_serviced", "8:0 Read 2\n8:0 Write 3\n"),
            ],
        );
        let stats = memory(&dir);
        assert_eq!((stats.usage, stats.working_set, stats.cache, stats.limit), (1000, 900, 400, Some(4096)));
        assert_eq!(cpu(&dir, true).usage_ns, 123_456_789);
        assert_eq!(cpu(&dir, true).user_ns, 30_000_000);
        assert_eq!(io(&dir), IoStats { read_bytes: 11, write_bytes: 20, reads: 2, writes: 3 });
        std::fs::remove_dir_all(dir).unwrap();
    }
}
