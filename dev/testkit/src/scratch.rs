//! A directory of the test's own.

use std::ffi::OsString;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::unique_id;

/// A directory under `/tmp` that is gone when the value is dropped, with all mounts beneath it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes `/tmp/wh-WHAT-MARK-N`, mode 0755.
    pub fn new(what: &str) -> Self {
        let path = PathBuf::from("/tmp").join(format!("wh-{}", unique_id(what)));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("mkdir {}: {error}", path.display()));
        Self { path }
    }

    /// As [`Scratch::new`], with a tmpfs of its own mounted on it: for speed, or to be filled up.
    pub fn tmpfs(what: &str, bytes: u64) -> Self {
        let scratch = Self::new(what);
        let data = std::ffi::CString::new(format!("size={bytes},mode=755")).expect("no NUL");
        mount("tmpfs", &scratch.path, "tmpfs", MountFlags::empty(), Some(data.as_c_str()))
            .unwrap_or_else(|error| panic!("mount tmpfs on {}: {error}", scratch.path.display()));
        scratch
    }

    /// The directory's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it and gives its path.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("mkdir {}: {error}", path.display()));
        path
    }
}

impl Deref for Scratch {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for point in mounts_under(&self.path).iter().rev() {
            if let Err(error) = unmount(point, UnmountFlags::DETACH) {
                eprintln!("unmount {}: {error}", point.display());
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.path)
            && self.path.exists()
        {
            eprintln!("remove {}: {error}", self.path.display());
        }
    }
}

/// Mount points at or under a directory, in the order in which they were mounted.
pub(crate) fn mounts_under(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/thread-self/mountinfo").unwrap_or_default();
    table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(unescape(field)))
        .filter(|point| point.starts_with(dir))
        .collect()
}

/// Undoes mountinfo's octal escapes (proc(5)): `\040` is a space.
fn unescape(field: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt as _;
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\' && tail.len() >= 3)
            .then(|| std::str::from_utf8(&tail[..3]).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = code {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_are_undone() {
        assert_eq!(unescape(br"/a\040b\134c"), OsString::from(r"/a b\c"));
        assert_eq!(unescape(br"/a\04"), OsString::from(r"/a\04"));
    }

    #[test]
    fn a_scratch_directory_goes_with_its_mounts() {
        let scratch = Scratch::tmpfs("scratch", 1 << 20);
        let path = scratch.path().to_owned();
        let inner = scratch.dir("in ner");
        mount("tmpfs", &inner, "tmpfs", MountFlags::empty(), None).expect("mount");
        assert_eq!(mounts_under(&path).len(), 2);
        drop(scratch);
        assert!(!path.exists() && mounts_under(&path).is_empty());
    }
}
