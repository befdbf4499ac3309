//! Named pipes (fifo(7)).

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::{Ctx as _, Error, Result, durable};

/// Makes a named pipe at `path`, in the place of what was there, with this mode (less the umask).
pub fn create(path: impl AsRef<Path>, mode: u32) -> Result<()> {
    let path = path.as_ref();
    durable::remove(path)?;
    rustix::fs::mkfifoat(CWD, path, Mode::from_raw_mode(mode)).ctx("make fifo", path)
}

/// Opens both ends in one descriptor, without waiting for anybody, so that it never comes to an end of file;
/// non-blocking.
///
/// # Errors
/// If it is not a named pipe.
pub fn open_both(path: impl AsRef<Path>) -> Result<OwnedFd> {
    open(path.as_ref(), OFlags::RDWR)
}

/// Opens the reading end without waiting for a writer; non-blocking.
pub fn open_reader(path: impl AsRef<Path>) -> Result<OwnedFd> {
    open(path.as_ref(), OFlags::RDONLY)
}

/// Opens the writing end; non-blocking.
///
/// # Errors
/// `ENXIO` if nobody reads.
pub fn open_writer(path: impl AsRef<Path>) -> Result<OwnedFd> {
    open(path.as_ref(), OFlags::WRONLY)
}

fn open(path: &Path, access: OFlags) -> Result<OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).ctx("open", path)?;
    let stat = rustix::fs::fstat(&fd).ctx("stat", path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(Error::other("open", path, "not a named pipe"));
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::tests::TempDir;

    #[test]
    fn both_ends() {
        let dir = TempDir::new("fifo");
        let path = dir.0.join("ctl");
        std::fs::write(&path, "in the way").unwrap();
        create(&path, 0o600).unwrap();
        create(&path, 0o600).unwrap();
        assert_eq!(open_writer(&path).unwrap_err().errno(), Some(libc::ENXIO));
        let both = open_both(&path).unwrap();
        let writer = open_writer(&path).unwrap();
        rustix::io::write(&writer, b"1 2 3\n").unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::read(&both, &mut buffer).unwrap(), 6);
        assert_eq!(rustix::io::read(&both, &mut buffer).unwrap_err(), rustix::io::Errno::AGAIN);
        drop(both);
        let reader = open_reader(&path).unwrap();
        assert_eq!(rustix::io::read(&reader, &mut buffer).unwrap(), 0);
        std::fs::write(dir.0.join("file"), "").unwrap();
        assert!(open_both(dir.0.join("file")).unwrap_err().to_string().ends_with("not a named pipe"));
    }
}
