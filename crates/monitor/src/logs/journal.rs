//! The journald driver: one entry per line, in the journal's native protocol. How they get there, and what happens
//! when the journal takes none, is [`sender`](super::sender)'s.

use std::path::Path;
use std::time::Instant;

use super::Options;
use super::lines::{Piece, Splitter};
use super::sender::{Message, Sender};
use crate::{Error, Stream};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// The priorities of the two streams: informational, error.
const PRIORITIES: [u8; 2] = [6, 3];

/// The journal and what is on its way there.
#[derive(Debug)]
pub(super) struct Journal {
    splitters: [Splitter; 2],
    sender: Sender,
    entry: Entry,
}

impl Journal {
    pub(super) fn open(options: &Options, socket: &Path) -> Result<Self, Error> {
        let sender = Sender::new(socket)?;
        Ok(Self { splitters: Default::default(), sender, entry: Entry::new(options) })
    }

    /// Takes what `stream` said.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Self { splitters, sender, entry } = self;
        sender.begin();
        splitters[stream.index()].feed(bytes, |piece| send(sender, entry, stream, piece));
    }

    /// When [`Journal::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sender.deadline()
    }

    /// Tries again what the journal did not take.
    pub(super) fn tick(&mut self, now: Instant) {
        self.sender.tick(&mut self.entry, now);
    }

    /// Whether the container's output should rest until the journal has caught up.
    pub(super) fn congested(&self) -> bool {
        self.sender.congested()
    }

    /// After the container's end: makes room for what is left of its output.
    pub(super) fn catch_up(&mut self) {
        if self.sender.congested() {
            self.sender.wait(&mut self.entry);
        }
    }

    /// Sends what is held back.
    pub(super) fn close(&mut self) {
        let Self { splitters, sender, entry } = self;
        for stream in [Stream::Stdout, Stream::Stderr] {
            splitters[stream.index()].flush(|piece| send(sender, entry, stream, piece));
        }
        sender.wait(entry);
    }

    /// Gives the memory of buffers back.
    pub(super) fn trim(&mut self) {
        self.splitters.iter_mut().for_each(Splitter::trim);
        self.sender.trim();
        self.entry.bytes = Vec::new();
    }

    /// What goes wrong at present, in words.
    pub(super) fn failure(&self) -> Option<String> {
        let lost = self.sender.lost();
        (lost > 0).then(|| format!("journal: {lost} entries lost: it takes none"))
    }
}

fn send(sender: &mut Sender, entry: &mut Entry, stream: Stream, piece: Piece<'_>) {
    sender.send(&message(stream, piece), entry);
}

/// A line as the journal gets it: a mark at its beginning is its priority.
pub(super) fn message(stream: Stream, piece: Piece<'_>) -> Message<'_> {
    let mut parts = [piece.held, &piece.rest[..piece.len]];
    let mut priority = PRIORITIES[stream.index()];
    if piece.first {
        // The mark may lie across a boundary of reads.
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.iter()).take(3).copied().collect();
        if let Some((asked, len)) = priority_prefix(&joined) {
            priority = asked;
            let from_held = len.min(parts[0].len());
            parts = [&parts[0][from_held..], &parts[1][len - from_held..]];
        }
    }
    Message { priority, parts, piece: !piece.whole }
}

/// Builds entries.
#[derive(Debug)]
pub(super) struct Entry {
    bytes: Vec<u8>,
    /// The fields between MESSAGE and PRIORITY, between it and CONTAINER_PARTIAL_MESSAGE, and the last.
    full_id: String,
    identity: String,
    labels: String,
    mark_pieces: bool,
}

impl Entry {
    pub(super) fn new(options: &Options) -> Self {
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

    pub(super) fn build(&mut self, message: &Message<'_>) -> &[u8] {
        let Message { priority, parts: message, piece } = *message;
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
