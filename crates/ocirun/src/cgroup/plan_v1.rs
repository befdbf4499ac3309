//! The writes of cgroup v1 (kernel documentation, admin-guide/cgroup-v1).

use model::oci::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::plan::{Facts, Refused, Write, Writes, file_part, set};
use super::{Error, impossible};

pub(super) fn writes(resources: &LinuxResources, facts: Facts) -> Result<Vec<Write>, Error> {
    if !resources.unified.is_empty() {
        return Err(impossible("linux.resources.unified", "cannot be used on cgroup v1"));
    }
    let mut out = Writes::default();
    if let Some(cpu) = &resources.cpu {
        cpuset(&mut out, cpu);
    }
    if let Some(memory) = &resources.memory {
        self::memory(&mut out, memory, facts)?;
    }
    if let Some(cpu) = &resources.cpu {
        self::cpu(&mut out, cpu);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| set(pids.limit)) {
        out.push("pids", "pids.max", if limit > 0 { limit.to_string() } else { "max".to_owned() });
    }
    if let Some(block) = &resources.block_io {
        block_io(&mut out, block, facts);
    }
    for huge in &resources.hugepage_limits {
        let size = file_part("linux.resources.hugepageLimits", &huge.page_size)?;
        out.push("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), huge.limit);
        let reserved = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        out.push_with("hugetlb", &reserved, huge.limit, Refused::MissingIsFine);
    }
    if let Some(network) = &resources.network {
        if let Some(class) = set(network.class_id) {
            out.push("net_cls", "net_cls.classid", class);
        }
        for priority in &network.priorities {
            out.push("net_prio", "net_prio.ifpriomap", format!("{} {}", priority.name, priority.priority));
        }
    }
    for (device, limit) in &resources.rdma {
        out.push("rdma", "rdma.max", rdma(device, limit));
    }
    Ok(out.0)
}

/// `mlx5_0 hca_handle=3 hca_object=max`: both versions take the same.
pub(super) fn rdma(device: &str, limit: &model::oci::LinuxRdma) -> String {
    let mut line = device.to_owned();
    for (name, value) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
        if let Some(value) = value {
            line += &format!(" {name}={value}");
        }
    }
    line
}

fn cpuset(out: &mut Writes, cpu: &LinuxCpu) {
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            out.push("cpuset", file, value);
        }
    }
}

fn memory(out: &mut Writes, memory: &LinuxMemory, facts: Facts) -> Result<(), Error> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let limit = set(memory.limit);
    let mut swap = set(memory.swap);
    // Unlimited memory is unlimited swap too, where swap is counted and nothing else is said.
    if limit == Some(-1) && swap.is_none() && facts.counts_swap {
        swap = Some(-1);
    }
    // The kernel keeps limit ≤ memory and swap at every step, so the larger move goes first when limits grow.
    let grows = limit.is_some()
        && swap.is_some_and(|swap| {
            swap == -1
                || facts.memory_limit.is_some_and(|now| u64::try_from(swap).is_ok_and(|swap| now < swap))
        });
    let mut both = [(LIMIT, limit), (SWAP, swap)];
    if grows {
        both.reverse();
    }
    for (file, value) in both {
        if let Some(value) = value {
            out.push("memory", file, value);
        }
    }
    if let Some(reservation) = set(memory.reservation) {
        out.push("memory", "memory.soft_limit_in_bytes", reservation);
    }
    if memory.disable_oom_killer == Some(true) {
        out.push("memory", "memory.oom_control", 1);
    }
    match memory.swappiness {
        Some(value @ 0..=100) => out.push("memory", "memory.swappiness", value),
        // -1 as Go writes it into an unsigned field: not set.
        None | Some(u64::MAX) => {}
        Some(value) => {
            let cause = format!("{value} is not between 0 and 100");
            return Err(impossible("linux.resources.memory.swappiness", cause));
        }
    }
    Ok(())
}

fn cpu(out: &mut Writes, cpu: &LinuxCpu) {
    if let Some(shares) = set(cpu.shares) {
        out.push("cpu", "cpu.shares", shares);
    }
    // Period, burst and quota are checked against each other: what the old quota forbids, the new one may allow.
    let quota = set(cpu.quota);
    let early = if quota.is_some() { Refused::RetryAfterNext } else { Refused::Fails };
    if let Some(period) = set(cpu.period) {
        out.push_with("cpu", "cpu.cfs_period_us", period, early);
    }
    if let Some(burst) = cpu.burst {
        out.push_with("cpu", "cpu.cfs_burst_us", burst, early);
    }
    if let Some(quota) = quota {
        out.push("cpu", "cpu.cfs_quota_us", quota);
    }
    if let Some(idle) = cpu.idle {
        out.push("cpu", "cpu.idle", idle);
    }
    let runtime = set(cpu.realtime_runtime);
    let early = if runtime.is_some() { Refused::RetryAfterNext } else { Refused::Fails };
    if let Some(period) = set(cpu.realtime_period) {
        out.push_with("cpu", "cpu.rt_period_us", period, early);
    }
    if let Some(runtime) = runtime {
        out.push("cpu", "cpu.rt_runtime_us", runtime);
    }
}

fn block_io(out: &mut Writes, block: &LinuxBlockIo, facts: Facts) {
    let weight_file = if facts.bfq { "blkio.bfq.weight" } else { "blkio.weight" };
    if let Some(weight) = set(block.weight) {
        out.push("blkio", weight_file, weight);
    }
    if let Some(weight) = set(block.leaf_weight) {
        out.push("blkio", "blkio.leaf_weight", weight);
    }
    for device in &block.weight_device {
        let line = |weight| format!("{}:{} {weight}", device.major, device.minor);
        if let Some(weight) = set(device.weight) {
            out.push("blkio", &format!("{weight_file}_device"), line(weight));
        }
        if let Some(weight) = set(device.leaf_weight) {
            out.push("blkio", "blkio.leaf_weight_device", line(weight));
        }
    }
    let throttles = [
        ("blkio.throttle.read_bps_device", &block.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &block.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &block.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &block.throttle_write_iops_device),
    ];
    for (file, devices) in throttles {
        for device in devices {
            out.push("blkio", file, format!("{}:{} {}", device.major, device.minor, device.rate));
        }
    }
}
