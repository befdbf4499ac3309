//! What hostile bytes may reach, each as one function for the fuzz targets (`fuzz/`) and the property tests.
//!
//! None may panic; each checks what must hold whatever the bytes are.

use serde_json::Value;

use crate::config::Config;
use crate::log::{Record, Rfc3339, parse_time};
use crate::spec::{Mount, check_resources, merge_resources};
use crate::{ExitRecord, Id, Name, Signal, capability, quantity, users};

/// Takes whatever bytes there are; panics if something is wrong.
pub type Target = fn(&[u8]);

/// All of them, by the names of the fuzz targets.
pub const ALL: &[(&str, Target)] = &[
    ("config_file", config_file),
    ("exit_record", exit_record),
    ("log_line", log_line),
    ("resources", resources),
    ("users", users),
    ("words", words),
];

/// CRI-O's configuration, as a document that a parser of TOML gave. (JSON here; the fuzz target has TOML.)
pub fn config_file(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        config(value);
    }
}

/// The same, parsed.
pub fn config(value: Value) {
    match Config::from_value(value) {
        Ok((config, _)) => {
            let runtime = &config.crio.runtime;
            assert!(runtime.runtimes.keys().all(|name| Id::new(name.as_str()).is_ok()));
            assert!(runtime.conmon_env.iter().all(|entry| entry.contains('=')));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The record of an exit, as a monitor of ours wrote it.
pub fn exit_record(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<ExitRecord>(bytes) {
        let again = serde_json::to_vec(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        assert_eq!(again.as_ref(), Some(&record), "a record does not survive being written");
    }
}

/// A line of a log, which has no newline but its own.
pub fn log_line(bytes: &[u8]) {
    let bytes = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    if let Ok(record) = Record::parse(bytes) {
        let line = record.to_line();
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        assert_eq!(Record::parse(line), Ok(record), "a record does not survive being written");
    }
}

/// Limits, as `update` takes them: alone, and over others.
pub fn resources(bytes: &[u8]) {
    let Ok(limits) = serde_json::from_slice(bytes) else { return };
    let good = check_resources(&limits).is_ok();
    let mut base =
        serde_json::json!({"memory": {"limit": 1 << 20}, "pids": {"limit": 5}, "unified": {"a": "b"}});
    if good && merge_resources(&mut base, &limits).is_ok() {
        assert!(base.is_object());
    }
}

/// A root file system's passwd and group, with an empty line between them; the first line is the user.
pub fn users(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (who, files) = text.split_once('\n').unwrap_or((&text, ""));
    let (passwd, groups) = files.split_once("\n\n").unwrap_or((files, ""));
    let (user, group) = who.split_once(':').map_or((who, None), |(user, group)| (user, Some(group)));
    match users::resolve(user, group, passwd, groups) {
        Ok(found) => {
            // A number is that number.
            assert!(user.parse().is_ok_and(|uid: u32| uid == found.uid) || user.parse::<u32>().is_err());
            assert!(found.uid != u32::MAX && found.gid != u32::MAX);
        }
        Err(error) => assert_eq!(error.lines().count(), 1, "{error}"),
    }
}

/// What an operator writes in one word: sizes, durations, signals, times, ids, mounts, capabilities.
pub fn words(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.as_ref();
    if let Ok(size) = quantity::parse_size(text) {
        assert!(!quantity::format_size(size).is_empty());
    }
    if let Ok(duration) = quantity::parse_duration(text) {
        let shown = quantity::format_duration(duration);
        assert!(quantity::parse_duration(&shown).is_ok(), "{text:?} {shown}");
    }
    if let Ok(signal) = text.parse::<Signal>() {
        assert_eq!(signal.to_string().parse(), Ok(signal));
    }
    if let Some(time) = parse_time(text) {
        assert_eq!(parse_time(&Rfc3339(time).to_string()), Some(time));
    }
    if let Ok(id) = Id::new(text) {
        assert!(!id.as_str().contains(['/', '\0', '\n']) && !id.as_str().starts_with('.'));
    }
    if let Ok(name) = Name::new(text) {
        assert!(!name.as_str().contains(['/', '\0', '\n']) && !name.as_str().starts_with('.'));
    }
    for mount in [Mount::from_volume(text), text.parse()].into_iter().flatten() {
        assert!(mount.target.starts_with('/') && !mount.target.split('/').any(|part| part == ".."));
        assert!(mount.kind != "bind" || mount.source.starts_with('/'));
    }
    let names: Vec<&str> = text.split(',').collect();
    let (set, unknown) = capability::CapabilitySet::parse(&names);
    assert!(set.names().count() + unknown.len() <= names.len());
}
