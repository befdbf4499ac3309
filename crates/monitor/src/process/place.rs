//! Where clients find the container: the attach socket and the link to it (contract §4).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net;

use crate::Error;
use crate::cli::Args;

/// The size of sockaddr_un's path without its NUL; conmon shortens a link of just this length.
const SUN_PATH_MAX: usize = 107;

/// The listening attach socket; it and its link are removed when this is dropped.
#[derive(Debug)]
pub(super) struct AttachSocket {
    path: PathBuf,
    link: Option<PathBuf>,
    listener: OwnedFd,
}

impl AttachSocket {
    /// Makes `BUNDLE/attach`, and without `--full-attach` the link `SOCKETDIR/CUUID` to the bundle.
    ///
    /// # Errors
    /// A directory is missing or not writable, or something that is no socket and no link stands in the way.
    pub(super) fn make(args: &Args, bundle: &Path) -> Result<Self, Error> {
        let path = bundle.join("attach");
        let fail = |op, path: &Path, cause: io::Error| Error::io(op, path.display(), cause);
        let listener = bind(bundle).map_err(|cause| fail("bind", &path, cause))?;
        let mut socket = Self { path, link: None, listener };
        if let Some(cuuid) = args.cuuid.as_ref().filter(|_| !args.full_attach) {
            let link = link_path(&args.socket_dir, cuuid);
            remove_if_there(&link).map_err(|cause| fail("unlink", &link, cause))?;
            std::os::unix::fs::symlink(bundle, &link).map_err(|cause| fail("symlink", &link, cause))?;
            socket.link = Some(link);
        }
        Ok(socket)
    }

    /// Takes the next client in; `None` when nobody waits.
    ///
    /// # Errors
    /// Descriptors are short.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match net::accept_with(&self.listener, net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK) {
            Ok(client) => Ok(Some(client)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for AttachSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for AttachSocket {
    fn drop(&mut self) {
        for path in std::iter::once(&self.path).chain(&self.link) {
            // A caller that removed the bundle first has removed these too.
            let _ = remove_if_there(path);
        }
    }
}

fn link_path(dir: &Path, cuuid: &str) -> PathBuf {
    let mut path = dir.join(cuuid);
    if path.as_os_str().len() == SUN_PATH_MAX {
        let mut shorter = cuuid.to_owned();
        shorter.pop();
        path = dir.join(shorter);
    }
    path
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Binds through the directory's descriptor, so that the length of its path is no limit.
fn bind(dir: &Path) -> io::Result<OwnedFd> {
    remove_if_there(&dir.join("attach"))?;
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let socket = net::socket_with(
        net::AddressFamily::UNIX,
        net::SocketType::SEQPACKET,
        net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK,
        None,
    )?;
    // The mode of the socket's file is that of the socket: there is no moment at which others may connect.
    rustix::fs::fchmod(&socket, Mode::RWXU)?;
    let address = net::SocketAddrUnix::new(format!("/proc/self/fd/{}/attach", dir.as_raw_fd()))?;
    net::bind(&socket, &address)?;
    net::listen(&socket, 10)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_of_just_the_limit_is_shortened() {
        let dir = Path::new("/d");
        for (len, expected) in [(103, 106), (104, 106), (105, 108)] {
            assert_eq!(link_path(dir, &"u".repeat(len)).as_os_str().len(), expected);
        }
    }
}
