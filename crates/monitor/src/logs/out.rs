//! The lines on their way to a log's file: a buffer, and what happens when the file is full or can't be written.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sys::pages::Pages;

use super::lines::{self, LINE_BYTES, Piece};
use super::rotate::{self, Policy};
use super::stamp::{HEAD_BYTES, Heads, Stamp};
use crate::Stream;

/// The size of the buffer: what one write brings to the file, and what is kept while writes fail.
const BUFFER_BYTES: usize = 256 * 1024;
/// Room behind each line, so that short ones can be copied with a fixed length.
const SLACK_BYTES: usize = 64;
/// Lines up to here are copied in blocks of a fixed size.
const SHORT_BYTES: usize = 1024;

/// How large a file may become.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// Bytes of one file.
    pub(super) size: Option<u64>,
    /// Bytes of all of them together.
    pub(super) global: Option<u64>,
}

#[derive(Debug, Default)]
struct Lost {
    lines: u64,
    bytes: u64,
}

/// The formatted lines and the file they go to.
#[derive(Debug)]
pub(super) struct Out {
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
    pub(super) fn open(path: &Path, limits: Limits, policy: Policy) -> io::Result<Self> {
        let file = rotate::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
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
        })
    }

    /// Brings the file to disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why the last write failed, if it did.
    pub(super) fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    /// Begins a batch.
    pub(super) fn begin(&mut self, stream: Stream) -> Heads {
        self.tried = false;
        if self.failure.is_some() || self.lost.lines > 0 {
            self.flush();
            self.mark_lost();
        }
        self.stamp.heads(stream)
    }

    /// Adds one line or piece.
    #[inline]
    pub(super) fn put(&mut self, piece: Piece<'_>, heads: &Heads) {
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

    /// Adds the whole lines at the front of `bytes`, as many as nothing is special about; how many bytes that is.
    /// The same as [`put`](Self::put) for each of them, and several times faster: what is left is for that.
    pub(super) fn put_lines(&mut self, bytes: &[u8], heads: &Heads) -> usize {
        let mut taken = 0;
        loop {
            let (more, refused) = self.put_while_space(&bytes[taken..], &heads.whole);
            taken += more;
            let Some(len) = refused.filter(|len| *len <= LINE_BYTES + 1) else { return taken };
            let line = HEAD_BYTES + len;
            if (line as u64 > self.room && !self.within_limits(line as u64))
                || (self.len + line + SLACK_BYTES > self.end && !self.make_space(line))
            {
                return taken;
            }
        }
    }

    /// Adds lines while there is space and room without a look at anything else; how many bytes they were, and the
    /// length of the first that was not added.
    fn put_while_space(&mut self, bytes: &[u8], head: &[u8; HEAD_BYTES]) -> (usize, Option<usize>) {
        let free = self.end.saturating_sub(self.len + SLACK_BYTES);
        let most = free.min(usize::try_from(self.room).unwrap_or(usize::MAX));
        let place = match &mut self.buffer {
            Some(buffer) if free > 0 => &mut buffer[self.len..self.len + free + SLACK_BYTES],
            _ => &mut [],
        };
        let (mut start, mut at) = (0, 0);
        let refused = lines::newlines(bytes, |newline| {
            let len = newline + 1 - start;
            if len > LINE_BYTES + 1 || at + HEAD_BYTES + len > most {
                return ControlFlow::Break(len);
            }
            // The head first: what is copied beyond the line's end is overwritten by the next one's.
            place[at..at + HEAD_BYTES].copy_from_slice(head);
            copy_line(&bytes[start..], &mut place[at + HEAD_BYTES..], len);
            at += HEAD_BYTES + len;
            start = newline + 1;
            ControlFlow::Continue(())
        });
        self.account(at);
        (start, refused)
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
    pub(super) fn flush(&mut self) {
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

    /// Goes on in the file that the path names now.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
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

    /// Gives the buffer's memory back.
    pub(super) fn trim(&mut self) {
        if self.len == 0
            && let Some(buffer) = &mut self.buffer
        {
            buffer.release();
        }
    }
}

/// Copies the first `len` bytes, and up to [`SLACK_BYTES`] more where both have them: copies of a length that is known
/// beforehand take no time.
#[inline]
fn copy_line(from: &[u8], to: &mut [u8], len: usize) {
    if len <= 16
        && let (Some(from), Some(to)) = (from.first_chunk::<16>(), to.first_chunk_mut::<16>())
    {
        *to = *from;
        return;
    }
    let blocks = len.div_ceil(SLACK_BYTES);
    let (from_blocks, _) = from.as_chunks::<SLACK_BYTES>();
    let (to_blocks, _) = to.as_chunks_mut::<SLACK_BYTES>();
    match (from_blocks.get(..blocks), to_blocks.get_mut(..blocks)) {
        (Some(from), Some(to)) if len <= SHORT_BYTES => {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        _ => to[..len].copy_from_slice(&from[..len]),
    }
}
