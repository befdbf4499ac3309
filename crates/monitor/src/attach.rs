//! Attach clients: each gets the container's output through a bounded buffer of its own, all feed its stdin.
//!
//! A client that reads more slowly than the container writes falls behind. Its backlog is kept; once it is large,
//! the container's output is to be read no faster than this client takes it ([`Clients::congested`]): podman's
//! foreground containers are read through here, and nothing of what they say may be lost. But a client that takes next
//! to nothing for [`PATIENCE`] while it is that far behind is dropped, so nobody can hold a container up for longer.

mod client;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll as poll_fds};

use self::client::{Client, Health};
use crate::Stream;
use crate::poll::{Kind, Poll, Ready, Token};

/// How long a client that is far behind may take next to nothing.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last output may take: without any progress, and in all.
const LAST_STEP: Duration = Duration::from_secs(1);
const LAST_TOTAL: Duration = Duration::from_secs(10);

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
#[derive(Debug)]
pub struct Clients {
    clients: Vec<Option<Client>>,
    /// Whether stdin takes anything now.
    reading: bool,
}

impl Default for Clients {
    fn default() -> Self {
        Self { clients: Vec::new(), reading: true }
    }
}

impl Clients {
    /// Takes in a connected SOCK_SEQPACKET socket (accepted, or passed over the control socket) and watches it under
    /// `Kind::AttachClient`. Whether the socket blocks does not matter.
    ///
    /// # Errors
    /// Descriptors or memory are short; the client is then closed.
    pub fn add(&mut self, fd: OwnedFd, poll: &Poll) -> io::Result<()> {
        let place = self.clients.iter().position(Option::is_none).unwrap_or(self.clients.len());
        let index = u32::try_from(place).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let client = Client::add(fd, Token::nth(Kind::AttachClient, index), self.reading, poll)?;
        match self.clients.get_mut(place) {
            Some(free) => *free = Some(client),
            None => self.clients.push(Some(client)),
        }
        Ok(())
    }

    /// Whether nobody is there: the loop then needs no copy of the output.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.iter().all(Option::is_none)
    }

    /// Sends `bytes` to each client in packets of 1 + at most 8192 bytes, buffering what it does not take.
    pub fn output(&mut self, stream: Stream, bytes: &[u8], poll: &Poll) {
        self.each(|client| client.output(stream, bytes, poll));
    }

    /// Whether reading the container's output should wait until a merely slow client has caught up. While it is
    /// true, [`Clients::wake_in`] says when [`Clients::tick`] must be called.
    #[must_use]
    pub fn congested(&self) -> bool {
        self.clients.iter().flatten().any(Client::congested)
    }

    /// How long from now until [`Clients::tick`] wants to be called; `None`: nobody is far behind.
    #[must_use]
    pub fn wake_in(&self) -> Option<Duration> {
        let next = self.clients.iter().flatten().filter_map(Client::judged_at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Drops clients that are far behind and do not read.
    pub fn tick(&mut self, poll: &Poll) {
        let now = Instant::now();
        self.each(|client| client.judge(now, poll));
    }

    /// Serves client `index`, which is `ready`: sends what is buffered, receives one packet into `buffer`
    /// (32768 bytes).
    pub fn ready(&mut self, index: u32, ready: Ready, buffer: &mut [u8], poll: &Poll) -> Said {
        let place = usize::try_from(index).ok().and_then(|place| self.clients.get_mut(place));
        let Some(place) = place else { return Said::Nothing };
        let Some(client) = place else { return Said::Nothing };
        let (said, health) = client.ready(ready, buffer, poll);
        if health == Health::Gone {
            *place = None;
        }
        said
    }

    /// Stops or goes on with reading from clients (the container's stdin is full, or not there).
    pub fn set_reading(&mut self, on: bool, poll: &Poll) {
        if self.reading != on {
            self.reading = on;
            self.each(|client| client.set_reading(on, poll));
        }
    }

    /// Gives each client its last output, waiting a bounded time for those that still read, and closes all.
    pub fn close(&mut self, poll: &Poll) {
        let begun = Instant::now();
        let mut progress = begun;
        let mut behind = self.backlog();
        while behind > 0 {
            let now = Instant::now();
            let until = (progress + LAST_STEP).min(begun + LAST_TOTAL);
            if now >= until {
                break;
            }
            self.wait_writable(until - now);
            self.each(|client| client.flush(poll));
            let left = self.backlog();
            if left < behind {
                progress = Instant::now();
            }
            behind = left;
        }
        self.clients.clear();
    }

    fn backlog(&self) -> usize {
        self.clients.iter().flatten().map(Client::backlog).sum()
    }

    fn wait_writable(&self, most: Duration) {
        let behind = self.clients.iter().flatten().filter(|client| client.backlog() > 0);
        let mut fds: Vec<PollFd<'_>> =
            behind.map(|client| PollFd::new(client.fd(), PollFlags::OUT)).collect();
        let timeout = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        // A signal only makes the wait shorter.
        let _ = poll_fds(&mut fds, Some(&timeout));
    }

    fn each(&mut self, mut act: impl FnMut(&mut Client) -> Health) {
        for place in &mut self.clients {
            if place.as_mut().is_some_and(|client| act(client) == Health::Gone) {
                *place = None;
            }
        }
    }
}
