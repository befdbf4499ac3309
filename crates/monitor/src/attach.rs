//! Attach clients: each gets the container's output through a bounded buffer of its own, all feed its stdin.

use std::io;
use std::os::fd::OwnedFd;

use crate::Stream;
use crate::poll::{Poll, Ready};

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing that matters to the container.
    Nothing,
    /// Bytes for stdin: so many were put at the front of the buffer.
    Input(usize),
    /// It sends no more (it may still read).
    End,
}

/// The clients of one container.
#[derive(Debug, Default)]
pub struct Clients {
    clients: Vec<Option<OwnedFd>>,
}

impl Clients {
    /// Takes in a connected SOCK_SEQPACKET socket (accepted, or passed over the control socket), makes it
    /// non-blocking and watches it under `Kind::AttachClient`.
    ///
    /// # Errors
    /// Descriptors or memory are short; the client is then closed.
    pub fn add(&mut self, fd: OwnedFd, _poll: &Poll) -> io::Result<()> {
        self.clients.push(Some(fd));
        Ok(())
    }

    /// Whether nobody is there: the loop then needs no copy of the output.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.iter().all(Option::is_none)
    }

    /// Sends `bytes` to each client in packets of 1 + at most 8192 bytes, buffering what it does not take.
    pub fn output(&mut self, _stream: Stream, _bytes: &[u8], _poll: &Poll) {}

    /// Whether reading the container's output should wait until a merely slow client has caught up.
    #[must_use]
    pub fn congested(&self) -> bool {
        false
    }

    /// Serves client `index`, which is `ready`: sends what is buffered, receives one packet into `buffer`
    /// (32768 bytes).
    pub fn ready(&mut self, _index: u32, _ready: Ready, _buffer: &mut [u8], _poll: &Poll) -> Said {
        Said::Nothing
    }

    /// Stops or goes on with reading from clients (the container's stdin is full, or not there).
    pub fn set_reading(&mut self, _on: bool, _poll: &Poll) {}

    /// Gives each client its last output, waiting a bounded time for those that still read, and closes all.
    pub fn close(&mut self, _poll: &Poll) {
        self.clients.clear();
    }
}
