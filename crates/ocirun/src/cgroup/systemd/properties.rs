//! Limits as properties of a unit (systemd.resource-control(5)).
//!
//! We write the limits into the cgroup's files ourselves too. systemd has to know them all the same: it writes its own
//! idea of a unit anew whenever it is reloaded.

use std::collections::BTreeMap;

use model::oci::LinuxResources;

use super::super::devices::{Access, Devices, Kind};
use super::super::{DevicePolicy, Request, Unit, plan_v2};
use super::wire::Value;
use super::{Error, unified};

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property(pub String, pub Value);

impl Property {
    /// The first version of systemd that takes it, if we meet older ones.
    pub(super) fn since(&self) -> u32 {
        match (self.0.as_str(), &self.1) {
            // That is cpu.idle.
            ("CPUWeight", Value::U64(0)) => 252,
            // Of scopes.
            ("OOMPolicy", _) => 253,
            _ => 0,
        }
    }

    /// The same without a value: no limit, nothing protected, every processor.
    fn unset(self) -> Self {
        let value = match (self.0.as_str(), self.1) {
            ("MemoryLow" | "MemoryMin", _) => Value::U64(0),
            (_, Value::Array(element, _)) => Value::Array(element, Vec::new()),
            _ => Value::U64(u64::MAX),
        };
        Self(self.0, value)
    }
}

const ANNOTATION: &str = "org.systemd.property.";
/// Beginnings of the properties' names that annotations may set: how and when systemd ends the unit. Not its relations to
/// others (`Conflicts` and its like stop units of the host), its place, its devices, or its limits: who may write an
/// annotation need not be who may say how much of the machine a container gets.
const SETTABLE: [&str; 5] = ["CollectMode", "Kill", "RuntimeMax", "SendSIG", "Timeout"];
/// Whole names: the order at boot and shutdown, which neither starts nor stops another unit. CRI-O sets `After` and
/// `DefaultDependencies` on each container.
const ORDER: [&str; 3] = ["After", "Before", "DefaultDependencies"];

/// `a(sv)` of them.
pub(super) fn array(properties: &[Property]) -> Value {
    let pair = |Property(name, value): &Property| {
        Value::Struct(vec![Value::Str(name.clone()), Value::Variant(Box::new(value.clone()))])
    };
    Value::Array("(sv)", properties.iter().map(pair).collect())
}

/// All properties of a new unit.
pub(super) fn start(
    unit: &Unit,
    request: &Request<'_>,
    pid: i32,
    unified: bool,
) -> Result<Vec<Property>, Error> {
    let mut out = Vec::new();
    let mut push = |name: &str, value| out.push(Property(name.to_owned(), value));
    push("Description", Value::Str(format!("wharfinger container {}", request.id)));
    if unit.name.ends_with(".slice") {
        push("Wants", Value::Array("s", vec![Value::Str(unit.slice.clone())]));
    } else {
        push("Slice", Value::Str(unit.slice.clone()));
        push("Delegate", Value::Bool(true));
        push("PIDs", Value::Array("u", vec![Value::U32(pid.unsigned_abs())]));
    }
    let io = if unified { "IOAccounting" } else { "BlockIOAccounting" };
    for accounting in ["MemoryAccounting", "CPUAccounting", "TasksAccounting", io] {
        push(accounting, Value::Bool(true));
    }
    // Else it would be stopped before, and wait for, what an ordinary service depends on.
    push("DefaultDependencies", Value::Bool(false));
    // One that failed, as by the last kill, is forgotten as well.
    push("CollectMode", Value::Str("inactive-or-failed".to_owned()));
    if unified {
        // Devices are ours: a policy of systemd's would be a second program, that knows nothing of later changes.
        push("DevicePolicy", Value::Str("auto".to_owned()));
        out.extend(unified::at_start(&request.resources.unified));
    } else {
        out.extend(devices(request.resources));
    }
    out.extend(limits(request.resources, unified));
    for (key, text) in request.annotations {
        let Some(name) = key.strip_prefix(ANNOTATION).filter(|name| is_settable(name)) else { continue };
        let property = annotation(name, text).ok_or_else(|| Error::Annotation(key.clone()))?;
        out.retain(|known| known.0 != property.0);
        out.push(property);
    }
    Ok(out)
}

