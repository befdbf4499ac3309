//! Waiting for descriptors in tokio.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use sys::Ctx as _;
use tokio::io::unix::AsyncFd;

use crate::Result;

/// A descriptor to wait for: a duplicate, so that its owner keeps its own.
#[derive(Debug)]
pub(crate) struct Ready(AsyncFd<OwnedFd>);

impl Ready {
    pub(crate) fn of(fd: impl AsFd) -> Result<Self> {
        let fd = fd.as_fd().try_clone_to_owned().ctx("duplicate", "descriptor")?;
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd gives what it asks for")]
        let fd = AsyncFd::new(fd).ctx("wait for", "descriptor")?;
        Ok(Self(fd))
    }

    /// Waits until it is readable (a pidfd: ended).
    pub(crate) async fn readable(&self) -> Result<()> {
        self.0.readable().await.ctx("wait for", "descriptor")?.retain_ready();
        Ok(())
    }

    /// Waits until it is readable, and forgets that it was: for who looks at everything there is after it.
    pub(crate) async fn woken(&self) -> Result<()> {
        self.0.readable().await.ctx("wait for", "descriptor")?.clear_ready();
        Ok(())
    }

    /// Does a non-blocking read when it can be done.
    pub(crate) async fn read<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(result) = guard.try_io(|_| work()) {
                return result;
            }
        }
    }

    /// Does a non-blocking write when it can be done.
    pub(crate) async fn write<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            let mut guard = self.0.writable().await?;
            if let Ok(result) = guard.try_io(|_| work()) {
                return result;
            }
        }
    }
}
