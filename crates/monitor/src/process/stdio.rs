//! The container's stdio on our side: pipes, or a terminal that comes through the console socket.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net;
use rustix::termios::{OptionalActions, OutputModes, Winsize};

use crate::Error;

/// A pipe: read end, write end.
type Pair = (OwnedFd, OwnedFd);

/// A pipe that also a container that is not root can open again as /dev/stdout (fchmod of its ends).
///
/// # Errors
/// Descriptors are short.
pub fn pipe() -> Result<Pair, Error> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|cause| Error::io("make", "pipe", cause))?;
    for end in [&read, &write] {
        rustix::fs::fchmod(end, Mode::from_raw_mode(0o777))
            .map_err(|cause| Error::io("fchmod", "pipe", cause))?;
    }
    Ok((read, write))
}

/// Makes `fd` non-blocking, for us alone: the other end of a pipe is another open file.
///
/// # Errors
/// fcntl(2)'s.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// /dev/null for reading and writing.
///
/// # Errors
/// open(2)'s.
pub fn dev_null() -> Result<OwnedFd, Error> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|cause| Error::io("open", "/dev/null", cause))
}

/// Puts /dev/null in the place of our own 0, 1 and 2.
///
/// # Errors
/// open(2)'s or dup2(2)'s.
pub fn forget_own() -> Result<(), Error> {
    let null = dev_null()?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .map_err(|cause| Error::io("dup2", "/dev/null", cause))
}

/// The socket through which the runtime sends a terminal's master.
#[derive(Debug)]
pub struct ConsoleSocket {
    dir: PathBuf,
    path: PathBuf,
    listener: OwnedFd,
    connection: Option<OwnedFd>,
}

impl ConsoleSocket {
    /// Makes it in a new private directory below $TMPDIR.
    ///
    /// # Errors
    /// The directory or the socket can't be made.
    pub fn make() -> Result<Self, Error> {
        let base = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
        let base = base.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let fail = |op, path: &Path, cause: io::Error| Error::io(op, path.display(), cause);
        let mut tries = 0;
        let dir = loop {
            let mut random = [0u8; 8];
            // Without entropy the name is taken more often, and tried again.
            let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
            let name = format!("conmon-term.{:016x}", u64::from_ne_bytes(random));
            let dir = base.join(name);
            match rustix::fs::mkdir(&dir, Mode::RWXU) {
                Ok(()) => break dir,
                Err(rustix::io::Errno::EXIST) if tries < 100 => tries += 1,
                Err(cause) => return Err(fail("mkdir", &dir, cause.into())),
            }
        };
        let path = dir.join("s");
        let listener = net::socket_with(
            net::AddressFamily::UNIX,
            net::SocketType::STREAM,
            net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|cause| fail("socket", &path, cause.into()))?;
        let socket = Self { dir, path, listener, connection: None };
        let address = net::SocketAddrUnix::new(&socket.path)
            .map_err(|cause| fail("name", &socket.path, cause.into()))?;
        net::bind(&socket.listener, &address).map_err(|cause| fail("bind", &socket.path, cause.into()))?;
        net::listen(&socket.listener, 8).map_err(|cause| fail("listen", &socket.path, cause.into()))?;
        Ok(socket)
    }

    /// What the runtime is told.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to watch for reading now: the listener, then the connection.
    #[must_use]
    pub fn watched(&self) -> BorrowedFd<'_> {
        self.connection.as_ref().unwrap_or(&self.listener).as_fd()
    }

    /// Goes on as far as it gets without blocking: `Some` is the terminal's master. To be called when what is
    /// [`watched`](Self::watched) is ready; whether that has changed is the second value.
    ///
    /// # Errors
    /// What was received is no terminal, or the sender is gone: more may come from another connection.
    pub fn receive(&mut self) -> (io::Result<Option<OwnedFd>>, bool) {
        let mut changed = false;
        if self.connection.is_none() {
            match net::accept_with(&self.listener, net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK) {
                Ok(connection) => {
                    self.connection = Some(connection);
                    changed = true;
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return (Ok(None), false),
                Err(cause) => return (Err(cause.into()), false),
            }
        }
        let Some(connection) = &self.connection else { return (Ok(None), changed) };
        match receive_terminal(connection) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => (Ok(None), changed),
            Ok(Some(master)) => (Ok(Some(master)), changed),
            Ok(None) => {
                self.connection = None;
                (Err(io::Error::from(io::ErrorKind::UnexpectedEof)), true)
            }
            Err(cause) => {
                self.connection = None;
                (Err(cause.into()), true)
            }
        }
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // Both are below $TMPDIR and nobody looks for them; what can't be removed is left.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// The terminal's master that comes over `connection`; `None` at its end.
// Not inlined: its buffer would stay on the stack below the loop for good.
#[inline(never)]
pub(super) fn receive_terminal(connection: &OwnedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let mut name = [0u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = net::RecvAncillaryBuffer::new(&mut space);
    net::recvmsg(
        connection,
        &mut [rustix::io::IoSliceMut::new(&mut name)],
        &mut control,
        net::RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut terminal = None;
    for message in control.drain() {
        if let net::RecvAncillaryMessage::ScmRights(fds) = message {
            for fd in fds {
                // Of several, the first counts; the others are closed here.
                terminal.get_or_insert(fd);
            }
        }
    }
    match terminal {
        Some(fd) if rustix::termios::isatty(&fd) => Ok(Some(fd)),
        Some(_) => Err(rustix::io::Errno::NOTTY),
        None => Ok(None),
    }
}

/// Prepares a received terminal: ONLCR, and non-blocking.
///
/// # Errors
/// ioctl's.
pub fn prepare_terminal(master: &OwnedFd) -> io::Result<()> {
    let mut modes = rustix::termios::tcgetattr(master)?;
    modes.output_modes |= OutputModes::ONLCR;
    rustix::termios::tcsetattr(master, OptionalActions::Now, &modes)?;
    set_nonblocking(master)
}

/// Sets a terminal's size.
///
/// # Errors
/// ioctl's.
pub fn resize(master: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}
