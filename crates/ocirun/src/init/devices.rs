//! Device files in /dev, and the links that programs expect there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use model::oci::LinuxDevice;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, statat, symlinkat};
use rustix::io::Errno;
use sys::{Ctx, Error, Result};

use crate::inroot;
use crate::mounts::attach::attach;
use crate::mounts::source;

/// Makes `devices`, or mounts those of the host where they can't be made (`trees`, by index).
pub(super) fn make(root: BorrowedFd<'_>, devices: &[LinuxDevice], trees: &[Option<OwnedFd>]) -> Result<()> {
    for (index, device) in devices.iter().enumerate() {
        let tree = trees.get(index).and_then(Option::as_ref);
        if device.path == "/dev/ptmx" {
            continue; // devpts has one of its own
        }
        match tree {
            Some(tree) => bind(root, device, tree.as_fd())?,
            None => node(root, device)?,
        }
    }
    Ok(())
}

/// The type and number that `device` is to have.
fn identity(device: &LinuxDevice) -> Result<(FileType, u64)> {
    let number = |value: i64| {
        u32::try_from(value).map_err(|_| Error::other("make device", &device.path, "not a device number"))
    };
    Ok(match device.kind.as_str() {
        "p" => (FileType::Fifo, 0),
        "b" => (FileType::BlockDevice, makedev(number(device.major)?, number(device.minor)?)),
        _ => (FileType::CharacterDevice, makedev(number(device.major)?, number(device.minor)?)),
    })
}

fn node(root: BorrowedFd<'_>, device: &LinuxDevice) -> Result<()> {
    let (kind, number) = identity(device)?;
    let (dir, name) = inroot::parent(root, &device.path)?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match mknodat(&dir, name, kind, mode, number) {
        Ok(()) => {
            let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
            if (uid, gid) == (0, 0) {
                return Ok(());
            }
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .ctx("change owner of", &device.path)
        }
        Err(Errno::EXIST) => {
            // An image that brings its own devices; it must be that one.
            let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).ctx("stat", &device.path)?;
            if FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == number {
                return Ok(());
            }
            let tree = host(device).ctx("make device", &device.path)?;
            bind(root, device, tree.as_fd())
        }
        Err(Errno::PERM) => {
            let tree = host(device).ctx("make device", &device.path)?;
            bind(root, device, tree.as_fd())
        }
        Err(error) => Err(Error::new("make device", &device.path, error)),
    }
}

/// The host's file of the device, as a detached mount.
///
/// # Errors
/// The system's; `ENXIO` when what the host has there is another device.
pub(crate) fn host(device: &LinuxDevice) -> rustix::io::Result<OwnedFd> {
    let (kind, number) = identity(device).map_err(|_| Errno::INVAL)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = rustix::fs::open(&device.path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != kind || kind != FileType::Fifo && stat.st_rdev != number {
        return Err(Errno::NXIO);
    }
    source::tree_of(&file)
}

fn bind(root: BorrowedFd<'_>, device: &LinuxDevice, tree: BorrowedFd<'_>) -> Result<()> {
    let target = target(root, &device.path)?;
    attach(tree, target).ctx("mount device", &device.path)
}

/// A file to mount on, which is no link: one that is in the way goes.
pub(super) fn target(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let (dir, name) = inroot::parent(root, path)?;
    for _ in 0..2 {
        match mknodat(&dir, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::new("make file", path, error)),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, name, flags, Mode::empty()).ctx("open", path)?;
        let stat = rustix::fs::fstat(&file).ctx("stat", path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty()).ctx("remove link", path)?;
            }
            FileType::Directory => return Err(Error::new("open", path, Errno::ISDIR)),
            _ => return Ok(file),
        }
    }
    Err(Error::new("open", path, Errno::LOOP))
}

/// The links of /dev (config-linux.md, "Dev symbolic links").
pub(super) fn links(root: BorrowedFd<'_>) -> Result<()> {
    let dev = inroot::make_dirs(root, "/dev")?;
    let mut links = vec![
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    if rustix::fs::access("/proc/kcore", rustix::fs::Access::EXISTS).is_ok() {
        links.push(("core", "/proc/kcore"));
    }
    for (name, target) in links {
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::new("make link", format!("/dev/{name}"), error)),
        }
    }
    // The terminals are those of the container's devpts.
    match rustix::fs::unlinkat(&dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::BUSY) => {}
        Err(error) => return Err(Error::new("remove", "/dev/ptmx", error)),
    }
    match symlinkat("pts/ptmx", &dev, "ptmx") {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::new("make link", "/dev/ptmx", error)),
    }
}
