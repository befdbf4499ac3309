//! The sd_notify proxy (contract §8): of what the container says, only harmless lines reach the host's socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use crate::{Error, message};

const WHOLE: [&[u8]; 5] = [b"READY=1", b"RELOADING=1", b"STOPPING=1", b"WATCHDOG=1", b"WATCHDOG=trigger"];
const PREFIXES: [&[u8]; 4] = [b"STATUS=", b"ERRNO=", b"BUSERROR=", b"MONOTONIC_USEC="];

/// What of `datagram` may be passed on; empty: nothing.
#[must_use]
pub(crate) fn filter(datagram: &[u8]) -> Vec<u8> {
    let allowed =
        |line: &&[u8]| WHOLE.contains(line) || PREFIXES.iter().any(|prefix| line.starts_with(prefix));
    datagram.split(|&b| b == b'\n').filter(allowed).collect::<Vec<_>>().join(&b'\n')
}

/// The container's notify socket and the host's.
#[derive(Debug)]
pub(super) struct Proxy {
    path: PathBuf,
    container: UnixDatagram,
    host: SocketAddr,
}

impl Proxy {
    /// Makes `BUNDLE/notify/notify.sock`, mode 0777.
    ///
    /// # Errors
    /// The directory is not there, or a path is too long.
    pub(super) fn make(bundle: &Path, host: &Path) -> Result<Self, Error> {
        let path = bundle.join("notify/notify.sock");
        let host = match host.as_os_str().as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(host),
        }
        .map_err(|cause| Error::io("use", format!("sd-notify socket {}", host.display()), cause))?;
        let container = bind(&path).map_err(|cause| Error::io("bind", path.display(), cause))?;
        Ok(Self { path, container, host })
    }

    /// Passes on what is there. What the host's socket does not take is lost, with a warning.
    // Its buffer must not be part of the loop's frame, which stays in memory.
    #[inline(never)]
    pub(super) fn relay(&self) {
        let mut buffer = [0u8; 8192];
        while let Ok(len) = self.container.recv(&mut buffer) {
            let lines = filter(&buffer[..len]);
            if lines.is_empty() {
                continue;
            }
            let sent = UnixDatagram::unbound().and_then(|socket| {
                socket.set_nonblocking(true)?;
                socket.send_to_addr(&lines, &self.host)
            });
            if let Err(error) = sent {
                message::warning(format_args!("send to sd-notify socket: {error}"));
            }
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixDatagram> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (dir, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let dir = rustix::fs::open(
        dir,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // Through the directory's descriptor: podman's bundles have long paths.
    let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
    let socket = UnixDatagram::bind(Path::new(&format!("/proc/self/fd/{number}")).join(name))?;
    socket.set_nonblocking(true)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o777))?;
    Ok(socket)
}

impl AsFd for Proxy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The caller may have removed it with the bundle.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_lines_pass() {
        let cases: [(&str, &str); 8] = [
            ("READY=1", "READY=1"),
            ("READY=1\n", "READY=1"),
            ("READY=10", ""),
            ("MAINPID=1", ""),
            ("FDSTORE=1\nSTATUS=fine\nREADY=1", "STATUS=fine\nREADY=1"),
            ("WATCHDOG=1\nWATCHDOG=trigger\nWATCHDOG=2", "WATCHDOG=1\nWATCHDOG=trigger"),
            (
                "RELOADING=1\nMONOTONIC_USEC=5\nSTOPPING=1\nERRNO=2\nBUSERROR=x",
                "RELOADING=1\nMONOTONIC_USEC=5\nSTOPPING=1\nERRNO=2\nBUSERROR=x",
            ),
            ("", ""),
        ];
        for (datagram, passed) in cases {
            assert_eq!(filter(datagram.as_bytes()), passed.as_bytes());
        }
    }
}
