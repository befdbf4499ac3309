//! The crate's error.

use std::fmt;
use std::io;

/// What went wrong in the monitor or in talking to one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option, or a value of one, is wrong. The text is the one that conmon's users look for.
    #[error("{0}")]
    Usage(String),
    /// A system call failed: operation, object, cause.
    #[error("{op} {object}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        object: String,
        /// Why it did not work.
        source: io::Error,
    },
    /// The other side of the control socket sent what the protocol does not have.
    #[error("control message: {0}")]
    Protocol(String),
    /// The monitor answered that it could not do what was asked.
    #[error("{0}")]
    Refused(String),
}

/// A named place where tests let this process fail, die or wait (`sys::fail`).
///
/// # Errors
/// What the test asks for; never in programs that ship.
#[inline]
pub(crate) fn point(name: &'static str) -> Result<(), Error> {
    sys::fail::point(name).map_err(|cause| Error::io("pass", name, cause))
}

impl Error {
    /// An [`Error::Io`] of `op` on `object`.
    pub fn io(op: &'static str, object: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Self::Io { op, object: object.to_string(), source: source.into() }
    }
}
