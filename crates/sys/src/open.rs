//! Opening paths that somebody else may change under our hands (openat2(2)).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

pub use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Ctx as _, Error, Result};

pub mod procfs;

/// How often a walk that renames elsewhere disturbed is begun again.
const MAX_TRIES: u32 = 128;

/// Opens `path` as a process would whose root is `root`: absolute paths, links and `..` stay within.
/// Close-on-exec; magic links of /proc are not followed.
///
/// # Errors
/// `EAGAIN` if somebody kept renaming directories all the while.
pub fn open_in_root(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    open_resolved(root, path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` below `dir`; one that leads out of it, by `..`, a link or a leading slash, is an error
/// (`EXDEV`). Close-on-exec; magic links of /proc are not followed.
pub fn open_beneath(dir: impl AsFd, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    open_resolved(dir, path, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` with these restrictions; close-on-exec.
pub fn open_resolved(
    dir: impl AsFd,
    path: impl AsRef<Path>,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let path = path.as_ref();
    for _ in 0..MAX_TRIES {
        match rustix::fs::openat2(&dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result.ctx("open", path),
        }
    }
    Err(Error::new("open", path, Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::durable::open_dir;
    use crate::durable::tests::TempDir;

    #[test]
    fn links_stay_in_the_root() {
        let dir = TempDir::new("in-root");
        std::fs::create_dir_all(dir.0.join("root/etc")).unwrap();
        std::fs::write(dir.0.join("secret"), "out").unwrap();
        std::fs::write(dir.0.join("root/secret"), "in").unwrap();
        symlink("/secret", dir.0.join("root/absolute")).unwrap();
        symlink("../../../secret", dir.0.join("root/etc/up")).unwrap();
        symlink("/proc/self/root", dir.0.join("root/magic")).unwrap();
        let root = open_dir(&dir.0.join("root")).unwrap();
        for path in ["absolute", "/absolute", "etc/up", "../secret", "/etc/../../secret"] {
            let fd = open_in_root(&root, path, OFlags::RDONLY, Mode::empty()).unwrap();
            let mut buffer = [0; 8];
            let len = rustix::io::read(&fd, &mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"in", "{path}");
        }
        for path in ["absolute", "etc/up", "../secret", "/secret"] {
            let error = open_beneath(&root, path, OFlags::RDONLY, Mode::empty()).unwrap_err();
            assert_eq!(error.errno(), Some(libc::EXDEV), "{path}");
        }
        open_beneath(&root, "etc/../secret", OFlags::RDONLY, Mode::empty()).unwrap();
        assert!(open_in_root(&root, "magic", OFlags::RDONLY, Mode::empty()).unwrap_err().is_gone());
        let slash = open_dir(Path::new("/")).unwrap();
        let error = open_in_root(&slash, "/proc/self/root/tmp", OFlags::RDONLY, Mode::empty()).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP));
    }
}
