//! Mounts by descriptor (open_tree(2), move_mount(2), fsopen(2), mount_setattr(2)) and by path (mount(2)).

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
pub use rustix::mount::MountAttrFlags;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::{Ctx as _, Error, Result};

/// Whether something is done to one mount or also to those below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// To this mount.
    One,
    /// To this mount and all below.
    Recursive,
}

/// How mounts and unmounts pass on to other namespaces and copies (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Both ways.
    Shared,
    /// From the master only.
    Slave,
    /// Not at all, and it can't be bind mounted.
    Unbindable,
}

impl Propagation {
    fn raw(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }

    fn flags(self) -> MountPropagationFlags {
        match self {
            Self::Private => MountPropagationFlags::PRIVATE,
            Self::Shared => MountPropagationFlags::SHARED,
            Self::Slave => MountPropagationFlags::DOWNSTREAM,
            Self::Unbindable => MountPropagationFlags::UNBINDABLE,
        }
    }
}

/// A copy of the mount at `path` below `dir` that is attached nowhere yet: what a bind mount starts with. An
/// empty path is `dir` itself.
pub fn clone_tree(dir: impl AsFd, path: impl AsRef<Path>, depth: Depth) -> Result<OwnedFd> {
    let path = path.as_ref();
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == Depth::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags).ctx("clone mount", path)
}

/// Attaches the detached mount `mount` on what `target` is open on (`O_PATH` will do).
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags).ctx("attach mount to", "descriptor")
}

/// Attaches the detached mount `mount` at `path` below `dir`; a link at its end is not followed.
pub fn attach_at(mount: impl AsFd, dir: impl AsFd, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    rustix::mount::move_mount(mount, "", dir, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .ctx("attach mount at", path)
}

/// One parameter of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param<'a> {
    /// A name alone, such as `ro`.
    Flag(&'a str),
    /// A name and a value, such as `size`.
    Value(&'a str, &'a str),
}

/// A new mount of the file system `kind`, attached nowhere yet. The kernel's explanation, where it logs one,
/// is part of the error.
pub fn new_fs(kind: &str, params: &[Param<'_>], attr: MountAttrFlags) -> Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).ctx("open file system", kind)?;
    let explain = |error: Errno, what: &str| match messages(context.as_fd()) {
        text if text.is_empty() => Error::new("mount", format!("{kind} ({what})"), error),
        text => Error::new("mount", format!("{kind} ({what}; {text})"), error),
    };
    for param in params {
        match param {
            Param::Flag(name) => rustix::mount::fsconfig_set_flag(&context, *name),
            Param::Value(name, value) => rustix::mount::fsconfig_set_string(&context, *name, *value),
        }
        .map_err(|error| match param {
            Param::Flag(name) | Param::Value(name, _) => explain(error, name),
        })?;
    }
    rustix::mount::fsconfig_create(&context).map_err(|error| explain(error, "create"))?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attr)
        .map_err(|error| explain(error, "mount"))
}

/// What the kernel logged on a file system context.
fn messages(context: BorrowedFd<'_>) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(len @ 1..) = rustix::io::read(context, &mut buffer) {
        text.extend(String::from_utf8_lossy(&buffer[..len]).trim().chars());
        text.push(' ');
    }
    text.iter().collect::<String>().trim().to_owned()
}

/// What to change with [`set_attr`].
#[derive(Debug, Clone, Copy)]
pub struct Attr<'a> {
    /// Attributes to set.
    pub set: MountAttrFlags,
    /// Attributes to clear. To change the access time mode, this has `MOUNT_ATTR__ATIME`.
    pub clear: MountAttrFlags,
    /// How it propagates from now on.
    pub propagation: Option<Propagation>,
    /// Map ids as this user namespace does; for a detached mount that is not mapped yet.
    pub id_map: Option<BorrowedFd<'a>>,
}

impl Default for Attr<'_> {
    fn default() -> Self {
        let none = MountAttrFlags::empty();
        Self { set: none, clear: none, propagation: None, id_map: None }
    }
}

/// Changes attributes of a mount that `mount` is open on, attached or not (mount_setattr(2), Linux 5.12).
#[expect(unsafe_code, reason = "a system call that rustix does not have")]
pub fn set_attr(mount: impl AsFd, attr: Attr<'_>, depth: Depth) -> Result<()> {
    let mut set = attr.set;
    set.set(MountAttrFlags::MOUNT_ATTR_IDMAP, attr.id_map.is_some());
    let raw = RawAttr {
        set: u64::from(set.bits()),
        clear: u64::from(attr.clear.bits()),
        propagation: attr.propagation.map_or(0, Propagation::raw),
        userns: attr.id_map.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    let recursive = if depth == Depth::Recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty string, and a structure of ours with its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const raw,
            size_of::<RawAttr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(Error::new("set attributes of", "mount", std::io::Error::last_os_error()))
}

/// `struct mount_attr`.
#[repr(C)]
struct RawAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Changes how the mount at `path` propagates.
pub fn propagate(path: impl AsRef<Path>, propagation: Propagation, depth: Depth) -> Result<()> {
    let path = path.as_ref();
    let mut flags = propagation.flags();
    if depth == Depth::Recursive {
        flags |= MountPropagationFlags::REC;
    }
    rustix::mount::mount_change(path, flags).ctx("change propagation of", path)
}

/// Mounts what is at `source` at `target` too. Both are followed: for paths that nobody else can change.
pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>, depth: Depth) -> Result<()> {
    let target = target.as_ref();
    match depth {
        Depth::One => rustix::mount::mount_bind(source.as_ref(), target),
        Depth::Recursive => rustix::mount::mount_bind_recursive(source.as_ref(), target),
    }
    .ctx("bind mount to", target)
}

/// Whether an unmount waits for users to let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// It fails with `EBUSY` while used.
    IfUnused,
    /// It is gone from here at once, with all mounts below, and for good when the last user lets go.
    Detach,
}

/// Unmounts what is at `path`, which is not followed: whether there was a mount.
pub fn unmount(path: impl AsRef<Path>, how: Unmount) -> Result<bool> {
    let path = path.as_ref();
    let flags = match how {
        Unmount::IfUnused => UnmountFlags::NOFOLLOW,
        Unmount::Detach => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(path, flags) {
        Ok(()) => Ok(true),
        // EINVAL: not a mount point.
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::new("unmount", path, error)),
    }
}

/// Whether something is mounted exactly at `path`, which is not followed.
pub fn is_mount_point(path: impl AsRef<Path>) -> Result<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
    let path = path.as_ref();
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(Error::new("stat", path, error)),
    }
}

/// Makes the directory `root`, which must be a mount, this mount namespace's root, and lets go of the old
/// one: nothing of it can be reached from here any more (pivot_root(2)).
///
/// The old root is detached in this namespace only if it does not propagate: see [`propagate`].
pub fn pivot_into(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(&root).ctx("enter", "new root")?;
    // The old root comes to lie on the new one, and is the one that is unmounted (pivot_root(2), NOTES).
    rustix::process::pivot_root(".", ".").ctx("pivot to", "new root")?;
    propagate(".", Propagation::Slave, Depth::Recursive)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).ctx("unmount", "old root")?;
    rustix::process::chdir("/").ctx("enter", "/")
}

#[cfg(test)]
mod tests;
