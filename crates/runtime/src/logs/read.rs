//! The blocking half: files to lines.

use std::collections::VecDeque;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use model::log::{Record, Stream};
use sys::Ctx as _;

use super::LogOptions;
use super::files::{Opened, current, open_all};
use super::join::{Joiner, LogLine};
use crate::Result;

/// Bytes read at once.
const BLOCK: usize = 64 << 10;
/// A record that is longer is no record: it is dropped.
const RECORD_MAX: usize = 16 << 20;

/// What one step of reading gave.
#[derive(Debug, Default)]
pub(super) struct Pumped {
    pub(super) lines: Vec<LogLine>,
    /// Nothing more is there now.
    pub(super) at_end: bool,
}

/// Where the reader is.
#[derive(Debug)]
pub(super) struct Core {
    path: PathBuf,
    /// The file that is read, then those that are read after it.
    files: VecDeque<Opened>,
    /// How far the first file is read.
    offset: u64,
    /// A record whose end has not come yet.
    carry: Vec<u8>,
    joiner: Joiner,
    since_ns: u64,
    until_ns: u64,
    /// Lines of the past that are given at first, because of `tail`.
    past: Vec<LogLine>,
    told_of_bad_line: bool,
}

impl Core {
    pub(super) fn open(path: &Path, options: LogOptions) -> Result<Self> {
        let mut core = Self {
            path: path.to_path_buf(),
            files: open_all(path)?.into(),
            since_ns: options.since_ns.unwrap_or(0),
            until_ns: options.until_ns.unwrap_or(u64::MAX),
            ..Self::of_blocks()
        };
        if let Some(tail) = options.tail {
            core.read_tail(tail, options.follow)?;
        }
        Ok(core)
    }

    /// A reader of no file: it is given its blocks.
    fn of_blocks() -> Self {
        Self {
            path: PathBuf::new(),
            files: VecDeque::new(),
            offset: 0,
            carry: Vec::new(),
            joiner: Joiner::default(),
            since_ns: 0,
            until_ns: u64::MAX,
            past: Vec::new(),
            told_of_bad_line: false,
        }
    }

    /// Reads the next block. `last`: nothing more will be written, so that what has begun is ended.
    pub(super) fn pump(&mut self, last: bool) -> Result<Pumped> {
        let mut pumped = Pumped { lines: std::mem::take(&mut self.past), at_end: false };
        if !self.read_block(&mut pumped.lines)? {
            pumped.at_end = !self.next_file(&mut pumped.lines)?;
        }
        if pumped.at_end && last {
            self.end_of_file(&mut pumped.lines);
            pumped.lines.extend(self.joiner.rest());
        }
        let (since, until) = (self.since_ns, self.until_ns);
        pumped.lines.retain(|line| line.time_ns >= since && line.time_ns < until);
        Ok(pumped)
    }

