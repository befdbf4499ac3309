//! This process and its children: forking, running programs, reaping, signals, capabilities.

use std::os::fd::RawFd;

use crate::{Ctx as _, Error, Result};

pub mod caps;
pub mod command;
pub mod fork;
pub mod oom;
pub mod signal;
mod status;
pub mod wait;

pub use command::{Child, Command, Session, Stopped};
pub use fork::{Fork, exit_now, fork};
pub use signal::SignalFd;
pub use status::WaitStatus;
pub use wait::{Reap, Reaped, wait_any, wait_pid};

/// Makes orphans below this process its children (prctl(2), `PR_SET_CHILD_SUBREAPER`).
pub fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ctx("set subreaper", "self")
}

/// Starts a session, without a terminal (setsid(2)). Fails with `EPERM` for a group's leader.
pub fn setsid() -> Result<()> {
    rustix::process::setsid().map(drop).ctx("start session", "self")
}

/// No exec gives this process, or what it starts, more rights (`PR_SET_NO_NEW_PRIVS`).
pub fn set_no_new_privs() -> Result<()> {
    rustix::thread::set_no_new_privs(true).ctx("set no_new_privs", "self")
}

/// Whether others of this user may look into this process and core dumps are made (`PR_SET_DUMPABLE`).
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    use rustix::process::DumpableBehavior;
    let behavior = if dumpable { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    rustix::process::set_dumpable_behavior(behavior).ctx("set dumpable", "self")
}

/// The name of this thread, as ps(1) shows it; the kernel keeps 15 bytes (`PR_SET_NAME`).
pub fn set_name(name: &str) -> Result<()> {
    let object = name;
    let name = std::ffi::CString::new(name).map_err(std::io::Error::from).ctx("set name", object)?;
    rustix::thread::set_name(&name).ctx("set name", object)
}

/// Has this process killed with `signal` when the thread that made it ends (`PR_SET_PDEATHSIG`).
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    // SAFETY: takes numbers only.
    #[expect(unsafe_code, reason = "rustix has it for its own signal type, without real-time signals")]
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
    if result == 0 {
        return Ok(());
    }
    Err(Error::new("set parent death signal", signal.to_string(), std::io::Error::last_os_error()))
}

/// Sets close-on-exec on all descriptors from `first` on (close_range(2), Linux 5.11).
pub fn cloexec_from(first: RawFd) -> Result<()> {
    close_range(first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes all descriptors from `first` on but those in `keep`.
///
/// For a program's first lines only: descriptors that it holds in an `OwnedFd` must be in `keep`, since they
/// would be closed a second time later.
pub fn close_inherited(first: RawFd, keep: &[RawFd]) -> Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd >= first).collect();
    keep.sort_unstable();
    let mut next = first;
    for fd in keep {
        if fd > next {
            close_range(next, fd - 1, 0)?;
        }
        next = fd.saturating_add(1);
    }
    close_range(next, RawFd::MAX, 0)
}

fn close_range(first: RawFd, last: RawFd, flags: u32) -> Result<()> {
    // SAFETY: takes numbers only. Which descriptors are closed is the contract of the callers above.
    #[expect(unsafe_code, reason = "a system call that rustix does not have")]
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 {
        return Ok(());
    }
    Err(Error::new("close descriptors from", first.to_string(), std::io::Error::last_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_what_this_thread_is() {
        set_name("wharf-test-name-that-is-long").unwrap();
        assert_eq!(rustix::thread::name().unwrap().to_bytes(), b"wharf-test-name");
        set_no_new_privs().unwrap();
        assert!(rustix::thread::no_new_privs().unwrap());
        become_subreaper().unwrap();
    }
}
