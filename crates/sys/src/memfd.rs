//! Files in memory that nobody can change any more (memfd_create(2)).

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use crate::{Ctx as _, Result};

/// What makes a file constant.
fn seals() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

/// A file in memory with this content, sealed against every change.
pub fn sealed(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let mut file = create(name, false)?;
    file.write_all(bytes).ctx("write", name)?;
    seal(file, name)
}

/// A copy of this program that can be executed by its descriptor and that nothing running in a container
/// can overwrite, as it could the file by `/proc/PID/exe` (CVE-2019-5736).
pub fn sealed_copy_of_self_exe() -> Result<OwnedFd> {
    let path = "/proc/self/exe";
    let program =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ctx("open", path)?;
    let mut copy = create("wharf-program", true)?;
    std::io::copy(&mut File::from(program), &mut copy).ctx("copy", path)?;
    seal(copy, path)
}

/// Whether `fd` is such a file.
#[must_use]
pub fn is_sealed(fd: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|has| has.contains(seals()))
}

fn create(name: &str, executable: bool) -> Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let exec = if executable { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    let fd = match rustix::fs::memfd_create(name, flags | exec) {
        // Kernels before 6.3 do not know these two, and make it executable.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        fd => fd,
    };
    fd.map(File::from).ctx("create memfd", name)
}

fn seal(file: File, name: &str) -> Result<OwnedFd> {
    rustix::fs::fcntl_add_seals(&file, seals()).ctx("seal", name)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_constant() {
        let fd = sealed("test", b"content").unwrap();
        assert!(is_sealed(&fd));
        assert_eq!(rustix::io::pwrite(&fd, b"x", 0).unwrap_err(), Errno::PERM);
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::pread(&fd, &mut buffer, 0).unwrap(), 7);
        assert!(!is_sealed(File::open("/dev/null").unwrap()));
    }

    #[test]
    fn our_program_is_copied_and_runs() {
        let fd = sealed_copy_of_self_exe().unwrap();
        assert!(is_sealed(&fd));
        let size = std::fs::metadata("/proc/self/exe").unwrap().len();
        assert_eq!(File::from(fd.try_clone().unwrap()).metadata().unwrap().len(), size);
        let child = crate::process::Command::from_fd(fd.as_fd(), "test").arg("--list").spawn().unwrap();
        assert!(child.wait().unwrap().status.success());
    }
}
