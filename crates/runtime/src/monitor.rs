//! The monitor's command line, and its answer: the caller's half of conmon's contract.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sys::Ctx as _;
use sys::process::{Command, Session, Stopped};
use sys::socket::{Blocking, Kind, pair};

use crate::process::{passed_env, said};
use crate::ready::Ready;
use crate::record::MonitorRecord;
use crate::{Error, Result};

/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 << 10;

/// What a monitor is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) monitor: &'a MonitorRecord,
    pub(crate) args: Vec<OsString>,
    pub(crate) cwd: &'a Path,
    /// Where its own messages go.
    pub(crate) messages: &'a Path,
    /// The files by which it joins its cgroup.
    pub(crate) cgroups: Vec<OwnedFd>,
    /// Descriptors beside the sync pipe, with the variables that name them.
    pub(crate) more: Vec<(&'static str, OwnedFd)>,
}

/// The number of the sync pipe in the monitor.
const SYNC_FD: i32 = 3;

impl Start<'_> {
    /// Makes the monitor's process, which waits before it runs, and our end of its sync pipe.
    pub(crate) fn stopped(&self) -> Result<(Stopped, OwnedFd)> {
        let (ours, theirs) = pair(Kind::Stream, Blocking::Yes)?;
        let messages = OpenOptions::new().append(true).create(true).mode(0o600).open(self.messages);
        let messages = messages.ctx("open", self.messages)?;
        let mut command = Command::new(&self.monitor.path);
        for (name, value) in passed_env() {
            command.env(name, value);
        }
        for (name, value) in &self.monitor.env {
            command.env(name, value);
        }
        command.args(&self.args).cwd(self.cwd).session(Session::New).umask(0o022);
        command.env("_OCI_SYNCPIPE", SYNC_FD.to_string()).fd(theirs.as_fd(), SYNC_FD);
        command.fd(messages.as_fd(), 2);
        for file in &self.cgroups {
            command.cgroup(file.as_fd());
        }
        for (at, (name, fd)) in self.more.iter().enumerate() {
            let number = SYNC_FD + 1 + i32::try_from(at).unwrap_or(0);
            command.env(name, number.to_string()).fd(fd.as_fd(), number);
        }
        Ok((command.spawn_stopped()?, ours))
    }
}

/// What a monitor says on its sync pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The process is there.
    Pid(i32),
    /// A negative number, with the runtime's message.
    Failed { number: i64, message: String },
}

/// A reader of answers, one JSON object a line.
#[derive(Debug)]
pub(crate) struct Answers {
    sync: File,
    buffer: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The other end was closed before a word.
    Silent,
    /// The time is up.
    Timeout,
    /// It is no answer; with what is wrong.
    Odd(String),
    /// It could not be read.
    Failed(Error),
}

impl Answers {
    pub(crate) fn new(sync: OwnedFd) -> Self {
        Self { sync: File::from(sync), buffer: Vec::new() }
    }

    /// To wait for more in tokio; reading is non-blocking from then on.
    pub(crate) fn ready(&self) -> Result<Ready> {
        rustix::io::ioctl_fionbio(&self.sync, true).ctx("set", "non-blocking pipe")?;
        Ready::of(&self.sync)
    }

    /// A line that was read already.
    pub(crate) fn take_line(&mut self) -> Option<Vec<u8>> {
        let at = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let rest = self.buffer.split_off(at + 1);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    /// What was read without a line's end.
    pub(crate) fn take_rest(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.buffer)).filter(|rest| !rest.is_empty())
    }

    /// Reads once; 0 at the end.
    pub(crate) fn fill(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 4096];
        let n = std::io::Read::read(&mut self.sync, &mut chunk)?;
        if self.buffer.len() <= ANSWER_MAX {
            self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
        }
        Ok(n)
    }

    /// The next line, of at most [`ANSWER_MAX`] bytes. `given_up` is asked now and then.
    pub(crate) fn line(&mut self, end: Instant, given_up: &dyn Fn() -> bool) -> Result<Vec<u8>, NoAnswer> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(line);
            }
            if self.buffer.len() > ANSWER_MAX {
                return Err(NoAnswer::Odd(format!("more than {ANSWER_MAX} bytes")));
            }
            let left = end.saturating_duration_since(Instant::now());
            let slice = left.min(Duration::from_millis(200));
            let ready = sys::poll::readable(&self.sync, Some(slice));
            match ready.ctx("poll", "sync pipe") {
                Ok(false) if left.is_zero() || given_up() => return Err(NoAnswer::Timeout),
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => return Err(NoAnswer::Failed(error.into())),
            }
            match self.fill() {
                // A last line without its end: what is in it decides.
                Ok(0) => return self.take_rest().ok_or(NoAnswer::Silent),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Err(NoAnswer::Silent);
                }
                Err(error) => {
                    return Err(NoAnswer::Failed(sys::Error::new("read", "sync pipe", error).into()));
                }
            }
        }
    }
}

/// Reads one answer: an object with a whole number in `data`, `pid` or `exit_code`, and perhaps a `message`.
pub(crate) fn parse(line: &[u8]) -> Result<(i64, String), String> {
    let shown = || said(line).chars().take(200).collect::<String>();
    let value: Value =
        serde_json::from_slice(line).map_err(|error| format!("not JSON ({error}): {:?}", shown()))?;
    let Value::Object(object) = &value else { return Err(format!("no object: {:?}", shown())) };
    let number = ["data", "pid", "exit_code"].iter().find_map(|key| object.get(*key));
    let number = number.and_then(Value::as_i64).ok_or_else(|| format!("without a number: {:?}", shown()))?;
    let message = object.get("message").and_then(Value::as_str).unwrap_or_default();
    Ok((number, message.trim().to_owned()))
}

/// Reads the answer to a create or to the beginning of an exec.
pub(crate) fn parse_pid(line: &[u8]) -> Result<Answer, String> {
    match parse(line)? {
        (number, message) if number < 0 => Ok(Answer::Failed { number, message }),
        (number, _) => match i32::try_from(number) {
            Ok(pid) if pid > 1 => Ok(Answer::Pid(pid)),
            _ => Err(format!("pid {number}, which is no container's")),
        },
    }
}

/// What a monitor wrote in its own messages, at most 64 KiB from the beginning.
pub(crate) fn messages(path: &Path) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What can't be read is no message.
        let _ = file.take(64 << 10).read_to_end(&mut bytes);
    }
    said(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_good_and_odd() {
        let pid = |text: &str| parse_pid(text.as_bytes());
        assert_eq!(pid("{\"pid\": 4052}\n"), Ok(Answer::Pid(4052)));
        assert_eq!(pid("{\"data\": 7}"), Ok(Answer::Pid(7)));
        let failed = Answer::Failed { number: -1, message: "no 100% of \"it\"".to_owned() };
        assert_eq!(pid(r#"{"data": -1, "message": "no 100% of \"it\"\n"}"#), Ok(failed));
        for odd in [
            "null",
            "[]",
            "17",
            "{}",
            "{\"pid\": null}",
            "{\"pid\": \"7\"}",
            "{\"pid\": 4",
            "",
            "{\"pid\": 0}",
            "{\"pid\": 1}",
            "{\"pid\": 99999999999}",
            "{\"pid\": 1.5}",
            "\u{0}\u{1}",
        ] {
            assert!(pid(odd).is_err(), "{odd:?}");
        }
        assert_eq!(parse(b"{\"data\": 255}").unwrap(), (255, String::new()));
    }
}
