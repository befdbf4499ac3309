//! The runtime's command line, as runc has it: one call, its failure with its own words.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use model::Id;
use serde_json::Value;

use crate::container::Container;
use crate::process::{Program, args, said};
use crate::record::HandlerRecord;
use crate::{Error, Result};

/// The most that a runtime may print, in bytes.
const OUTPUT_MAX: usize = 16 << 20;
/// The most of its log that is read, in bytes.
const LOG_MAX: u64 = 1 << 20;

/// Runs a container's runtime.
#[derive(Debug)]
pub(crate) struct Driver {
    handler: HandlerRecord,
    id: Id,
    /// Where the runtime writes its errors, one JSON object a line; emptied before each call.
    log: PathBuf,
    timeout: Duration,
}

impl Container {
    /// Its runtime.
    pub(crate) fn driver(&self) -> Driver {
        Driver::new(&self.record().handler, self.dir(), self.shared().runtimes.config.command_timeout)
    }
}

impl Driver {
    pub(crate) fn new(handler: &HandlerRecord, dir: &crate::dir::Dir, timeout: Duration) -> Self {
        Self { handler: handler.clone(), id: dir.id().clone(), log: dir.file("runtime.log"), timeout }
    }

    /// The same with another limit of time.
    pub(crate) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same with a log of its own, for calls that go on at the same time.
    pub(crate) fn logging_to(mut self, log: PathBuf) -> Self {
        self.log = log;
        self
    }

    /// The arguments before the command, without `--systemd-cgroup`, which a monitor adds itself.
    pub(crate) fn globals(&self) -> Vec<OsString> {
        let mut globals = args(&self.handler.args);
        if let Some(root) = &self.handler.root {
            globals.push("--root".into());
            globals.push(root.into());
        }
        globals.push("--log".into());
        globals.push((&self.log).into());
        globals.extend(args(["--log-format", "json"]));
        globals
    }

    /// Runs `RT [globals] COMMAND…`; gives its standard output.
    ///
    /// # Errors
    /// [`Error::Runtime`] with what it logged, or else wrote to its standard error; [`Error::Timeout`].
    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        op: &'static str,
        command: impl IntoIterator<Item = S>,
        stdin: &[u8],
    ) -> Result<Vec<u8>> {
        let mut all = self.globals();
        if self.handler.systemd {
            all.push("--systemd-cgroup".into());
        }
        all.extend(args(command));
        // What an earlier call logged is not this one's error. A log that can't be removed is only read less well.
        let _ = sys::durable::remove(&self.log);
        let program = Program {
            op,
            object: self.id.as_str(),
            path: &self.handler.path,
            args: all,
            stdin,
            timeout: self.timeout,
            stdout_max: OUTPUT_MAX,
        };
        let ran = program.run()?;
        if ran.status.success() {
            return Ok(ran.stdout);
        }
        let message = self
            .logged()
            .or_else(|| Some(said(&ran.stderr)).filter(|text| !text.is_empty()))
            .unwrap_or_else(|| format!("{} ends with {} and says nothing", self.name(), ran.status));
        Err(Error::runtime(op, &self.id, message))
    }

    /// The runtime's name for messages.
    pub(crate) fn name(&self) -> String {
        self.handler.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The errors that the runtime logged in its last call.
    pub(crate) fn logged(&self) -> Option<String> {
        let bytes = sys::durable::read_bounded(&self.log, LOG_MAX).ok()?;
        errors_in(&bytes)
    }
}

/// The messages of the errors in a log of JSON lines; the last, as it has the others in it.
pub(crate) fn errors_in(log: &[u8]) -> Option<String> {
    let entry = |line: &[u8]| {
        let entry: Value = serde_json::from_slice(line).ok()?;
        let level = entry.get("level")?.as_str()?;
        let message = entry.get("msg")?.as_str()?;
        matches!(level, "error" | "fatal" | "panic").then(|| said(message.as_bytes()))
    };
    log.split(|byte| *byte == b'\n').filter_map(entry).next_back()
}

/// Whether a runtime's words say that it does not know the container.
pub(crate) fn says_gone(message: &str) -> bool {
    let message = message.to_lowercase();
    ["does not exist", "no such container", "not found", "no such file or directory"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_log() {
        let log = br#"{"level":"warning","msg":"careful","time":"x"}
{"level":"error","msg":"first","time":"x"}
{"level":"error","msg":"runc start failed: exec: \"nosuch\": not in $PATH","time":"x"}
half a li"#;
        assert_eq!(errors_in(log).unwrap(), r#"runc start failed: exec: "nosuch": not in $PATH"#);
        assert_eq!(errors_in(b"not json\n\n"), None);
        assert!(says_gone("container does not exist"));
        assert!(!says_gone("permission denied"));
    }
}
