//! Streams over pipes of our own, or a terminal's master, of a process whose end somebody else tells.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sys::Ctx as _;
use tokio::sync::watch;

use super::Output;
use crate::Result;
use crate::ready::Ready;

/// Bytes read at once.
const CHUNK: usize = 32 << 10;
/// Bytes still read after the end: no pipe holds more, and what is still written is somebody else's.
const REST_MAX: usize = 1 << 20;

/// One end of a pipe, non-blocking.
#[derive(Debug)]
struct End {
    fd: OwnedFd,
    ready: Ready,
    closed: AtomicBool,
}

impl End {
    fn new(fd: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true).ctx("set", "non-blocking pipe")?;
        Ok(Self { ready: Ready::of(&fd)?, fd, closed: AtomicBool::new(false) })
    }

    /// What is there now; None when that is nothing.
    fn now(&self) -> io::Result<Option<Vec<u8>>> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut buffer = vec![0; CHUNK];
        match super::retry(|| rustix::io::read(&self.fd, buffer.as_mut_slice())) {
            Ok(n) if n > 0 => {
                buffer.truncate(n);
                Ok(Some(buffer))
            }
            Ok(_) => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(None)
            }
            // A terminal whose other side is closed (EIO).
            Err(error) if error.raw_os_error() == Some(5) => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The next bytes; never comes back once it is closed.
    async fn next(&self) -> io::Result<Vec<u8>> {
        loop {
            if self.closed.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if let Some(bytes) = self.ready.read(|| self.now()).await? {
                return Ok(bytes);
            }
        }
    }
}

/// The streams.
#[derive(Debug)]
pub(crate) struct Pipes {
    stdin: Mutex<Option<std::sync::Arc<End>>>,
    stdout: End,
    stderr: Option<End>,
    /// True, or closed, once the process has ended.
    ended: watch::Receiver<bool>,
    rest: AtomicUsize,
}

impl Pipes {
    pub(crate) fn new(
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: Option<OwnedFd>,
        ended: watch::Receiver<bool>,
    ) -> Result<Self> {
        let stdin = stdin.map(End::new).transpose()?.map(std::sync::Arc::new);
        Ok(Self {
            stdin: Mutex::new(stdin),
            stdout: End::new(stdout)?,
            stderr: stderr.map(End::new).transpose()?,
            ended,
            rest: AtomicUsize::new(0),
        })
    }

    pub(crate) async fn read(&self) -> Result<Option<Output>> {
        let mut ended = self.ended.clone();
        let stderr = async {
            match &self.stderr {
                Some(end) => end.next().await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            biased;
            bytes = self.stdout.next() => bytes.map(Output::Stdout).map(Some),
            bytes = stderr => bytes.map(Output::Stderr).map(Some),
            // A sender that is gone can't tell any more: as ended.
            _ = ended.wait_for(|ended| *ended) => self.rest(),
        };
        Ok(read.ctx("read", "output of an exec")?)
    }

    /// What is left in the pipes after the end.
    fn rest(&self) -> io::Result<Option<Output>> {
        let now = |end: &End| match end.now() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => result,
        };
        let stderr = || self.stderr.as_ref().map_or(Ok(None), now);
        let output = match now(&self.stdout)? {
            Some(bytes) => Some(Output::Stdout(bytes)),
            None => stderr()?.map(Output::Stderr),
        };
        let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = &output else { return Ok(None) };
        let before = self.rest.fetch_add(bytes.len(), Ordering::Relaxed);
        Ok(output.filter(|_| before < REST_MAX))
    }

    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        let Some(stdin) = stdin else { return Ok(Err(closed).ctx("write", "input of an exec")?) };
        let mut left = bytes;
        while !left.is_empty() {
            let n = stdin.ready.write(|| super::retry(|| rustix::io::write(&stdin.fd, left))).await;
            left = left.get(n.ctx("write", "input of an exec")?..).unwrap_or_default();
        }
        Ok(())
    }

    pub(crate) fn close_stdin(&self) {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
