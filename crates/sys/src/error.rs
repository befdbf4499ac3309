//! The one error of this crate: an operation, what it was done to, and the system's cause.

use std::ffi::OsStr;
use std::fmt;
use std::io;

/// A [`std::result::Result`] with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A system call that did not work, shown as `operation object: cause`.
#[derive(Debug)]
pub struct Error {
    /// What was tried, such as `open`.
    pub op: &'static str,
    /// What it was tried on: a path, a pid, a name.
    pub object: String,
    /// The system's answer.
    pub source: io::Error,
}

impl Error {
    /// An error of `op` on `object`.
    pub fn new(op: &'static str, object: impl AsRef<OsStr>, source: impl Into<io::Error>) -> Self {
        Self { op, object: object.as_ref().to_string_lossy().into_owned(), source: source.into() }
    }

    /// An error that no system call gave: `cause` says what is wrong, in words.
    pub fn other(op: &'static str, object: impl AsRef<OsStr>, cause: impl Into<String>) -> Self {
        Self::new(op, object, io::Error::other(cause.into()))
    }

    /// The error number of errno(3), if the system gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether the object is not there (any more): `ENOENT`, `ESRCH` or `ENODEV`.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV))
    }
}

impl Error {
    /// The cause alone, as it is shown after the object.
    #[must_use]
    pub fn cause(&self) -> String {
        Cause(&self.source).to_string()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.op, self.object, Cause(&self.source))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Adds the operation and its object to a bare result of std or rustix.
pub trait Ctx<T> {
    /// Says that `op` was tried on `object`.
    fn ctx(self, op: &'static str, object: impl AsRef<OsStr>) -> Result<T>;

    /// The same where the object's name must be made first; it is made only on errors.
    fn ctx_with(self, op: &'static str, object: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Ctx<T> for std::result::Result<T, E> {
    fn ctx(self, op: &'static str, object: impl AsRef<OsStr>) -> Result<T> {
        self.map_err(|source| Error::new(op, object, source))
    }

    fn ctx_with(self, op: &'static str, object: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::new(op, object(), source))
    }
}

/// An I/O error without the capital and without std's ` (os error N)`.
struct Cause<'a>(&'a io::Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        if self.0.raw_os_error().is_none() {
            return f.write_str(&text);
        }
        let text = text.split(" (os error").next().unwrap_or(&text);
        let mut characters = text.chars();
        match characters.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), characters.as_str()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_operation_object_and_cause() {
        let error = std::fs::File::open("/nonexistent/x").ctx("open", "/nonexistent/x").unwrap_err();
        assert_eq!(error.to_string(), "open /nonexistent/x: no such file or directory");
        assert!(error.is_gone());
        assert_eq!(error.errno(), Some(libc::ENOENT));
        let error = Error::other("read", "/x", "larger than 5 bytes");
        assert_eq!(error.to_string(), "read /x: larger than 5 bytes");
        assert!(!error.is_gone());
        let error: io::Error = Error::new("open", "/x", rustix::io::Errno::ACCESS).into();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), "open /x: permission denied");
    }
}
