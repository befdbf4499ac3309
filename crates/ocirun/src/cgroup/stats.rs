//! What a cgroup has used, in the JSON form of `runc events --stats`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{Cgroup, Pressure};

/// Usage of everything that the kernel counts for a cgroup. A controller that is not there counts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Processors and memory nodes (v1).
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages by size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Nothing: kept for those who read runc's form.
    pub intel_rdt: BTreeMap<String, String>,
    /// Nothing: kept for those who read runc's form.
    pub network_interfaces: Option<()>,
}

/// Processor time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Cpu {
    /// Nanoseconds.
    pub usage: CpuUsage,
    /// Periods.
    pub throttling: Throttling,
    /// Waiting for it (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Nanoseconds of processor time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By processor (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// Outside the kernel, by processor (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside the kernel.
    pub user: u64,
}

/// How often the quota was used up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which something ran.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Periods in which something had to wait.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Nanoseconds of waiting.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// The v1 cpuset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CpuSet {
    /// Processors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u64>,
    /// `cpuset.cpu_exclusive`
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u64>,
    /// `cpuset.mem_hardwall`
    pub mem_hardwall: u64,
    /// `cpuset.mem_exclusive`
    pub mem_exclusive: u64,
    /// `cpuset.memory_migrate`
    pub memory_migrate: u64,
    /// `cpuset.memory_spread_page`
    pub memory_spread_page: u64,
    /// `cpuset.memory_spread_slab`
    pub memory_spread_slab: u64,
    /// `cpuset.memory_pressure`
    pub memory_pressure: u64,
    /// `cpuset.sched_load_balance`
    pub sched_load_balance: u64,
    /// `cpuset.sched_relax_domain_level`
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Memory {
    /// Bytes of page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together.
    pub swap: MemoryEntry,
    /// The kernel's (v1).
    pub kernel: MemoryEntry,
    /// TCP buffers (v1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Waiting for it (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Bytes of one kind of memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MemoryEntry {
    /// Limit; no limit is the largest number.
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// Most so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// Limit; 0 is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Waiting for it (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// What was done with one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BlkioEntry {
    /// Major number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write`, …
    pub op: String,
    /// How much.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Hugetlb {
    /// Bytes now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// Most so far (v1).
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// `USER_HZ` is 100 on every architecture that Linux containers run on.
const NS_PER_TICK: u64 = 10_000_000;

impl Cgroup {
    /// What it has used. What can't be read is left out: a controller may not be there, a container may end meanwhile.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        if self.unified {
            if let Some(directory) = self.directory("") {
                v2(&Reader(directory), &mut stats);
            }
        } else {
            self.v1(&mut stats);
        }
        stats
    }

    fn v1(&self, stats: &mut Stats) {
        if let Some(cpu) = self.directory("cpu").map(Reader) {
            let raw = cpu.table("cpu.stat");
            stats.cpu.throttling = throttling(&raw, "throttled_time", 1);
        }
        if let Some(cpu) = self.directory("cpuacct").map(Reader) {
            v1_cpuacct(&cpu, &mut stats.cpu.usage);
        }
        if let Some(set) = self.directory("cpuset").map(Reader) {
            v1_cpuset(&set, &mut stats.cpuset);
        }
        if let Some(memory) = self.directory("memory").map(Reader) {
            let entry = |prefix: &str| MemoryEntry {
                limit: memory.number(&format!("{prefix}.limit_in_bytes")),
                usage: memory.number(&format!("{prefix}.usage_in_bytes")),
                max: memory.number(&format!("{prefix}.max_usage_in_bytes")),
                failcnt: memory.number(&format!("{prefix}.failcnt")),
            };
            stats.memory.usage = entry("memory");
            stats.memory.swap = entry("memory.memsw");
            stats.memory.kernel = entry("memory.kmem");
            stats.memory.kernel_tcp = entry("memory.kmem.tcp");
            stats.memory.raw = memory.table("memory.stat");
            stats.memory.cache = stats.memory.raw.get("cache").copied().unwrap_or_default();
        }
        if let Some(pids) = self.directory("pids").map(Reader) {
            stats.pids =
                Pids { current: pids.number("pids.current"), limit: pids.limit("pids.max").unwrap_or(0) };
        }
        if let Some(block) = self.directory("blkio").map(Reader) {
            let either = |bfq: &str, throttle: &str| {
                let entries = v1_blkio(&block.text(bfq));
                if entries.is_empty() { v1_blkio(&block.text(throttle)) } else { entries }
            };
            stats.blkio.io_service_bytes_recursive =
                either("blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive");
            stats.blkio.io_serviced_recursive =
                either("blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive");
        }
        if let Some(huge) = self.directory("hugetlb").map(Reader) {
            for size in huge.page_sizes(".usage_in_bytes") {
                let entry = Hugetlb {
                    usage: huge.number(&format!("hugetlb.{size}.usage_in_bytes")),
                    max: huge.number(&format!("hugetlb.{size}.max_usage_in_bytes")),
                    failcnt: huge.number(&format!("hugetlb.{size}.failcnt")),
                };
                stats.hugetlb.insert(size, entry);
            }
        }
    }
}

