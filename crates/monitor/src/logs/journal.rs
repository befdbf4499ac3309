//! The journald driver: one entry per line, in the journal's native protocol.
//!
//! An entry is one datagram; one that is too large goes into a sealed memfd whose descriptor is sent. A journal that
//! is merely slow is waited for; one that takes nothing for [`PATIENCE`] loses entries, which are counted and told
//! of when it takes some again. Without a journal nothing is kept, as with sd_journal_send(3).

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmsg_addr, socket_with,
};

use super::Options;
use super::lines::{Piece, Splitter};
use crate::{Error, Stream};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// How long a journal that takes nothing is waited for before entries are dropped.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long entries are dropped without another look.
const REST: Duration = Duration::from_millis(200);
/// The priorities of the two streams: informational, error.
const PRIORITIES: [u8; 2] = [6, 3];
/// The priority of our own words: warning.
const WARNING: u8 = 4;

/// The journal and what is on its way there.
#[derive(Debug)]
pub(super) struct Journal {
    splitters: [Splitter; 2],
    sender: Sender,
    entry: Entry,
}

impl Journal {
    pub(super) fn open(options: &Options, socket: &Path) -> Result<Self, Error> {
        let fail = |error: Errno| Error::io("open socket for", socket.display(), error);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).map_err(fail)?;
        let address = SocketAddrUnix::new(socket).map_err(fail)?;
        let sender = Sender { fd, address, lost: 0, rest_until: None };
        Ok(Self { splitters: Default::default(), sender, entry: Entry::new(options) })
    }

    /// Takes what `stream` said.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Self { splitters, sender, entry } = self;
        splitters[stream.index()].feed(bytes, |piece| sender.send_piece(entry, stream, piece));
    }

    /// Sends what is held back.
    pub(super) fn close(&mut self) {
        let Self { splitters, sender, entry } = self;
        for stream in [Stream::Stdout, Stream::Stderr] {
            splitters[stream.index()].flush(|piece| sender.send_piece(entry, stream, piece));
        }
        sender.rest_until = None;
        sender.tell_lost(entry);
    }

    /// Gives the memory of buffers back.
    pub(super) fn trim(&mut self) {
        self.splitters.iter_mut().for_each(Splitter::trim);
        self.entry.bytes = Vec::new();
    }

    /// What goes wrong at present, in words.
    pub(super) fn failure(&self) -> Option<String> {
        (self.sender.lost > 0).then(|| format!("journal: {} entries lost: it takes none", self.sender.lost))
    }
}

/// Builds entries.
#[derive(Debug)]
struct Entry {
    bytes: Vec<u8>,
    /// The fields between MESSAGE and PRIORITY, between it and CONTAINER_PARTIAL_MESSAGE, and the last.
    full_id: String,
    identity: String,
    labels: String,
    mark_pieces: bool,
}

impl Entry {
    fn new(options: &Options) -> Self {
        let cid = &options.cid;
        let short = cid.char_indices().nth(12).map_or(cid.as_str(), |(end, _)| &cid[..end]);
        let mut identity = field("CONTAINER_ID", short);
        if let Some(tag) = &options.tag {
            identity += &field("CONTAINER_TAG", tag);
        }
        if let Some(name) = &options.name {
            identity += &field("CONTAINER_NAME", name);
        }
        let identifier = options.tag.as_deref().or(options.name.as_deref()).unwrap_or(short);
        identity += &field("SYSLOG_IDENTIFIER", identifier);
        let labels = options.labels.iter().map(|label| format!("{label}\n")).collect();
        Self {
            bytes: Vec::new(),
            full_id: field("CONTAINER_ID_FULL", cid),
            identity,
            labels,
            mark_pieces: !options.no_partial_message,
        }
    }

