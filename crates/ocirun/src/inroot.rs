//! Paths inside a root that the container may change: opened by descriptor, never joined and checked.
//!
//! Every look-up is one openat2(2) with `RESOLVE_IN_ROOT`: links, absolute ones too, stay inside, and links of
//! procfs are not followed. What is made is made below a descriptor that was opened so.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, mkdirat, mknodat, openat2, readlinkat};
use rustix::io::Errno;
use sys::{Ctx, Error, Result};

/// As many links as the kernel follows in one look-up.
const MAX_LINKS: usize = 40;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path` in `root` with `flags`; links are followed.
///
/// # Errors
/// The system's.
pub(crate) fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    raw(root, path, flags, IN_ROOT).ctx("open", path)
}

/// Opens `path` in `root` only if no component of it is a link.
///
/// # Errors
/// The system's; `ELOOP` if there is a link.
pub(crate) fn open_plain(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    raw(root, path, flags, IN_ROOT | ResolveFlags::NO_SYMLINKS).ctx("open", path)
}

fn raw(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename went on elsewhere while the kernel looked: it can't tell, so it asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Opens the directory `path` in `root`, `O_PATH`, and makes what is missing of it, mode 0755.
///
/// # Errors
/// The system's; too many links; a component that is no directory.
pub(crate) fn make_dirs(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match raw(root, path, flags, IN_ROOT) {
        Err(Errno::NOENT) => {}
        result => return result.ctx("open", path),
    }
    let mut links = 0;
    let mut todo: Vec<String> = components(path);
    let mut done = String::from("/");
    let mut at = raw(root, "/", flags, IN_ROOT).ctx("open", "/")?;
    while !todo.is_empty() {
        let name = todo.remove(0);
        let next = join(&done, &name);
        match raw(root, &next, flags, IN_ROOT) {
            Ok(dir) => (at, done) = (dir, next),
            Err(Errno::NOENT) => match mkdirat(&at, &name, Mode::from_raw_mode(0o755)) {
                Ok(()) => todo.insert(0, name),
                Err(Errno::EXIST) => {
                    // A link to nothing: what it points to is made.
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::new("make directory", path, Errno::LOOP));
                    }
                    match readlinkat(&at, &name, Vec::new()) {
                        Ok(link) => {
                            let link = link.to_string_lossy().into_owned();
                            let rest = std::mem::take(&mut todo);
                            if link.starts_with('/') {
                                done = String::from("/");
                                at = raw(root, "/", flags, IN_ROOT).ctx("open", "/")?;
                            }
                            todo = components(&link).into_iter().chain(rest).collect();
                        }
                        // Somebody made it just now.
                        Err(Errno::INVAL | Errno::NOENT) => todo.insert(0, name),
                        Err(error) => return Err(Error::new("read link", next, error)),
                    }
                }
                Err(error) => return Err(Error::new("make directory", next, error)),
            },
            Err(error) => return Err(Error::new("open", next, error)),
        }
    }
    Ok(at)
}

/// Opens the file `path` in `root`, `O_PATH`, and makes an empty one if nothing is there.
///
/// # Errors
/// The system's.
pub(crate) fn make_file(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    match raw(root, path, OFlags::PATH, IN_ROOT) {
        Err(Errno::NOENT) => {}
        result => return result.ctx("open", path),
    }
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let (parent, name) = split(&path);
        let dir = make_dirs(root, parent)?;
        match mknodat(&dir, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::new("make file", path, error)),
        }
        match raw(root, &path, OFlags::PATH, IN_ROOT) {
            Err(Errno::NOENT) => {}
            result => return result.ctx("open", path),
        }
        let link = readlinkat(&dir, name, Vec::new()).ctx("read link", &path)?.to_string_lossy().into_owned();
        path = if link.starts_with('/') { link } else { join(parent, &link) };
    }
    Err(Error::new("make file", path, Errno::LOOP))
}

/// The directory that `path` is in, made if need be, and the last component's name.
///
/// # Errors
/// As [`make_dirs`]; a path without a last component.
pub(crate) fn parent<'a>(root: BorrowedFd<'_>, path: &'a str) -> Result<(OwnedFd, &'a str)> {
    let (parent, name) = split(path);
    if matches!(name, "" | "." | "..") {
        return Err(Error::other("open", path, "not the name of a file"));
    }
    Ok((make_dirs(root, parent)?, name))
}

/// The whole of a small regular file in `root`.
///
/// # Errors
/// The system's; a file that is not regular or larger than `max` bytes.
pub(crate) fn read(root: BorrowedFd<'_>, path: &str, max: usize) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let file = open(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = rustix::fs::fstat(file.as_fd()).ctx("stat", path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::other("read", path, "not a regular file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    std::fs::File::from(file).take(limit.saturating_add(1)).read_to_end(&mut bytes).ctx("read", path)?;
    if bytes.len() > max {
        return Err(Error::other("read", path, format!("larger than {max} bytes")));
    }
    Ok(bytes)
}

fn components(path: &str) -> Vec<String> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned).collect()
}

fn join(dir: &str, name: &str) -> String {
    format!("{}/{name}", dir.trim_end_matches('/'))
}

fn split(path: &str) -> (&str, &str) {
    path.trim_end_matches('/').rsplit_once('/').unwrap_or(("/", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wh-inroot-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("root")).unwrap();
            Self(path)
        }

        fn root(&self) -> OwnedFd {
            std::fs::File::open(self.0.join("root")).unwrap().into()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn links_stay_inside() {
        let dir = Dir::new("links");
        let inside = dir.0.join("root");
        symlink("/etc", inside.join("absolute")).unwrap();
        symlink("../../../../..", inside.join("up")).unwrap();
        symlink("/not/there", inside.join("dangling")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        let root = dir.root();
        make_dirs(root.as_fd(), "/absolute/a/b").unwrap();
        assert!(inside.join("etc/a/b").is_dir());
        make_dirs(root.as_fd(), "up/up/c").unwrap();
        assert!(inside.join("c").is_dir());
        make_file(root.as_fd(), "/dangling/file").unwrap();
        assert!(inside.join("not/there/file").is_file());
        symlink("new", inside.join("filelink")).unwrap();
        make_file(root.as_fd(), "/filelink").unwrap();
        assert!(inside.join("new").is_file());
        assert!(make_dirs(root.as_fd(), "/loop/x").is_err());
        assert!(make_dirs(root.as_fd(), "/new/x").is_err());
        assert!(open_plain(root.as_fd(), "/absolute", OFlags::PATH).is_err());
    }

    #[test]
    fn reads_only_small_regular_files() {
        let dir = Dir::new("read");
        let inside = dir.0.join("root");
        std::fs::write(inside.join("a"), "12345").unwrap();
        symlink("/a", inside.join("b")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, inside.join("fifo"), Mode::RUSR).unwrap();
        let root = dir.root();
        assert_eq!(read(root.as_fd(), "/b", 5).unwrap(), b"12345");
        assert!(read(root.as_fd(), "/a", 4).is_err());
        assert!(read(root.as_fd(), "/fifo", 5).is_err());
        assert!(read(root.as_fd(), "/", 5).is_err());
    }
}
