//! Reaping children (wait4(2)).

#![expect(unsafe_code, reason = "rustix does not have wait4")]

use model::Usage;

use super::WaitStatus;
use crate::{Error, Result};

/// A child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Its pid, which is free now.
    pub pid: i32,
    /// How it ended.
    pub status: WaitStatus,
    /// What it and the children it waited for used.
    pub usage: Usage,
}

/// What a wait found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reap {
    /// This one ended.
    Ended(Reaped),
    /// None has ended.
    Running,
    /// There is no such child.
    NoChild,
}

/// Reaps the child `pid` if it has ended; does not wait.
pub fn wait_pid(pid: i32) -> Result<Reap> {
    wait4(pid, libc::WNOHANG)
}

/// Reaps the child `pid` when it ends.
pub fn wait_pid_blocking(pid: i32) -> Result<Reap> {
    wait4(pid, 0)
}

/// Reaps any child that has ended; does not wait. For a process that has no other way to wait, as another
/// part's child would be taken from it.
pub fn wait_any() -> Result<Reap> {
    wait4(-1, libc::WNOHANG)
}

/// Reaps any child, and waits until one ends.
pub fn wait_any_blocking() -> Result<Reap> {
    wait4(-1, 0)
}

fn wait4(pid: i32, flags: i32) -> Result<Reap> {
    let mut status = 0;
    // SAFETY: rusage is numbers only, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to variables of ours that live through the call.
        match unsafe { libc::wait4(pid, &raw mut status, flags | libc::__WALL, &raw mut usage) } {
            0 => return Ok(Reap::Running),
            -1 => match std::io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EINTR) => {}
                error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Reap::NoChild),
                error => return Err(Error::new("wait for", pid.to_string(), error)),
            },
            pid => {
                let status = WaitStatus::from_raw(status);
                return Ok(Reap::Ended(Reaped { pid, status, usage: convert(&usage) }));
            }
        }
    }
}

fn convert(usage: &libc::rusage) -> Usage {
    let microseconds = |time: libc::timeval| {
        u64::try_from(time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec)).unwrap_or(0)
    };
    Usage {
        user_us: microseconds(usage.ru_utime),
        system_us: microseconds(usage.ru_stime),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    }
}
