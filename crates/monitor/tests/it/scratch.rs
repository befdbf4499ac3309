//! Directories that go when a test is over.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A directory of the test's own.
pub(crate) struct Scratch {
    path: PathBuf,
    mounted: bool,
}

impl Scratch {
    pub(crate) fn new(what: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/wh-{what}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self { path, mounted: false }
    }

    /// One that is a tmpfs with so many KiB.
    pub(crate) fn tmpfs(what: &str, kib: u32) -> Self {
        let mut scratch = Self::new(what);
        let options = std::ffi::CString::new(format!("size={kib}k,mode=755")).unwrap();
        mount("wh", &scratch.path, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap();
        scratch.mounted = true;
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.mounted {
            unmount(&self.path, UnmountFlags::DETACH).unwrap();
        }
        std::fs::remove_dir_all(&self.path).unwrap();
    }
}
