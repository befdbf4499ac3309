//! Signals as readable events.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// A signal that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    /// Its number.
    pub signal: i32,
    /// Who sent it, or the child it tells of; 0 for the kernel.
    pub pid: u32,
}

/// Signals that are blocked and read from a non-blocking descriptor instead (signalfd(2)).
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// Blocks `signals` for this process and all it forks ([`super::Launch`] unblocks them again).
    ///
    /// # Errors
    /// Descriptors or memory are short.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: a sigset_t is plain data; it is initialised by sigemptyset before anything reads it, and the pointers are
        // to this live local. signalfd gives a new descriptor that nobody else owns.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for &signal in signals {
                libc::sigaddset(&raw mut set, signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { fd: OwnedFd::from_raw_fd(fd) })
        }
    }

    /// The next signal that was received; `None` when there is none.
    #[must_use]
    pub fn next(&self) -> Option<Caught> {
        // SAFETY: a signalfd_siginfo is plain numbers, and read(2) fills in at most its size.
        unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            let got = libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size);
            if usize::try_from(got) != Ok(size) {
                return None;
            }
            Some(Caught { signal: i32::try_from(info.ssi_signo).ok()?, pid: info.ssi_pid })
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

extern "C" fn leave(_signal: libc::c_int) {
    // SAFETY: _exit(2) is async-signal-safe.
    unsafe { libc::_exit(1) }
}

/// From now on `signal` ends the process at once with status 1 (until it is blocked).
pub fn exit_at_once_on(signal: i32) {
    // SAFETY: the handler has the right type and calls nothing but _exit.
    unsafe {
        libc::signal(signal, leave as extern "C" fn(libc::c_int) as libc::sighandler_t);
    }
}
