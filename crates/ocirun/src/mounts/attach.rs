//! Putting mounts in place: the target is opened in-root, and the mount is moved onto that descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, fstat};
use rustix::mount::{MoveMountFlags, move_mount};
use sys::{Ctx, Error, Result};

use super::options::MountOptions;
use super::{old, source};
use crate::plan::may_cover_proc;
use crate::{inroot, procfs};

/// Moves the detached `mount` onto `target`. Neither is looked up again.
///
/// # Errors
/// The system's.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// What is at a mount's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Directory,
    File,
}

fn kind_of(file: impl AsFd, name: &str) -> Result<Target> {
    let stat = fstat(file).ctx("stat", name)?;
    let dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(if dir { Target::Directory } else { Target::File })
}

/// The directory `destination`, made if need be, to mount on.
///
/// # Errors
/// The system's; a destination that a link of the image leads into a procfs.
pub(crate) fn directory(root: BorrowedFd<'_>, destination: &str) -> Result<OwnedFd> {
    inroot::make_dirs(root, destination).and_then(|target| outside_proc(target, destination))
}

/// What config.json says of /proc was checked by name; a link can lead any other name there.
fn outside_proc(target: OwnedFd, destination: &str) -> Result<OwnedFd> {
    if procfs::is_procfs(&target).ctx("stat", destination)? && !may_cover_proc(destination) {
        return Err(Error::other("mount", destination, "a link leads it into /proc"));
    }
    Ok(target)
}

/// Attaches a tree that was prepared outside at `destination`, making the mount point if need be.
///
/// # Errors
/// The system's.
pub(crate) fn bind(root: BorrowedFd<'_>, destination: &str, tree: BorrowedFd<'_>) -> Result<()> {
    let target = match kind_of(tree, destination)? {
        Target::Directory => directory(root, destination)?,
        Target::File => {
            inroot::make_file(root, destination).and_then(|target| outside_proc(target, destination))?
        }
    };
    attach(tree, target).ctx("mount", destination)
}

/// Mounts a new filesystem of type `kind` at `destination`.
///
/// # Errors
/// The system's; a mount point of proc or sysfs that is reached through a link.
pub(crate) fn filesystem(
    root: BorrowedFd<'_>,
    destination: &str,
    kind: &str,
    source: Option<&str>,
    options: &MountOptions,
) -> Result<OwnedFd> {
    let target = directory(root, destination)?;
    if matches!(kind, "proc" | "sysfs") {
        // A link would let an image choose what our and the container's writes to these reach.
        inroot::open_plain(root, destination, OFlags::PATH | OFlags::DIRECTORY)?;
    }
    let mount = if old::is_needed(options) {
        old::new(kind, source, options, &target)?
    } else {
        source::new(kind, source, options)?
    };
    if kind == "tmpfs" {
        like_below(&target, &mount, destination, options)?;
    }
    if let Some(label) = &options.root_label {
        let root =
            rustix::fs::openat(&mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, 0.into())
                .ctx("open", destination)?;
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&root, "security.selinux", label.as_bytes(), none).ctx("label", destination)?;
    }
    if options.tmpcopyup {
        copy_up(&target, &mount, destination)?;
    }
    for (propagation, all) in &options.propagation {
        let only = MountOptions { propagation: vec![(*propagation, *all)], ..MountOptions::default() };
        source::dress(&mount, &only).ctx("set propagation of", destination)?;
    }
    attach(&mount, &target).ctx("mount", destination)?;
    Ok(mount)
}

/// A tmpfs that is not told its mode has that of the directory that it covers.
fn like_below(target: &OwnedFd, mount: &OwnedFd, name: &str, options: &MountOptions) -> Result<()> {
    if options.data.iter().any(|(name, _)| name == "mode") {
        return Ok(());
    }
    let stat = fstat(target).ctx("stat", name)?;
    let dir = rustix::fs::openat(mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, 0.into())
        .ctx("open", name)?;
    rustix::fs::fchmod(&dir, rustix::fs::Mode::from_raw_mode(stat.st_mode & 0o7777))
        .ctx("change mode of", name)
}

/// Makes the mount at `destination` read-only, and only that one.
///
/// # Errors
/// The system's.
pub(crate) fn make_readonly(mount: impl AsFd, destination: &str) -> Result<()> {
    let options = MountOptions { set: sys::mount_attr::RDONLY, ..MountOptions::default() };
    source::dress(mount, &options).ctx("make read-only", destination)
}

/// Changes a mount that is there.
///
/// # Errors
/// The system's.
pub(crate) fn remount(root: BorrowedFd<'_>, destination: &str, options: &MountOptions) -> Result<()> {
    let mount = inroot::open(root, destination, OFlags::PATH)?;
    source::dress(mount, options).ctx("remount", destination)
}

/// Copies what is in `from` into the empty filesystem `to`.
fn copy_up(from: &OwnedFd, to: &OwnedFd, name: &str) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = rustix::fs::openat(from, ".", flags, 0.into()).ctx("copy up", name)?;
    let to = rustix::fs::openat(to, ".", flags, 0.into()).ctx("copy up", name)?;
    copy_dir(&from, &to, name, 0)
}

const MAX_DEPTH: usize = 64;

fn copy_dir(from: &OwnedFd, to: &OwnedFd, path: &str, depth: usize) -> Result<()> {
    use rustix::fs::{Mode, RawDir, openat};
    if depth > MAX_DEPTH {
        return Err(Error::other("copy up", path, "directories are nested too deep"));
    }
    let mut space = Vec::with_capacity(8192);
    let mut entries = RawDir::new(from, space.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.ctx("read", path)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let path = format!("{path}/{}", name.to_string_lossy());
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).ctx("stat", &path)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let nofollow = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, mode).ctx("make directory", &path)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | nofollow;
                let below = openat(from, name, flags, Mode::empty()).ctx("open", &path)?;
                let made = openat(to, name, flags, Mode::empty()).ctx("open", &path)?;
                copy_dir(&below, &made, &path, depth + 1)?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new()).ctx("read link", &path)?;
                rustix::fs::symlinkat(link, to, name).ctx("make link", &path)?;
            }
            FileType::RegularFile => {
                let source =
                    openat(from, name, OFlags::RDONLY | nofollow, Mode::empty()).ctx("open", &path)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | nofollow;
                let copy = openat(to, name, flags, mode).ctx("make file", &path)?;
                std::io::copy(&mut std::fs::File::from(source), &mut std::fs::File::from(copy))
                    .ctx("copy", &path)?;
            }
            other => rustix::fs::mknodat(to, name, other, mode, stat.st_rdev).ctx("make", &path)?,
        }
        let owner = rustix::fs::Uid::from_raw(stat.st_uid);
        let group = rustix::fs::Gid::from_raw(stat.st_gid);
        rustix::fs::chownat(to, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .ctx("change owner of", &path)?;
        if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::Symlink) {
            rustix::fs::chmodat(to, name, mode, AtFlags::empty()).ctx("change mode of", &path)?;
        }
    }
    Ok(())
}
