//! The container's output on its way in: two pipes, or a terminal and the runtime's stderr.
//!
//! ```text
//! starting: stderr is read and kept (the runtime's words, or an exec's first output) ─ begin ─► both are copied
//! paused while a client is behind; a terminal without a slave rests 100 ms at a time
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;
use sys::pages::Pages;

use crate::Stream;
use crate::poll::{Kind, Poll, Ready, Token};

/// A pipe's usual capacity (pipe(7)).
const PIPE_BYTES: usize = 65536;
/// The capacity of a pipe whose writer is faster than we are: fewer turns, and longer writes. Not more, since pipes
/// share a limit of a user's: 64 MiB, where he is not root.
const WIDE_PIPE_BYTES: usize = 4 * PIPE_BYTES;
/// A read of so much tells of a fast writer: a full pipe may hold less than its capacity.
const MUCH_BYTES: usize = PIPE_BYTES / 2;
/// What is read at once.
const READ_MAX: usize = WIDE_PIPE_BYTES;
/// So much of the runtime's stderr makes up the message of a failure.
const WORDS_MAX: usize = 8191;
/// So much of stderr is kept while the runtime runs.
const EARLY_MAX: usize = 65536;
/// A terminal that nobody holds open is tried again after so long.
const TERMINAL_PAUSE: Duration = Duration::from_millis(100);
/// The buffer's memory is given back when it was idle for so long.
const REST_AFTER: Duration = Duration::from_secs(1);
/// What is still taken from a terminal after the end.
const TERMINAL_DRAIN_MAX: usize = 1 << 20;

/// What to do with stderr that does not fit while the runtime runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It can only be the runtime's: nothing of the container runs yet.
    Drop,
    /// It may be the exec's output.
    Copy,
}

#[derive(Debug)]
struct Early {
    kept: Vec<u8>,
    overflow: Overflow,
}

#[derive(Debug)]
pub(super) struct Output {
    sources: [Option<OwnedFd>; 2],
    watched: [bool; 2],
    /// Whether it was tried to widen the pipe.
    wide: [bool; 2],
    terminal: bool,
    buffer: Pages,
    early: Option<Early>,
    words: Vec<u8>,
    paused: bool,
    last_read: usize,
    again_at: Option<Instant>,
    rest_at: Option<Instant>,
}

fn kind(stream: Stream) -> Kind {
    match stream {
        Stream::Stdout => Kind::Stdout,
        Stream::Stderr => Kind::Stderr,
    }
}

