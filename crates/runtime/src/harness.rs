//! What hostile bytes may reach, each as one function for the fuzz targets (`fuzz/`) and the property tests.
//!
//! None may panic; each checks what must hold whatever the bytes are.

use std::path::Path;

use model::harness::Target;
use model::{ExitRecord, Id};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::event::Event;
use crate::record::Record;
use crate::request::{CreateRequest, ExecRequest, ExecStreams, Size};
use crate::{bundle, driver, exec, handler, limits, logs, monitor, recover, stream, update};

/// All of them, by the names of the fuzz targets.
pub const ALL: &[(&str, Target)] = &[
    ("bundle", bundle),
    ("cpu_list", cpu_list),
    ("event_stream", event_stream),
    ("exec_process", exec_process),
    ("library_records", library_records),
    ("log_file", log_file),
    ("monitor_answer", monitor_answer),
    ("runtime_answer", runtime_answer),
];

/// What a monitor writes into its sync pipe.
pub fn monitor_answer(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(monitor::Answer::Pid(pid)) = monitor::parse_pid(line) {
            assert!(pid > 1, "pid {pid}");
        }
    }
}

/// What a runtime prints and logs.
pub fn runtime_answer(bytes: &[u8]) {
    if let Some(version) = handler::parse_version(bytes) {
        assert!(version.version.starts_with(|first: char| first.is_ascii_digit()));
    }
    for cause in [recover::started(bytes).err(), handler::parse_features(bytes).err()].into_iter().flatten() {
        assert!(cause.lines().count() == 1, "{cause:?}");
    }
    if let Some(message) = driver::errors_in(bytes) {
        driver::says_gone(&message);
    }
}

/// Our own records, which another version may have written, or half a disk.
pub fn library_records(bytes: &[u8]) {
    written_again::<Record>(bytes);
    written_again::<Event>(bytes);
    written_again::<ExitRecord>(bytes);
    if let Ok((limits, config)) = update::read_journal(bytes) {
        assert!(config.is_none() || serde_json::to_value(&limits).is_ok_and(|limits| limits.is_object()));
    }
}

/// Whether these bytes are a container's record; for those who count instructions.
#[must_use]
pub fn is_record(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Record>(bytes).is_ok_and(|record| record.version == Record::VERSION)
}

fn written_again<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<T>(bytes) {
        let again = serde_json::to_vec(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        assert_eq!(again.as_ref(), Some(&record), "a record does not survive being written");
    }
}

/// A user's config.json, up to the copy that the runtime gets.
pub fn bundle(bytes: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Value>(bytes) else { return };
    let Ok(id) = Id::new("id") else { return };
    let mut request = CreateRequest::new(id.clone(), "/");
    request.bundle = "/".into();
    for systemd in [false, true] {
        if let Ok((config, cgroup)) = bundle::complete(config.clone(), &request, Path::new("/"), systemd) {
            assert!(config["root"]["path"].as_str().is_some_and(|path| path.starts_with('/')));
            let dir = bundle::cgroup_dir(&cgroup, &id);
            assert!(dir.starts_with('/') && !dir.split('/').any(|part| part == ".."), "{dir}");
        }
    }
}

/// The process of a container's config.json, for an exec that says something else of everything.
pub fn exec_process(bytes: &[u8]) {
    let Ok(process) = serde_json::from_slice::<Value>(bytes) else { return };
    let mut request = ExecRequest::new(["ls"]);
    let plain = exec::build(process.clone(), &request, ExecStreams::default());
    assert!(plain.is_err() || process.is_object());
    request.cwd = Some("/".to_owned());
    request.user = Some("7:8".to_owned());
    request.env.insert("A".to_owned(), "b".to_owned());
    request.privileged = bytes.len().is_multiple_of(2);
    let streams =
        ExecStreams { terminal: Some(Some(Size { rows: 1, columns: 2 })), ..ExecStreams::default() };
    if let Ok(made) = exec::build(process, &request, streams) {
        assert_eq!((&made["user"]["uid"], &made["cwd"]), (&Value::from(7), &Value::from("/")));
    }
}

/// The file of events, read in pieces of the size that the first byte says.
pub fn event_stream(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = stream::events_in(&mut Vec::new(), bytes);
    let mut part = Vec::new();
    let chunks = bytes.chunks(usize::from(*size).max(1));
    let pieces: Vec<Event> = chunks.flat_map(|chunk| stream::events_in(&mut part, chunk)).collect();
    assert_eq!(whole, pieces, "it matters how the events are read");
}

/// A log, read in pieces of the size that the first byte says.
pub fn log_file(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = logs::lines_of(bytes, bytes.len().max(1));
    let pieces = logs::lines_of(bytes, usize::from(*size).max(1));
    assert_eq!(whole, pieces, "it matters how a log is read");
}

/// A list of processors.
pub fn cpu_list(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(limits::members(&text).len() <= limits::MEMBERS_MAX);
}
