//! The way to the journal: a socket that is never waited for, and a queue of what it did not take yet.
//!
//! ```text
//! all is taken ─ refused ─► queued, tried again ─ the queue is half full ─► the container's output rests
//!      ▲                        │    ▲                                        │ at most PATIENCE without progress
//!      └──── queue empty ◄──────┘    └─ marker sent ── dropped and counted ◄──┘ the queue is full
//! ```
//! A journal that is merely slow gets everything. One that takes nothing holds nobody up for longer than [`PATIENCE`].

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmsg_addr, socket_with,
};

use super::journal::Entry;
use super::queue::Queue;
use crate::Error;

/// How long the container's output rests for a journal that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a refusal, the next try; twice as long after each, and at most so long.
const FIRST_STEP: Duration = Duration::from_micros(500);
const LAST_STEP: Duration = Duration::from_secs(1);
/// With so much in the queue, what is read next is dropped. Not what is being written just now: the reads, of at most
/// 256 KiB, are what keeps the queue below 2 MiB.
const QUEUE_BYTES: usize = 256 * 1024;
/// Before the end the journal is waited for so long in all.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// The priority of our own words: warning.
const WARNING: u8 = 4;

/// A line, or a piece of one, for the journal.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) priority: u8,
    pub(super) parts: [&'a [u8]; 2],
    pub(super) piece: bool,
}

/// When the journal takes none: since when, and the next try.
#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Instant,
    step: Duration,
    again: Instant,
}

enum Outcome {
    Sent,
    /// Later, perhaps.
    Refused,
    /// Never.
    Failed,
}

#[derive(Debug)]
pub(super) struct Sender {
    fd: OwnedFd,
    address: SocketAddrUnix,
    queue: Queue,
    /// Whether the queue takes what is being written.
    admits: bool,
    /// Entries dropped since the last one that was queued or sent. While there are any, nothing is queued: what is lost
    /// is lost in one place, where a line tells of it.
    lost: u64,
    refused: Option<Refused>,
}

impl Sender {
    pub(super) fn new(socket: &Path) -> Result<Self, Error> {
        let fail = |error: Errno| Error::io("open socket for", socket.display(), error);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).map_err(fail)?;
        let address = SocketAddrUnix::new(socket).map_err(fail)?;
        Ok(Self { fd, address, queue: Queue::default(), admits: true, lost: 0, refused: None })
    }

    /// Begins what was read at once.
    pub(super) fn begin(&mut self) {
        self.admits = self.queue.bytes() < QUEUE_BYTES;
    }

    /// Sends a message, or keeps it for later, or drops it.
    pub(super) fn send(&mut self, message: &Message<'_>, entry: &mut Entry) {
        self.tick(entry, Instant::now());
        if self.queue.len() == 0 && self.lost == 0 && self.refused.is_none() {
            match self.deliver(entry.build(message)) {
                Outcome::Sent => return,
                Outcome::Refused => self.note_refusal(),
                Outcome::Failed => {
                    self.lost += 1;
                    return;
                }
            }
        }
        if self.lost > 0 || !self.admits {
            self.lost += 1;
        } else {
            self.queue.push(message);
        }
    }

    /// Tries what waits, if it is time.
    pub(super) fn tick(&mut self, entry: &mut Entry, now: Instant) {
        if self.refused.is_some_and(|refused| now < refused.again) {
            return;
        }
        while let Some(message) = self.queue.front() {
            match self.deliver(entry.build(&message)) {
                Outcome::Sent => self.refused = None,
                Outcome::Refused => return self.note_refusal(),
                Outcome::Failed => self.lost += 1,
            }
            self.queue.pop();
        }
        if self.lost > 0 {
            let text = format!("[wharf-monitor: {} lines lost: the journal took none]", self.lost);
            let message = Message { priority: WARNING, parts: [text.as_bytes(), b""], piece: false };
            match self.deliver(entry.build(&message)) {
                Outcome::Sent => self.lost = 0,
                Outcome::Refused | Outcome::Failed => return self.note_refusal(),
            }
        }
        self.refused = None;
    }

    fn note_refusal(&mut self) {
        let now = Instant::now();
        let before = self.refused.unwrap_or(Refused { since: now, step: FIRST_STEP / 2, again: now });
        let step = (before.step * 2).min(LAST_STEP);
        self.refused = Some(Refused { since: before.since, step, again: now + step });
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = self.queue.len() > 0 || self.lost > 0;
        waits.then(|| self.refused.map_or_else(Instant::now, |refused| refused.again))
    }

    /// Whether the container's output should rest until a journal that is only slow has caught up.
    pub(super) fn congested(&self) -> bool {
        self.queue.bytes() > QUEUE_BYTES / 2
            && self.refused.is_none_or(|refused| refused.since.elapsed() < PATIENCE)
    }

    /// Before the end: waits for a journal that goes on taking something.
    pub(super) fn wait(&mut self, entry: &mut Entry) {
        let begin = Instant::now();
        let mut progress = (begin, self.queue.len());
        while self.queue.len() > 0 || self.lost > 0 {
            if let Some(refused) = &mut self.refused {
                refused.again = Instant::now();
            }
            self.tick(entry, Instant::now());
            let now = Instant::now();
            if self.queue.len() < progress.1 {
                progress = (now, self.queue.len());
            }
            if now - progress.0 >= PATIENCE || now - begin >= LAST_WAIT {
                break;
            }
            if self.refused.is_some() {
                std::thread::sleep(FIRST_STEP);
            }
        }
    }

    /// Gives the memory of the queue back, if it is empty.
    pub(super) fn trim(&mut self) {
        self.queue.trim();
    }

    /// Entries dropped of which the journal has not been told.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn deliver(&self, entry: &[u8]) -> Outcome {
        loop {
            return match self.send_entry(entry) {
                // No journal on this machine: nothing is lost that would have been kept, as with sd_journal_send(3).
                Ok(()) | Err(Errno::NOENT) => Outcome::Sent,
                Err(Errno::INTR) => continue,
                // It is full, or is being started anew, or memory is short.
                Err(Errno::AGAIN | Errno::CONNREFUSED | Errno::NOBUFS | Errno::NOMEM | Errno::MFILE) => {
                    Outcome::Refused
                }
                Err(_) => Outcome::Failed,
            };
        }
    }

    /// An entry is one datagram; one that is too large goes into a sealed memfd whose descriptor is sent.
    fn send_entry(&self, entry: &[u8]) -> Result<(), Errno> {
        let flags = SendFlags::NOSIGNAL;
        let mut none = SendAncillaryBuffer::default();
        match sendmsg_addr(&self.fd, &self.address, &[IoSlice::new(entry)], &mut none, flags) {
            Err(Errno::MSGSIZE | Errno::NOBUFS) => {}
            other => return other.map(drop),
        }
        let sealed =
            sealed_memfd(entry).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let fds = [sealed.as_fd()];
        if !rights.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Errno::NOBUFS);
        }
        sendmsg_addr(&self.fd, &self.address, &[], &mut rights, flags).map(drop)
    }
}

/// A memfd with `bytes` that nobody can change any more, as the journal wants it.
fn sealed_memfd(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create("journal-entry", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}
