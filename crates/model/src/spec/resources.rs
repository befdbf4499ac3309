//! Limits that make sense, and laying an update over what was there.

use serde_json::Value;

use super::SpecError;
use crate::oci::LinuxResources;

/// The smallest memory limit that is taken: below it not even a runtime's init fits.
const MIN_MEMORY: i64 = 512 << 10;
/// The kernel's most for cgroup ids of processes on 64-bit machines (`PID_MAX_LIMIT`).
const MAX_PIDS: i64 = 4 << 20;

/// Refuses limits that no kernel takes, or that it would silently change into others.
///
/// # Errors
/// [`SpecError`] naming the field, its value and its range.
pub fn check_resources(resources: &LinuxResources) -> Result<(), SpecError> {
    if let Some(memory) = &resources.memory {
        bytes("memory.limit", memory.limit)?;
        bytes("memory.reservation", memory.reservation)?;
        bytes("memory.swap", memory.swap)?;
        if let (Some(limit), Some(swap)) = (memory.limit, memory.swap) {
            let unlimited = |n: i64| if n < 0 { i64::MAX } else { n };
            if swap != 0 && unlimited(swap) < unlimited(limit) {
                return Err(bad("memory.swap", swap, "memory and swap together, so at least memory.limit"));
            }
        }
        range("memory.swappiness", memory.swappiness, 0, 100)?;
    }
    if let Some(cpu) = &resources.cpu {
        // 0 is "leave it as it is", in runc and in the kubelet.
        range("cpu.shares", cpu.shares.filter(|n| *n != 0), 2, 262_144)?;
        range("cpu.period", cpu.period.filter(|n| *n != 0), 1000, 1_000_000)?;
        if let Some(quota) = cpu.quota.filter(|n| *n != 0 && *n != -1 && *n < 1000) {
            return Err(bad("cpu.quota", quota, "microseconds, at least 1000, or -1 for no limit"));
        }
        if let Some(idle) = cpu.idle.filter(|n| !(0..=1).contains(n)) {
            return Err(bad("cpu.idle", idle, "0 or 1"));
        }
        list("cpu.cpus", cpu.cpus.as_deref())?;
        list("cpu.mems", cpu.mems.as_deref())?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit)
        && !(-1..=MAX_PIDS).contains(&limit)
    {
        return Err(bad("pids.limit", limit, "1 to 4194304, or -1 for no limit"));
    }
    if let Some(block) = &resources.block_io {
        range("blockIO.weight", block.weight.filter(|n| *n != 0).map(u64::from), 10, 1000)?;
    }
    for file in resources.unified.keys() {
        if file.is_empty() || file.contains('/') || file.contains('\0') || file.starts_with("cgroup.") {
            return Err(bad("unified", format!("{file:?}"), "a file of a controller, such as memory.high"));
        }
    }
    Ok(())
}

fn bad(what: &'static str, value: impl ToString, range: &str) -> SpecError {
    SpecError::new(what, &value.to_string(), format!("it is {range}"))
}

fn bytes(what: &'static str, value: Option<i64>) -> Result<(), SpecError> {
    match value {
        Some(n) if n != 0 && n != -1 && n < MIN_MEMORY => {
            Err(bad(what, n, "bytes, at least 524288, or -1 for no limit"))
        }
        _ => Ok(()),
    }
}

fn range(what: &'static str, value: Option<u64>, least: u64, most: u64) -> Result<(), SpecError> {
    match value {
        Some(n) if n < least || n > most => Err(bad(what, n, &format!("{least} to {most}"))),
        _ => Ok(()),
    }
}

/// `0-2,7`: ranges of small numbers.
fn list(what: &'static str, value: Option<&str>) -> Result<(), SpecError> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let part = |text: &str| match text.split_once('-') {
        None => number(text).is_some(),
        Some((from, to)) => matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to),
    };
    match value {
        Some(text) if !text.is_empty() && !text.trim_end().split(',').all(part) => {
            Err(SpecError::new(what, text, "it is a list of numbers and ranges, such as 0-2,7"))
        }
        _ => Ok(()),
    }
}

/// Lays `over` on `base`, a config.json's `linux.resources`: objects are joined, everything else replaced,
/// and what only the base knows is kept.
pub fn merge_resources(base: &mut Value, over: &LinuxResources) -> Result<(), SpecError> {
    let over = serde_json::to_value(over).map_err(|e| SpecError::new("resources", "", e.to_string()))?;
    crate::config::merge(base, over);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absurd_limits_are_refused() {
        let bad = [
            json!({"memory": {"limit": -2}}),
            json!({"memory": {"limit": 4096}}),
            json!({"memory": {"limit": i64::MIN}}),
            json!({"memory": {"limit": 2 << 20, "swap": 1 << 20}}),
            json!({"memory": {"limit": -1, "swap": 1 << 20}}),
            json!({"memory": {"swappiness": 101}}),
            json!({"cpu": {"shares": 1}}),
            json!({"cpu": {"shares": 262_145}}),
            json!({"cpu": {"period": 999}}),
            json!({"cpu": {"period": 1_000_001}}),
            json!({"cpu": {"quota": -2}}),
            json!({"cpu": {"quota": 999}}),
            json!({"cpu": {"idle": 2}}),
            json!({"cpu": {"cpus": "3-1"}}),
            json!({"cpu": {"cpus": "a"}}),
            json!({"cpu": {"cpus": "0,,1"}}),
            json!({"cpu": {"mems": "-1"}}),
            json!({"pids": {"limit": -2}}),
            json!({"pids": {"limit": 4_194_305}}),
            json!({"blockIO": {"weight": 9}}),
            json!({"blockIO": {"weight": 1001}}),
            json!({"unified": {"../memory.max": "1"}}),
            json!({"unified": {"cgroup.procs": "1"}}),
        ];
        for resources in bad {
            let parsed = serde_json::from_value(resources.clone()).unwrap();
            assert!(check_resources(&parsed).is_err(), "{resources}");
        }
        let good = [
            json!({}),
            json!({"memory": {"limit": -1, "swap": -1}}),
            json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}}),
            json!({"cpu": {"shares": 2, "quota": -1, "period": 100_000, "cpus": "0-1,3", "mems": ""}}),
            json!({"pids": {"limit": -1}}),
            json!({"unified": {"memory.high": "max"}}),
        ];
        for resources in good {
            let parsed = serde_json::from_value(resources.clone()).unwrap();
            assert_eq!(check_resources(&parsed), Ok(()), "{resources}");
        }
        let parsed = serde_json::from_value(json!({"cpu": {"shares": 1}})).unwrap();
        assert_eq!(check_resources(&parsed).unwrap_err().to_string(), "cpu.shares \"1\": it is 2 to 262144");
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let mut base =
            json!({"memory": {"limit": 1, "later": true}, "devices": [{"allow": false}], "other": 5});
        let over = serde_json::from_value(json!({"memory": {"limit": 2}, "pids": {"limit": 3}})).unwrap();
        merge_resources(&mut base, &over).unwrap();
        let expected = json!({"memory": {"limit": 2, "later": true}, "devices": [{"allow": false}], "other": 5,
            "pids": {"limit": 3}});
        assert_eq!(base, expected);
    }
}