/// The annotations that name a property which they may not set, and are left out.
pub(crate) fn ignored(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let keys = annotations.keys().map(String::as_str);
    keys.filter(|key| key.strip_prefix(ANNOTATION).is_some_and(|name| !is_settable(name)))
}

fn is_settable(name: &str) -> bool {
    let ends = SETTABLE.iter().any(|settable| name.starts_with(settable));
    (ends && name.chars().all(|c| c.is_ascii_alphanumeric())) || ORDER.contains(&name)
}

/// The device policy of v1, where there is one list: systemd writes its own over ours whenever it writes the unit's limits,
/// and allows everything if it knows none.
fn devices(resources: &LinuxResources) -> [Property; 2] {
    let policy = DevicePolicy::of(&resources.devices).unwrap_or_default();
    let (word, policy) = match (policy.default_allow, policy.exceptions.is_empty()) {
        (true, true) => ("auto", DevicePolicy::default()),
        // It has no list of what is denied. What every container may use is what remains until we have set ours again.
        (true, false) => ("strict", DevicePolicy::of(&[]).unwrap_or_default()),
        (false, _) => ("strict", policy),
    };
    let line = |(devices, access): (&Devices, &Access)| {
        let (group, directory) = match devices.kind {
            Kind::Block => ("block", "/dev/block"),
            Kind::Char => ("char", "/dev/char"),
        };
        let path = match (devices.major, devices.minor) {
            (Some(major), Some(minor)) => format!("{directory}/{major}:{minor}"),
            (Some(major), None) => format!("{group}-{major}"),
            (None, None) => format!("{group}-*"),
            // systemd has no word for one minor of all majors.
            (None, Some(_)) => return None,
        };
        Some(Value::Struct(vec![Value::Str(path), Value::Str(access.to_string())]))
    };
    let list = policy.exceptions.iter().filter_map(line).collect();
    [
        Property("DevicePolicy".to_owned(), Value::Str(word.to_owned())),
        Property("DeviceAllow".to_owned(), Value::Array("(ss)", list)),
    ]
}

/// What changes the limits of `from` to those of `to`.
pub(super) fn change(from: &LinuxResources, to: &LinuxResources, unified: bool) -> Vec<Property> {
    let mut out = limits(to, unified);
    for old in limits(from, unified) {
        if !out.iter().any(|property| property.0 == old.0) {
            out.push(old.unset());
        }
    }
    out
}

