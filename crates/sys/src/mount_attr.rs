//! mount_setattr(2): attributes, propagation and id mapping of mounts, by descriptor.

#![expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Mount is read-only.
pub const RDONLY: u64 = 0x1;
/// Set-user-id bits count for nothing.
pub const NOSUID: u64 = 0x2;
/// Device files can't be opened.
pub const NODEV: u64 = 0x4;
/// Nothing can be executed.
pub const NOEXEC: u64 = 0x8;
/// The bits that say how access times are kept.
pub const ATIME_MASK: u64 = 0x70;
/// Access times are not kept.
pub const NOATIME: u64 = 0x10;
/// Access times are always kept.
pub const STRICTATIME: u64 = 0x20;
/// Access times of directories are not kept.
pub const NODIRATIME: u64 = 0x80;
/// Ids are mapped.
pub const IDMAP: u64 = 0x10_0000;
/// Symbolic links are not followed.
pub const NOSYMFOLLOW: u64 = 0x20_0000;

/// What changes.
#[derive(Debug, Default)]
pub struct MountAttr<'fd> {
    /// Bits that are set.
    pub set: u64,
    /// Bits that are cleared first.
    pub clear: u64,
    /// One of `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE`, `MS_UNBINDABLE`, or 0 for no change.
    pub propagation: u64,
    /// The user namespace whose mapping is used with [`IDMAP`].
    pub userns: Option<BorrowedFd<'fd>>,
}

/// Whether the mounts below are changed too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// This mount.
    One,
    /// This mount and all below it.
    All,
}

/// Whether the kernel has the call, as it does from Linux 5.12 on.
#[must_use]
pub fn is_supported() -> bool {
    // SAFETY: no attributes are read: -1 is no descriptor, or the call is not known.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), libc::AT_EMPTY_PATH, 0, 0) };
    result >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// Changes the mount that `mount` is the root of.
///
/// # Errors
/// The system's.
pub fn set(mount: impl AsFd, attr: &MountAttr<'_>, depth: Depth) -> io::Result<()> {
    #[repr(C)]
    struct Raw {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let userns = attr.userns.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned()));
    let raw = Raw { set: attr.set, clear: attr.clear, propagation: attr.propagation, userns };
    let flags = libc::AT_EMPTY_PATH | if depth == Depth::All { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty string and raw a mount_attr of the size given; both are only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<Raw>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
