//! Unix sockets: stream and sequenced packets, paths of any length, passing of descriptors (unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::durable::split;
use crate::{Ctx as _, Error, Result};

/// The most descriptors that one message can carry (`SCM_MAX_FD`).
pub const MAX_FDS: usize = 253;

/// A kind of unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes (`SOCK_STREAM`).
    Stream,
    /// Messages, in order, over a connection (`SOCK_SEQPACKET`).
    SeqPacket,
    /// Messages without a connection (`SOCK_DGRAM`).
    Datagram,
}

/// Whether a socket's calls wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// They do.
    Yes,
    /// They give `EAGAIN` instead.
    No,
}

/// Who is at the other end (`SO_PEERCRED`): who called connect(2), listen(2) or socketpair(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCred {
    /// Its pid then.
    pub pid: i32,
    /// Its effective user id then.
    pub uid: u32,
    /// Its effective group id then.
    pub gid: u32,
}

/// A socket bound to `path` and listening, with file mode `mode` (less the umask); a datagram socket is
/// bound only. The path may be longer than the 108 bytes of an address, its last name not.
///
/// # Errors
/// `EADDRINUSE` if there is something at `path`: remove it first.
pub fn listen(path: impl AsRef<Path>, kind: Kind, blocking: Blocking, mode: u32) -> Result<OwnedFd> {
    let path = path.as_ref();
    let socket = new(kind, blocking).ctx("create socket", path)?;
    // Before bind(2): the file is made with the socket's own mode, so nobody gets in between.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode)).ctx("chmod", path)?;
    let address = Address::of(path)?;
    rustix::net::bind(&socket, &address.unix).ctx("bind", path)?;
    if kind != Kind::Datagram {
        rustix::net::listen(&socket, 128).ctx("listen on", path)?;
    }
    Ok(socket)
}

/// A socket connected to the one at `path`. A full backlog is waited for if blocking.
pub fn connect(path: impl AsRef<Path>, kind: Kind, blocking: Blocking) -> Result<OwnedFd> {
    let path = path.as_ref();
    let socket = new(kind, blocking).ctx("create socket", path)?;
    let address = Address::of(path)?;
    loop {
        match rustix::net::connect(&socket, &address.unix) {
            Err(Errno::INTR) => {}
            result => break result.ctx("connect to", path)?,
        }
    }
    Ok(socket)
}

/// The next connection (accept4(2)), or `None` if there is none and the listener does not block.
pub fn accept(listener: impl AsFd, blocking: Blocking) -> Result<Option<OwnedFd>> {
    loop {
        match rustix::net::accept_with(&listener, flags(blocking)) {
            Ok(socket) => return Ok(Some(socket)),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(Error::new("accept on", "socket", error)),
        }
    }
}

/// Two sockets connected to each other (socketpair(2)).
pub fn pair(kind: Kind, blocking: Blocking) -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, raw_kind(kind), flags(blocking), None)
        .ctx("create", "socket pair")
}

/// Who is at the other end.
pub fn peer_cred(socket: impl AsFd) -> Result<PeerCred> {
    let cred = rustix::net::sockopt::socket_peercred(socket).ctx("ask for the peer of", "socket")?;
    Ok(PeerCred { pid: cred.pid.as_raw_pid(), uid: cred.uid.as_raw(), gid: cred.gid.as_raw() })
}

/// Sends `bytes` and copies of `fds` (`SCM_RIGHTS`); at least one byte. Returns how many bytes went, all of
/// them on a message socket. Never raises SIGPIPE.
///
/// # Errors
/// `EAGAIN` if there is no room and the socket does not block, `EPIPE` if the other end is gone,
/// `EMSGSIZE` for too large a message.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize> {
    let too_many = || Error::other("send on", "socket", format!("more than {MAX_FDS} descriptors"));
    let mut space = vec![MaybeUninit::uninit(); ancillary_space(fds.len())];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MAX_FDS || (!fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(too_many());
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result.ctx("send on", "socket"),
        }
    }
}

/// A message, or a piece of a stream, as [`recv_with_fds`] found it.
#[derive(Debug)]
pub struct Received {
    /// How many bytes are in the buffer. 0 is the end (or an empty message).
    pub len: usize,
    /// The descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The message was longer than the buffer; the rest is lost (`MSG_TRUNC`).
    pub truncated: bool,
    /// More descriptors came than were allowed or could be opened; the surplus is closed (`MSG_CTRUNC`).
    pub fds_truncated: bool,
}

/// Receives into `buffer`, with at most `max_fds` descriptors.
///
/// # Errors
/// `EAGAIN` if there is nothing and the socket does not block; `ECONNRESET`.
pub fn recv_with_fds(socket: impl AsFd, buffer: &mut [u8], max_fds: usize) -> Result<Received> {
    let mut space = vec![MaybeUninit::uninit(); ancillary_space(max_fds.min(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result.ctx("receive on", "socket")?,
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = part {
            fds.extend(more);
        }
    }
    // The kernel gives what fits the space, which alignment may have made larger.
    let surplus = fds.len() > max_fds;
    fds.truncate(max_fds);
    Ok(Received {
        len: message.bytes,
        fds,
        truncated: message.flags.contains(ReturnFlags::TRUNC),
        fds_truncated: surplus || message.flags.contains(ReturnFlags::CTRUNC),
    })
}

/// Room for one message of `count` descriptors, whatever the buffer's alignment. None for none: then the
/// kernel closes what comes and says so.
fn ancillary_space(count: usize) -> usize {
    if count == 0 { 0 } else { size_of::<libc::cmsghdr>() * 2 + count * size_of::<i32>() }
}

fn new(kind: Kind, blocking: Blocking) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, raw_kind(kind), flags(blocking), None)
}

fn raw_kind(kind: Kind) -> SocketType {
    match kind {
        Kind::Stream => SocketType::STREAM,
        Kind::SeqPacket => SocketType::SEQPACKET,
        Kind::Datagram => SocketType::DGRAM,
    }
}

fn flags(blocking: Blocking) -> SocketFlags {
    match blocking {
        Blocking::Yes => SocketFlags::CLOEXEC,
        Blocking::No => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    }
}

/// An address that is valid while it is kept: a path that is too long goes by its directory's descriptor.
struct Address {
    unix: SocketAddrUnix,
    _dir: Option<OwnedFd>,
}

impl Address {
    fn of(path: &Path) -> Result<Self> {
        if let Ok(unix) = SocketAddrUnix::new(path) {
            return Ok(Self { unix, _dir: None });
        }
        let (dir, name) = split(path)?;
        let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .ctx("open", dir)?;
        let short: PathBuf = format!("/proc/self/fd/{}", dir.as_raw_fd()).into();
        let unix = SocketAddrUnix::new(short.join(name)).ctx("use as a socket's address", path)?;
        Ok(Self { unix, _dir: Some(dir) })
    }
}

#[cfg(test)]
mod tests;
