//! A client of the attach socket, as podman is one.

use std::os::fd::OwnedFd;
use std::path::Path;

use testkit::wait_until;

use crate::stand::wait_readable;

/// An attach client.
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    pub(crate) seen: Vec<u8>,
}

impl Client {
    /// Connects to `attach` in `dir`, whatever the path's length, as podman does.
    pub(crate) fn connect(dir: &Path) -> Self {
        use rustix::fs::{Mode, OFlags};
        let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let path = format!("/proc/self/fd/{}/attach", std::os::fd::AsRawFd::as_raw_fd(&dir));
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let address = rustix::net::SocketAddrUnix::new(path).unwrap();
        wait_until("the attach socket", || rustix::net::connect(&socket, &address).is_ok());
        Self { socket, seen: Vec::new() }
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        rustix::net::send(&self.socket, bytes, rustix::net::SendFlags::NOSIGNAL).unwrap();
    }

    pub(crate) fn end_input(&self) {
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write).unwrap();
    }

    /// One packet: its stream byte and content; `None` at the end.
    pub(crate) fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        wait_readable(&self.socket, "a packet");
        let mut buffer = [0u8; 8193];
        match rustix::io::read(&self.socket, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::CONNRESET) => None,
            Ok(len) => {
                self.seen.extend_from_slice(&buffer[1..len]);
                Some((buffer[0], buffer[1..len].to_vec()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads until `needle` was seen.
    pub(crate) fn expect(&mut self, needle: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(needle) {
            assert!(
                self.packet().is_some(),
                "{needle:?} never came: {:?}",
                String::from_utf8_lossy(&self.seen)
            );
        }
    }

    /// Reads to the end: all content of `stream`.
    pub(crate) fn rest(&mut self, stream: u8) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some((of, bytes)) = self.packet() {
            if of == stream {
                all.extend(bytes);
            }
        }
        all
    }
}