/// The limits of `resources` that systemd knows.
pub(crate) fn limits(resources: &LinuxResources, unified: bool) -> Vec<Property> {
    let mut out = Vec::new();
    let mut push = |name: &str, value| out.push(Property(name.to_owned(), value));
    let amount = |value: i64| Value::U64(u64::try_from(value).unwrap_or(u64::MAX));
    if let Some(memory) = &resources.memory {
        let limit = memory.limit.filter(|limit| *limit != 0);
        if let Some(limit) = limit {
            push(if unified { "MemoryMax" } else { "MemoryLimit" }, amount(limit));
        }
        if unified {
            if let Some(reservation) = memory.reservation.filter(|value| *value != 0) {
                push("MemoryLow", amount(reservation));
            }
            if let Ok(Some(swap)) = plan_v2::swap(limit, memory.swap.filter(|swap| *swap != 0)) {
                push("MemorySwapMax", Value::U64(swap.parse().unwrap_or(u64::MAX)));
            }
        }
    }
    if let Some(cpu) = &resources.cpu {
        if unified && cpu.idle == Some(1) {
            push("CPUWeight", Value::U64(0));
        } else if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
            let (name, value) =
                if unified { ("CPUWeight", plan_v2::cpu_weight(shares)) } else { ("CPUShares", shares) };
            push(name, Value::U64(value));
        }
        let period = cpu.period.filter(|period| *period != 0);
        if let Some(period) = period {
            push("CPUQuotaPeriodUSec", Value::U64(period));
        }
        if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
            push("CPUQuotaPerSecUSec", Value::U64(per_second(quota, period.unwrap_or(100_000))));
        }
        if unified {
            for (name, list) in [("AllowedCPUs", &cpu.cpus), ("AllowedMemoryNodes", &cpu.mems)] {
                if let Some(bits) = list.as_deref().and_then(bitmap) {
                    push(name, Value::Array("y", bits.into_iter().map(Value::Byte).collect()));
                }
            }
        }
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit).filter(|limit| *limit != 0) {
        push("TasksMax", amount(limit));
    }
    let weight = resources.block_io.as_ref().and_then(|block| block.weight).filter(|weight| *weight != 0);
    match weight {
        Some(weight) if unified => push("IOWeight", Value::U64(plan_v2::io_weight(weight))),
        Some(weight) => push("BlockIOWeight", Value::U64(weight.into())),
        None => {}
    }
    if unified {
        for property in unified::limits(&resources.unified) {
            // Their files are written last, too.
            out.retain(|known: &Property| known.0 != property.0);
            out.push(property);
        }
    }
    out
}

/// systemd counts in whole percents: rounded up, so that no limit gets tighter than it was asked for.
pub(super) fn per_second(quota: i64, period: u64) -> u64 {
    let Ok(quota) = u64::try_from(quota) else { return u64::MAX };
    let microseconds = quota.saturating_mul(1_000_000) / period.max(1);
    microseconds.checked_next_multiple_of(10_000).unwrap_or(u64::MAX)
}

/// `0-2,7` as bits, the lowest processor in the lowest bit of the first byte.
pub(super) fn bitmap(list: &str) -> Option<Vec<u8>> {
    /// No machine has more; a list from outside must not make us take all memory.
    const MOST: usize = 1 << 16;
    let mut bits = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        for number in first..=last {
            if bits.len() <= number / 8 {
                bits.resize(number / 8 + 1, 0u8);
            }
            bits[number / 8] |= 1 << (number % 8);
        }
    }
    Some(bits)
}

/// An annotation's value, in the text form of GVariant: numbers (with a type before them or not), booleans, strings,
/// and lists of strings. `…Sec` in seconds becomes `…USec` in microseconds.
fn annotation(name: &str, text: &str) -> Option<Property> {
    if let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole: u64 = whole.parse().ok()?;
        let fraction =
            if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").get(..6)?.parse::<u64>().ok()? };
        let value = whole.checked_mul(1_000_000)?.checked_add(fraction)?;
        return Some(Property(format!("{stem}USec"), Value::U64(value)));
    }
    let value = gvariant(text.trim())?;
    let fits = match name {
        "DefaultDependencies" => matches!(value, Value::Bool(_)),
        "After" | "Before" => matches!(value, Value::Array("s", _)),
        _ => true,
    };
    fits.then(|| Property(name.to_owned(), value))
}

