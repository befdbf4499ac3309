//! `update`: other limits for a container that is there.

use std::path::PathBuf;

use lexopt::prelude::*;
use model::oci::LinuxResources;
use serde_json::{Map, Value as Json};
use sys::Ctx as _;

use crate::cli::{container_id, one_line_usage as usage, text_of};
use crate::create::Context;
use crate::error::{Error, Result, point};
use crate::lifecycle::with_cgroup;
use crate::record::{Dir, MAX_DOCUMENT, Status, replace};

/// Options that are one number of the document.
const NUMBERS: [(&str, &str, &str); 10] = [
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-idle", "cpu", "idle"),
    ("blkio-weight", "blockIO", "weight"),
    ("pids-limit", "pids", "limit"),
    ("memory-swappiness", "memory", "swappiness"),
];
/// Options that are a size, with a unit or without.
const SIZES: [(&str, &str, &str); 5] = [
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
    ("kernel-memory", "memory", "kernel"),
    ("kernel-memory-tcp", "memory", "kernelTCP"),
];
/// Options that are words.
const WORDS: [(&str, &str, &str); 2] = [("cpuset-cpus", "cpu", "cpus"), ("cpuset-mems", "cpu", "mems")];

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    id: String,
    /// Where the change is; - for standard input.
    file: Option<PathBuf>,
    /// The change as options say it, which counts where there is no file.
    change: Map<String, Json>,
}

/// Reads the command line.
pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Options> {
    let (mut id, mut file, mut change) = (None, None, Map::new());
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('r') | Long("resources") => file = Some(PathBuf::from(parser.value().map_err(usage)?)),
            Long("l3-cache-schema" | "mem-bw-schema") => {
                return Err(Error::Usage("update container: intelRdt is not supported".to_owned()));
            }
            Long(name) => {
                let name = name.to_owned();
                let (group, field, value) = field(&name, parser)?;
                let group = change.entry(group).or_insert_with(|| Json::Object(Map::new()));
                if let Some(group) = group.as_object_mut() {
                    group.insert(field.to_owned(), value);
                }
            }
            Value(value) if id.is_none() => id = Some(container_id(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("update container: no container id was given".to_owned()))?;
    Ok(Options { id, file, change })
}

/// Runs the command.
pub(crate) fn run(context: &Context, options: Options) -> Result<()> {
    let change = match options.file {
        Some(file) => read(&file)?,
        None => Json::Object(options.change),
    };
    update(context, &options.id, &change)
}

fn field(name: &str, parser: &mut lexopt::Parser) -> Result<(&'static str, &'static str, Json)> {
    let find = |table: &'static [(&'static str, &'static str, &'static str)]| {
        table.iter().find(|(option, ..)| *option == name).map(|(_, group, field)| (*group, *field))
    };
    let bad = |text: &str| Error::Usage(format!("parse command line: --{name} {text:?} is no number"));
    if let Some((group, field)) = find(&NUMBERS) {
        let text = text_of(parser)?;
        let number: i64 = text.parse().map_err(|_| bad(&text))?;
        return Ok((group, field, number.into()));
    }
    if let Some((group, field)) = find(&SIZES) {
        let text = text_of(parser)?;
        let number = size(&text).ok_or_else(|| bad(&text))?;
        return Ok((group, field, number.into()));
    }
    if let Some((group, field)) = find(&WORDS) {
        return Ok((group, field, text_of(parser)?.into()));
    }
    Err(usage(Long(name).unexpected()))
}

/// Bytes: `-1`, `1024`, `64k`, `512M`, `1g`, `1GiB`.
fn size(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return (number >= -1).then_some(number);
    }
    let lower = text.trim().to_ascii_lowercase();
    let unit = lower.trim_end_matches('b').trim_end_matches('i');
    let digits = unit.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: i64 = match &unit[digits.len()..] {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return None,
    };
    digits.trim().parse::<u32>().ok().and_then(|number| i64::from(number).checked_mul(factor))
}

fn read(file: &std::path::Path) -> Result<Json> {
    let bytes = if file == std::path::Path::new("-") {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        std::io::stdin().take(MAX_DOCUMENT).read_to_end(&mut bytes).ctx("read", "stdin")?;
        bytes
    } else {
        sys::durable::read_bounded(file, MAX_DOCUMENT)?
    };
    Ok(serde_json::from_slice(&bytes).map_err(|error| sys::Error::other("parse", file, error.to_string()))?)
}

