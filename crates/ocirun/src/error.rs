//! The one error of this crate.

/// A [`std::result::Result`] with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, shown on one line as `operation object: cause`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// config.json or process.json ask for what can't be.
    #[error("check {object}: {cause}")]
    Invalid {
        /// The field, such as `linux.namespaces`.
        object: String,
        /// What is wrong with it.
        cause: String,
    },
    /// There is no such container.
    #[error("open container {0}: container does not exist")]
    NoContainer(String),
    /// The id is taken.
    #[error("create container {0}: container with given ID already exists")]
    Exists(String),
    /// The container is in a state in which this can't be done.
    #[error("{op} container {id}: {cause}")]
    State {
        /// What was asked for.
        op: &'static str,
        /// The container.
        id: String,
        /// Such as `container not running`.
        cause: String,
    },
    /// A step in the container's own process: its text has operation, object and cause.
    #[error("{0}")]
    Step(String),
    /// Processes of somebody else are in the cgroup.
    #[error("use cgroup {path}: it has {processes} processes in it already", path = .path.display())]
    InUse {
        /// Its directory.
        path: std::path::PathBuf,
        /// How many.
        processes: usize,
    },
    /// systemd did not do it.
    #[error(transparent)]
    Systemd(#[from] crate::cgroup::systemd::Error),
    /// A hook.
    #[error("run {kind} hook {path}: {cause}")]
    Hook {
        /// `prestart`, …
        kind: &'static str,
        /// The program.
        path: String,
        /// Why it counts as failed.
        cause: String,
    },
    /// The filter of system calls.
    #[error("compile {0}")]
    Seccomp(#[from] crate::seccomp::Error),
    /// The command line.
    #[error("{0}")]
    Usage(String),
    /// The command line asks for help, which is no failure.
    #[error("show help")]
    Help,
}

/// A named place where tests let this process fail, die or wait (`sys::fail`).
///
/// # Errors
/// What the test asks for; never in programs that ship.
#[inline]
pub(crate) fn point(name: &'static str) -> Result<()> {
    use sys::Ctx as _;
    Ok(sys::fail::point(name).ctx("pass", name)?)
}

impl Error {
    /// An error of a field of config.json.
    pub fn invalid(object: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::Invalid { object: object.into(), cause: cause.into() }
    }

    /// The errno behind it, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Sys(error) => error.errno(),
            _ => None,
        }
    }
}
