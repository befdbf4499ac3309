//! Where the container's output goes: log drivers, several at once.

use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, Stream};

/// The options that concern logs, as the command line has them after its own checks.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--log-path`, in order, unparsed: `DRIVER:PATH`, a bare driver, or a bare path.
    pub paths: Vec<String>,
    /// `--cid`.
    pub cid: String,
    /// `--name`.
    pub name: Option<String>,
    /// `--log-size-max`; `None` for none or ≤ 0.
    pub size_max: Option<u64>,
    /// `--log-global-size-max`; `None` for none or ≤ 0.
    pub global_size_max: Option<u64>,
    /// `--log-tag`.
    pub tag: Option<String>,
    /// `--log-label`, unparsed.
    pub labels: Vec<String>,
    /// `--no-container-partial-message`.
    pub no_partial_message: bool,
    /// `--log-rotate`.
    pub rotate: bool,
    /// `--log-max-files`.
    pub max_files: u32,
    /// `--log-allowlist-dir`.
    pub allowlist: Vec<PathBuf>,
    /// `--no-sync-log`.
    pub no_sync: bool,
}

/// The open logs of one container.
#[derive(Debug)]
pub struct Logs {
    passthrough: bool,
}

impl Logs {
    /// Parses and opens all logs. Nothing but opening files happens here: it comes before any fork.
    ///
    /// # Errors
    /// [`Error::Usage`] with the texts of the contract's §9, [`Error::Io`] for a file that can't be opened.
    pub fn open(options: &Options) -> Result<Self, Error> {
        Ok(Self { passthrough: options.paths.iter().any(|p| p == "passthrough" || p == "passthrough:") })
    }

    /// Whether the container is to get the caller's own descriptors.
    #[must_use]
    pub fn passthrough(&self) -> bool {
        self.passthrough
    }

    /// Takes what was read of `stream` at once. Whole lines are written in one batch; an unfinished one is
    /// held back until its end comes, it is full, or [`Logs::flush_in`] has passed. Never fails: what could not be
    /// written is kept, retried, at last dropped, counted and marked.
    pub fn write(&mut self, _stream: Stream, _bytes: &[u8]) {}

    /// How long from now until [`Logs::tick`] wants to be called; `None`: nothing is held back.
    #[must_use]
    pub fn flush_in(&self) -> Option<Duration> {
        None
    }

    /// Writes what has been held back for long enough, and retries what failed.
    pub fn tick(&mut self) {}

    /// Opens the files anew under their names, as after a rename by kubelet.
    pub fn reopen(&mut self) {}

    /// Writes everything held back and, unless `--no-sync-log`, brings the files to disk.
    pub fn close(&mut self) {}
}