    fn build(&mut self, priority: u8, message: [&[u8]; 2], piece: bool) -> &[u8] {
        let bytes = &mut self.bytes;
        bytes.clear();
        let len = message[0].len() + message[1].len();
        // A text with newlines in it has its length before it.
        if message.iter().any(|part| part.contains(&b'\n')) {
            bytes.extend_from_slice(b"MESSAGE\n");
            bytes.extend_from_slice(&(len as u64).to_le_bytes());
        } else {
            bytes.extend_from_slice(b"MESSAGE=");
        }
        message.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes.push(b'\n');
        bytes.extend_from_slice(self.full_id.as_bytes());
        bytes.extend_from_slice(b"PRIORITY=");
        bytes.push(b'0' + priority);
        bytes.push(b'\n');
        bytes.extend_from_slice(self.identity.as_bytes());
        if piece && self.mark_pieces {
            bytes.extend_from_slice(b"CONTAINER_PARTIAL_MESSAGE=true\n");
        }
        bytes.extend_from_slice(self.labels.as_bytes());
        bytes
    }
}

/// One field; a value with newlines can't be in this form, and no option's value may need another.
fn field(name: &str, value: &str) -> String {
    format!("{name}={}\n", value.replace('\n', " "))
}

/// The priority that a line's beginning asks for, and how long that beginning is.
fn priority_prefix(line: &[u8]) -> Option<(u8, usize)> {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', ..] => Some((digit - b'0', 3)),
        _ => None,
    }
}

/// The way to the journal.
#[derive(Debug)]
struct Sender {
    fd: OwnedFd,
    address: SocketAddrUnix,
    /// Entries dropped since one went through.
    lost: u64,
    /// Until when nothing is tried.
    rest_until: Option<Instant>,
}

impl Sender {
    fn send_piece(&mut self, entry: &mut Entry, stream: Stream, piece: Piece<'_>) {
        let mut message = [piece.held, &piece.rest[..piece.len]];
        let mut priority = PRIORITIES[stream.index()];
        if piece.first {
            // The mark may lie across a boundary of reads.
            let joined: Vec<u8> = message.iter().flat_map(|part| part.iter()).take(3).copied().collect();
            if let Some((asked, len)) = priority_prefix(&joined) {
                priority = asked;
                let from_held = len.min(message[0].len());
                message = [&message[0][from_held..], &message[1][len - from_held..]];
            }
        }
        if self.rest_until.is_some_and(|until| Instant::now() < until) {
            self.lost += 1;
            return;
        }
        self.tell_lost(entry);
        if self.rest_until.is_some() || !self.deliver(entry.build(priority, message, !piece.whole)) {
            self.lost += 1;
        }
    }

    /// Tells of lost entries. Leaves `rest_until` set if that does not go through either.
    fn tell_lost(&mut self, entry: &mut Entry) {
        self.rest_until = None;
        if self.lost > 0 {
            let text = format!("[wharf-monitor: {} lines lost: the journal took none]", self.lost);
            if self.deliver(entry.build(WARNING, [text.as_bytes(), b""], false)) {
                self.lost = 0;
            }
        }
    }

    /// Sends one entry, waiting for a slow journal. False: it was not taken, and `rest_until` is set.
    fn deliver(&mut self, entry: &[u8]) -> bool {
        let mut gives_up: Option<Instant> = None;
        loop {
            let error = match self.send(entry) {
                Ok(()) => return true,
                // No journal on this machine: nothing is lost that would have been kept.
                Err(Errno::NOENT) => return true,
                Err(Errno::INTR) => continue,
                Err(error) => error,
            };
            let now = Instant::now();
            let until = *gives_up.get_or_insert(now + PATIENCE);
            if error != Errno::AGAIN || now >= until {
                self.rest_until = Some(now + REST);
                return false;
            }
            self.wait_writable(until - now);
        }
    }

    fn wait_writable(&self, most: Duration) {
        // An unconnected socket never tells that a peer's queue is full, so look again soon.
        let step = most.min(Duration::from_millis(2));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(step.subsec_nanos()) };
        let mut fds = [PollFd::new(&self.fd, PollFlags::empty())];
        // A signal only makes the wait shorter.
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn send(&self, entry: &[u8]) -> Result<(), Errno> {
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