fn gvariant(text: &str) -> Option<Value> {
    let quoted = |text: &str| {
        let inner = ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))?;
        (!inner.contains(['\'', '"', '\\'])).then(|| Value::Str(inner.to_owned()))
    };
    if let Some(text) = quoted(text) {
        return Some(text);
    }
    if let Some(list) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Some(Value::Array("s", items.map(quoted).collect::<Option<_>>()?));
    }
    match text.split_once(' ') {
        Some(("uint32", number)) => number.trim().parse().ok().map(Value::U32),
        Some(("int32", number)) => number.trim().parse().ok().map(Value::I32),
        Some(("uint64", number)) => number.trim().parse().ok().map(Value::U64),
        Some(("int64", number)) => number.trim().parse().ok().map(Value::I64),
        Some(("byte", number)) => number.trim().parse().ok().map(Value::Byte),
        Some(_) => None,
        None => match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            number => number.parse().ok().map(Value::I32),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_gvariant_text() {
        let check = |name: &str, text: &str, expected: Option<(&str, Value)>| {
            let expected = expected.map(|(name, value)| Property(name.to_owned(), value));
            assert_eq!(annotation(name, text), expected, "{name} {text}");
        };
        check("TimeoutStopUSec", "uint64 123456789", Some(("TimeoutStopUSec", Value::U64(123_456_789))));
        check("TimeoutStopSec", "12.34", Some(("TimeoutStopUSec", Value::U64(12_340_000))));
        check(
            "CollectMode",
            "'inactive-or-failed'",
            Some(("CollectMode", Value::Str("inactive-or-failed".into()))),
        );
        check("KillMode", "\"mixed\"", Some(("KillMode", Value::Str("mixed".into()))));
        check("SendSIGKILL", "true", Some(("SendSIGKILL", Value::Bool(true))));
        check("KillSignal", "7", Some(("KillSignal", Value::I32(7))));
        let list = Value::Array("s", vec![Value::Str("a".into()), Value::Str("b".into())]);
        check("KillX", "['a', 'b']", Some(("KillX", list)));
        // As CRI-O writes them on each container.
        check("DefaultDependencies", "true", Some(("DefaultDependencies", Value::Bool(true))));
        let list = Value::Array("s", vec![Value::Str("crio.service".into())]);
        check("After", "['crio.service']", Some(("After", list)));
        for (name, text) in [
            ("KillX", "word"),
            ("KillX", "'a'b'"),
            ("After", "'crio.service'"),
            ("After", "true"),
            ("DefaultDependencies", "1"),
        ] {
            check(name, text, None);
        }
        for name in ["x", "lower", "Kill_X", "Kill", "AfterX", "Befor"] {
            assert_eq!(is_settable(name), name == "Kill", "{name}");
        }
    }

    #[test]
    fn annotations_reach_no_other_unit_and_no_device() {
        for name in [
            "Conflicts",
            "OnFailure",
            "PropagatesStopTo",
            "BindsTo",
            "Slice",
            "DevicePolicy",
            "DeviceAllow",
            "PIDs",
            "ExecStartPre",
        ] {
            assert!(!is_settable(name), "{name}");
        }
    }

    #[test]
    fn annotations_change_no_limit() {
        for name in [
            "MemoryMax",
            "MemoryLimit",
            "MemorySwapMax",
            "CPUWeight",
            "CPUQuotaPerSecUSec",
            "CPUQuota",
            "TasksMax",
            "AllowedCPUs",
            "AllowedMemoryNodes",
            "IOWeight",
            "BlockIOWeight",
            "IOReadBandwidthMax",
            "ManagedOOMSwap",
            "Delegate",
            "DelegateControllers",
            "StartupCPUWeight",
            "LimitNOFILE",
            "DisableControllers",
        ] {
            assert!(!is_settable(name), "{name}");
        }
    }

    #[test]
    fn processors_as_bits() {
        assert_eq!(bitmap("0"), Some(vec![1]));
        assert_eq!(bitmap("0-2,9"), Some(vec![7, 2]));
        assert_eq!(bitmap("3-1"), None);
        assert_eq!(bitmap("0-99999999"), None);
        assert_eq!(bitmap("x"), None);
    }

    #[test]
    fn quotas_are_rounded_up() {
        assert_eq!(per_second(50_000, 100_000), 500_000);
        assert_eq!(per_second(33_333, 100_000), 340_000);
        assert_eq!(per_second(-1, 100_000), u64::MAX);
        assert_eq!(per_second(i64::MAX, 1), u64::MAX);
    }
}
