//! Keeps a container from this program's file (CVE-2019-5736).
//!
//! A process that enters a container is, until its execve(2), this program: /proc/PID/exe leads to its file, and a container
//! whose program is `/proc/self/exe` even executes it. So the program runs from a mount of its own that is read-only and
//! attached nowhere, so that nobody can change that; or from a sealed copy in memory, where such a mount can't be made.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{
    AtFlags, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
};
use sys::mount_attr::{self, Depth, MountAttr};
use sys::{Ctx as _, Error, spawn};

use crate::error::Result;
use crate::mounts::source;

const SELF: &str = "/proc/self/exe";

/// Executes this program again from a protected file, unless it runs from one. It has the same arguments, and of its
/// descriptors the first three and `kept` more; all of them with `None`.
///
/// # Errors
/// The system's; else it does not come back.
pub fn reexec(args: &[OsString], kept: Option<u32>) -> Result<()> {
    if is_protected()? {
        return Ok(());
    }
    let file = match readonly_mount() {
        Ok(file) => file,
        Err(_) => sealed_copy()?,
    };
    let text = |text: &OsString| CString::new(text.as_bytes()).map_err(std::io::Error::from);
    let args: Vec<CString> = args.iter().map(text).collect::<std::io::Result<_>>().ctx("exec", SELF)?;
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let entry = [name.into_vec(), value.into_vec()].join(&b'=');
            CString::new(entry).ok()
        })
        .collect();
    if let Some(kept) = kept {
        // What was handed to us by mistake ends here, and not with the container.
        spawn::cloexec_from(3 + kept).ctx("close", "descriptors")?;
    }
    Err(Error::new("exec", SELF, spawn::fexecve(&file, &args, &env)).into())
}

/// Whether this program runs from a protected file.
///
/// # Errors
/// The system's.
pub fn is_protected() -> Result<bool> {
    let file = open(Path::new(SELF), OFlags::PATH)?;
    let readonly = rustix::fs::fstatvfs(&file).ctx("stat", SELF)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    let stat = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE).ctx("stat", SELF)?;
    if readonly && stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(true);
    }
    let name = std::fs::read_link(SELF).ctx("read link", SELF)?;
    if !name.as_os_str().as_bytes().starts_with(b"/memfd:") {
        return Ok(false);
    }
    let file = open(Path::new(SELF), OFlags::RDONLY)?;
    let seals = rustix::fs::fcntl_get_seals(&file).ctx("read seals of", SELF)?;
    Ok(seals.contains(SealFlags::WRITE | SealFlags::SEAL))
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).ctx("open", path)
}

fn readonly_mount() -> Result<OwnedFd, Error> {
    let tree = source::tree(Path::new(SELF), false)?;
    let attr = MountAttr { set: mount_attr::RDONLY, ..MountAttr::default() };
    mount_attr::set(&tree, &attr, Depth::One).ctx("make read-only", SELF)?;
    // It goes with the last descriptor, that is with the execve(2): then it is in no namespace, and can't be changed.
    Ok(tree)
}

fn sealed_copy() -> Result<OwnedFd, Error> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create(c"wharf-oci", flags).ctx("make", "sealed copy")?;
    let mut source = std::fs::File::from(open(Path::new(SELF), OFlags::RDONLY)?);
    let mut target = std::fs::File::from(copy);
    std::io::copy(&mut source, &mut target).ctx("copy", SELF)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(target.as_fd(), seals).ctx("seal", "copy")?;
    rustix::fs::fchmod(target.as_fd(), Mode::from_raw_mode(0o500)).ctx("change mode of", "copy")?;
    Ok(target.into())
}
