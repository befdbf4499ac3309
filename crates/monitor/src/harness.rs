//! What hostile bytes may reach, each as one function for the fuzz targets (`fuzz/`) and the property tests.
//!
//! None may panic; each checks what must hold whatever the bytes are.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use model::harness::Target;

use crate::cli::high::{self, Around};
use crate::cli::{Command, Low};
use crate::control::protocol::{Reply, Request, decode, encode};
use crate::logs::{self, spec};
use crate::process::ctl::Lines;
use crate::process::execs::command;
use crate::process::notify;
use crate::{control, pin};

/// All of them, by the names of the fuzz targets.
pub const ALL: &[(&str, Target)] = &[
    ("command_line", command_line),
    ("container_output", container_output),
    ("control_message", control_message),
    ("ctl_lines", ctl_lines),
    ("journal_entry", journal_entry),
    ("log_path", log_path),
    ("notify_message", notify_message),
    ("pin_command_line", pin_command_line),
    ("process_spec", process_spec),
    ("runtime_log", runtime_log),
    ("written_log", written_log),
];

/// What a container writes, cut into lines.
pub fn container_output(bytes: &[u8]) {
    logs::harness::cut(bytes);
}

/// What a container writes, as entries of the journal.
pub fn journal_entry(bytes: &[u8]) {
    logs::harness::journal(bytes);
}

/// What a container writes, in its log's file.
pub fn written_log(bytes: &[u8]) {
    logs::harness::file(bytes);
}

/// What a container says to systemd through the proxy.
pub fn notify_message(bytes: &[u8]) {
    let passed = notify::filter(bytes);
    assert!(passed.len() <= bytes.len());
    assert_eq!(notify::filter(&passed), passed, "what is passed on would not be passed on");
}

/// The log of a runtime that failed.
pub fn runtime_log(bytes: &[u8]) {
    let words = command::words_of(bytes);
    assert!(words.len() <= command::WORDS_MAX);
    command::knows_no_cgroup(&words);
}

/// The command line: arguments end in NUL.
pub fn command_line(bytes: &[u8]) {
    let Ok(low) = Low::parse(arguments(bytes)) else { return };
    let around = Around { cwd: "/".into(), attach_pipe: bytes.len().is_multiple_of(2) };
    if let Ok(Command::Run(args)) = high::command(low, &around) {
        assert!(!args.cid.is_empty(), "a container without id");
    }
}

/// The command line of the hidden mode pin.
pub fn pin_command_line(bytes: &[u8]) {
    if let Ok(plan) = pin::parse(arguments(bytes)) {
        assert!(!plan.pins.is_empty());
        assert!(plan.sysctls.iter().all(|(path, _)| path.is_relative()));
    }
}

/// Lines of the `ctl` fifo, read in pieces: the first byte says how large.
pub fn ctl_lines(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let (mut pieces, mut whole) = (Vec::new(), Vec::new());
    let mut lines = Lines::default();
    bytes.chunks(usize::from(*size).max(1)).for_each(|piece| lines.push(piece, |order| pieces.push(order)));
    Lines::default().push(bytes, |order| whole.push(order));
    assert_eq!(pieces, whole, "it matters how lines are read");
}

/// A message of the control protocol, from either side.
pub fn control_message(bytes: &[u8]) {
    if let Ok(request) = decode::<Request>(bytes) {
        assert_eq!(decode::<Request>(&encode(&request)).ok().as_ref(), Some(&request));
    }
    if let Ok(reply) = decode::<Reply>(bytes) {
        assert_eq!(decode::<Reply>(&encode(&reply)).ok().as_ref(), Some(&reply));
    }
}

/// The process specification of an exec.
pub fn process_spec(bytes: &[u8]) {
    control::look_at_process(bytes);
}

/// The value of `--log-path`.
pub fn log_path(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(spec::Driver::File(path)) = spec::parse(text)
    {
        assert!(!path.as_os_str().is_empty(), "a file without name");
    }
}

fn arguments(bytes: &[u8]) -> impl Iterator<Item = OsString> {
    bytes.split(|byte| *byte == 0).map(|argument| OsString::from_vec(argument.to_vec()))
}
