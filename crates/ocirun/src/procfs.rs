//! /proc as the host has it, held by a descriptor that was checked, so that no mount of a container can stand in for it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2};
use sys::{Ctx, Error, Result};

/// `PROC_SUPER_MAGIC` of statfs(2).
pub(crate) const MAGIC: u64 = 0x9fa0;
/// The inode of procfs's root.
const ROOT_INODE: u64 = 1;

/// Whether `file` is on a procfs.
///
/// # Errors
/// The system's.
pub(crate) fn is_procfs(file: impl AsFd) -> rustix::io::Result<bool> {
    Ok(u64::try_from(fstatfs(file)?.f_type) == Ok(MAGIC))
}

/// A procfs.
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// Opens /proc and checks that it is the root of a procfs.
    ///
    /// # Errors
    /// The system's; something else is mounted there.
    pub(crate) fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open("/proc", flags, Mode::empty()).ctx("open", "/proc")?;
        let inode = fstat(&dir).ctx("stat", "/proc")?.st_ino;
        if !is_procfs(&dir).ctx("stat", "/proc")? || inode != ROOT_INODE {
            return Err(Error::other("open", "/proc", "not the root of a procfs"));
        }
        Ok(Self(dir))
    }

    /// Writes `value` to the file `path` of this procfs, and of no other filesystem.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn write(&self, path: &str, value: &[u8]) -> Result<()> {
        // No XDEV: nothing mounted below; no magic links: only `self` is a link here, and it leads to a directory.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let name = format!("/proc/{path}");
        let file = openat2(&self.0, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
            .ctx("open", &name)?;
        if !is_procfs(&file).ctx("stat", &name)? {
            return Err(Error::other("open", &name, "not a file of procfs"));
        }
        let written = rustix::io::write(&file, value).ctx("write", &name)?;
        if written == value.len() { Ok(()) } else { Err(Error::other("write", name, "not taken whole")) }
    }
}
