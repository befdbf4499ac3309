//! One client of the server: its connection and the replies that it has not taken yet.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use sys::socket;

use super::protocol::{MESSAGE_BYTES, Reply, encode};

/// The most bytes of replies that are kept for a client.
const BEHIND_BYTES: usize = 4 * MESSAGE_BYTES;

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    fd: OwnedFd,
    /// Which of all that ever came.
    pub(super) arrival: u64,
    replies: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    bytes: usize,
    broken: bool,
}

impl Client {
    pub(super) fn new(fd: OwnedFd, arrival: u64) -> Self {
        Self { fd, arrival, replies: VecDeque::new(), bytes: 0, broken: false }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether it has replies to take before it is heard again.
    pub(super) fn is_behind(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Sends a reply, now or as soon as the client takes it.
    pub(super) fn send(&mut self, reply: &Reply, fd: Option<OwnedFd>) {
        if self.broken {
            return;
        }
        let bytes = encode(reply);
        self.bytes += bytes.len();
        self.replies.push_back((bytes, fd));
        self.flush();
        if self.bytes > BEHIND_BYTES {
            self.break_off();
        }
    }

    /// Sends what it takes now.
    pub(super) fn flush(&mut self) {
        while let Some((bytes, fd)) = self.replies.front() {
            let fds: &[BorrowedFd<'_>] = &fd.iter().map(|fd| fd.as_fd()).collect::<Vec<_>>();
            match socket::send_with_fds(&self.fd, bytes, fds) {
                Ok(_) => {}
                Err(error) if error.errno() == Some(Errno::AGAIN.raw_os_error()) => return,
                Err(_) => return self.break_off(),
            }
            self.bytes -= bytes.len();
            self.replies.pop_front();
        }
    }

    /// Ends the connection; it then reads as ended.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
        self.replies.clear();
        self.bytes = 0;
        // It fails only if the other side has ended it already, which reads the same.
        let _ = shutdown(&self.fd, Shutdown::Both);
    }
}
