//! Signals: blocked, ignored, and read from a descriptor (signalfd(2)).

#![expect(unsafe_code, reason = "rustix leaves signal masks and dispositions to libc")]

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::{Error, Result};

/// Signals that come as data. The signals it is for are blocked in the thread that made it.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

/// One signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: i32,
    /// Who sent it, or the child that it is about.
    pub pid: i32,
    /// The sender's user id.
    pub uid: u32,
}

impl SignalFd {
    /// Blocks `signals` in this thread (and so in threads it makes) and reads them from now on.
    pub fn new(signals: &[i32]) -> Result<Self> {
        let set = set_of(signals);
        mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: -1 makes a new descriptor; the set is initialised.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(Error::new("create", "signalfd", std::io::Error::last_os_error()));
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The next signal, or `None` if none is there. Several of one kind may have become one.
    pub fn take(&self) -> Result<Option<Received>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: the buffer is ours and has the size given.
            let count = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            if usize::try_from(count).is_ok_and(|count| count == size) {
                // SAFETY: numbers only, all written by the kernel (and zeroed before).
                let info = unsafe { info.assume_init() };
                let number = |value: u32| i32::try_from(value).unwrap_or(0);
                return Ok(Some(Received {
                    signal: number(info.ssi_signo),
                    pid: number(info.ssi_pid),
                    uid: info.ssi_uid,
                }));
            }
            match std::io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EINTR) => {}
                error if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(None),
                error => return Err(Error::new("read", "signalfd", error)),
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Blocks these signals in this thread.
pub fn block(signals: &[i32]) -> Result<()> {
    mask(libc::SIG_BLOCK, &set_of(signals))
}

/// Lets all signals through in this thread.
pub fn unblock_all() -> Result<()> {
    mask(libc::SIG_SETMASK, &set_of(&[]))
}

/// Ignores a signal in this process.
pub fn ignore(signal: i32) -> Result<()> {
    disposition(signal, libc::SIG_IGN)
}

/// Gives a signal its usual effect in this process; a Rust program starts with SIGPIPE ignored.
pub fn default(signal: i32) -> Result<()> {
    disposition(signal, libc::SIG_DFL)
}

fn disposition(signal: i32, handler: libc::sighandler_t) -> Result<()> {
    // SAFETY: SIG_IGN and SIG_DFL run no code.
    if unsafe { libc::signal(signal, handler) } == libc::SIG_ERR {
        return Err(Error::new("handle signal", signal.to_string(), std::io::Error::last_os_error()));
    }
    Ok(())
}

/// All signals, as a set.
pub(super) fn full_set() -> libc::sigset_t {
    let mut set = set_of(&[]);
    // SAFETY: the set is initialised and ours.
    unsafe { libc::sigfillset(&raw mut set) };
    set
}

pub(super) fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset refuses numbers that are no signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

fn mask(how: i32, set: &libc::sigset_t) -> Result<()> {
    swap_mask(how, set).map(drop)
}

/// Changes this thread's mask and returns the old one. Async-signal-safe on success.
pub(super) fn swap_mask(how: i32, set: &libc::sigset_t) -> Result<libc::sigset_t> {
    let mut old = MaybeUninit::uninit();
    // SAFETY: the new set is initialised; the old one is written before it is read.
    match unsafe { libc::pthread_sigmask(how, set, old.as_mut_ptr()) } {
        // SAFETY: written by the successful call.
        0 => Ok(unsafe { old.assume_init() }),
        error => Err(Error::new("set", "signal mask", std::io::Error::from_raw_os_error(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read() {
        let fd = SignalFd::new(&[libc::SIGUSR1, libc::SIGRTMIN() + 3]).unwrap();
        assert_eq!(fd.take().unwrap(), None);
        // To this thread, where it is blocked.
        // SAFETY: takes a number.
        assert_eq!(unsafe { libc::raise(libc::SIGRTMIN() + 3) }, 0);
        assert!(crate::poll::readable(&fd, None).unwrap());
        let got = fd.take().unwrap().unwrap();
        assert_eq!(got.signal, libc::SIGRTMIN() + 3);
        assert_eq!(u32::try_from(got.pid).unwrap(), std::process::id());
        assert_eq!(fd.take().unwrap(), None);
    }
}
