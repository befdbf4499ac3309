//! Files of /proc, by a handle that is known to be on procfs.
//!
//! A container, or a race with its start, can put other files at the paths of /proc and so turn a write
//! meant for a label or a sysctl elsewhere (CVE-2025-52881). Through this handle every file that is opened is
//! procfs's own: no mount is crossed, no magic link is followed, and the file system's magic is checked.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::open_resolved;
use crate::mount::{MountAttrFlags, new_fs};
use crate::{Ctx as _, Error, Result};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// The inode of procfs's root.
const PROC_ROOT_INO: u64 = 1;
const MAX_BYTES: u64 = 4 << 20;

/// A procfs.
#[derive(Debug)]
pub struct ProcFs {
    root: OwnedFd,
}

impl ProcFs {
    /// The one at `/proc`, seen through whatever is mounted there.
    ///
    /// # Errors
    /// If `/proc` is not the root of a procfs.
    pub fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open("/proc", flags, Mode::empty()).ctx("open", "/proc")?;
        Self::from_fd(root)
    }

    /// One of our own for this pid namespace, attached nowhere, on which nobody can mount. Where that is
    /// not allowed, the one at `/proc`.
    pub fn private() -> Result<Self> {
        match new_fs("proc", &[], MountAttrFlags::empty()) {
            Ok(root) => Self::from_fd(root),
            Err(_) => Self::open(),
        }
    }

    /// From a descriptor that should be on a procfs's root.
    ///
    /// # Errors
    /// If it is not.
    pub fn from_fd(root: OwnedFd) -> Result<Self> {
        verify(&root, "/proc")?;
        if rustix::fs::fstat(&root).ctx("stat", "/proc")?.st_ino != PROC_ROOT_INO {
            return Err(Error::other("open", "/proc", "not the root of a procfs"));
        }
        Ok(Self { root })
    }

    /// Opens `path`, such as `self/attr/exec`; close-on-exec.
    ///
    /// # Errors
    /// `EXDEV` if something is mounted on the way, `ELOOP` for a magic link.
    pub fn open_file(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
        let path = path.as_ref();
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let fd = open_resolved(&self.root, path, flags, Mode::empty(), resolve)?;
        verify(&fd, path)?;
        Ok(fd)
    }

    /// A file's content, of at most 4 MiB.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = File::from(self.open_file(path, OFlags::RDONLY)?);
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).ctx("read", path)?;
        Ok(bytes)
    }

    /// Writes a value in one write(2), as these files want it.
    pub fn write(&self, path: impl AsRef<Path>, value: impl AsRef<[u8]>) -> Result<()> {
        let path = path.as_ref();
        let mut file = File::from(self.open_file(path, OFlags::WRONLY)?);
        let value = value.as_ref();
        let written = file.write(value).ctx("write", path)?;
        if written == value.len() {
            return Ok(());
        }
        Err(Error::other("write", path, format!("{written} of {} bytes were taken", value.len())))
    }
}

impl AsFd for ProcFs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

fn verify(fd: impl AsFd, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if rustix::fs::fstatfs(fd).ctx("statfs", path)?.f_type != PROC_SUPER_MAGIC {
        return Err(Error::other("open", path, "not on procfs"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{self, Depth, Propagation};

    #[test]
    fn own_files_are_read_and_written() {
        for proc in [ProcFs::open().unwrap(), ProcFs::private().unwrap()] {
            let stat = proc.read("self/stat").unwrap();
            assert!(stat.starts_with(std::process::id().to_string().as_bytes()));
            proc.write("thread-self/comm", "renamed").unwrap();
            assert_eq!(proc.read("thread-self/comm").unwrap(), b"renamed\n");
            for (path, errno) in [("self/exe", libc::ELOOP), ("self/root/etc/passwd", libc::ELOOP)] {
                let error = proc.open_file(path, OFlags::RDONLY).unwrap_err();
                assert_eq!(error.errno(), Some(errno), "{path}");
            }
            proc.open_file("../etc/passwd", OFlags::RDONLY).unwrap_err();
            proc.open_file("/etc/passwd", OFlags::RDONLY).unwrap_err();
        }
        ProcFs::from_fd(crate::durable::open_dir(Path::new("/tmp")).unwrap()).unwrap_err();
        ProcFs::from_fd(crate::durable::open_dir(Path::new("/proc/self")).unwrap()).unwrap_err();
    }

    #[test]
    fn what_is_mounted_over_is_not_opened() {
        std::thread::spawn(|| {
            crate::ns::unshare(crate::ns::UnshareFlags::NEWNS | crate::ns::UnshareFlags::FS).unwrap();
            mount::propagate("/", Propagation::Private, Depth::Recursive).unwrap();
            let private = ProcFs::private().unwrap();
            mount::bind("/dev/null", "/proc/sys/kernel/hostname", Depth::One).unwrap();
            let error = ProcFs::open().unwrap().read("sys/kernel/hostname").unwrap_err();
            assert_eq!(error.errno(), Some(libc::EXDEV));
            assert!(!private.read("sys/kernel/hostname").unwrap().is_empty());
        })
        .join()
        .unwrap();
    }
}