const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Output {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            sources: [None, None],
            watched: [false; 2],
            wide: [false; 2],
            terminal: false,
            buffer: Pages::new(READ_MAX)?,
            early: None,
            words: Vec::new(),
            paused: false,
            last_read: 0,
            again_at: None,
            rest_at: None,
        })
    }

    /// Takes the pipes' read ends, non-blocking. Until [`begin`](Self::begin), only stderr is read, and kept.
    pub(super) fn start(
        &mut self,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
        overflow: Overflow,
        poll: &Poll,
    ) -> io::Result<()> {
        self.sources = [stdout, stderr];
        self.early = Some(Early { kept: Vec::new(), overflow });
        self.watch(Stream::Stderr, poll)
    }

    /// The terminal takes stdout's place.
    pub(super) fn set_terminal(&mut self, master: OwnedFd) {
        self.terminal = true;
        self.sources[0] = Some(master);
    }

    /// The process runs: from now on all is copied. What was kept of stderr comes first.
    pub(super) fn begin(&mut self, poll: &Poll) -> io::Result<Vec<u8>> {
        let kept = self.early.take().map(|early| early.kept).unwrap_or_default();
        self.words = Vec::new();
        self.watch(Stream::Stdout, poll)?;
        Ok(kept)
    }

    /// The first words that the runtime said on stderr.
    pub(super) fn words(&self) -> String {
        String::from_utf8_lossy(&self.words).trim_end().to_owned()
    }

    fn watch(&mut self, stream: Stream, poll: &Poll) -> io::Result<()> {
        let at = stream.index();
        if let (Some(fd), false) = (&self.sources[at], self.watched[at]) {
            poll.add(fd, Token::of(kind(stream)), Ready::IN)?;
            self.watched[at] = true;
        }
        Ok(())
    }

    fn unwatch(&mut self, stream: Stream, poll: &Poll) {
        let at = stream.index();
        if let (Some(fd), true) = (&self.sources[at], self.watched[at]) {
            // It was added; there is nothing else to be done about it.
            let _ = poll.remove(fd);
        }
        self.watched[at] = false;
    }

    /// Reads `stream` once; what is to be copied: what was kept, and what was read now.
    pub(super) fn read(&mut self, stream: Stream, poll: &Poll) -> Option<(Vec<u8>, &[u8])> {
        let at = stream.index();
        self.last_read = 0;
        let fd = self.sources[at].as_ref()?;
        let len = match rustix::io::read(fd, &mut self.buffer[..]) {
            Ok(0) => return self.end(stream, poll),
            Ok(len) => len,
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(Errno::IO) if self.terminal && stream == Stream::Stdout => {
                self.unwatch(stream, poll);
                self.again_at = Some(Instant::now() + TERMINAL_PAUSE);
                return None;
            }
            Err(_) => return self.end(stream, poll),
        };
        self.last_read = len;
        if len > 4096 {
            self.rest_at = Some(Instant::now() + REST_AFTER);
        }
        if len >= MUCH_BYTES && !self.wide[at] && self.early.is_none() {
            self.wide[at] = true;
            // It is only slower when there is no memory for it, or the user's limit is reached.
            let _ = fcntl_setpipe_size(fd, WIDE_PIPE_BYTES);
        }
        let bytes = &self.buffer[..len];
        let mut before = Vec::new();
        if stream == Stream::Stderr
            && let Some(early) = &mut self.early
        {
            let room = WORDS_MAX.saturating_sub(self.words.len());
            self.words.extend_from_slice(&bytes[..len.min(room)]);
            let room = EARLY_MAX.saturating_sub(early.kept.len());
            match early.overflow {
                Overflow::Drop => {
                    early.kept.extend_from_slice(&bytes[..len.min(room)]);
                    return None;
                }
                Overflow::Copy if len <= room => {
                    early.kept.extend_from_slice(bytes);
                    return None;
                }
                // Reading on only later would block the writer, for which the runtime may be waiting.
                Overflow::Copy => before = std::mem::take(&mut early.kept),
            }
        }
        Some((before, &self.buffer[..len]))
    }

    fn end(&mut self, stream: Stream, poll: &Poll) -> Option<(Vec<u8>, &[u8])> {
        self.unwatch(stream, poll);
        self.sources[stream.index()] = None;
        None
    }

    /// Pauses while clients are behind, goes on when they have caught up, and tries a resting terminal again.
    pub(super) fn adjust(&mut self, congested: bool, poll: &Poll) {
        if self.early.is_some() {
            return;
        }
        let now = Instant::now();
        if self.rest_at.is_some_and(|at| at <= now) {
            self.rest();
        }
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.paused = true;
        }
        if congested && !self.paused {
            BOTH.into_iter().for_each(|stream| self.unwatch(stream, poll));
            self.paused = true;
        } else if !congested && self.paused {
            let resting = self.again_at.is_some();
            let mut all = BOTH.into_iter().filter(|&stream| !(resting && stream == Stream::Stdout));
            let watched = all.try_for_each(|stream| self.watch(stream, poll));
            // Memory is short: the next turn tries again.
            self.paused = watched.is_err();
            if self.paused {
                self.again_at = Some(now + TERMINAL_PAUSE);
            }
        }
    }

    /// When [`adjust`](Self::adjust) wants to be called although nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        [self.again_at, self.rest_at].into_iter().flatten().min()
    }

    /// Gives the buffer's memory back, and the pipes' share of their limit.
    pub(super) fn rest(&mut self) {
        self.rest_at = None;
        self.buffer.release();
        for (source, wide) in self.sources.iter().zip(&mut self.wide) {
            if std::mem::take(wide)
                && let Some(fd) = source
            {
                // One that is being filled again just now stays as it is.
                let _ = fcntl_setpipe_size(fd, PIPE_BYTES);
            }
        }
    }

    /// After the end: how much is there to be read of `stream`. A grandchild that goes on writing is not waited for.
    pub(super) fn left(&self, stream: Stream) -> usize {
        let Some(fd) = &self.sources[stream.index()] else { return 0 };
        if self.terminal && stream == Stream::Stdout {
            return TERMINAL_DRAIN_MAX;
        }
        let left = rustix::io::ioctl_fionread(fd).unwrap_or(0);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// How much the last [`read`](Self::read) has read.
    pub(super) fn last_read(&self) -> usize {
        self.last_read
    }

    /// Lets go of both.
    pub(super) fn close(&mut self, poll: &Poll) {
        for stream in BOTH {
            self.end(stream, poll);
        }
    }
}
