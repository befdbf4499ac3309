//! One attach client: its connection and its backlog.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown};

use super::{PATIENCE, Said};
use crate::Stream;
use crate::poll::{Poll, Ready, Token};

/// The most bytes in a packet after its stream byte: clients read with a buffer for one more.
const PACKET_BYTES: usize = 8192;
/// A backlog from which on the container's output waits for the client, and one from which on it goes on.
const HIGH_BYTES: usize = 1024 * 1024;
const LOW_BYTES: usize = HIGH_BYTES / 2;
/// A backlog that nothing but not waiting can lead to: the client is dropped.
const MOST_BYTES: usize = 4 * HIGH_BYTES;
/// What a client that is far behind must at least take in [`PATIENCE`].
const LEAST_BYTES: usize = 64 * 1024;
/// Output is gathered into runs of this size, so that a backlog of small pieces is no larger than its bytes.
const RUN_BYTES: usize = 64 * 1024;

/// Whether a client is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It is.
    Here,
    /// It is gone, or given up.
    Gone,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    fd: OwnedFd,
    token: Token,
    backlog: VecDeque<Run>,
    bytes: usize,
    /// Since when it has been judged, and what it has taken since; `None` while it is not far behind.
    judged: Option<(Instant, usize)>,
    /// Whether stdin takes anything now.
    reading: bool,
    /// It sends no more.
    ended: bool,
    /// It takes no more. It is kept until what it sent has been read.
    deaf: bool,
    /// What it is watched for; `None`: not at all.
    interest: Option<Ready>,
}

/// Output of one stream that waits.
#[derive(Debug)]
struct Run {
    stream: Stream,
    bytes: Vec<u8>,
    sent: usize,
}

