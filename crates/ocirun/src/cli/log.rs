//! Errors and warnings: on standard error, and in the file that `--log` names, in logrus' two formats.

use std::io::Write as _;
use std::path::PathBuf;

use super::Globals;

/// Where errors go.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<PathBuf>,
    json: bool,
    debug: bool,
}

impl Log {
    pub(super) fn configure(&mut self, globals: &Globals) {
        self.file.clone_from(&globals.log);
        self.json = globals.json;
        self.debug = globals.debug;
    }

    /// An error: the command's one line.
    pub(crate) fn error(&self, message: &str) {
        self.stderr(message);
        self.write("error", message);
    }

    /// Something odd.
    pub(crate) fn warning(&self, message: &str) {
        if self.file.is_none() {
            self.stderr(&format!("warning: {message}"));
        }
        self.write("warning", message);
    }

    /// A step, for `--debug`.
    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            if self.file.is_none() {
                self.stderr(&format!("debug: {message}"));
            }
            self.write("debug", message);
        }
    }

    fn stderr(&self, message: &str) {
        // Nobody is left to tell of a failure of this.
        let _ignored = writeln!(std::io::stderr(), "{}", one_line(message));
    }

    fn write(&self, level: &str, message: &str) {
        let Some(path) = &self.file else { return };
        let time = model::log::Rfc3339(u64::try_from(sys::proc::now_ns()).unwrap_or(0));
        let message = one_line(message);
        let line = if self.json {
            let level = serde_json::Value::from(level);
            let fields = [("level", level), ("msg", message.into()), ("time", time.to_string().into())];
            let object: serde_json::Map<_, _> =
                fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
            format!("{}\n", serde_json::Value::Object(object))
        } else {
            format!("time=\"{time}\" level={level} msg={}\n", serde_json::Value::from(message))
        };
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        // The same message is on standard error.
        let _ignored = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
