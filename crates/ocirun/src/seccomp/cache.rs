//! Compiled filters on disk, by the SHA-256 of the profile and of what compiled it.
//!
//! A filter is a security boundary, so a cached one counts only when the directory and the file are ours,
//! nobody else may write them, and the content has the checksum that it says. Anything else is a miss.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use model::oci::LinuxSeccomp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::{Instruction, sha256};

/// Most filters that are kept; the ones not used for the longest time go first.
pub(super) const ENTRIES: usize = 64;

const MAGIC: &[u8; 8] = b"WHBPF\0\0\x03";
const HEADER: usize = MAGIC.len() + 32;
const FILE_BYTES: u64 = HEADER as u64 + 4096 * 8;

/// A directory of compiled filters.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
}

/// The name under which the filter of `profile` is kept, as made by this version of us and of libseccomp.
pub(super) fn key(profile: &LinuxSeccomp) -> Option<String> {
    let libseccomp = libseccomp::ScmpVersion::current().ok()?;
    let maker = format!(
        "wharf-oci {} libseccomp {}.{}.{} {} {}\n",
        env!("CARGO_PKG_VERSION"),
        libseccomp.major,
        libseccomp.minor,
        libseccomp.micro,
        std::env::consts::ARCH,
        MAGIC[7],
    );
    let profile = serde_json::to_vec(profile).ok()?;
    Some(sha256::hex(&sha256::digest(&[maker.as_bytes(), &profile])))
}

impl Cache {
    /// The cache in `directory`, which is made (mode 0700) when something is put there.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(super) fn get(&self, key: &str) -> Option<Vec<Instruction>> {
        let directory = self.open().ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&directory, key, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        if !ours(&stat, FileType::RegularFile) || stat.st_size.unsigned_abs() > FILE_BYTES {
            return None;
        }
        let mut bytes = Vec::new();
        File::from(file).take(FILE_BYTES + 1).read_to_end(&mut bytes).ok()?;
        let program = bytes.strip_prefix(MAGIC)?;
        let (digest, program) = program.split_at_checked(32)?;
        if sha256::digest(&[key.as_bytes(), program]) != digest {
            return None;
        }
        super::decode(program)
    }

    /// Keeps `program` if it can: a full disk or a directory that is not ours costs a compilation, nothing else.
    pub(super) fn put(&self, key: &str, program: &[Instruction]) {
        // Ignored: the cache is a shortcut.
        let _ = self.try_put(key, program);
    }

    fn try_put(&self, key: &str, program: &[Instruction]) -> std::io::Result<()> {
        match rustix::fs::mkdir(&self.directory, Mode::RWXU) {
            Err(rustix::io::Errno::NOENT) => {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            }
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = self.open()?;
        let program = super::encode(program);
        let temporary = format!(".{key}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // A leftover of a killed process with our pid.
        let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
        let file = rustix::fs::openat(&directory, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        let content = [MAGIC.as_slice(), &sha256::digest(&[key.as_bytes(), &program]), &program].concat();
        let written = file
            .write_all(&content)
            .and_then(|()| Ok(rustix::fs::renameat(&directory, &temporary, &directory, key)?));
        if written.is_err() {
            rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty())?;
        }
        self.shrink(directory.as_fd())?;
        written
    }

    /// Removes the oldest above [`ENTRIES`].
    fn shrink(&self, directory: impl AsFd) -> std::io::Result<()> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Ok(modified) = entry.metadata().and_then(|data| data.modified()) else { continue };
            entries.push((modified, entry.file_name()));
        }
        entries.sort();
        let excess = entries.len().saturating_sub(ENTRIES);
        for (_, name) in entries.into_iter().take(excess) {
            match rustix::fs::unlinkat(&directory, &name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn open(&self) -> std::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.directory, flags, Mode::empty())?;
        if !ours(&rustix::fs::fstat(&directory)?, FileType::Directory) {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        Ok(directory)
    }
}

/// Owned by us, and by nobody else to be written.
fn ours(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_mode & 0o022 == 0
}
