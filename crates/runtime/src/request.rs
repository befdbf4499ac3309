//! What callers ask for: a create, an exec, a checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use model::{Exit, Id, Name};

use crate::config::Labels;

/// What a container's standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// /dev/null.
    #[default]
    None,
    /// A pipe, closed when the first attach client ends its input.
    Once,
    /// A pipe that stays open whoever comes and goes.
    Keep,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Letters in a line.
    pub columns: u16,
}

/// What a container's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Io {
    /// No input; output is logged if there is a log, and can be attached to.
    #[default]
    Null,
    /// Pipes.
    Pipes {
        /// What the input is.
        stdin: Stdin,
    },
    /// A terminal. config.json must say `process.terminal: true` too; it is set if it does not.
    Terminal {
        /// Its first size.
        size: Option<Size>,
    },
}

/// A container to be made.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// Its id.
    pub id: Id,
    /// Its name for people.
    pub name: Option<Name>,
    /// The handler's name; None: the default one.
    pub handler: Option<String>,
    /// The directory with config.json. Only read.
    pub bundle: PathBuf,
    /// The configuration itself: then there is no bundle of the user's, and all paths in it are absolute.
    pub config: Option<serde_json::Value>,
    /// Its standard streams.
    pub io: Io,
    /// Its log in the CRI's format: an absolute path, or a file name in the container's own directory; None:
    /// output is not kept.
    pub log: Option<PathBuf>,
    /// Bytes after which the log starts anew; None: never.
    pub log_size_max: Option<u64>,
    /// Where its cgroup is made: an absolute path (cgroupfs) or a slice (systemd). None: `/wharfinger` or
    /// `system.slice`. Only used where config.json has no linux.cgroupsPath.
    pub cgroup_parent: Option<String>,
    /// Kept with it.
    pub labels: Labels,
    /// Kept with it.
    pub annotations: Labels,
    /// How long the create may take; None, or more than the handler's timeout: the handler's.
    pub deadline: Option<Duration>,
}

impl CreateRequest {
    /// A container `id` from `bundle` with everything else at its default.
    #[must_use]
    pub fn new(id: Id, bundle: impl Into<PathBuf>) -> Self {
        Self {
            id,
            name: None,
            handler: None,
            bundle: bundle.into(),
            config: None,
            io: Io::Null,
            log: None,
            log_size_max: None,
            cgroup_parent: None,
            labels: Labels::new(),
            annotations: Labels::new(),
            deadline: None,
        }
    }

    /// A container `id` from a configuration that is in no file yet.
    #[must_use]
    pub fn from_config(id: Id, config: serde_json::Value) -> Self {
        Self { config: Some(config), ..Self::new(id, PathBuf::new()) }
    }
}

/// A program to be run in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program and its arguments; at least one.
    pub args: Vec<String>,
    /// Added to the container's environment; a name that is there already is replaced.
    pub env: BTreeMap<String, String>,
    /// Its working directory; None: the container's.
    pub cwd: Option<String>,
    /// `uid[:gid]`, numbers; None: the container's.
    pub user: Option<String>,
    /// Killed with everything it started this long after its start; None: never.
    pub timeout: Option<Duration>,
    /// Run with all capabilities and without a seccomp filter or profile.
    pub privileged: bool,
}

impl ExecRequest {
    /// `args` with everything else as the container has it.
    #[must_use]
    pub fn new(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { args: args.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// What an exec gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// The first [`ExecOutput::CAP`] bytes of its standard output.
    pub stdout: Vec<u8>,
    /// The first [`ExecOutput::CAP`] bytes of its standard error.
    pub stderr: Vec<u8>,
    /// How it ended; [`Exit::TimedOut`] when its time was up.
    pub exit: Exit,
}

impl ExecOutput {
    /// Bytes kept of each stream; the rest is read and dropped.
    pub const CAP: usize = 16 << 20;
}

/// How the streams of a live exec are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecStreams {
    /// Its input can be written.
    pub stdin: bool,
    /// It gets a terminal, of this size if one is given.
    pub terminal: Option<Option<Size>>,
}

/// How a checkpoint is made.
#[derive(Debug, Clone, Default)]
pub struct CheckpointRequest {
    /// The directory for the images; made if it is not there.
    pub images: PathBuf,
    /// The container goes on afterwards.
    pub leave_running: bool,
    /// Established TCP connections are allowed.
    pub tcp_established: bool,
}
