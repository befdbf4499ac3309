//! Files that survive: replaced whole or not at all, and on disk when the call returns.
//!
//! A reader sees the old content or the new, never a part. A writer that dies leaves at most a file that is
//! named `.tmp-PID-N`, which [`temp_owner`] tells, so that a sweeper can remove it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::{Ctx as _, Error, Result, fail};

mod tree;

pub use tree::remove_tree;

/// Whether a file must be on disk when a call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It lives in memory (tmpfs, ramfs): syncing it costs time and brings nothing.
    Memory,
    /// It is synced to the disk, and so is its directory.
    Disk,
}

impl Durability {
    /// What files in the directory `dir` need (statfs(2)).
    pub fn of(dir: impl AsFd) -> Result<Self> {
        const TMPFS: i64 = 0x0102_1994;
        const RAMFS: i64 = 0x8584_58f6;
        let kind = rustix::fs::fstatfs(dir).ctx("statfs", "directory")?.f_type;
        Ok(if [TMPFS, RAMFS].contains(&kind) { Self::Memory } else { Self::Disk })
    }
}

/// Replaces the file `name` in the directory `dir` by one with this content and mode (the umask is not
/// applied): a temporary file, fsync(2), rename(2), fsync of the directory. Works the same for a new file.
///
/// On an error the old file is still there, whole, and the temporary one removed.
pub fn replace(
    dir: impl AsFd,
    name: impl AsRef<Path>,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<()> {
    let (dir, name) = (dir.as_fd(), name.as_ref());
    let temp = temp_name();
    let result = write_temp(dir, &temp, bytes, mode, durability).and_then(|()| {
        fail::point("durable.rename").ctx("rename", name)?;
        rustix::fs::renameat(dir, temp.as_str(), dir, name).ctx("rename", name)
    });
    if let Err(error) = result {
        // The first error is the one to tell; a temporary file that stays is swept later.
        let _ = rustix::fs::unlinkat(dir, temp.as_str(), AtFlags::empty());
        return Err(error);
    }
    fail::point("durable.renamed").ctx("sync", name)?;
    if durability == Durability::Disk {
        rustix::fs::fsync(dir).ctx("sync directory of", name)?;
    }
    Ok(())
}

/// [`replace`] by path, as durable as the directory can be.
pub fn replace_path(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
    let (dir, name) = split(path.as_ref())?;
    let dir = open_dir(dir)?;
    let durability = Durability::of(&dir)?;
    replace(&dir, name, bytes, mode, durability)
}

/// Removes the file at `path`. One that is not there is removed already.
pub fn remove(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match rustix::fs::unlink(path).ctx("remove", path) {
        Err(error) if error.is_gone() || error.errno() == Some(libc::ENOTDIR) => Ok(()),
        result => result,
    }
}

/// The content of the regular file at `path`, of at most `max_bytes` bytes.
///
/// # Errors
/// One that says so when the file is larger, or is a pipe, a device, a directory.
pub fn read_bounded(path: impl AsRef<Path>, max_bytes: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    // O_NONBLOCK: a FIFO without a writer must not hold us.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ctx("open", path)?);
    let stat = rustix::fs::fstat(&file).ctx("stat", path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::other("read", path, "not a regular file"));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0).min(max_bytes);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).ctx("read", path)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > max_bytes) {
        return Err(Error::other("read", path, format!("larger than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// The pid of the process that made the temporary file `name`, if it is one of [`replace`].
#[must_use]
pub fn temp_owner(name: &str) -> Option<i32> {
    let (pid, number) = name.strip_prefix(".tmp-")?.split_once('-')?;
    number.parse::<u64>().ok()?;
    pid.parse().ok().filter(|pid| *pid > 0)
}

/// A name for a temporary file that nobody else makes up meanwhile.
pub(crate) fn temp_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(".tmp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn write_temp(
    dir: BorrowedFd<'_>,
    temp: &str,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<()> {
    fail::point("durable.write").ctx("write", temp)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || rustix::fs::openat(dir, temp, flags, Mode::from_raw_mode(0o600));
    let fd = match open() {
        // Left by a process that had this pid before: its owner is dead.
        Err(rustix::io::Errno::EXIST) => {
            rustix::fs::unlinkat(dir, temp, AtFlags::empty()).ctx("remove", temp)?;
            open()
        }
        result => result,
    };
    let mut file = File::from(fd.ctx("create", temp)?);
    file.write_all(bytes).ctx("write", temp)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).ctx("chmod", temp)?;
    if durability == Durability::Disk {
        rustix::fs::fsync(&file).ctx("sync", temp)?;
    }
    Ok(())
}

/// A path's directory (`.` where it has none) and its last name.
pub(crate) fn split(path: &Path) -> Result<(&Path, &Path)> {
    let name = path.file_name().ok_or_else(|| Error::other("open", path, "no file name"))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((dir, Path::new(name)))
}

/// Opens a directory for use with the `*at` calls and for fsync.
pub(crate) fn open_dir(path: &Path) -> Result<std::os::fd::OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .ctx("open", path)
}

#[cfg(test)]
pub(crate) mod tests;