    /// False when the file has no more bytes now.
    fn read_block(&mut self, lines: &mut Vec<LogLine>) -> Result<bool> {
        let Some(opened) = self.files.front_mut() else { return Ok(false) };
        let mut block = vec![0; BLOCK];
        let read = loop {
            match opened.file.read(&mut block) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result.ctx("read", &self.path)?,
            }
        };
        if read == 0 {
            let size = opened.file.metadata().ctx("stat", &self.path)?.len();
            if size < self.offset {
                // Cut off in place: it begins anew.
                opened.file.seek(SeekFrom::Start(0)).ctx("seek", &self.path)?;
                self.offset = 0;
                self.carry.clear();
                return Ok(size > 0);
            }
            return Ok(false);
        }
        self.offset += u64::try_from(read).unwrap_or(0);
        block.truncate(read);
        self.take_block(&block, lines);
        Ok(true)
    }

    fn take_block(&mut self, block: &[u8], lines: &mut Vec<LogLine>) {
        for piece in block.split_inclusive(|b| *b == b'\n') {
            if self.carry.len() + piece.len() > RECORD_MAX {
                // Its end, when it comes, will not be a record either.
                self.carry.clear();
                self.tell("a record is longer than 16 MiB");
            }
            if piece.ends_with(b"\n") && self.carry.is_empty() {
                self.take_record(piece, lines);
                continue;
            }
            self.carry.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let record = std::mem::take(&mut self.carry);
                self.take_record(&record, lines);
            }
        }
    }

    fn take_record(&mut self, record: &[u8], lines: &mut Vec<LogLine>) {
        match Record::parse(record) {
            Ok(record) => lines.extend(self.joiner.add(&record)),
            Err(error) => self.tell(&error.to_string()),
        }
    }

    fn tell(&mut self, cause: &str) {
        if !std::mem::replace(&mut self.told_of_bad_line, true) {
            tracing::warn!(log = %self.path.display(), cause, "not a record of the log's format, left out");
        }
    }

    /// A file that ends in the middle of a record: what is there is taken as it is.
    fn end_of_file(&mut self, lines: &mut Vec<LogLine>) {
        let carry = std::mem::take(&mut self.carry);
        if !carry.is_empty() {
            self.take_record(&carry, lines);
        }
    }

    /// Goes on with the file after this one. False when there is none.
    fn next_file(&mut self, lines: &mut Vec<LogLine>) -> Result<bool> {
        if self.files.len() < 2 {
            let reading = self.files.front().map(|o| o.inode);
            if current(&self.path).is_none_or(|now| reading == Some(now)) {
                return Ok(false);
            }
            // Files come after the one that is read; if that is gone by now, all that are there do.
            let all = open_all(&self.path)?;
            let at = all.iter().position(|o| Some(o.inode) == reading);
            self.files.extend(all.into_iter().skip(at.map_or(0, |at| at + 1)));
            if self.files.len() < 2 && reading.is_some() {
                return Ok(false);
            }
            if reading.is_none() {
                return Ok(!self.files.is_empty());
            }
            // The writer has left the old file; what it wrote before that is read first.
            while self.read_block(lines)? {}
        }
        self.end_of_file(lines);
        self.files.pop_front();
        self.offset = 0;
        Ok(true)
    }

    /// Reads to the end and keeps the last `tail` lines.
    fn read_tail(&mut self, tail: usize, follow: bool) -> Result<()> {
        let mut records = tail.saturating_add(1);
        loop {
            let whole = self.seek_back(records)?;
            let (mut kept, mut first) = (VecDeque::new(), [None, None]);
            let mut count = 0usize;
            let mut lines = Vec::new();
            loop {
                let more =
                    self.read_block(&mut lines)? || (self.files.len() > 1 && self.next_file(&mut lines)?);
                for line in lines.drain(..) {
                    first[usize::from(line.stream == Stream::Stderr)].get_or_insert(count);
                    count += 1;
                    kept.push_back(line);
                    if kept.len() > tail {
                        kept.pop_front();
                    }
                }
                if !more {
                    break;
                }
            }
            // The first line of each stream may lack its beginning where reading began in the middle.
            let torn = first.iter().flatten().any(|at| *at + tail >= count);
            if whole || (count > tail && !torn) {
                if !follow {
                    self.end_of_file(&mut lines);
                    kept.extend(lines.drain(..));
                    kept.extend(self.joiner.rest());
                }
                let skip = kept.len().saturating_sub(tail);
                self.past = kept.into_iter().skip(skip).collect();
                return Ok(());
            }
            records = records.saturating_mul(8);
            self.files = open_all(&self.path)?.into();
        }
    }

    /// Goes to where the last `records` records begin; true when that is the beginning of all.
    fn seek_back(&mut self, records: usize) -> Result<bool> {
        self.carry.clear();
        self.joiner = Joiner::default();
        self.offset = 0;
        let mut left = records;
        for at in (0..self.files.len()).rev() {
            let opened = &mut self.files[at];
            let mut end = opened.file.metadata().ctx("stat", &self.path)?.len();
            while end > 0 {
                let start = end.saturating_sub(BLOCK as u64);
                let mut block = vec![0; usize::try_from(end - start).unwrap_or(0)];
                opened.file.seek(SeekFrom::Start(start)).ctx("seek", &self.path)?;
                opened.file.read_exact(&mut block).ctx("read", &self.path)?;
                for (i, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
                    if left == 0 {
                        let begin = start + u64::try_from(i).unwrap_or(0) + 1;
                        opened.file.seek(SeekFrom::Start(begin)).ctx("seek", &self.path)?;
                        self.offset = begin;
                        self.files.drain(..at);
                        return Ok(false);
                    }
                    left -= 1;
                }
                end = start;
            }
            opened.file.seek(SeekFrom::Start(0)).ctx("seek", &self.path)?;
        }
        Ok(true)
    }
}

/// The lines of a log of these bytes, read in blocks of `size`.
pub(crate) fn lines_of(bytes: &[u8], size: usize) -> Vec<LogLine> {
    let (mut core, mut lines) = (Core::of_blocks(), Vec::new());
    bytes.chunks(size).for_each(|block| core.take_block(block, &mut lines));
    core.end_of_file(&mut lines);
    lines.extend(core.joiner.rest());
    lines
}

#[cfg(test)]
mod tests;
