//! Forking this process as it is.

#![expect(unsafe_code, reason = "fork(2)")]

use crate::pidfd::PidFd;
use crate::{Ctx as _, Error, Result};

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub enum Fork {
    /// The old process, with the new one.
    Parent(PidFd),
    /// The new process.
    Child,
}

/// Makes a copy of this process, which must have one thread (fork(2)).
///
/// The child goes on with everything that this process has: end it by [`exit_now`] or an exec, since
/// destructors that run twice may undo the parent's work.
///
/// # Errors
/// With more than one thread, where the child could hang on locks that the others held: checked.
pub fn fork() -> Result<Fork> {
    let threads = threads()?;
    if threads != 1 {
        return Err(Error::other("fork", "self", format!("{threads} threads run")));
    }
    // SAFETY: there is no other thread, so the child's memory and locks are in order.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        -1 => Err(Error::new("fork", "self", std::io::Error::last_os_error())),
        // Nobody else waits for it, so the pid is still the child's.
        pid => PidFd::open(pid).map(Fork::Parent),
    }
}

/// Ends this process at once: no destructors, no buffers written (_exit(2)).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// How many threads this process has.
pub fn threads() -> Result<u64> {
    let stat = rustix::fs::stat("/proc/self/task").ctx("stat", "/proc/self/task")?;
    Ok(stat.st_nlink.saturating_sub(2))
}
