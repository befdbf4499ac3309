//! Puts a new file in the place of a log, by replacing it or by keeping it as a backup.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// The mode of log files.
const MODE: u32 = 0o640;

/// What happens to a log that is full.
#[derive(Debug, Clone)]
pub(super) enum Policy {
    /// A new file replaces it; the old content is gone.
    Replace,
    /// It becomes `PATH.1`, and so on up to the number of backups.
    Rotate { backups: u32, allowlist: Vec<PathBuf> },
}

/// Opens the log at `path` for appending, and makes it if it is not there. Never waits for a reader of a fifo.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE).custom_flags(flag(OFlags::NONBLOCK));
    options.open(path)
}

/// Whether `path` names `file`; `None` when nothing has this name.
pub(super) fn names(path: &Path, file: &File) -> io::Result<Option<bool>> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok(Some(same(&found, &ours))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a new, empty file in the place of `file`, the log at `path`.
///
/// # Errors
/// It is not safe, or a step failed; then all names are as they were.
pub(super) fn renew(path: &Path, file: &File, policy: &Policy) -> io::Result<File> {
    match policy {
        Policy::Replace => {
            let temp = suffixed(path, ".tmp");
            let mut options = OpenOptions::new();
            // std knows no truncation together with appending.
            options.append(true).create(true).mode(MODE).custom_flags(flag(OFlags::NOFOLLOW | OFlags::TRUNC));
            let new = options.open(&temp)?;
            rename(&temp, path)?;
            Ok(new)
        }
        Policy::Rotate { backups, allowlist } => {
            let there = check_safe(path, file, allowlist)?;
            // Of a log that somebody has removed there is nothing to keep.
            rotate(path, if there { *backups } else { 0 })
        }
    }
}

fn rotate(path: &Path, backups: u32) -> io::Result<File> {
    let temp = suffixed(path, ".new");
    let create = || {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(MODE).open(&temp)
    };
    // A crash may have left one; nobody else writes under this name.
    let new = create().or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => fs::remove_file(&temp).and_then(|()| create()),
        _ => Err(error),
    })?;
    let backup = |number: u32| suffixed(path, &format!(".{number}"));
    let shifted = (|| {
        if backups == 0 {
            return fs::rename(&temp, path);
        }
        // Only the backups that are there: up to the first gap, which takes the one before it.
        let gap = (1..backups).find(|number| !backup(*number).exists()).unwrap_or(backups);
        for number in (2..=gap).rev() {
            fs::rename(backup(number - 1), backup(number))?;
        }
        fs::rename(path, backup(1))?;
        fs::rename(&temp, path).inspect_err(|_| {
            // Give the log its name back: what goes on being written must be found. If this fails too, it is at .1.
            let _ = fs::rename(backup(1), path);
        })
    })();
    match shifted {
        Ok(()) => Ok(new),
        Err(error) => {
            // The first error is the one to tell of.
            let _ = fs::remove_file(&temp);
            Err(error)
        }
    }
}

/// Refuses to rename what somebody else could have put there. Whether there is anything to rename.
fn check_safe(path: &Path, file: &File, allowlist: &[PathBuf]) -> io::Result<bool> {
    let unsafe_path = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned()));
    if path.components().any(|part| part == Component::ParentDir) {
        return unsafe_path("the path contains ..");
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if fs::symlink_metadata(parent)?.is_symlink() {
        return unsafe_path("its directory is a symbolic link");
    }
    let there = match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => return unsafe_path("it is a symbolic link"),
        Ok(found) if !found.is_file() => return unsafe_path("it is not a regular file"),
        Ok(found) if !same(&found, &file.metadata()?) => {
            return unsafe_path("it is not the log's file any more");
        }
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::metadata(parent)?.mode() & 0o002 != 0 {
                return unsafe_path("it is missing and anybody may write to its directory");
            }
            false
        }
        Err(error) => return Err(error),
    };
    if !allowlist.is_empty() {
        let real = fs::canonicalize(parent)?;
        let within =
            |allowed: &PathBuf| fs::canonicalize(allowed).is_ok_and(|allowed| real.starts_with(allowed));
        if !allowlist.iter().any(within) {
            return unsafe_path("it is outside the allowed directories");
        }
    }
    let lock = Flock::from(FlockType::WriteLock);
    if fcntl_getlk(file, &lock)?.is_some() {
        return unsafe_path("it is locked");
    }
    Ok(there)
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).inspect_err(|_| {
        // The first error is the one to tell of.
        let _ = fs::remove_file(from);
    })
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn flag(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}
