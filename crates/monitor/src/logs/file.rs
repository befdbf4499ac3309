//! The k8s-file driver: lines in the CRI's format, in a file that may be limited, rotated, renamed, or not writable.
//!
//! Lines gather in one buffer that is written at the end of each batch. While writes fail the buffer keeps what
//! can't be written; once it is full, whole lines are dropped and counted, and when writing works again a line in
//! the log tells how many.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::lines::{Piece, Splitter};
use super::out::{Limits, Out};
use super::rotate::Policy;
use crate::{Error, Stream};

/// How long an unfinished line is held back: after its last byte, and after its first.
const HOLD: Duration = Duration::from_millis(500);
const HOLD_MOST: Duration = Duration::from_secs(2);
/// How often a write or an opening that failed is tried again, at most.
const RETRY: Duration = Duration::from_secs(1);
/// How often, and in what steps, the last write is tried again before the end.
const LAST_TRIES: u32 = 10;
const LAST_TRY_STEP: Duration = Duration::from_millis(50);

/// When the first and the last byte came of what is held back.
#[derive(Debug, Clone, Copy)]
struct Held {
    first: Instant,
    last: Instant,
}

impl Held {
    fn due(self) -> Instant {
        (self.last + HOLD).min(self.first + HOLD_MOST)
    }
}

/// One log file and what is on its way there.
#[derive(Debug)]
pub(super) struct FileLog {
    splitters: [Splitter; 2],
    /// What each of them holds back.
    held: [Option<Held>; 2],
    out: Out,
    /// The next try of what failed.
    retry_at: Option<Instant>,
    /// Why the new file that was asked for could not be opened so far.
    reopen_error: Option<io::Error>,
}

impl FileLog {
    pub(super) fn open(path: &Path, limits: Limits, policy: Policy) -> Result<Self, Error> {
        let fail = |error| Error::io("Failed to open log file", path.display(), error);
        let out = Out::open(path, limits, policy).map_err(fail)?;
        Ok(Self { splitters: Default::default(), held: [None; 2], out, retry_at: None, reopen_error: None })
    }

    /// Takes what `stream` said.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if self.reopen_error.is_some() {
            self.reopen();
        }
        let heads = self.out.begin(stream);
        let at = stream.index();
        let (splitter, out) = (&mut self.splitters[at], &mut self.out);
        let mut emitted = false;
        let mut emit = |piece: Piece<'_>, out: &mut Out| {
            emitted = true;
            out.put(piece, &heads);
        };
        let rest = splitter.finish_held(bytes, &mut |piece| emit(piece, out));
        let plain = out.put_lines(rest, &heads);
        splitter.feed_rest(&rest[plain..], |piece| emit(piece, out));
        emitted |= plain > 0;
        self.held[at] = splitter.holds().then(|| {
            let last = Instant::now();
            let before = if emitted { None } else { self.held[at] };
            Held { first: before.map_or(last, |held| held.first), last }
        });
        self.end_batch();
    }

    fn end_batch(&mut self) {
        self.out.flush();
        let pending = self.out.failure().is_some() || self.reopen_error.is_some();
        self.retry_at = if pending { self.retry_at.or_else(|| Some(Instant::now() + RETRY)) } else { None };
    }

    /// When [`FileLog::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let held = self.held.iter().flatten().map(|held| held.due());
        held.chain(self.retry_at).min()
    }

    /// Does what is due at `now`.
    pub(super) fn tick(&mut self, now: Instant) {
        self.flush_held(|held| now >= held.due());
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            if self.reopen_error.is_some() {
                self.reopen();
            }
            self.out.begin(Stream::Stdout);
            self.end_batch();
        }
    }

    fn flush_held(&mut self, due: impl Fn(Held) -> bool) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let at = stream.index();
            if self.held[at].take_if(|held| due(*held)).is_some() {
                let heads = self.out.begin(stream);
                let out = &mut self.out;
                self.splitters[at].flush(|piece| out.put(piece, &heads));
                self.end_batch();
            }
        }
    }

    /// Gives the memory of buffers back.
    pub(super) fn trim(&mut self) {
        self.splitters.iter_mut().for_each(Splitter::trim);
        self.out.trim();
    }

    /// Goes on in the file that the path names now. If that is still the one being written, it is rotated if
    /// that was asked for; otherwise it stays, and is touched so that a watcher sees that all is done.
    pub(super) fn reopen(&mut self) {
        self.out.begin(Stream::Stdout);
        self.out.flush();
        self.reopen_error = self.out.reopen().err();
        self.end_batch();
    }

    /// Writes all that is left, trying again for a moment if it must.
    pub(super) fn close(&mut self, sync: bool) {
        self.flush_held(|_| true);
        self.end_batch();
        for _ in 0..LAST_TRIES {
            if self.out.failure().is_none() {
                break;
            }
            std::thread::sleep(LAST_TRY_STEP);
            self.out.begin(Stream::Stdout);
            self.end_batch();
        }
        if sync {
            // Nobody is left to tell, and the data is with the kernel.
            let _ = self.out.sync();
        }
        self.trim();
    }

    /// What goes wrong at present, in words.
    pub(super) fn failure(&self) -> Option<String> {
        let write = self.out.failure().map(|error| ("write", error));
        let (op, error) = write.or(self.reopen_error.as_ref().map(|error| ("reopen", error)))?;
        Some(format!("{op} {}: {error}", self.out.path().display()))
    }
}
