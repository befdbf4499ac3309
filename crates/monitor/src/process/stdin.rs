//! The container's stdin: what clients send, in order, and never more than one packet held back.

use std::os::fd::OwnedFd;

use crate::message;
use crate::poll::{Kind, Poll, Ready, Token};

/// The write end of the pipe, or the terminal.
#[derive(Debug, Default)]
pub(super) struct Stdin {
    fd: Option<OwnedFd>,
    held: Vec<u8>,
    end: bool,
    watched: bool,
}

impl Stdin {
    /// None yet, or ever.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// From a non-blocking descriptor.
    pub(super) fn to(fd: OwnedFd) -> Self {
        Self { fd: Some(fd), ..Self::default() }
    }

    /// Whether clients should be read: there is a stdin, and nothing is held back.
    pub(super) fn wants_more(&self) -> bool {
        self.fd.is_some() && self.held.is_empty() && !self.end
    }

    /// Writes `bytes`, and holds back what does not fit.
    pub(super) fn feed(&mut self, bytes: &[u8], poll: &Poll) {
        self.held.extend_from_slice(bytes);
        self.flush(poll);
    }

    /// Closes it once all that is held back is written.
    pub(super) fn finish(&mut self, poll: &Poll) {
        self.end = true;
        self.flush(poll);
    }

    /// Goes on writing.
    pub(super) fn flush(&mut self, poll: &Poll) {
        while let Some(fd) = &self.fd
            && !self.held.is_empty()
        {
            match rustix::io::write(fd, &self.held) {
                Ok(written) => drop(self.held.drain(..written)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    if !self.watched {
                        self.watched = poll.add(fd, Token::of(Kind::Stdin), Ready::OUT).is_ok();
                    }
                    return;
                }
                Err(error) => {
                    message::debug(format_args!("write container stdin: {error}"));
                    return self.close(poll);
                }
            }
        }
        self.held = Vec::new();
        self.unwatch(poll);
        if self.end {
            self.close(poll);
        }
    }

    fn unwatch(&mut self, poll: &Poll) {
        if let (true, Some(fd)) = (self.watched, &self.fd) {
            // It was added; that it can't be removed would show as a needless wake-up only.
            let _ = poll.remove(fd);
        }
        self.watched = false;
    }

    /// Closes it now.
    pub(super) fn close(&mut self, poll: &Poll) {
        self.unwatch(poll);
        self.held = Vec::new();
        self.fd = None;
    }
}
