//! The limits that are in force, read from the cgroup's files, in the specification's terms.

use std::path::Path;

use model::oci::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources};

use crate::cgroups::Group;

mod write;

pub(crate) use self::write::write;

/// Reads them. What has no file here is absent; no limit is -1.
pub(crate) fn read(group: &Group) -> LinuxResources {
    let dir = |controller: &str| group.dir(controller);
    let mut limits = LinuxResources::default();
    if let Some(dir) = dir("memory") {
        limits.memory = Some(memory(&dir)).filter(|memory| *memory != LinuxMemory::default());
    }
    let mut cpu = dir("cpu").map(|dir| cpu(&dir)).unwrap_or_default();
    if let Some(dir) = dir("cpuset") {
        cpu.cpus = text(&dir, "cpuset.cpus");
        cpu.mems = text(&dir, "cpuset.mems");
    }
    limits.cpu = Some(cpu).filter(|cpu| *cpu != LinuxCpu::default());
    let pids = dir("pids").and_then(|dir| number(&dir, "pids.max"));
    limits.pids = pids.map(|limit| LinuxPids { limit: Some(limit) });
    limits
}

fn memory(dir: &Path) -> LinuxMemory {
    if dir.join("memory.limit_in_bytes").exists() {
        return LinuxMemory {
            limit: number(dir, "memory.limit_in_bytes"),
            reservation: number(dir, "memory.soft_limit_in_bytes"),
            swap: number(dir, "memory.memsw.limit_in_bytes"),
            ..LinuxMemory::default()
        };
    }
    let limit = number(dir, "memory.max");
    let swap_alone = number(dir, "memory.swap.max");
    LinuxMemory {
        limit,
        reservation: number(dir, "memory.low").map(|low| if low == 0 { -1 } else { low }),
        // The specification counts memory and swap together.
        swap: match (limit, swap_alone) {
            (Some(limit), Some(swap)) if limit >= 0 && swap >= 0 => Some(limit.saturating_add(swap)),
            (_, Some(_)) => Some(-1),
            _ => None,
        },
        ..LinuxMemory::default()
    }
}

fn cpu(dir: &Path) -> LinuxCpu {
    if let Some(shares) = number(dir, "cpu.shares") {
        return LinuxCpu {
            shares: u64::try_from(shares).ok(),
            quota: number(dir, "cpu.cfs_quota_us"),
            period: number(dir, "cpu.cfs_period_us").and_then(|n| u64::try_from(n).ok()),
            ..LinuxCpu::default()
        };
    }
    let max = text(dir, "cpu.max").unwrap_or_default();
    let mut words = max.split_whitespace();
    let quota = words.next().and_then(value);
    LinuxCpu { quota, period: words.next().and_then(|n| n.parse().ok()), ..LinuxCpu::default() }
}

fn text(dir: &Path, file: &str) -> Option<String> {
    let text = std::fs::read_to_string(dir.join(file)).ok()?;
    Some(text.trim().to_owned())
}

fn number(dir: &Path, file: &str) -> Option<i64> {
    value(&text(dir, file)?)
}

/// `max`, and the kernel's largest number of pages of any size, are no limit.
fn value(text: &str) -> Option<i64> {
    if text == "max" {
        return Some(-1);
    }
    let number: i64 = text.parse().ok()?;
    Some(if number >= i64::MAX - (1 << 20) { -1 } else { number })
}

/// What of `wanted` is not in force in `found`, in words; none when all is. Values that the kernel keeps in
/// pages may differ by less than one.
pub(crate) fn difference(wanted: &LinuxResources, found: &LinuxResources) -> Option<String> {
    const PAGE: i64 = 64 << 10;
    let memory = |limits: &LinuxResources| limits.memory.clone().unwrap_or_default();
    let cpu = |limits: &LinuxResources| limits.cpu.clone().unwrap_or_default();
    let pids = |limits: &LinuxResources| limits.pids.as_ref().and_then(|pids| pids.limit);
    let (wanted_memory, found_memory) = (memory(wanted), memory(found));
    let (wanted_cpu, found_cpu) = (cpu(wanted), cpu(found));
    let signed = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
    let numbers = [
        ("memory.limit", wanted_memory.limit, found_memory.limit, PAGE),
        ("memory.reservation", wanted_memory.reservation, found_memory.reservation, PAGE),
        ("cpu.shares", signed(wanted_cpu.shares), signed(found_cpu.shares), 1),
        ("cpu.quota", wanted_cpu.quota, found_cpu.quota, 1),
        ("cpu.period", signed(wanted_cpu.period), signed(found_cpu.period), 1),
        ("pids.limit", pids(wanted), pids(found), 1),
    ];
    for (name, wanted, found, step) in numbers {
        // Zero leaves a limit as it is; what is not there can't be compared.
        let (Some(wanted), Some(found)) = (wanted.filter(|n| *n != 0), found) else { continue };
        let same = if wanted < 0 || found < 0 {
            wanted.signum() == found.signum()
        } else {
            (wanted - found).abs() < step
        };
        if !same {
            return Some(format!("{name} is {found} where {wanted} was asked for"));
        }
    }
    let lists =
        [("cpu.cpus", wanted_cpu.cpus, found_cpu.cpus), ("cpu.mems", wanted_cpu.mems, found_cpu.mems)];
    for (name, wanted, found) in lists {
        let (Some(wanted), Some(found)) = (wanted.filter(|list| !list.is_empty()), found) else { continue };
        if members(&wanted) != members(&found) {
            return Some(format!("{name} is {found} where {wanted} was asked for"));
        }
    }
    None
}

