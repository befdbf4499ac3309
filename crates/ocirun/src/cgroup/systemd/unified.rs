//! `linux.resources.unified`, files of cgroup v2 as they are, as properties of a unit. systemd writes its own idea of
//! these files at each reload; those of others it leaves alone.

use std::collections::BTreeMap;

use super::properties::{Property, bitmap, per_second};
use super::wire::Value;

/// Those that a running unit takes. A value that is none is left to the kernel to refuse.
pub(super) fn limits(files: &BTreeMap<String, String>) -> Vec<Property> {
    let mut out = Vec::new();
    for (file, text) in files {
        let text = text.trim();
        match file.as_str() {
            "cpu.max" => out.extend(cpu_max(text).into_iter().flatten()),
            // A group that is idle has no weight.
            "cpu.weight" if files.get("cpu.idle").is_some_and(|idle| idle.trim() == "1") => {}
            _ => out.extend(limit(file, text)),
        }
    }
    out
}

/// Those that a unit takes at its start alone.
pub(super) fn at_start(files: &BTreeMap<String, String>) -> Option<Property> {
    let policy = match files.get("memory.oom.group")?.trim() {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    Some(property("OOMPolicy", Value::Str(policy.to_owned())))
}

fn limit(file: &str, text: &str) -> Option<Property> {
    let number = |text: &str| text.parse().ok().map(Value::U64);
    let bits = |text| bitmap(text).map(|bits| Value::Array("y", bits.into_iter().map(Value::Byte).collect()));
    let (name, value) = match file {
        "cpu.idle" => ("CPUWeight", (text == "1").then_some(Value::U64(0))),
        "cpu.weight" => ("CPUWeight", number(text)),
        "cpuset.cpus" => ("AllowedCPUs", bits(text)),
        "cpuset.mems" => ("AllowedMemoryNodes", bits(text)),
        // Without `default` it means the same. Those of single devices are lines of their own.
        "io.weight" => ("IOWeight", number(text.strip_prefix("default ").unwrap_or(text).trim())),
        "memory.high" => ("MemoryHigh", amount(text)),
        "memory.low" => ("MemoryLow", amount(text)),
        "memory.max" => ("MemoryMax", amount(text)),
        "memory.min" => ("MemoryMin", amount(text)),
        "memory.swap.max" => ("MemorySwapMax", amount(text)),
        // It refuses 0, which is as good as 1: init is there already.
        "pids.max" if text == "0" => ("TasksMax", Some(Value::U64(1))),
        "pids.max" => ("TasksMax", amount(text)),
        _ => return None,
    };
    value.map(|value| property(name, value))
}

/// `QUOTA [PERIOD]`
fn cpu_max(text: &str) -> Option<[Property; 2]> {
    let mut words = text.split_ascii_whitespace();
    let quota = match words.next()? {
        "max" => -1,
        number => number.parse().ok()?,
    };
    let period = words.next().map_or(Some(100_000), |word| word.parse().ok())?;
    Some([
        property("CPUQuotaPeriodUSec", Value::U64(period)),
        property("CPUQuotaPerSecUSec", Value::U64(per_second(quota, period))),
    ])
}

/// A number, with a unit as the kernel takes it, or `max`.
fn amount(text: &str) -> Option<Value> {
    if text == "max" {
        return Some(Value::U64(u64::MAX));
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).map(Value::U64)
}

fn property(name: &str, value: Value) -> Property {
    Property(name.to_owned(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_properties() {
        let check = |files: &[(&str, &str)], expected: &[(&str, u64)]| {
            let map = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
            let expected: Vec<_> = expected.iter().map(|(name, n)| property(name, Value::U64(*n))).collect();
            assert_eq!(limits(&map), expected, "{files:?}");
        };
        check(
            &[("memory.high", "1000"), ("memory.min", "5M")],
            &[("MemoryHigh", 1000), ("MemoryMin", 5 << 20)],
        );
        check(
            &[("memory.max", "max\n"), ("memory.swap.max", "0")],
            &[("MemoryMax", u64::MAX), ("MemorySwapMax", 0)],
        );
        check(&[("memory.low", "7"), ("memory.oom.group", "1")], &[("MemoryLow", 7)]);
        check(&[("cpu.weight", "77")], &[("CPUWeight", 77)]);
        check(&[("cpu.idle", "1"), ("cpu.weight", "77")], &[("CPUWeight", 0)]);
        check(&[("cpu.idle", "0"), ("cpu.weight", "77")], &[("CPUWeight", 77)]);
        let cpu = |period, quota| [("CPUQuotaPeriodUSec", period), ("CPUQuotaPerSecUSec", quota)];
        check(&[("cpu.max", "5000 10000")], &cpu(10_000, 500_000));
        check(&[("cpu.max", "max")], &cpu(100_000, u64::MAX));
        check(&[("io.weight", "default 50")], &[("IOWeight", 50)]);
        check(&[("io.weight", "60")], &[("IOWeight", 60)]);
        check(&[("pids.max", "0"), ("rdma.max", "x")], &[("TasksMax", 1)]);
        check(&[("io.max", "8:0 rbps=1"), ("io.weight", "8:0 50"), ("memory.high", "much")], &[]);
        check(&[("cpu.max", "x"), ("memory.max", "99999999999999T")], &[]);
        let map = BTreeMap::from([("cpuset.cpus".to_owned(), "0-2".to_owned())]);
        assert_eq!(limits(&map), [property("AllowedCPUs", Value::Array("y", vec![Value::Byte(7)]))]);
    }

    #[test]
    fn what_dies_together_is_said_at_the_start() {
        for (text, expected) in [("0", Some("continue")), ("1\n", Some("kill")), ("x", None)] {
            let map = BTreeMap::from([("memory.oom.group".to_owned(), text.to_owned())]);
            let expected = expected.map(|word| property("OOMPolicy", Value::Str(word.to_owned())));
            assert_eq!(at_start(&map), expected, "{text}");
        }
    }
}
