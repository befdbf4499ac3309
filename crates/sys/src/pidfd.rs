//! A process that stays the one it was, however pids are used again (pidfd_open(2)).

#![expect(unsafe_code, reason = "system calls that rustix does not have")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags};

use crate::process::WaitStatus;
use crate::{Ctx as _, Error, Result, poll, proc};

/// A handle on one process. It is readable, for poll(2), once the process has ended, waited for or not.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    pid: i32,
}

impl PidFd {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// [`Error::is_gone`] if there is none.
    pub fn open(pid: i32) -> Result<Self> {
        let object = || pid.to_string();
        let raw = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH);
        let raw = raw.ctx_with("open pidfd of", object)?;
        let fd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).ctx_with("open pidfd of", object)?;
        Ok(Self { fd, pid })
    }

    /// The process `pid` that started at `start_time` ([`proc::start_time`]), or `None` if that one is gone
    /// (and perhaps another has its pid). One that has ended and nobody waited for is still there.
    pub fn open_verified(pid: i32, start_time: u64) -> Result<Option<Self>> {
        let fd = match Self::open(pid) {
            Err(error) if error.is_gone() => return Ok(None),
            fd => fd?,
        };
        // After the open: whoever has this start time is who we hold.
        match proc::start_time(pid) {
            Ok(time) if time == start_time => Ok(Some(fd)),
            Ok(_) => Ok(None),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// From a descriptor that came in from elsewhere (`SCM_RIGHTS`, clone3(2)); `pid` is only shown.
    #[must_use]
    pub fn from_fd(fd: OwnedFd, pid: i32) -> Self {
        Self { fd, pid }
    }

    /// The pid it was opened by. It says nothing once the process has been waited for.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal (pidfd_send_signal(2)); 0 only checks.
    ///
    /// # Errors
    /// [`Error::is_gone`] if the process has been waited for.
    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: takes a descriptor that we own, a number, and a null pointer that stands for "none".
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 {
            return Ok(());
        }
        Err(Error::new("signal", self.pid.to_string(), std::io::Error::last_os_error()))
    }

    /// Whether the process has ended. A zombie has.
    pub fn is_dead(&self) -> Result<bool> {
        self.wait(Some(Duration::ZERO))
    }

    /// Waits until the process has ended, without reaping it: `false` after `timeout`, `None` waits for ever.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        poll::readable(&self.fd, timeout).ctx_with("wait for", || self.pid.to_string())
    }

    /// How the process ended, whoever's child it was, or `None` if it runs or the kernel can't tell.
    ///
    /// A zombie's status is in `/proc/PID/stat`; the status of one that was waited for is kept by Linux 6.15
    /// for who had opened a pidfd before (`PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`).
    pub fn exit_status(&self) -> Result<Option<WaitStatus>> {
        if !self.is_dead()? {
            return Ok(None);
        }
        if let Some(status) = self.kept_status() {
            return Ok(Some(status));
        }
        if let Ok(stat) = proc::stat(self.pid)
            && stat.state == 'Z'
            && self.signal(0).is_ok()
        {
            return Ok(Some(WaitStatus::from_raw(stat.exit_code)));
        }
        // It may have been reaped between the two questions.
        Ok(self.kept_status())
    }

    fn kept_status(&self) -> Option<WaitStatus> {
        let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the request's size is that of the structure, which is ours to be written.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
        (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| WaitStatus::from_raw(info.exit_code))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xFF, 11, struct pidfd_info)` with the structure's first published size, 64 bytes.
const PIDFD_GET_INFO: libc::c_ulong = (3 << 30) | (64 << 16) | (0xff << 8) | 11;

/// `struct pidfd_info` of linux/pidfd.h.
#[derive(Default)]
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    /// pid, tgid, ppid; real, effective, saved and file system uid and gid, in pairs.
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
    }

    fn pid_of(child: &std::process::Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[test]
    fn tells_a_running_process_from_a_dead_one() {
        let mut child = sleeper();
        let pid = pid_of(&child);
        let fd = PidFd::open(pid).unwrap();
        assert!(!fd.is_dead().unwrap());
        assert!(!fd.wait(Some(Duration::from_millis(10))).unwrap());
        assert_eq!(fd.exit_status().unwrap(), None);
        fd.signal(0).unwrap();
        fd.signal(libc::SIGTERM).unwrap();
        assert!(fd.wait(None).unwrap());
        assert!(fd.is_dead().unwrap(), "a zombie is dead");
        assert_eq!(fd.exit_status().unwrap().unwrap().signal(), Some(libc::SIGTERM));
        child.wait().unwrap();
        assert!(fd.is_dead().unwrap());
        assert!(fd.signal(0).unwrap_err().is_gone());
        assert!(PidFd::open(pid).is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn the_status_of_one_that_was_waited_for_is_kept() {
        let mut child =
            Command::new("sh").args(["-c", "read x; exit 7"]).stdin(Stdio::piped()).spawn().unwrap();
        let fd = PidFd::open(pid_of(&child)).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let status = fd.exit_status().unwrap();
        // Kernels before 6.15 have forgotten.
        assert!(status.is_none_or(|status| status.code() == Some(7)));
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let version: Vec<u32> = release.split('.').map_while(|part| part.parse().ok()).collect();
        if version >= vec![6, 15] {
            assert_eq!(status.unwrap().exit(), model::Exit::Code(7));
        }
    }

    #[test]
    fn verifies_by_start_time() {
        let mut child = sleeper();
        let pid = pid_of(&child);
        let time = proc::start_time(pid).unwrap();
        let fd = PidFd::open_verified(pid, time).unwrap().unwrap();
        assert_eq!(fd.pid(), pid);
        assert!(PidFd::open_verified(pid, time + 1).unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(PidFd::open_verified(pid, time).unwrap().is_none());
        assert!(PidFd::open_verified(0, 1).unwrap().is_none());
        assert!(PidFd::open_verified(-5, 1).unwrap().is_none());
    }
}