fn update(context: &Context, id: &str, change: &Json) -> Result<()> {
    let dir = Dir::of(&context.root, id)?;
    let record = dir.read()?;
    if record.status(&dir)?.0 == Status::Stopped {
        let cause = "container not running".to_owned();
        return Err(Error::State { op: "update", id: id.to_owned(), cause });
    }
    let mut config = dir.config()?;
    let linux = config.linux.get_or_insert_default();
    let parse = |value: Json| -> Result<LinuxResources> {
        serde_json::from_value(value).map_err(|error| Error::invalid("resources", error.to_string()))
    };
    // Checked on its own: what is merged could hide a wrong type.
    let alone = parse(change.clone())?;
    let now = linux.resources.clone().unwrap_or_default();
    let old = serde_json::to_value(&now).ctx("write", "resources")?;
    let merged = wanted(&now, &alone, parse(merge(old, change))?);
    point("oci.update.begin")?;
    with_cgroup(&record, "update")?.update(&now, &merged)?;
    point("oci.update.applied")?;
    linux.resources = Some(merged);
    let bytes = serde_json::to_vec(&config).map_err(std::io::Error::from).ctx("write", "config.json")?;
    replace(&dir.path().join("config.json"), &bytes, 0o600)
}

/// What is to be of `now` after the change, that has been merged.
fn wanted(now: &LinuxResources, change: &LinuxResources, mut merged: LinuxResources) -> LinuxResources {
    // Engines send all resources with each update, and hooks of vendors (for GPUs) allow devices that no document knows:
    // as with runc, no update changes devices.
    merged.devices.clone_from(&now.devices);
    let says = change.memory.as_ref().map(|memory| (memory.limit, memory.swap));
    // An old limit of swap can't be kept without one of memory: it goes too.
    if let (Some((Some(-1), None)), Some(memory)) = (says, &mut merged.memory) {
        memory.swap = None;
    }
    merged
}

/// `old` with what `new` says; `null` says nothing.
fn merge(old: Json, new: &Json) -> Json {
    match (old, new) {
        (old, Json::Null) => old,
        (Json::Object(mut old), Json::Object(new)) => {
            for (name, value) in new {
                let before = old.remove(name).unwrap_or(Json::Null);
                let after = merge(before, value);
                if !after.is_null() {
                    old.insert(name.clone(), after);
                }
            }
            Json::Object(old)
        }
        (_, new) => new.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("64k", Some(65536)),
            ("1G", Some(1 << 30)),
            ("2MiB", Some(2 << 20)),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected, "{text}");
        }
        for bad in ["", "x", "-2", "1x", "99999999999999999999", "k"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn unlimited_memory_takes_the_limit_of_swap_along() {
        let now: LinuxResources =
            serde_json::from_value(serde_json::json!({"memory": {"limit": 5, "swap": 9}})).unwrap();
        for (limit, swap, expected) in [
            (Some(-1), None, None),
            (Some(-1), Some(-1), Some(-1)),
            (Some(6), None, Some(9)),
            (None, None, Some(9)),
        ] {
            let change = serde_json::json!({"memory": {"limit": limit, "swap": swap}});
            let merged = merge(serde_json::to_value(&now).unwrap(), &change);
            let merged = wanted(
                &now,
                &serde_json::from_value(change).unwrap(),
                serde_json::from_value(merged).unwrap(),
            );
            assert_eq!(merged.memory.unwrap().swap, expected, "{limit:?} {swap:?}");
        }
    }

    #[test]
    fn what_is_new_wins_and_null_says_nothing() {
        let old = serde_json::json!({"memory": {"limit": 1, "swap": 2}, "devices": [{"allow": false}]});
        let new =
            serde_json::json!({"memory": {"limit": 5, "swap": null}, "cpu": {"shares": 7}, "devices": null});
        let expected = serde_json::json!({"memory": {"limit": 5, "swap": 2}, "devices": [{"allow": false}], "cpu": {"shares": 7}});
        assert_eq!(merge(old, &new), expected);
    }
}
