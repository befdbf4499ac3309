//! The k8s-file driver: lines in the CRI's format, in a file that may be limited, rotated, renamed, or not writable.
//!
//! Lines gather in one buffer that is written at the end of each batch. While writes fail the buffer keeps what
//! can't be written; once it is full, whole lines are dropped and counted, and when writing works again a line in
//! the log tells how many.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sys::pages::Pages;

use super::lines::{Piece, Splitter};
use super::rotate::{self, Policy};
use super::stamp::{HEAD_BYTES, Heads, Stamp};
use crate::{Error, Stream};

/// The size of the buffer: what one write brings to the file, and what is kept while writes fail.
const BUFFER_BYTES: usize = 256 * 1024;
/// Room behind each line, so that short ones can be copied with a fixed length.
const SLACK_BYTES: usize = 64;
/// How long an unfinished line is held back after its last byte.
const HOLD: Duration = Duration::from_millis(500);
/// How often a write or an opening that failed is tried again, at most.
const RETRY: Duration = Duration::from_secs(1);
/// How often, and in what steps, the last write is tried again before the end.
const LAST_TRIES: u32 = 10;
const LAST_TRY_STEP: Duration = Duration::from_millis(50);

/// How large a file may become.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// Bytes of one file.
    pub(super) size: Option<u64>,
    /// Bytes of all of them together.
    pub(super) global: Option<u64>,
}

/// One log file and what is on its way there.
#[derive(Debug)]
pub(super) struct FileLog {
    splitters: [Splitter; 2],
    /// When the last byte came of what is held back.
    held_since: Option<Instant>,
    out: Out,
    /// The next try of what failed.
    retry_at: Option<Instant>,
    /// Why the new file that was asked for could not be opened so far.
    reopen_error: Option<io::Error>,
}

impl FileLog {
    pub(super) fn open(path: &Path, limits: Limits, policy: Policy) -> Result<Self, Error> {
        let fail = |error| Error::io("Failed to open log file", path.display(), error);
        let file = rotate::open(path).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        let out = Out {
            path: path.to_owned(),
            file,
            policy,
            limits,
            size,
            total: size,
            room: 0,
            buffer: None,
            len: 0,
            end: 0,
            skip: 0,
            failure: None,
            tried: false,
            lost: Lost::default(),
            stamp: Stamp::new(),
        };
        Ok(Self { splitters: Default::default(), held_since: None, out, retry_at: None, reopen_error: None })
    }

    /// Takes what `stream` said.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if self.reopen_error.is_some() {
            self.reopen();
        }
        let heads = self.out.begin(stream);
        let (splitter, out) = (&mut self.splitters[stream.index()], &mut self.out);
        splitter.feed(bytes, |piece| out.put(piece, &heads));
        self.end_batch();
        self.held_since = self.splitters.iter().any(Splitter::holds).then(Instant::now);
    }

    fn end_batch(&mut self) {
        self.out.flush();
        let pending = self.out.failure.is_some() || self.reopen_error.is_some();
        self.retry_at = if pending { self.retry_at.or_else(|| Some(Instant::now() + RETRY)) } else { None };
    }

    /// When [`FileLog::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.held_since.map(|since| since + HOLD), self.retry_at].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.held_since.is_some_and(|since| now >= since + HOLD) {
            self.flush_held();
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            if self.reopen_error.is_some() {
                self.reopen();
            }
            self.out.begin(Stream::Stdout);
            self.end_batch();
        }
    }

    fn flush_held(&mut self) {
        self.held_since = None;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let splitter = &mut self.splitters[stream.index()];
            if splitter.holds() {
                let heads = self.out.begin(stream);
                let out = &mut self.out;
                splitter.flush(|piece| out.put(piece, &heads));
            }
        }
        self.end_batch();
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
        self.flush_held();
        for _ in 0..LAST_TRIES {
            if self.out.failure.is_none() {
                break;
            }
            std::thread::sleep(LAST_TRY_STEP);
            self.out.begin(Stream::Stdout);
            self.end_batch();
        }
        if sync {
            // Nobody is left to tell, and the data is with the kernel.
            let _ = self.out.file.sync_all();
        }
        self.trim();
    }

    /// What goes wrong at present, in words.
    pub(super) fn failure(&self) -> Option<String> {
        let write = self.out.failure.as_ref().map(|error| ("write", error));
        let (op, error) = write.or(self.reopen_error.as_ref().map(|error| ("reopen", error)))?;
        Some(format!("{op} {}: {error}", self.out.path.display()))
    }
}

