//! Masked and read-only paths: opened in-root once, and covered by descriptor.
//!
//! What covers a masked file is the host's own null device, whose type and number are checked; a container's /dev/null
//! may be anything (CVE-2025-31133).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, major, makedev, minor};
use sys::mount_attr::{self, Depth, MountAttr};
use sys::{Ctx, Error, Result};

use crate::inroot;
use crate::mounts::attach::attach;
use crate::mounts::options::MountOptions;
use crate::mounts::source;
use crate::selinux;

/// Covers `masked` and makes `readonly` read-only, all of them paths in `root`. What is not there is left alone.
///
/// What covers directories has the SELinux label `label`, if there is one.
pub(super) fn apply(
    root: BorrowedFd<'_>,
    masked: &[String],
    readonly: &[String],
    label: Option<&str>,
) -> Result<()> {
    for path in readonly {
        let Some(target) = open(root, path)? else { continue };
        let tree = copy(&target).ctx("make read-only", path)?;
        let attr = MountAttr { set: mount_attr::RDONLY, ..MountAttr::default() };
        mount_attr::set(&tree, &attr, Depth::All).ctx("make read-only", path)?;
        attach(&tree, &target).ctx("make read-only", path)?;
    }
    let mut null: Option<OwnedFd> = None;
    let mut empty: Option<OwnedFd> = None;
    for path in masked {
        let Some(target) = open(root, path)? else { continue };
        let stat = fstat(&target).ctx("stat", path)?;
        let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match &empty {
                // One empty filesystem for all: a further mount of it costs less than another.
                Some(empty) => source::tree_of(empty).ctx("mask", path)?,
                None => {
                    let made = empty_dir(path, label)?;
                    attach(&made, &target).ctx("mask", path)?;
                    empty = Some(made);
                    continue;
                }
            }
        } else {
            if null.is_none() {
                null = Some(host_null()?);
            }
            let Some(null) = &null else { continue };
            source::tree_of(null).ctx("mask", path)?
        };
        attach(&cover, &target).ctx("mask", path)?;
    }
    Ok(())
}

fn open(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    match inroot::open(root, path, OFlags::PATH) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn copy(target: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::{OpenTreeFlags as F, open_tree};
    let flags = F::OPEN_TREE_CLONE | F::OPEN_TREE_CLOEXEC | F::AT_EMPTY_PATH | F::AT_RECURSIVE;
    open_tree(target, "", flags)
}

fn empty_dir(path: &str, label: Option<&str>) -> Result<OwnedFd> {
    let some = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let mut data =
        vec![some("size", "0"), some("nr_blocks", "1"), some("nr_inodes", "2"), some("mode", "755")];
    data.extend(label.map(selinux::context));
    let set = mount_attr::RDONLY | mount_attr::NOSUID | mount_attr::NODEV | mount_attr::NOEXEC;
    let options = MountOptions { data, set, ..MountOptions::default() };
    let made = source::new("tmpfs", Some("tmpfs"), &options)?;
    source::dress(&made, &options).ctx("mask", path)?;
    Ok(made)
}

/// The null device as the runtime sees it.
fn host_null() -> Result<OwnedFd> {
    let path = "/dev/null";
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ctx("open", path)?;
    let stat = fstat(file.as_fd()).ctx("stat", path)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if device && stat.st_rdev == makedev(1, 3) {
        return Ok(file);
    }
    let found = format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
    Err(Error::other("open", path, format!("not the null device but {found}")))
}
