//! Processes cloned into namespaces, and the system calls that only such a process needs.
//!
//! [`clone`] is a fork(2): its child goes on with a copy of this program's memory. That is sound only where no other
//! thread could hold a lock, so it asks for the proof [`SingleThread`].

#![expect(unsafe_code, reason = "clone3, setns, execve and their kin have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{Ctx, Error, Result};

/// The proof that this process has one thread. Holds as long as nobody starts another.
#[derive(Debug, Clone, Copy)]
pub struct SingleThread(());

impl SingleThread {
    /// Counts this process's threads: a directory below /proc/self/task for each.
    ///
    /// # Errors
    /// Where there are more than one, or /proc can't be read.
    pub fn check() -> Result<Self> {
        let stat = rustix::fs::stat("/proc/self/task").ctx("stat", "/proc/self/task")?;
        match stat.st_nlink {
            3 => Ok(Self(())),
            links => Err(Error::other(
                "clone",
                "this process",
                format!("it has {} threads", links.saturating_sub(2)),
            )),
        }
    }
}

/// Which side of a [`clone`] goes on.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The old one, with the pid and the pidfd of the new.
    Parent {
        /// As seen from here.
        pid: i32,
        /// Close-on-exec.
        pidfd: OwnedFd,
    },
}

/// `struct clone_args` of linux/sched.h, second version.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) with `namespaces` (`CLONE_NEW…`) and other `CLONE_…` flags that need no memory; into the cgroup v2
/// directory `cgroup` if there is one.
///
/// # Errors
/// The system's.
pub fn clone(_proof: SingleThread, flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        // With CLONE_PARENT the kernel refuses a signal of its own choice.
        exit_signal: if flags & u64::from(libc::CLONE_PARENT.cast_unsigned()) == 0 {
            libc::SIGCHLD as u64
        } else {
            0
        },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: args is a valid clone_args of the size given and pidfd outlives the call. No memory is shared, so the child
    // has its own copy of everything; there is one thread (the proof), so no lock of the copy is held by nobody.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Cloned::Child),
        Ok(pid) if pid > 0 => {
            // SAFETY: the kernel made this descriptor for us, nobody else knows it.
            Ok(Cloned::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// setns(2): joins the namespaces `flags` of a pidfd, or the one namespace that is open.
///
/// # Errors
/// The system's.
pub fn setns(fd: impl AsFd, flags: i32) -> io::Result<()> {
    // SAFETY: takes a descriptor and a number, touches no memory of ours.
    check(unsafe { libc::setns(fd.as_fd().as_raw_fd(), flags) })
}

/// unshare(2).
///
/// # Errors
/// The system's.
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: takes a number. CLONE_FILES, the one flag that could confuse owners of descriptors, only copies the table.
    check(unsafe { libc::unshare(flags) })
}

/// execve(2); comes back only with an error.
#[must_use]
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: path is NUL-terminated, both arrays are arrays of NUL-terminated strings that end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// execveat(2) of the open file `fd`; comes back only with an error.
#[must_use]
pub fn fexecve(fd: impl AsFd, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: the path is an empty string, both arrays end with a null pointer and hold NUL-terminated strings.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Ends the process at once, running nothing: _exit(2).
pub fn exit_now(status: i32) -> ! {
    // SAFETY: does not come back, runs no handler of ours.
    unsafe { libc::_exit(status) }
}

/// Unblocks every signal and gives each its default action.
pub fn reset_signals() {
    // SAFETY: an all-zero sigaction is SIG_DFL without flags; the set is a valid, empty one.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        for signal in 1..=64 {
            // SIGKILL, SIGSTOP and the two of the C library can't be set, and need not.
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Marks every descriptor from `first` on close-on-exec, and closes none: close_range(2).
///
/// # Errors
/// The system's.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers; no descriptor is closed, so no owner is cheated.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// A new anonymous session keyring, named `name`: keyctl(2).
///
/// # Errors
/// The system's.
pub fn join_session_keyring(name: &CStr) -> io::Result<()> {
    // SAFETY: KEYCTL_JOIN_SESSION_KEYRING reads the NUL-terminated name.
    let ring = unsafe { libc::syscall(libc::SYS_keyctl, 1, name.as_ptr(), 0, 0, 0) };
    check(ring.min(0))?;
    // The container's own processes may find and link it: as runc has it, search for user and others' link.
    let mut text = [0u8; 256];
    // SAFETY: KEYCTL_DESCRIBE writes into a buffer whose size is given.
    let len = unsafe { libc::syscall(libc::SYS_keyctl, 6, ring, text.as_mut_ptr(), text.len(), 0) };
    let Ok(len @ 1..=256) = usize::try_from(len) else { return Ok(()) };
    let text = String::from_utf8_lossy(&text[..len]);
    if let Some(mask) = text.split(';').nth(3).and_then(|mask| u32::from_str_radix(mask, 16).ok()) {
        // SAFETY: KEYCTL_SETPERM takes numbers.
        check(unsafe { libc::syscall(libc::SYS_keyctl, 5, ring, u64::from(mask | 0x0008_0000), 0, 0) })?;
    }
    Ok(())
}

/// Lets this process run on all processors that its cpuset has: what whoever called us was bound to is not for a container.
pub fn reset_affinity() {
    // As many as the kernel can be built for (NR_CPUS). It takes those that are there, out of the cpuset.
    let mask = [u64::MAX; 8192 / 64];
    // SAFETY: the mask is only read, and its size is given. Refused, where a filter of the caller's does that, we stay bound.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&mask), mask.as_ptr()) };
}

/// set_mempolicy(2) for this process, with the nodes as bits.
///
/// # Errors
/// The system's.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one off the number of bits.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask is only read, and has as many bits as are named.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) })
}

/// ioprio_set(2) for this process.
///
/// # Errors
/// The system's.
pub fn set_io_priority(class: u16, priority: u16) -> io::Result<()> {
    let value = i32::from(class) << 13 | i32::from(priority);
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, value) })
}

