//! A container that is a service: it tells a socket of its own that it is ready, and we tell the service manager
//! (sd_notify(3)), who listens to processes that it knows only.
//!
//! The socket is in `ROOT/ID/notify`, which the container sees at `/run/notify`; it is bound when the program starts.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use model::oci::Mount;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sys::Ctx as _;
use sys::pidfd::PidFd;
use sys::socket::{Blocking, Kind, send_with_fds};

use crate::error::Result;
use crate::record::Dir;

/// What the program finds in its environment.
pub(crate) const VARIABLE: (&str, &str) = ("NOTIFY_SOCKET", "/run/notify/notify.sock");
/// The most of a message that is looked at.
const MAX_MESSAGE: usize = 4096;
/// How long the manager may take to answer; one that does not know the question never does (runc has the same).
const BARRIER: Duration = Duration::from_secs(30);

/// The service manager's socket, if there is one.
pub(crate) fn host() -> Option<OsString> {
    std::env::var_os(VARIABLE.0).filter(|name| !name.is_empty())
}

fn outside(dir: &Dir) -> PathBuf {
    dir.path().join("notify")
}

/// What shows the socket to the container.
pub(crate) fn mount(dir: &Dir) -> Mount {
    Mount {
        destination: "/run/notify".to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(outside(dir).to_string_lossy().into_owned()),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec(),
        ..Mount::default()
    }
}

/// Makes the socket's directory, within that of the container.
pub(crate) fn make(dir: &Dir) -> Result<()> {
    let path = outside(dir);
    Ok(std::fs::DirBuilder::new().mode(0o755).create(&path).ctx("make directory", path)?)
}

/// Both sockets.
#[derive(Debug)]
pub(crate) struct Notify {
    inside: OwnedFd,
    host: OwnedFd,
}

impl Notify {
    /// Binds the container's socket and connects to `host`; nothing for a container that was created without one.
    pub(crate) fn new(dir: &Dir, host: &OsStr) -> Result<Option<Self>> {
        let path = outside(dir);
        if !path.exists() {
            return Ok(None);
        }
        // Whoever the program runs as may write to it.
        let inside = sys::socket::listen(path.join("notify.sock"), Kind::Datagram, Blocking::No, 0o777)?;
        Ok(Some(Self { inside, host: connect(host)? }))
    }

    /// The container's messages: readable when there is one.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.inside
    }

    /// Reads what there is; once the container says that it is ready, says so, that `main` is the service's process, and
    /// waits until the manager has seen both. Whether it did.
    pub(crate) fn pass(&self, main: u32) -> Result<bool> {
        let mut buffer = [0u8; MAX_MESSAGE];
        loop {
            let len = match rustix::net::recv(&self.inside, &mut buffer, rustix::net::RecvFlags::empty()) {
                Ok((len, _)) => len,
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(sys::Error::new("receive", "notification", error).into()),
            };
            let Some(ready) = buffer[..len].split(|byte| *byte == b'\n').find(|l| l.starts_with(b"READY="))
            else {
                continue;
            };
            self.send(ready, &[])?;
            self.send(format!("MAINPID={main}").as_bytes(), &[])?;
            let (ours, theirs) =
                rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ctx("make", "pipe")?;
            self.send(b"BARRIER=1", &[theirs.as_fd()])?;
            drop(theirs);
            sys::poll::readable(&ours, Some(BARRIER)).ctx("wait for", "service manager")?;
            return Ok(true);
        }
    }

    fn send(&self, text: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        send_with_fds(&self.host, text, fds)?;
        Ok(())
    }

    /// Until the container is ready, or has ended.
    pub(crate) fn wait(self, init: &PidFd) -> Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            let watched = [self.inside.as_fd(), init.as_fd()];
            let mut fds = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            rustix::io::retry_on_intr(|| poll(&mut fds, None)).ctx("wait for", "notification")?;
            let ended = !fds[1].revents().is_empty();
            if self.pass(init.pid().unsigned_abs())? || ended {
                return Ok(());
            }
        }
    }
}

/// A path, or a name that begins with `@` and is of no file (unix(7)).
fn connect(host: &OsStr) -> Result<OwnedFd> {
    let Some(name) = host.as_bytes().strip_prefix(b"@") else {
        return Ok(sys::socket::connect(host, Kind::Datagram, Blocking::Yes)?);
    };
    let address = SocketAddrUnix::new_abstract_name(name).ctx("use as a socket's address", host)?;
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    let socket =
        rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).ctx("create socket", host)?;
    rustix::net::connect(&socket, &address).ctx("connect to", host)?;
    Ok(socket)
}
