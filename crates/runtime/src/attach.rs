//! Attach: clients of a monitor's socket and of its control fifos.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, Shutdown};
use sys::Ctx as _;
use sys::socket::{Blocking, Kind, connect};

use crate::dir::Dir;
use crate::ready::Ready;
use crate::request::Size;
use crate::{Container, Error, Io, Result, blocking};

pub(crate) mod pipes;

use pipes::Pipes;

/// How long the monitor may take to read its control fifo.
const CTL_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest packet that a monitor sends: a stream's number and 8192 bytes.
const PACKET_MAX: usize = 8193;
/// The longest packet that is sent to it.
const SEND_MAX: usize = 8192;

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Of the standard output, or of the terminal.
    Stdout(Vec<u8>),
    /// Of the standard error.
    Stderr(Vec<u8>),
}

/// A client of a container's or an exec's streams. Dropping it detaches.
#[derive(Debug)]
pub struct Attached(Link);

#[derive(Debug)]
enum Link {
    /// To a monitor's attach socket.
    Socket(Client),
    /// Pipes of our own.
    Pipes(Pipes),
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    ready: Ready,
}

impl Attached {
    /// Takes a connected, non-blocking socket. Must be called in a tokio runtime.
    pub(crate) fn new(socket: OwnedFd) -> Result<Self> {
        Ok(Self(Link::Socket(Client { ready: Ready::of(&socket)?, socket })))
    }

    pub(crate) fn of_pipes(pipes: Pipes) -> Self {
        Self(Link::Pipes(pipes))
    }

    /// The next output; None at the end. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Sys`] when the connection breaks.
    pub async fn read(&self) -> Result<Option<Output>> {
        match &self.0 {
            Link::Socket(client) => client.read().await,
            Link::Pipes(pipes) => pipes.read().await,
        }
    }

    /// Writes all of `bytes` to its input. Not cancel-safe: a part may have been written.
    ///
    /// # Errors
    /// [`Error::Sys`] when the connection breaks.
    pub async fn write(&self, bytes: &[u8]) -> Result<()> {
        match &self.0 {
            Link::Socket(client) => client.write(bytes).await,
            Link::Pipes(pipes) => pipes.write(bytes).await,
        }
    }

    /// Ends the input.
    ///
    /// # Errors
    /// [`Error::Sys`] when the connection breaks.
    pub fn close_stdin(&self) -> Result<()> {
        match &self.0 {
            Link::Socket(client) => {
                Ok(rustix::net::shutdown(&client.socket, Shutdown::Write)
                    .ctx("shut down", "attach socket")?)
            }
            Link::Pipes(pipes) => {
                pipes.close_stdin();
                Ok(())
            }
        }
    }
}

impl Client {
    async fn read(&self) -> Result<Option<Output>> {
        let mut packet = vec![0; PACKET_MAX];
        let got = self.ready.read(|| {
            let n = retry(|| rustix::net::recv(&self.socket, packet.as_mut_slice(), RecvFlags::empty()))?;
            Ok(n.1)
        });
        let n = match got.await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            got => got.ctx("read", "attach socket")?,
        };
        packet.truncate(n);
        if packet.is_empty() {
            return Ok(None);
        }
        let stream = packet.remove(0);
        Ok(Some(if stream == 3 { Output::Stderr(packet) } else { Output::Stdout(packet) }))
    }

    async fn write(&self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(SEND_MAX) {
            let send = || retry(|| rustix::net::send(&self.socket, chunk, SendFlags::NOSIGNAL));
            self.ready.write(send).await.ctx("write", "attach socket")?;
        }
        Ok(())
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Connects to the attach socket in `dir`, which may not be there yet.
pub(crate) fn connect_in(dir: &Path) -> Result<OwnedFd> {
    let path = dir.join("attach");
    let end = Instant::now() + CTL_TIMEOUT;
    loop {
        match connect(&path, Kind::SeqPacket, Blocking::No) {
            // EAGAIN: its backlog is full.
            Err(error) if error.errno() == Some(11) && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return Ok(result?),
        }
    }
}

impl Container {
    /// Connects to the container's streams, from now on. Any number of clients may.
    ///
    /// # Errors
    /// [`Error::State`] unless it is alive.
    pub async fn attach(&self) -> Result<Attached> {
        self.require_alive("attach")?;
        let container = self.clone();
        let connected = blocking::long(move || connect_in(container.dir().path())).await;
        match connected {
            Ok(socket) => Attached::new(socket),
            // It has ended since; the monitor removes its socket last.
            Err(Error::Sys(error)) if error.is_gone() || error.errno() == Some(111) => {
                self.require_alive("attach")?;
                Err(Error::unsupported("attach", self.id(), "its monitor is gone"))
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it has none, [`Error::State`] when it is not alive.
    pub async fn resize(&self, size: Size) -> Result<()> {
        self.require_alive("resize")?;
        if !matches!(self.record().io, Io::Terminal { .. }) {
            return Err(Error::unsupported("resize", self.id(), "it has no terminal"));
        }
        let container = self.clone();
        blocking::long(move || set_size(container.dir(), size)).await
    }

    /// Lets the monitor open the log's path anew, after it was renamed. Returns once the file is there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a log, [`Error::State`] when it is not alive, [`Error::Timeout`].
    pub async fn reopen_log(&self) -> Result<()> {
        const OP: &str = "reopen log of";
        self.require_alive(OP)?;
        let Some(log) = self.record().log.clone() else {
            return Err(Error::unsupported(OP, self.id(), "it has no log"));
        };
        let container = self.clone();
        blocking::long(move || {
            use std::os::unix::fs::MetadataExt as _;
            let inode = |path: &Path| std::fs::metadata(path).ok().map(|meta| meta.ino());
            let before = inode(&log);
            control(&container.dir().file("ctl"), "2 0 0\n")?;
            let end = Instant::now() + CTL_TIMEOUT;
            // The monitor makes a new file and renames it over the path.
            while inode(&log).is_none() || inode(&log) == before {
                if Instant::now() >= end {
                    return Err(Error::Timeout {
                        op: OP,
                        object: container.id().to_string(),
                        after: CTL_TIMEOUT,
                    });
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        })
        .await
    }

    pub(crate) fn require_alive(&self, op: &'static str) -> Result<()> {
        let state = self.present(op)?.state;
        if state.is_alive() { Ok(()) } else { Err(Error::State { op, id: self.id().to_string(), state }) }
    }
}

/// Sets the size of the terminal of a container, or of an exec, whose files are in `dir`.
pub(crate) fn set_size(dir: &Dir, size: Size) -> Result<()> {
    set_size_in(dir.path(), size)
}

pub(crate) fn set_size_in(dir: &Path, size: Size) -> Result<()> {
    control(&dir.join("ctl"), &format!("1 {} {}\n", size.rows, size.columns))
}

/// Writes a line into a control fifo, waiting for its reader.
fn control(path: &Path, line: &str) -> Result<()> {
    let end = Instant::now() + CTL_TIMEOUT;
    loop {
        let done = sys::fifo::open_writer(path).and_then(|fd| {
            let mut file = std::fs::File::from(fd);
            file.write_all(line.as_bytes()).ctx("write", path)
        });
        match done {
            Ok(()) => return Ok(()),
            // ENXIO: nobody reads yet; EAGAIN: it is full.
            Err(error) if matches!(error.errno(), Some(6 | 11)) && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) if matches!(error.errno(), Some(6 | 11)) => {
                let object = path.display().to_string();
                return Err(Error::Timeout { op: "write", object, after: CTL_TIMEOUT });
            }
            Err(error) => return Err(error.into()),
        }
    }
}