#[derive(Debug, Default)]
struct Lost {
    lines: u64,
    bytes: u64,
}

/// The formatted lines and the file they go to.
#[derive(Debug)]
struct Out {
    path: PathBuf,
    file: File,
    policy: Policy,
    limits: Limits,
    /// Bytes of the current file and of all, the buffer's included.
    size: u64,
    total: u64,
    /// Bytes that may follow without a look at the limits.
    room: u64,
    buffer: Option<Pages>,
    /// The buffer's filled part.
    len: usize,
    /// The end of its usable part: 0 while there is none, or while lines are being lost.
    end: usize,
    /// Bytes at its front that are in the file already: the beginning of a line that was cut by an error.
    skip: usize,
    failure: Option<io::Error>,
    /// A write was tried in this batch and failed.
    tried: bool,
    lost: Lost,
    stamp: Stamp,
}

impl Out {
    /// Begins a batch.
    fn begin(&mut self, stream: Stream) -> Heads {
        self.tried = false;
        if self.failure.is_some() || self.lost.lines > 0 {
            self.flush();
            self.mark_lost();
        }
        self.stamp.heads(stream)
    }

    /// Adds one line or piece.
    #[inline]
    fn put(&mut self, piece: Piece<'_>, heads: &Heads) {
        let bytes = piece.bytes();
        let line = HEAD_BYTES + bytes + usize::from(!piece.whole);
        if line as u64 > self.room && !self.within_limits(line as u64) {
            return;
        }
        if self.len + line + SLACK_BYTES > self.end && !self.make_space(line) {
            self.lost.lines += 1;
            self.lost.bytes += bytes as u64;
            return;
        }
        let Some(buffer) = &mut self.buffer else { return };
        let place = &mut buffer[self.len..self.len + line + SLACK_BYTES];
        let (head, mut place) = place.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(if piece.whole { &heads.whole } else { &heads.piece });
        if !piece.held.is_empty() {
            place[..piece.held.len()].copy_from_slice(piece.held);
            place = &mut place[piece.held.len()..];
        }
        match (piece.rest.first_chunk::<SLACK_BYTES>(), place.first_chunk_mut::<SLACK_BYTES>()) {
            (Some(from), Some(to)) if piece.len <= SLACK_BYTES => *to = *from,
            _ => place[..piece.len].copy_from_slice(&piece.rest[..piece.len]),
        }
        if !piece.whole {
            place[piece.len] = b'\n';
        }
        self.account(line);
    }

    #[inline]
    fn account(&mut self, line: usize) {
        self.len += line;
        self.size += line as u64;
        self.total += line as u64;
        self.room = self.room.saturating_sub(line as u64);
    }

    /// Whether a line may be written, making a new file for it if it must.
    #[cold]
    fn within_limits(&mut self, line: u64) -> bool {
        if self.limits.global.is_some_and(|most| self.total >= most) {
            return false;
        }
        if let Some(most) = self.limits.size
            && self.size + line > most
        {
            self.flush();
            // A file with nothing in it is not made anew, whatever still waits for it.
            if self.size > self.len as u64 {
                match rotate::renew(&self.path, &self.file, &self.policy) {
                    Ok(file) => self.swap(file, 0),
                    // Go on in the old file, and try again when a tenth more has come.
                    Err(_) => self.size = most - most / 10,
                }
            }
        }
        let left = |most: Option<u64>, used: u64| most.map_or(u64::MAX, |most| most.saturating_sub(used));
        // A line that crosses a limit is written whole, so there is room for it at least.
        self.room = left(self.limits.size, self.size).min(left(self.limits.global, self.total)).max(line);
        true
    }

