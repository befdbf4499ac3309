//! A lock between processes: flock(2) on a file.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::{Ctx as _, Error, Result};

/// The longest pause between two tries of [`FileLock::acquire_within`].
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// An exclusive lock on a file, released on drop.
///
/// The lock belongs to the open file, not to the process: two locks of one process on one path exclude each
/// other too. If the file is removed while somebody waits for it, the waiter takes the new file's lock, so a
/// lock file may be removed by who holds it.
#[derive(Debug)]
pub struct FileLock {
    fd: OwnedFd,
    /// A forked child that drops its copy must not release its parent's lock.
    owner: u32,
}

impl FileLock {
    /// Waits for the lock on the file at `path`, which is made (mode 0600) where it is not there.
    ///
    /// # Errors
    /// [`Error::is_gone`] if there is no such directory.
    pub fn acquire(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        loop {
            if let Some(lock) = Self::attempt(path, FlockOperation::LockExclusive)? {
                return Ok(lock);
            }
        }
    }

    /// The lock if it is free, else nothing.
    pub fn try_acquire(path: impl AsRef<Path>) -> Result<Option<Self>> {
        Self::attempt(path.as_ref(), FlockOperation::NonBlockingLockExclusive)
    }

    /// Waits for the lock for at most `timeout`. The kernel has no such call: it is tried again every 20 ms.
    pub fn acquire_within(path: impl AsRef<Path>, timeout: Duration) -> Result<Option<Self>> {
        let path = path.as_ref();
        let end = Instant::now() + timeout;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(Some(lock));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// One try; `None` if another holds it, or if the file was removed meanwhile.
    fn attempt(path: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).ctx("open", path)?;
        loop {
            match rustix::fs::flock(&fd, operation) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(Error::new("lock", path, error)),
            }
        }
        let ours = rustix::fs::fstat(&fd).ctx("stat", path)?;
        match rustix::fs::lstat(path) {
            Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => {
                Ok(Some(Self { fd, owner: std::process::id() }))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::new("stat", path, error)),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if std::process::id() == self.owner {
            // Explicit, since a child between fork and exec may hold a copy of the descriptor.
            // It can't fail on a lock that we hold, and closing releases it too.
            let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::durable::tests::TempDir;

    #[test]
    fn excludes_and_is_released_on_drop() {
        let dir = TempDir::new("lock");
        let path = dir.0.join("lock");
        let held = FileLock::acquire(&path).unwrap();
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        assert!(FileLock::acquire_within(&path, Duration::from_millis(30)).unwrap().is_none());
        drop(held);
        let held = FileLock::acquire_within(&path, Duration::from_secs(30)).unwrap();
        assert!(held.is_some());
    }

    #[test]
    fn a_waiter_gets_it_when_the_holder_lets_go() {
        let dir = TempDir::new("lock-wait");
        let path = dir.0.join("lock");
        let held = FileLock::acquire(&path).unwrap();
        let (sender, receiver) = mpsc::channel();
        let waiter = {
            let path = path.clone();
            std::thread::spawn(move || {
                let lock = FileLock::acquire(&path).unwrap();
                sender.send(()).unwrap();
                drop(lock);
            })
        };
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        drop(held);
        receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        waiter.join().unwrap();
    }

    #[test]
    fn a_removed_file_is_not_the_lock_any_more() {
        let dir = TempDir::new("lock-removed");
        let path = dir.0.join("lock");
        let old = FileLock::acquire(&path).unwrap();
        let waiter = {
            let path = path.clone();
            std::thread::spawn(move || FileLock::acquire(&path).unwrap())
        };
        std::fs::remove_file(&path).unwrap();
        drop(old);
        let held = waiter.join().unwrap();
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(held);
    }

    #[test]
    fn no_directory_is_gone() {
        assert!(FileLock::acquire("/nonexistent/lock").unwrap_err().is_gone());
    }
}