impl Client {
    pub(super) fn add(fd: OwnedFd, token: Token, reading: bool, poll: &Poll) -> io::Result<Self> {
        let interest = if reading { Ready::IN } else { Ready::empty() };
        poll.add(&fd, token, interest)?;
        Ok(Self {
            fd,
            token,
            backlog: VecDeque::new(),
            bytes: 0,
            judged: None,
            reading,
            ended: false,
            deaf: false,
            interest: Some(interest),
        })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Bytes it has not taken yet.
    pub(super) fn backlog(&self) -> usize {
        self.bytes
    }

    /// Whether the container's output is to wait for it.
    pub(super) fn congested(&self) -> bool {
        self.judged.is_some()
    }

    /// When it will be looked at whether it takes enough.
    pub(super) fn judged_at(&self) -> Option<Instant> {
        self.judged.map(|(since, _)| since + PATIENCE)
    }

    /// Gives it up if it is far behind and takes next to nothing.
    pub(super) fn judge(&mut self, now: Instant, poll: &Poll) -> Health {
        match self.judged {
            Some((since, taken)) if now >= since + PATIENCE => {
                if taken < LEAST_BYTES {
                    return self.give_up(poll);
                }
                self.judged = Some((now, 0));
                Health::Here
            }
            _ => Health::Here,
        }
    }

    /// Sends `bytes`, or keeps them.
    pub(super) fn output(&mut self, stream: Stream, mut bytes: &[u8], poll: &Poll) -> Health {
        if self.deaf {
            return Health::Here;
        }
        while self.backlog.is_empty() && !bytes.is_empty() {
            let packet = &bytes[..bytes.len().min(PACKET_BYTES)];
            match send_packet(self.fd.as_fd(), stream, packet) {
                Ok(()) => bytes = &bytes[packet.len()..],
                Err(Errno::AGAIN) => break,
                Err(_) => return self.deafen(poll),
            }
        }
        if bytes.is_empty() {
            return Health::Here;
        }
        match self.backlog.back_mut() {
            Some(run) if run.stream == stream && run.bytes.len() + bytes.len() <= RUN_BYTES => {
                run.bytes.extend_from_slice(bytes);
            }
            _ => self.backlog.push_back(Run { stream, bytes: bytes.to_vec(), sent: 0 }),
        }
        self.bytes += bytes.len();
        if self.bytes >= HIGH_BYTES && self.judged.is_none() {
            self.judged = Some((Instant::now(), 0));
        }
        if self.bytes > MOST_BYTES { self.give_up(poll) } else { self.watch(poll) }
    }

    /// Sends what it takes now of its backlog.
    pub(super) fn flush(&mut self, poll: &Poll) -> Health {
        while let Some(run) = self.backlog.front_mut() {
            let packet = &run.bytes[run.sent..];
            let packet = &packet[..packet.len().min(PACKET_BYTES)];
            match send_packet(self.fd.as_fd(), run.stream, packet) {
                Ok(()) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return self.deafen(poll),
            }
            let taken = packet.len();
            run.sent += taken;
            if run.sent == run.bytes.len() {
                self.backlog.pop_front();
            }
            self.bytes -= taken;
            if let Some((_, sum)) = &mut self.judged {
                *sum += taken;
            }
        }
        if self.bytes < LOW_BYTES {
            self.judged = None;
        }
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        self.watch(poll)
    }

    /// Does what it is `ready` for.
    pub(super) fn ready(&mut self, ready: Ready, buffer: &mut [u8], poll: &Poll) -> (Said, Health) {
        if ready.intersects(Ready::OUT) && self.flush(poll) == Health::Gone {
            return (Said::Nothing, Health::Gone);
        }
        let hung_up = ready.intersects(Ready::HUP | Ready::ERR);
        if self.ended {
            // It closed its other side too: nothing can reach it any more.
            return (Said::Nothing, if hung_up { self.gone(poll) } else { Health::Here });
        }
        if !self.reading {
            // What it sent before it went is for later; until then its hang-up would be reported without end.
            let health = if hung_up { self.unwatch(poll) } else { Health::Here };
            return (Said::Nothing, health);
        }
        if !hung_up && !ready.intersects(Ready::IN) {
            return (Said::Nothing, Health::Here);
        }
        match recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                self.ended = true;
                (Said::End, if hung_up || self.deaf { self.gone(poll) } else { self.watch(poll) })
            }
            // More than the buffer holds was cut.
            Ok((_, len)) => (Said::Input(len.min(buffer.len())), Health::Here),
            // A peer that went without reading all is a reset, told of once; what it sent follows.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNRESET) => (Said::Nothing, Health::Here),
            Err(_) => (Said::End, self.gone(poll)),
        }
    }

    pub(super) fn set_reading(&mut self, on: bool, poll: &Poll) -> Health {
        self.reading = on;
        self.watch(poll)
    }

    /// Watches for what it may do next.
    fn watch(&mut self, poll: &Poll) -> Health {
        let mut interest = Ready::empty();
        if self.reading && !self.ended {
            interest |= Ready::IN;
        }
        if !self.backlog.is_empty() {
            interest |= Ready::OUT;
        }
        let watched = match self.interest {
            Some(now) if now == interest => return Health::Here,
            Some(_) => poll.modify(&self.fd, self.token, interest),
            // It has hung up: only what it sent before is of interest.
            None if !self.reading => return Health::Here,
            None => poll.add(&self.fd, self.token, interest),
        };
        self.interest = Some(interest);
        if watched.is_ok() { Health::Here } else { self.gone(poll) }
    }

    fn unwatch(&mut self, poll: &Poll) -> Health {
        if self.interest.take().is_some() {
            // It is watched, so this can't fail.
            let _ = poll.remove(&self.fd);
        }
        Health::Here
    }

    /// Sends it nothing any more.
    fn deafen(&mut self, poll: &Poll) -> Health {
        self.deaf = true;
        self.backlog = VecDeque::new();
        self.bytes = 0;
        self.judged = None;
        if self.ended { self.gone(poll) } else { self.watch(poll) }
    }

    /// Ends the connection of a client that does not read. It then becomes ready and reads as ended.
    fn give_up(&mut self, poll: &Poll) -> Health {
        // It fails only if the other side has ended it already, which reads the same.
        let _ = shutdown(&self.fd, Shutdown::Both);
        self.deafen(poll)
    }

    fn gone(&mut self, poll: &Poll) -> Health {
        self.unwatch(poll);
        Health::Gone
    }
}

fn send_packet(fd: BorrowedFd<'_>, stream: Stream, bytes: &[u8]) -> Result<(), Errno> {
    let head = [stream.attach_byte()];
    let parts = [IoSlice::new(&head), IoSlice::new(bytes)];
    let mut none = SendAncillaryBuffer::default();
    loop {
        match sendmsg(fd, &parts, &mut none, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}
