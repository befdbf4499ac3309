//! A group's files.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::{Cgroup, Place, Version};
use crate::{Ctx as _, Error, Result};

const MAX_BYTES: u64 = 4 << 20;

impl Cgroup {
    /// Reads a file of the group, such as `memory`, `memory.stat`, in the hierarchy of that controller (see
    /// [`Cgroup::place`]). The name is the version's own.
    ///
    /// # Errors
    /// [`Error::is_gone`] if the group, or the file in it, does not exist.
    pub fn read(&self, controller: &str, file: &str) -> Result<String> {
        read(self.with(controller)?, file)
    }

    /// Writes a file of the group in one write(2).
    pub fn write(&self, controller: &str, file: &str, value: &str) -> Result<()> {
        write(self.with(controller)?, file, value)
    }

    /// Opens a file of the group.
    pub fn open(&self, controller: &str, file: &str, flags: OFlags) -> Result<OwnedFd> {
        open(self.with(controller)?, file, flags)
    }

    fn with(&self, controller: &str) -> Result<&Place> {
        self.place(controller)
            .ok_or_else(|| Error::new("find cgroup controller", controller, rustix::io::Errno::NOENT))
    }
}

pub(super) fn read(place: &Place, file: &str) -> Result<String> {
    let mut text = Vec::new();
    let opened = File::from(open(place, file, OFlags::RDONLY)?);
    opened.take(MAX_BYTES).read_to_end(&mut text).ctx("read", place.dir.join(file))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn write(place: &Place, file: &str, value: &str) -> Result<()> {
    let mut opened = File::from(open(place, file, OFlags::WRONLY)?);
    loop {
        match opened.write(value.as_bytes()) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(error)
                    .ctx_with("write", || format!("`{value}` to {}", place.dir.join(file).display()));
            }
        }
    }
}

/// Opens `file` in the group's directory, which must be on a cgroup file system.
pub(super) fn open(place: &Place, file: &str, flags: OFlags) -> Result<OwnedFd> {
    const CGROUP_SUPER_MAGIC: i64 = 0x0027_e0eb;
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    let path = place.dir.join(file);
    if file.contains('/') || file.starts_with('.') {
        return Err(Error::other("open", &path, "not a file of a cgroup"));
    }
    let dir = rustix::fs::open(&place.dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .ctx("open", &place.dir)?;
    let magic = match place.version {
        Version::V1 => CGROUP_SUPER_MAGIC,
        Version::V2 => CGROUP2_SUPER_MAGIC,
    };
    if rustix::fs::fstatfs(&dir).ctx("statfs", &place.dir)?.f_type != magic {
        return Err(Error::other("open", &path, "not on a cgroup file system"));
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&dir, file, flags, Mode::empty()).ctx("open", &path)
}
