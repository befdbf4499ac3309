//! mount(2), for options that are too long for fsconfig(2): overlay's `lowerdir` of many layers is one.
//!
//! mount(2) mounts at a path, and a path could lead elsewhere. So it mounts inside a tmpfs of our own, of which nobody else
//! has a descriptor, and what is given back is a copy of that mount, attached nowhere.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags};
use sys::mount_attr::{self, Depth, MountAttr};
use sys::{Ctx as _, Error, Result};

use super::options::MountOptions;
use super::{attach, source as fresh};

/// What the kernel copies of the options: a page of the smallest size, with a NUL at its end.
const MOST: usize = 4095;

/// The longest value that fsconfig(2) takes.
const LONGEST: usize = 255;

/// Whether an option is too long for fsconfig(2).
pub(super) fn is_needed(options: &MountOptions) -> bool {
    options.data.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.len() > LONGEST))
}

/// A new filesystem of type `kind`, mounted nowhere yet, made while a tmpfs covers `scratch`.
///
/// # Errors
/// The system's; options of 4 KiB and more.
pub(super) fn new(
    kind: &str,
    source: Option<&str>,
    options: &MountOptions,
    scratch: impl AsFd,
) -> Result<OwnedFd> {
    let source = source.filter(|source| !source.is_empty()).unwrap_or("none");
    let (flags, data) = words(kind, options);
    if data.len() >= MOST {
        return Err(Error::other(
            "mount",
            kind,
            format!("its options are of {} bytes, the kernel takes {MOST}", data.len()),
        ));
    }
    let data = CString::new(data).map_err(|_| Error::other("mount", kind, "NUL in its options"))?;
    let here = rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .ctx("open", "the working directory")?;
    let cover = tmpfs().ctx("mount", "tmpfs")?;
    attach::attach(&cover, scratch).ctx("mount", "tmpfs")?;
    let made = (|| {
        // Below a shared mount it would be shared, and what is mounted in it seen on the host.
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount_attr::set(&cover, &private, Depth::One).ctx("make private", "tmpfs")?;
        rustix::fs::mkdirat(&cover, "m", Mode::RWXU).ctx("make directory", "m")?;
        rustix::process::fchdir(&cover).ctx("change directory to", "tmpfs")?;
        rustix::mount::mount(source, "m", kind, flags, data.as_c_str()).ctx("mount", kind)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, "m", flags).ctx("open mount", kind)?;
        let only = MountOptions {
            set: options.set & !mount_attr::RDONLY,
            clear: options.clear & !mount_attr::RDONLY,
            ..MountOptions::default()
        };
        fresh::dress(&tree, &only).ctx("mount", kind)?;
        Ok(tree)
    })();
    let gone = rustix::process::fchdir(&cover)
        .and_then(|()| rustix::mount::unmount(".", UnmountFlags::DETACH))
        .ctx("unmount", "tmpfs");
    rustix::process::fchdir(&here).ctx("change directory to", "where it was")?;
    made.and_then(|tree| gone.map(|()| tree))
}

fn tmpfs() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "mode", "700")?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// The options as mount(2) wants them: flags of the superblock, and all others in one text.
fn words(kind: &str, options: &MountOptions) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    if options.readonly() && !fresh::shares_superblock(kind) {
        flags |= MountFlags::RDONLY;
    }
    let mut data: Vec<String> = Vec::with_capacity(options.data.len());
    for (name, value) in &options.data {
        match (name.as_str(), value) {
            ("sync", None) => flags |= MountFlags::SYNCHRONOUS,
            ("async", None) => flags &= !MountFlags::SYNCHRONOUS,
            ("dirsync", None) => flags |= MountFlags::DIRSYNC,
            ("lazytime", None) => flags |= MountFlags::LAZYTIME,
            ("nolazytime", None) => flags &= !MountFlags::LAZYTIME,
            ("mand" | "nomand", None) => {}
            (name, None) => data.push(name.to_owned()),
            // A label has commas of its own.
            ("context", Some(value)) => data.push(format!("context=\"{value}\"")),
            (name, Some(value)) => data.push(format!("{name}={value}")),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_text() {
        let words_of = |kind: &str, text: &str| {
            let options: Vec<String> = text.split(',').map(str::to_owned).collect();
            words(kind, &MountOptions::parse("/x", &options).unwrap())
        };
        let (flags, data) = words_of("overlay", "ro,nodev,lowerdir=/a:/b,sync,userxattr");
        assert_eq!(
            (flags, data.as_str()),
            (MountFlags::RDONLY | MountFlags::SYNCHRONOUS, "lowerdir=/a:/b,userxattr")
        );
        let label =
            MountOptions { data: vec![crate::selinux::context("a:s0:c1,c2")], ..MountOptions::default() };
        assert_eq!(words("tmpfs", &label).1, "context=\"a:s0:c1,c2\"");
        let (flags, data) = words_of("tmpfs", "ro,size=4k,lazytime,nolazytime");
        assert_eq!((flags, data.as_str()), (MountFlags::empty(), "size=4k"));
    }
}
