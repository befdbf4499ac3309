//! Writes limits into the cgroup's files: for going back, and where a runtime can't.

use std::path::{Path, PathBuf};

use model::oci::LinuxResources;
use sys::Ctx as _;

use crate::Result;
use crate::cgroups::Group;

/// Sets what `limits` names: in turn, and what was refused once more, as two limits of memory may only be
/// changed in the order that keeps the one below the other.
pub(crate) fn write(group: &Group, limits: &LinuxResources) -> Result<()> {
    let mut files = files(group, limits);
    for _ in 0..2 {
        files.retain(|(file, value)| std::fs::write(file, value).is_err());
    }
    match files.first() {
        None => Ok(()),
        Some((file, value)) => Ok(std::fs::write(file, value).ctx("write", file)?),
    }
}

fn files(group: &Group, limits: &LinuxResources) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut add = |dir: &Path, file: &str, value: Option<String>| {
        let path = dir.join(file);
        if let Some(value) = value.filter(|_| path.exists()) {
            files.push((path, value));
        }
    };
    let (memory, cpu) = (limits.memory.clone().unwrap_or_default(), limits.cpu.clone().unwrap_or_default());
    let set = |n: Option<i64>| n.filter(|n| *n != 0);
    let or_max = |n: Option<i64>| set(n).map(|n| if n < 0 { "max".to_owned() } else { n.to_string() });
    let plain = |n: Option<i64>| set(n).map(|n| n.to_string());
    if let Some(dir) = group.dir("memory") {
        add(&dir, "memory.limit_in_bytes", plain(memory.limit));
        add(&dir, "memory.soft_limit_in_bytes", plain(memory.reservation));
        add(&dir, "memory.memsw.limit_in_bytes", plain(memory.swap));
        add(&dir, "memory.max", or_max(memory.limit));
        add(&dir, "memory.low", set(memory.reservation).map(|n| n.max(0).to_string()));
        let swap_alone = match (memory.limit, set(memory.swap)) {
            (_, Some(-1)) => Some(-1),
            (Some(limit), Some(both)) if limit >= 0 => Some(both - limit),
            _ => None,
        };
        add(
            &dir,
            "memory.swap.max",
            swap_alone.map(|n| if n < 0 { "max".to_owned() } else { n.to_string() }),
        );
    }
    if let Some(dir) = group.dir("cpu") {
        let shares = cpu.shares.filter(|n| *n != 0);
        add(&dir, "cpu.shares", shares.map(|n| n.to_string()));
        // The linear map of 2..262144 to 1..10000.
        add(&dir, "cpu.weight", shares.map(|n| (1 + (n.saturating_sub(2) * 9999) / 262_142).to_string()));
        add(&dir, "cpu.cfs_period_us", cpu.period.filter(|n| *n != 0).map(|n| n.to_string()));
        add(&dir, "cpu.cfs_quota_us", plain(cpu.quota));
        let max = or_max(cpu.quota).map(|quota| format!("{quota} {}", cpu.period.unwrap_or(100_000)));
        add(&dir, "cpu.max", max);
    }
    if let Some(dir) = group.dir("cpuset") {
        // In version 2 an empty list is the parent's; it takes a newline to write one.
        let v2 = dir.join("cgroup.controllers").exists();
        let list = |list: Option<String>| list.filter(|l| v2 || !l.is_empty()).map(|l| l + "\n");
        add(&dir, "cpuset.cpus", list(cpu.cpus));
        add(&dir, "cpuset.mems", list(cpu.mems));
    }
    if let Some(dir) = group.dir("hugetlb") {
        for huge in &limits.hugepage_limits {
            let size = &huge.page_size;
            add(&dir, &format!("hugetlb.{size}.limit_in_bytes"), Some(huge.limit.to_string()));
            let max = if huge.limit == u64::MAX { "max".to_owned() } else { huge.limit.to_string() };
            add(&dir, &format!("hugetlb.{size}.max"), Some(max));
        }
    }
    if let Some(dir) = group.unified() {
        for (file, text) in &limits.unified {
            add(&dir, file, Some(text.clone()));
        }
    }
    if let Some(dir) = group.dir("pids") {
        add(&dir, "pids.max", or_max(limits.pids.as_ref().and_then(|pids| pids.limit)));
    }
    files
}
