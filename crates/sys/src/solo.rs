//! For a process of one thread that begets children: fork, launch, reap, signals, inherited descriptors.
//!
//! What is here is sound only without other threads: [`fork`] and [`Launch::start`] refuse to run beside any.

#![expect(unsafe_code, reason = "fork, wait4, signalfd and raw descriptors have no safe wrappers")]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

mod launch;
mod memory;
mod signals;

pub use launch::Launch;
pub use memory::give_back_memory;
pub use signals::{Caught, SignalFd, exit_at_once_on};

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The parent, with the child's pid.
    Parent(i32),
    /// The child.
    Child,
}

/// Whether the calling process has but one thread, as the kernel counts.
fn single_threaded() -> bool {
    // Unsharing CLONE_THREAD would ask the kernel the same, but only with CAP_SYS_ADMIN out of the way; the link count of
    // /proc/self/task is 2 + the number of threads.
    rustix::fs::stat("/proc/self/task").is_ok_and(|stat| stat.st_nlink == 3)
}

/// Forks (fork(2)).
///
/// # Errors
/// The process has threads (EDEADLK), or pids or memory are short.
pub fn fork() -> io::Result<Forked> {
    if !single_threaded() {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    // SAFETY: the process has one thread (checked above), so the child finds no lock held by anybody else and may
    // do all that the parent may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid)),
    }
}

/// A child that has ended and was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Its pid, free for use by others now.
    pub pid: i32,
    /// How it ended.
    pub exit: model::Exit,
    /// What it and those it waited for used.
    pub usage: model::Usage,
}

/// Waits for any child that has ended; `None` when none has (wait4(2), WNOHANG).
///
/// # Errors
/// ECHILD: there are no children at all.
pub fn reap_any() -> io::Result<Option<Reaped>> {
    wait(-1, libc::WNOHANG)
}

/// Waits until the child `pid` (-1: any) has ended.
///
/// # Errors
/// ECHILD: it is no child.
pub fn reap_blocking(pid: i32) -> io::Result<Reaped> {
    loop {
        match wait(pid, 0) {
            Ok(Some(reaped)) => return Ok(reaped),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn wait(pid: i32, flags: i32) -> io::Result<Option<Reaped>> {
    let mut status = 0;
    // SAFETY: an rusage is plain numbers, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live, writable values of the right types.
    let pid = unsafe { libc::wait4(pid, &raw mut status, flags, &raw mut usage) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        return Ok(None);
    }
    let byte = |n: i32| u8::try_from(n & 0xff).unwrap_or(u8::MAX);
    let exit = if libc::WIFSIGNALED(status) {
        model::Exit::Signal(byte(libc::WTERMSIG(status)))
    } else {
        model::Exit::Code(byte(libc::WEXITSTATUS(status)))
    };
    let micros = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000)
            + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    let usage = model::Usage {
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    };
    Ok(Some(Reaped { pid, exit, usage }))
}

/// The descriptors above 2 that are open now. To be called first of all, before the program opens any.
#[must_use]
pub fn inherited() -> Vec<RawFd> {
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers: Vec<RawFd> = listing
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    // The listing's own descriptor is among them, and closed by now.
    numbers.into_iter().filter(|&fd| descriptor_flags(fd).is_ok()).collect()
}

/// Takes over the inherited descriptor `fd` and marks it close-on-exec.
///
/// To be called once for a number, and for none that something in this program has opened.
///
/// # Errors
/// EBADF: it is not open.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let flags = descriptor_flags(fd)?;
    // SAFETY: fcntl with F_SETFD takes an int and touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (asked above), and by the contract of this function nothing else in the program owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes inherited descriptors that nothing in the program has adopted.
pub fn close_inherited(fds: &[RawFd]) {
    for &fd in fds {
        if fd > 2 {
            // SAFETY: closing a number touches no memory; the caller vouches that no owner is left behind.
            unsafe { libc::close(fd) };
        }
    }
}

fn descriptor_flags(fd: RawFd) -> io::Result<i32> {
    // SAFETY: fcntl with F_GETFD takes no argument and touches no memory.
    match unsafe { libc::fcntl(fd, libc::F_GETFD) } {
        -1 => Err(io::Error::last_os_error()),
        flags => Ok(flags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_open_is_not_adopted() {
        assert!(adopt(-1).is_err());
        assert!(adopt(9999).is_err());
    }

    #[test]
    fn without_children_there_is_nothing_to_reap() {
        // nextest and cargo test both run this process without children of its own
        assert_eq!(reap_any().map_err(|e| e.raw_os_error()), Err(Some(libc::ECHILD)));
    }
}
