//! The writes of cgroup v2 (kernel documentation, admin-guide/cgroup-v2), with v1's values converted.

use model::oci::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::plan::{Facts, Refused, Write, Writes, file_part, set};
use super::{Error, impossible, plan_v1};

/// Microseconds of a period when only a quota is given: the kernel's own default.
const PERIOD_US: u64 = 100_000;

pub(super) fn writes(resources: &LinuxResources, facts: Facts) -> Result<Vec<Write>, Error> {
    let mut out = Writes::default();
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| set(pids.limit)) {
        out.push("pids", "pids.max", if limit > 0 { limit.to_string() } else { "max".to_owned() });
    }
    if let Some(memory) = &resources.memory {
        self::memory(&mut out, memory, facts)?;
    }
    if let Some(block) = &resources.block_io {
        io(&mut out, block, facts);
    }
    if let Some(cpu) = &resources.cpu {
        self::cpu(&mut out, cpu)?;
        for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                out.push("cpuset", file, value);
            }
        }
    }
    for huge in &resources.hugepage_limits {
        let size = file_part("linux.resources.hugepageLimits", &huge.page_size)?;
        out.push("hugetlb", &format!("hugetlb.{size}.max"), huge.limit);
        out.push_with("hugetlb", &format!("hugetlb.{size}.rsvd.max"), huge.limit, Refused::MissingIsFine);
    }
    for (device, limit) in &resources.rdma {
        out.push("rdma", "rdma.max", plan_v1::rdma(device, limit));
    }
    for (file, value) in &resources.unified {
        let file = file_part("linux.resources.unified", file)?;
        let controller = file.split('.').next().unwrap_or_default();
        // Each line is a setting of its own, and the kernel takes one with each write.
        for line in value.lines().chain(value.is_empty().then_some("")) {
            out.push(controller, file, line);
        }
    }
    Ok(out.0)
}

fn memory(out: &mut Writes, memory: &LinuxMemory, facts: Facts) -> Result<(), Error> {
    let limit = set(memory.limit);
    if let (Some(true), Some(limit @ 1..), Some(usage)) =
        (memory.check_before_update, limit, facts.memory_usage)
        && limit.unsigned_abs() < usage
    {
        let cause = format!("{limit} is below the {usage} bytes in use");
        return Err(impossible("linux.resources.memory.limit", cause));
    }
    if let Some(swap) = swap(limit, set(memory.swap))? {
        // Without swap there is nothing to forbid or to allow.
        let refused =
            if matches!(swap.as_str(), "max" | "0") { Refused::MissingIsFine } else { Refused::Fails };
        out.push_with("memory", "memory.swap.max", swap, refused);
    }
    if let Some(limit) = limit {
        out.push("memory", "memory.max", amount(limit));
    }
    if let Some(reservation) = set(memory.reservation) {
        out.push("memory", "memory.low", amount(reservation));
    }
    Ok(())
}

/// v1 limits memory and swap together, v2 swap alone.
pub(super) fn swap(limit: Option<i64>, swap: Option<i64>) -> Result<Option<String>, Error> {
    let invalid = |cause| Err(impossible("linux.resources.memory.swap", cause));
    match (limit, swap) {
        (Some(-1), None) | (_, Some(-1)) => Ok(Some("max".to_owned())),
        (_, None) => Ok(None),
        (None | Some(-1), Some(_)) => invalid("a limit of swap needs a limit of memory"),
        (Some(limit), Some(_)) if limit < 0 => invalid("the limit of memory is negative"),
        (Some(limit), Some(swap)) if swap < limit => {
            invalid("memory and swap together are less than memory alone")
        }
        (Some(limit), Some(swap)) => Ok(Some((swap - limit).to_string())),
    }
}

fn amount(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn cpu(out: &mut Writes, cpu: &LinuxCpu) -> Result<(), Error> {
    if cpu.realtime_period.is_some_and(|value| value != 0)
        || cpu.realtime_runtime.is_some_and(|value| value != 0)
    {
        return Err(impossible("linux.resources.cpu", "real time limits cannot be used on cgroup v2"));
    }
    // cgroup v2 refuses a weight where cpu.idle is 1, and such a group has none.
    if let Some(idle) = cpu.idle {
        out.push("cpu", "cpu.idle", idle);
    }
    if let Some(shares) = set(cpu.shares).filter(|_| cpu.idle != Some(1)) {
        out.push("cpu", "cpu.weight", cpu_weight(shares));
    }
    let (quota, period) = (set(cpu.quota), set(cpu.period));
    let changes_max = quota.is_some() || period.is_some();
    if let Some(burst) = cpu.burst {
        let refused = if changes_max { Refused::RetryAfterNext } else { Refused::Fails };
        out.push_with("cpu", "cpu.max.burst", burst, refused);
    }
    if changes_max {
        let quota =
            quota.filter(|quota| *quota > 0).map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        out.push("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(PERIOD_US)));
    }
    Ok(())
}

/// Shares (2 to 262144, usually 1024) to a weight (1 to 10000, usually 100).
///
/// runc's since 1.3.2 and crun's since 1.23: it takes the usual value to the usual one, which a straight line
/// between the ends does not (1024 became 39).
#[must_use]
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => return 1,
        262_144.. => return 10_000,
        _ => {}
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 262144")]
    let log = (shares as f64).log2();
    let exponent = log.mul_add(log, 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

/// Block I/O weight (10 to 1000) to `io.weight` (1 to 10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.max(10) - 10) * 9999 / 990
}

fn io(out: &mut Writes, block: &LinuxBlockIo, facts: Facts) {
    if let Some(weight) = set(block.weight) {
        if facts.bfq {
            out.push("io", "io.bfq.weight", weight);
        } else {
            out.push("io", "io.weight", io_weight(weight));
        }
    }
    for device in &block.weight_device {
        let Some(weight) = set(device.weight) else { continue };
        let (major, minor) = (device.major, device.minor);
        if facts.bfq {
            out.push("io", "io.bfq.weight", format!("{major}:{minor} {weight}"));
        } else {
            out.push("io", "io.weight", format!("{major}:{minor} {}", io_weight(weight)));
        }
    }
    let throttles = [
        ("rbps", &block.throttle_read_bps_device),
        ("wbps", &block.throttle_write_bps_device),
        ("riops", &block.throttle_read_iops_device),
        ("wiops", &block.throttle_write_iops_device),
    ];
    for (key, devices) in throttles {
        for device in devices {
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            out.push("io", "io.max", format!("{}:{} {key}={rate}", device.major, device.minor));
        }
    }
}
