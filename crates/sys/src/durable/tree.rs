//! Removing a directory with all it holds.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{open_dir, split, temp_name};
use crate::{Ctx as _, Result};

/// How deep we hold a descriptor open per level; what lies deeper is first moved up.
const MAX_DEPTH: usize = 64;
/// How many names are tried that somebody may have taken.
const MAX_NAMES: u32 = 64;
/// How often a directory is looked through again: somebody may be filling it.
const MAX_PASSES: u32 = 100_000;

/// Removes `path` and everything below. What is not there is removed already.
///
/// Symbolic links are removed, not followed, and mounts are not entered: one makes this fail with `EBUSY`
/// or `EXDEV`. It goes on after an error, removes what it can, and tells the first error.
pub fn remove_tree(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let (parent, name) = split(path)?;
    let parent = match open_dir(parent) {
        Err(error) if error.is_gone() => return Ok(()),
        parent => parent?,
    };
    let name = CString::new(name.as_os_str().as_encoded_bytes()).map_err(std::io::Error::from);
    let name = name.ctx("remove", path)?;
    remove_entry(parent.as_fd(), &name, None, 0).ctx("remove", path)
}

/// Removes one entry of `dir`. `top` is the directory to move what is too deep into.
fn remove_entry(
    dir: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    top: Option<BorrowedFd<'_>>,
    depth: usize,
) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    // EPERM: a directory on some file systems, or a file that is immutable.
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Errno::PERM);
    }
    if let Some(top) = top.filter(|_| depth >= MAX_DEPTH) {
        return move_up(dir, name, top);
    }
    let inner = match open_below(dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        inner => inner?,
    };
    empty(inner.as_fd(), top, depth)?;
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Moves a directory into `top` under a name that is free.
fn move_up(dir: BorrowedFd<'_>, name: &std::ffi::CStr, top: BorrowedFd<'_>) -> Result<(), Errno> {
    for _ in 0..MAX_NAMES {
        match rustix::fs::renameat(dir, name, top, temp_name()) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            result => return result,
        }
    }
    Err(Errno::EXIST)
}

/// Removes all entries of `dir`, in passes until there are none: what is too deep appears at the top.
fn empty(dir: BorrowedFd<'_>, top: Option<BorrowedFd<'_>>, depth: usize) -> Result<(), Errno> {
    for _ in 0..MAX_PASSES {
        let names = names(dir)?;
        let mut first_error = None;
        for name in &names {
            if let Err(error) = remove_entry(dir, name, Some(top.unwrap_or(dir)), depth + 1) {
                first_error.get_or_insert(error);
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        if names.is_empty() {
            return Ok(());
        }
    }
    Err(Errno::NOTEMPTY)
}

fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Opens the directory `name`, which must be one itself and on the same mount (openat2(2)).
fn open_below(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    loop {
        match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
            // A rename elsewhere in the tree disturbed the walk.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}
