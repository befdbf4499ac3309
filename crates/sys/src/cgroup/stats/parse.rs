//! Reading the texts of the statistics files.

use super::super::events::value;
use super::{CpuStats, IoStats, MemoryStats, Pressure, PressureLine};

/// Limits of version 1 above this are none: the kernel shows the largest multiple of a page.
const NO_LIMIT_V1: u64 = 0x7fff_ffff_ffff_0000;

pub(super) fn is_limit_v1(value: &u64) -> bool {
    *value < NO_LIMIT_V1
}

/// `cpu.stat` of version 2.
pub(super) fn cpu_v2(text: &str) -> CpuStats {
    let field = |name| value(text, name).unwrap_or(0);
    let ns = |name| field(name).saturating_mul(1000);
    CpuStats {
        usage_ns: ns("usage_usec"),
        user_ns: ns("user_usec"),
        system_ns: ns("system_usec"),
        periods: field("nr_periods"),
        throttled_periods: field("nr_throttled"),
        throttled_ns: ns("throttled_usec"),
    }
}

/// `cpu.stat` of version 1.
pub(super) fn throttling_v1(text: &str, stats: &mut CpuStats) {
    let field = |name| value(text, name).unwrap_or(0);
    stats.periods = field("nr_periods");
    stats.throttled_periods = field("nr_throttled");
    stats.throttled_ns = field("throttled_time");
}

/// `memory.stat` of version 1; `working_set` holds the inactive file pages.
pub(super) fn memory_v1(text: &str) -> MemoryStats {
    let field = |name| value(text, name).unwrap_or(0);
    MemoryStats {
        working_set: field("total_inactive_file"),
        rss: field("total_rss"),
        cache: field("total_cache"),
        mapped_file: field("total_mapped_file"),
        page_faults: field("total_pgfault"),
        major_page_faults: field("total_pgmajfault"),
        ..MemoryStats::default()
    }
}

/// `memory.stat` of version 2; `working_set` holds the inactive file pages.
pub(super) fn memory_v2(text: &str) -> MemoryStats {
    let field = |name| value(text, name).unwrap_or(0);
    MemoryStats {
        working_set: field("inactive_file"),
        rss: field("anon"),
        cache: field("file"),
        mapped_file: field("file_mapped"),
        page_faults: field("pgfault"),
        major_page_faults: field("pgmajfault"),
        ..MemoryStats::default()
    }
}

/// Lines `8:0 Read 4096` of version 1, with `Total` and others left out.
pub(super) fn io_v1(bytes: &str, ops: &str) -> Vec<IoStats> {
    let mut devices = Vec::new();
    for (text, is_bytes) in [(bytes, true), (ops, false)] {
        for line in text.lines() {
            let mut parts = line.split_ascii_whitespace();
            let (Some(numbers), Some(what), Some(count)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let Ok(count) = count.parse() else { continue };
            let Some(device) = device(&mut devices, numbers) else { continue };
            match (what, is_bytes) {
                ("Read", true) => device.read_bytes = count,
                ("Write", true) => device.write_bytes = count,
                ("Read", false) => device.read_ops = count,
                ("Write", false) => device.write_ops = count,
                _ => {}
            }
        }
    }
    devices
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6` of version 2.
pub(super) fn io_v2(text: &str) -> Vec<IoStats> {
    let mut devices = Vec::new();
    for line in text.lines() {
        let mut parts = line.split_ascii_whitespace();
        let Some(device) = parts.next().and_then(|numbers| device(&mut devices, numbers)) else { continue };
        for (name, count) in parts.filter_map(|part| part.split_once('=')) {
            let Ok(count) = count.parse() else { continue };
            match name {
                "rbytes" => device.read_bytes = count,
                "wbytes" => device.write_bytes = count,
                "rios" => device.read_ops = count,
                "wios" => device.write_ops = count,
                _ => {}
            }
        }
    }
    devices
}

fn device<'a>(devices: &'a mut Vec<IoStats>, numbers: &str) -> Option<&'a mut IoStats> {
    let (major, minor) = numbers.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let index = devices.iter().position(|device| (device.major, device.minor) == (major, minor));
    let index = index.unwrap_or_else(|| {
        devices.push(IoStats { major, minor, ..IoStats::default() });
        devices.len() - 1
    });
    devices.get_mut(index)
}

/// A `*.pressure` file.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    Some(Pressure { some: pressure_line(text, "some ")?, full: pressure_line(text, "full ") })
}

fn pressure_line(text: &str, name: &str) -> Option<PressureLine> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let field = |name: &str| line.split_ascii_whitespace().find_map(|part| part.strip_prefix(name));
    Some(PressureLine {
        avg10: field("avg10=")?.parse().ok()?,
        avg60: field("avg60=")?.parse().ok()?,
        avg300: field("avg300=")?.parse().ok()?,
        total_us: field("total=")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_files() {
        let cpu = cpu_v2(
            "usage_usec 12\nuser_usec 5\nsystem_usec 7\nnice_usec 0\nnr_periods 3\nnr_throttled 2\nthrottled_usec 9\n",
        );
        assert_eq!((cpu.usage_ns, cpu.user_ns, cpu.system_ns), (12_000, 5_000, 7_000));
        assert_eq!((cpu.periods, cpu.throttled_periods, cpu.throttled_ns), (3, 2, 9_000));
        let memory = memory_v2("anon 1\nfile 2\nfile_mapped 3\ninactive_file 4\npgfault 5\npgmajfault 6\n");
        assert_eq!((memory.rss, memory.cache, memory.mapped_file, memory.working_set), (1, 2, 3, 4));
        assert_eq!((memory.page_faults, memory.major_page_faults), (5, 6));
        let io = io_v2("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1 \nbad\n");
        let first = IoStats { major: 8, minor: 0, read_bytes: 1, write_bytes: 2, read_ops: 3, write_ops: 4 };
        assert_eq!(io, [first, IoStats { major: 253, minor: 1, ..IoStats::default() }]);
    }

    #[test]
    fn version_1_files() {
        let memory = memory_v1("rss 9\ntotal_rss 1\ntotal_cache 2\ntotal_inactive_file 3\ntotal_pgfault 4\n");
        assert_eq!((memory.rss, memory.cache, memory.working_set, memory.page_faults), (1, 2, 3, 4));
        let io = io_v1("8:0 Read 1\n8:0 Write 2\n8:0 Sync 9\nTotal 3\n", "8:0 Read 3\n8:0 Write 4\n");
        assert_eq!(
            io,
            [IoStats { major: 8, minor: 0, read_bytes: 1, write_bytes: 2, read_ops: 3, write_ops: 4 }]
        );
        assert!(!is_limit_v1(&9_223_372_036_854_771_712) && is_limit_v1(&4096));
        let mut cpu = CpuStats::default();
        throttling_v1("nr_periods 1\nnr_throttled 2\nthrottled_time 3\n", &mut cpu);
        assert_eq!((cpu.periods, cpu.throttled_periods, cpu.throttled_ns), (1, 2, 3));
    }

    #[test]
    fn pressure_files() {
        let text = "some avg10=0.12 avg60=1.00 avg300=2.50 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        let pressure = pressure(text).unwrap();
        assert_eq!((pressure.some.avg10, pressure.some.avg300, pressure.some.total_us), (0.12, 2.5, 77));
        assert_eq!(pressure.full.unwrap().total_us, 5);
        assert_eq!(super::pressure("nonsense"), None);
    }
}