/// No machine has more processors; a list from outside must not make us take all memory.
pub(crate) const MEMBERS_MAX: usize = 1 << 16;

pub(crate) fn members(list: &str) -> std::collections::BTreeSet<u32> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.trim().parse().ok()?..=to.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().take(MEMBERS_MAX).collect()
}

/// What the files that only `like` names hold now: huge pages, and files of version 2 by name.
pub(crate) fn named_like(group: &Group, like: &LinuxResources) -> LinuxResources {
    let huge = like.hugepage_limits.iter().filter_map(|like| {
        let (dir, size) = (group.dir("hugetlb")?, &like.page_size);
        let files = [format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.max")];
        let now = files.iter().find_map(|file| text(&dir, file))?;
        let limit = if now == "max" { u64::MAX } else { now.parse().ok()? };
        Some(LinuxHugepageLimit { page_size: size.clone(), limit })
    });
    let unified = like.unified.keys().filter_map(|file| Some((file.clone(), text(&group.unified()?, file)?)));
    LinuxResources {
        hugepage_limits: huge.collect(),
        unified: unified.collect(),
        ..LinuxResources::default()
    }
}

/// Of `limits`, those that `like` sets: what to go back to after an update of `like`.
pub(crate) fn only_like(limits: &LinuxResources, like: &LinuxResources) -> LinuxResources {
    let memory = like.memory.as_ref().map(|like| {
        let now = limits.memory.clone().unwrap_or_default();
        LinuxMemory {
            limit: like.limit.and(now.limit),
            reservation: like.reservation.and(now.reservation),
            // A limit can only go up together with the one for both.
            swap: like.swap.or(like.limit).and(now.swap),
            ..LinuxMemory::default()
        }
    });
    let cpu = like.cpu.as_ref().map(|like| {
        let now = limits.cpu.clone().unwrap_or_default();
        LinuxCpu {
            shares: like.shares.and(now.shares),
            quota: like.quota.or(like.period.map(|_| 0)).and(now.quota),
            period: like.period.or(like.quota.map(|_| 0)).and(now.period),
            cpus: like.cpus.as_ref().and(now.cpus),
            mems: like.mems.as_ref().and(now.mems),
            ..LinuxCpu::default()
        }
    });
    let pids = like.pids.as_ref().and(limits.pids.clone());
    LinuxResources { memory, cpu, pids, ..LinuxResources::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(value: serde_json::Value) -> LinuxResources {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn values_of_files() {
        for (text, expected) in [
            ("max", Some(-1)),
            ("9223372036854771712", Some(-1)),
            ("9223372036854710272", Some(-1)),
            ("67108864", Some(67_108_864)),
            ("-1", Some(-1)),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn differences() {
        let found = limits(
            json!({"memory": {"limit": 67_108_864}, "cpu": {"shares": 512, "quota": -1, "cpus": "0-1"},
            "pids": {"limit": 10}}),
        );
        for same in [
            json!({}),
            json!({"memory": {"limit": 67_108_865, "swap": 5}}),
            json!({"cpu": {"shares": 512, "quota": -1, "cpus": "1,0"}}),
            json!({"pids": {"limit": 0}}),
        ] {
            assert_eq!(difference(&limits(same), &found), None);
        }
        for (other, name) in [
            (json!({"memory": {"limit": 1 << 30}}), "memory.limit"),
            (json!({"memory": {"limit": -1}}), "memory.limit"),
            (json!({"cpu": {"shares": 511}}), "cpu.shares"),
            (json!({"cpu": {"quota": 1000}}), "cpu.quota"),
            (json!({"cpu": {"cpus": "0"}}), "cpu.cpus"),
            (json!({"pids": {"limit": -1}}), "pids.limit"),
        ] {
            assert!(difference(&limits(other), &found).unwrap().starts_with(name), "{name}");
        }
    }

    #[test]
    fn what_to_go_back_to() {
        let now = limits(json!({"memory": {"limit": 1, "reservation": 2, "swap": 3},
            "cpu": {"shares": 4, "quota": 5, "period": 6, "cpus": "0"}, "pids": {"limit": 7}}));
        let like = limits(json!({"memory": {"limit": 10}, "cpu": {"quota": 50, "cpus": "1"}}));
        let back =
            limits(json!({"memory": {"limit": 1, "swap": 3}, "cpu": {"quota": 5, "period": 6, "cpus": "0"}}));
        assert_eq!(only_like(&now, &like), back);
    }
}
