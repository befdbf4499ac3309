//! seccomp(2): loads a system call filter into the calling thread.

#![expect(unsafe_code, reason = "a system call that rustix does not have")]

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::{Errno, Result};

/// One instruction of classic BPF: the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jt: u8,
    /// Instructions to skip when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
const NEW_LISTENER: u32 = 1 << 3;

/// Loads `program` with the kernel's `flags` (`SECCOMP_FILTER_FLAG_…`). Async-signal-safe.
///
/// With `NEW_LISTENER` in `flags` the descriptor of the notifications is returned, close-on-exec.
///
/// # Errors
/// The kernel's errno: EACCES without CAP_SYS_ADMIN and no_new_privs, EINVAL for a program it refuses.
pub fn load(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `Instruction` is laid out as `struct sock_filter`; pointer and length are those of a live slice,
    // which the kernel copies and never writes; flags are an integer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            std::ptr::from_ref(&program),
        )
    };
    match result {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
        fd if flags & NEW_LISTENER != 0 => {
            let fd = libc::c_int::try_from(fd).map_err(|_| Errno::OVERFLOW)?;
            // SAFETY: the kernel has just made this descriptor for us (close-on-exec), nobody else owns it.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
        // With TSYNC, the id of a thread that could not be synchronised.
        0 => Ok(None),
        _ => Err(Errno::SRCH),
    }
}

/// Whether the kernel knows the filter flags `flags`: it looks at them before it reads a program, and is given none.
#[must_use]
pub fn knows(flags: u32) -> bool {
    // SAFETY: a null pointer is never read from: the kernel's copy fails with EFAULT.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    result == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}