/// personality(2).
///
/// # Errors
/// The system's.
pub fn set_personality(domain: u64) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::personality(domain) }.min(0))
}

/// What sched_setattr(2) takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SchedAttr {
    size: u32,
    /// `SCHED_…`.
    pub policy: u32,
    /// `SCHED_FLAG_…`.
    pub flags: u64,
    /// Of `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// Of `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Of `SCHED_DEADLINE`, in nanoseconds.
    pub runtime: u64,
    /// Of `SCHED_DEADLINE`, in nanoseconds.
    pub deadline: u64,
    /// Of `SCHED_DEADLINE`, in nanoseconds.
    pub period: u64,
}

/// sched_setattr(2) for this process.
///
/// # Errors
/// The system's.
pub fn set_scheduler(attr: SchedAttr) -> io::Result<()> {
    let attr = SchedAttr { size: 48, ..attr };
    // SAFETY: attr is a sched_attr of the size that it gives, read only.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
}

/// Takes capability `number` out of the bounding set.
///
/// # Errors
/// The system's; `EINVAL` if the kernel does not know it.
pub fn drop_bounding(number: u8) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) })
}

/// Puts capability `number` into the ambient set; it must be permitted and inheritable.
///
/// # Errors
/// The system's.
pub fn raise_ambient(number: u8) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(number), 0, 0)
    })
}

/// Empties the ambient set.
///
/// # Errors
/// The system's.
pub fn clear_ambient() -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })
}

/// Sets the three capability sets of this process, bit N for capability N: capset(2), third version.
///
/// # Errors
/// The system's.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header(u32, i32);
    let header = Header(0x2008_0522, 0);
    let low = |set: u64| (set & 0xffff_ffff) as u32;
    let data = [
        [low(effective), low(permitted), low(inheritable)],
        [low(effective >> 32), low(permitted >> 32), low(inheritable >> 32)],
    ];
    // SAFETY: header and data have the layout of version 3, both are only read (the version is known to the kernel).
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}

/// Turns the loopback interface of this network namespace on.
///
/// # Errors
/// The system's.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero ifreq is valid; both ioctls read its name and read or write its flags.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = 108; // "lo"
        request.ifr_name[1] = 111;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request))?;
        #[expect(clippy::cast_possible_truncation, reason = "IFF_UP is 1")]
        {
            request.ifr_ifru.ifru_flags |= libc::IFF_UP as i16;
        }
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request))
    }
}

fn check(result: impl Into<i64>) -> io::Result<()> {
    if result.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threaded_process_gets_no_proof() {
        // The test harness runs this test in a thread of its own.
        let error = SingleThread::check().unwrap_err().to_string();
        assert!(error.starts_with("clone this process: it has "), "{error}");
    }

    #[test]
    fn what_an_unknown_program_gives() {
        let error = execve(c"/nonexistent", &[], &[]);
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