fn v1_cpuacct(cpu: &Reader<'_>, usage: &mut CpuUsage) {
    let ticks = cpu.table("cpuacct.stat");
    let ns = |key: &str| ticks.get(key).copied().unwrap_or_default().saturating_mul(NS_PER_TICK);
    usage.user = ns("user");
    usage.kernel = ns("system");
    usage.total = cpu.number("cpuacct.usage");
    usage.percpu = cpu.text("cpuacct.usage_percpu").split_ascii_whitespace().flat_map(str::parse).collect();
    // `cpu user system`, a line for each processor.
    for line in cpu.text("cpuacct.usage_all").lines().skip(1) {
        let mut numbers = line.split_ascii_whitespace().skip(1).flat_map(str::parse);
        if let (Some(user), Some(kernel)) = (numbers.next(), numbers.next()) {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
}

fn v1_cpuset(set: &Reader<'_>, out: &mut CpuSet) {
    out.cpus = list(&set.text("cpuset.cpus"));
    out.mems = list(&set.text("cpuset.mems"));
    out.cpu_exclusive = set.number("cpuset.cpu_exclusive");
    out.mem_hardwall = set.number("cpuset.mem_hardwall");
    out.mem_exclusive = set.number("cpuset.mem_exclusive");
    out.memory_migrate = set.number("cpuset.memory_migrate");
    out.memory_spread_page = set.number("cpuset.memory_spread_page");
    out.memory_spread_slab = set.number("cpuset.memory_spread_slab");
    out.memory_pressure = set.number("cpuset.memory_pressure");
    out.sched_load_balance = set.number("cpuset.sched_load_balance");
    out.sched_relax_domain_level =
        set.text("cpuset.sched_relax_domain_level").trim().parse().unwrap_or_default();
}

/// `8:0 Read 4096` a line, and a total at the end.
fn v1_blkio(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (major, minor) = fields.next()?.split_once(':')?;
        let (op, value) = (fields.next()?, fields.next()?);
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

fn throttling(raw: &BTreeMap<String, u64>, time: &str, ns_per_unit: u64) -> Throttling {
    let get = |key: &str| raw.get(key).copied().unwrap_or_default();
    Throttling {
        periods: get("nr_periods"),
        throttled_periods: get("nr_throttled"),
        throttled_time: get(time).saturating_mul(ns_per_unit),
    }
}

fn v2(cgroup: &Reader<'_>, stats: &mut Stats) {
    let cpu = cgroup.table("cpu.stat");
    let ns = |key: &str| cpu.get(key).copied().unwrap_or_default().saturating_mul(1000);
    stats.cpu.usage.total = ns("usage_usec");
    stats.cpu.usage.user = ns("user_usec");
    stats.cpu.usage.kernel = ns("system_usec");
    stats.cpu.throttling = throttling(&cpu, "throttled_usec", 1000);
    stats.cpu.psi = Pressure::read(&cgroup.0.join("cpu.pressure"));
    stats.memory.psi = Pressure::read(&cgroup.0.join("memory.pressure"));
    stats.blkio.psi = Pressure::read(&cgroup.0.join("io.pressure"));

    let limit = |file: &str| cgroup.limit(file).unwrap_or(u64::MAX);
    stats.memory.raw = cgroup.table("memory.stat");
    stats.memory.cache = stats.memory.raw.get("file").copied().unwrap_or_default();
    if cgroup.0.join("memory.current").exists() {
        let events = cgroup.table("memory.events");
        stats.memory.usage = MemoryEntry {
            limit: limit("memory.max"),
            usage: cgroup.number("memory.current"),
            max: cgroup.number("memory.peak"),
            failcnt: events.get("max").copied().unwrap_or_default(),
        };
        // v1 counts memory and swap together, and so do those who read this.
        let swap = limit("memory.swap.max");
        let usage = &stats.memory.usage;
        stats.memory.swap = MemoryEntry {
            limit: swap.saturating_add(if swap == u64::MAX { 0 } else { usage.limit }),
            usage: cgroup.number("memory.swap.current").saturating_add(usage.usage),
            max: 0,
            failcnt: 0,
        };
    }
    stats.pids =
        Pids { current: cgroup.number("pids.current"), limit: cgroup.limit("pids.max").unwrap_or(0) };
    v2_io(&cgroup.text("io.stat"), &mut stats.blkio);
    for size in cgroup.page_sizes(".current") {
        let events = cgroup.table(&format!("hugetlb.{size}.events"));
        let entry = Hugetlb {
            usage: cgroup.number(&format!("hugetlb.{size}.current")),
            max: 0,
            failcnt: events.get("max").copied().unwrap_or_default(),
        };
        stats.hugetlb.insert(size, entry);
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …` a line.
fn v2_io(text: &str, out: &mut Blkio) {
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some((major, minor)) = fields.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for field in fields {
            let Some((key, value)) = field.split_once('=') else { continue };
            let (op, list) = match key {
                "rbytes" => ("Read", &mut out.io_service_bytes_recursive),
                "wbytes" => ("Write", &mut out.io_service_bytes_recursive),
                "rios" => ("Read", &mut out.io_serviced_recursive),
                "wios" => ("Write", &mut out.io_serviced_recursive),
                _ => continue,
            };
            let value = value.parse().unwrap_or_default();
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
}

/// Reads files of one directory; what is not there is empty or 0.
struct Reader<'a>(&'a Path);

impl Reader<'_> {
    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    fn number(&self, file: &str) -> u64 {
        self.text(file).trim().parse().unwrap_or_default()
    }

    /// Nothing for `max`, and where the file is not there.
    fn limit(&self, file: &str) -> Option<u64> {
        self.text(file).trim().parse().ok()
    }

    /// `key value` a line.
    fn table(&self, file: &str) -> BTreeMap<String, u64> {
        let text = self.text(file);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect()
    }

    /// The sizes that files `hugetlb.SIZE<suffix>` are there for.
    fn page_sizes(&self, suffix: &str) -> Vec<String> {
        let names = std::fs::read_dir(self.0).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let size = |name: std::ffi::OsString| {
            let size = name.to_str()?.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
            (!size.contains('.')).then(|| size.to_owned())
        };
        names.filter_map(size).collect()
    }
}

/// `0-2,7` → 0, 1, 2, 7
fn list(text: &str) -> Vec<u64> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u64>().ok()?..=last.parse::<u64>().ok()?)
    });
    // No machine has more processors or nodes.
    ranges.flatten().take(1 << 16).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_lines() {
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list("\n"), [0; 0]);
        let entries = v1_blkio("8:0 Read 4096\n8:0 Sync 1\nTotal 9\n");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].op.as_str(), entries[0].value), ("Read", 4096));
        let mut blkio = Blkio::default();
        v2_io("8:16 rbytes=5 wbytes=6 rios=7 wios=8 dbytes=0 dios=0\n", &mut blkio);
        assert_eq!(blkio.io_service_bytes_recursive.len(), 2);
        assert_eq!(blkio.io_serviced_recursive[1].value, 8);
    }
}