    /// Whether the buffer has space for a line, after writing it out if it must.
    #[cold]
    fn make_space(&mut self, line: usize) -> bool {
        if self.buffer.is_none() {
            match Pages::new(BUFFER_BYTES) {
                Ok(buffer) => self.buffer = Some(buffer),
                Err(error) => {
                    self.failure.get_or_insert(error);
                    return false;
                }
            }
        }
        self.flush();
        self.mark_lost();
        self.end = if self.lost.lines > 0 { 0 } else { BUFFER_BYTES };
        let fits = self.len + line + SLACK_BYTES <= self.end;
        if !fits {
            self.end = 0;
        }
        fits
    }

    /// Puts a line about lost ones into the buffer once writing works again.
    fn mark_lost(&mut self) {
        if self.lost.lines == 0 || self.failure.is_some() {
            return;
        }
        let heads = self.stamp.heads(Stream::Stderr);
        let mut text = String::from_utf8_lossy(&heads.whole).into_owned();
        let Lost { lines, bytes } = self.lost;
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "[wharf-monitor: {lines} lines ({bytes} bytes) lost: the log could not be written]"
        );
        let Some(buffer) = &mut self.buffer else { return };
        let Some(place) = buffer.get_mut(self.len..self.len + text.len()) else { return };
        place.copy_from_slice(text.as_bytes());
        self.account(text.len());
        self.lost = Lost::default();
        self.end = BUFFER_BYTES;
    }

    /// Writes the buffer out, or as much as can be.
    fn flush(&mut self) {
        if self.tried {
            return;
        }
        let Some(buffer) = &mut self.buffer else { return };
        while self.skip < self.len {
            let error = match self.file.write(&buffer[self.skip..self.len]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    self.skip += written;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.failure = Some(error);
            self.tried = true;
            // Keep the cut line's beginning: it may have to be written anew, in another file.
            let line = buffer[..self.skip].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            buffer.copy_within(line..self.len, 0);
            self.len -= line;
            self.skip -= line;
            return;
        }
        (self.len, self.skip) = (0, 0);
        self.failure = None;
    }

    fn reopen(&mut self) -> io::Result<()> {
        match rotate::names(&self.path, &self.file)? {
            Some(true) => {
                let rotate = matches!(self.policy, Policy::Rotate { .. });
                match rotate.then(|| rotate::renew(&self.path, &self.file, &self.policy)) {
                    Some(Ok(file)) => self.swap(file, 0),
                    // Nothing to rotate, or not ours to rename: go on in it.
                    _ => self.touch(),
                }
            }
            Some(false) | None => {
                let file = rotate::open(&self.path)?;
                let size = file.metadata()?.len();
                self.swap(file, size);
            }
        }
        Ok(())
    }

    /// Lets watchers see a write: CRI-O waits for one after it has asked for a reopen.
    fn touch(&self) {
        if let Ok(found) = self.file.metadata()
            && found.is_file()
        {
            // It only serves watchers; the log itself needs nothing of it.
            let _ = self.file.set_len(found.len());
        }
    }

    /// Goes on in `file`, which has `size` bytes.
    fn swap(&mut self, file: File, size: u64) {
        if self.skip > 0 {
            // The cut line goes to the new file whole; take its beginning out of the old one. If that fails, the
            // old one ends in a fragment without newline, which readers ignore.
            let _ = self.file.metadata().and_then(|old| self.file.set_len(old.len() - self.skip as u64));
            self.skip = 0;
        }
        self.file = file;
        self.tried = false;
        self.size = size + self.len as u64;
        self.total += size;
        self.room = 0;
    }

    fn trim(&mut self) {
        if self.len == 0
            && let Some(buffer) = &mut self.buffer
        {
            buffer.release();
        }
    }
}
