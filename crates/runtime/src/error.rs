//! The crate's error: operation, object, cause; and the nine kinds that callers decide by.

use std::io;
use std::time::Duration;

use model::State;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may decide by. Each maps to one gRPC code and one exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong; asking again does not help.
    Invalid,
    /// There is no such container, handler or file.
    NotFound,
    /// The id or name is taken.
    Exists,
    /// The object is in a state that forbids it.
    Precondition,
    /// Not done in its time.
    Timeout,
    /// The caller gave up, or a stop was ended by another.
    Cancelled,
    /// The machine lacks something just now: memory, disk, processes.
    Exhausted,
    /// The handler, monitor or kernel can't do it.
    Unsupported,
    /// Anything else: the runtime failed, a file can't be read.
    Internal,
}

/// What went wrong: operation, object, cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{op} {object}: {cause}")]
    Invalid {
        /// The operation: "create", "read config.json".
        op: &'static str,
        /// The container, file or handler.
        object: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No container, handler or file of this name.
    #[error("{op} {object}: not found")]
    NotFound {
        /// The operation.
        op: &'static str,
        /// What was asked for.
        object: String,
    },
    /// An id or name that another container has.
    #[error("{op} {object}: {what} is taken")]
    Exists {
        /// The operation.
        op: &'static str,
        /// The id or name.
        object: String,
        /// "the id" or "the name".
        what: &'static str,
    },
    /// The container's state forbids it.
    #[error("{op} {id}: container is {state}")]
    State {
        /// The operation.
        op: &'static str,
        /// The container.
        id: String,
        /// The state that it is in.
        state: State,
    },
    /// Not done in its time.
    #[error("{op} {object}: not done after {after:?}")]
    Timeout {
        /// The operation.
        op: &'static str,
        /// The container or program.
        object: String,
        /// The time that it had.
        after: Duration,
    },
    /// The caller gave up.
    #[error("{op} {object}: cancelled")]
    Cancelled {
        /// The operation.
        op: &'static str,
        /// The container.
        object: String,
    },
    /// It can't be done here.
    #[error("{op} {object}: not possible: {cause}")]
    Unsupported {
        /// The operation.
        op: &'static str,
        /// The container or handler.
        object: String,
        /// Why.
        cause: String,
    },
    /// The runtime or the monitor said no: its message, whole.
    #[error("{op} {object}: {message}")]
    Runtime {
        /// The operation: "runc create", "start".
        op: String,
        /// The container.
        object: String,
        /// What the program wrote.
        message: String,
    },
    /// A file, pipe or system call failed.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// A create's step failed; everything before it was undone.
    #[error("create {id}: {step}: {source}")]
    Step {
        /// The container.
        id: String,
        /// The step.
        step: &'static str,
        /// Why.
        source: Box<Self>,
    },
    /// Several removals failed; the others were done.
    #[error("{op} {object}: {}", list(.causes))]
    Many {
        /// The operation.
        op: &'static str,
        /// The container.
        object: String,
        /// Each cause.
        causes: Vec<Self>,
    },
}

fn list(causes: &[Error]) -> String {
    causes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// The kind that callers decide by.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Exists { .. } => Kind::Exists,
            Self::State { .. } => Kind::Precondition,
            Self::Timeout { .. } => Kind::Timeout,
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::Unsupported { .. } => Kind::Unsupported,
            Self::Runtime { .. } => Kind::Internal,
            Self::Sys(error) => match error.source.kind() {
                io::ErrorKind::NotFound => Kind::NotFound,
                io::ErrorKind::TimedOut => Kind::Timeout,
                io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory | io::ErrorKind::QuotaExceeded => {
                    Kind::Exhausted
                }
                _ => Kind::Internal,
            },
            Self::Step { source, .. } => match source.kind() {
                // What a step did not find is our trouble, not a container that is not there.
                Kind::NotFound => Kind::Internal,
                kind => kind,
            },
            Self::Many { causes, .. } => causes.first().map_or(Kind::Internal, Self::kind),
        }
    }

    pub(crate) fn invalid(op: &'static str, object: impl ToString, cause: impl ToString) -> Self {
        Self::Invalid { op, object: object.to_string(), cause: cause.to_string() }
    }

    pub(crate) fn not_found(op: &'static str, object: impl ToString) -> Self {
        Self::NotFound { op, object: object.to_string() }
    }

    pub(crate) fn unsupported(op: &'static str, object: impl ToString, cause: impl ToString) -> Self {
        Self::Unsupported { op, object: object.to_string(), cause: cause.to_string() }
    }

    pub(crate) fn runtime(op: impl ToString, object: impl ToString, message: impl ToString) -> Self {
        Self::Runtime { op: op.to_string(), object: object.to_string(), message: message.to_string() }
    }
}
