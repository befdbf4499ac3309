//! Whether criu's images can be trusted.
//!
//! A restored process has the memory, credentials, capabilities and filter that the images say: who can write them decides
//! what runs, and as whom. So they must be ours, or root's, and so must the way to them.

use std::fs::{Metadata, symlink_metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sys::Ctx as _;

use crate::{Error, Result};

/// More files than any checkpoint has.
const MOST: usize = 1 << 20;

/// Checks the directory `images`, all in it, and the directories above it.
///
/// # Errors
/// [`Error::Invalid`] for the first that somebody else could have written; the system's.
pub(crate) fn check(op: &'static str, images: &Path) -> Result<()> {
    let invalid = |path: &Path, cause: &str| {
        Err(Error::Invalid { op, object: path.display().to_string(), cause: cause.to_owned() })
    };
    let own = rustix::process::geteuid().as_raw();
    let judge = |path: &Path, meta: &Metadata, way: bool| match fault(meta, own, way) {
        Some(cause) => invalid(path, cause),
        None => Ok(()),
    };
    let images = std::fs::canonicalize(images).ctx("open", images)?;
    for (depth, path) in images.ancestors().enumerate() {
        judge(path, &symlink_metadata(path).ctx("stat", path)?, depth > 0)?;
    }
    for (count, entry) in std::fs::read_dir(&images).ctx("read", &images)?.enumerate() {
        let path = entry.ctx("read", &images)?.path();
        let meta = symlink_metadata(&path).ctx("stat", &path)?;
        if !(meta.is_file() || meta.is_dir()) || count > MOST {
            return invalid(&path, "not a file of a checkpoint");
        }
        judge(&path, &meta, false)?;
    }
    Ok(())
}

/// What is wrong with an owner and a mode. `way`: it is only on the way; in a directory like /tmp nobody can rename what
/// is another's.
fn fault(meta: &Metadata, own: u32, way: bool) -> Option<&'static str> {
    let sticky = way && meta.mode() & 0o1000 != 0;
    if ![0, own].contains(&meta.uid()) {
        Some("it is another user's")
    } else if meta.mode() & 0o022 != 0 && !sticky {
        Some("others can write it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn images_that_others_can_write_are_not_restored() {
        let scratch = testkit::Scratch::new("images");
        let dir = scratch.dir("a/images");
        let told = |words: &str| {
            let result = check("restore", &dir).map_err(|error| error.to_string());
            match result {
                Ok(()) => assert_eq!(words, ""),
                Err(error) => assert!(!words.is_empty() && error.ends_with(words), "{words:?}: {error}"),
            }
        };
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for path in [&scratch.join("a"), &dir] {
            mode(path, 0o755);
        }
        let core = dir.join("core-1.img");
        fs::write(&core, "x").unwrap();
        mode(&core, 0o644);
        told("");
        mode(&core, 0o666);
        told("core-1.img: others can write it");
        mode(&core, 0o600);
        for (path, words) in
            [(&dir, "images: others can write it"), (&scratch.join("a"), "a: others can write it")]
        {
            mode(path, 0o775);
            told(words);
            mode(path, 0o755);
        }
        chown(&core, Some(4711), None).unwrap();
        told("core-1.img: it is another user's");
        fs::remove_file(&core).unwrap();
        symlink("/etc/passwd", &core).unwrap();
        told("core-1.img: not a file of a checkpoint");
        fs::remove_file(&core).unwrap();
        chown(&dir, Some(4711), None).unwrap();
        told("images: it is another user's");
    }
}
