//! For the harness: what a program writes, on its way into the logs, read in chunks of the size that the first byte says.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};

use super::Options;
use super::file::FileLog;
use super::journal::{self, Entry};
use super::lines::{LINE_BYTES, Piece, Splitter};
use super::out::Limits;
use super::rotate::Policy;
use super::stamp::HEAD_BYTES;
use crate::Stream;

/// Cut into lines: nothing is lost or added.
pub(crate) fn cut(bytes: &[u8]) {
    let mut again = Vec::with_capacity(bytes.len());
    let mut open = false;
    let said = pieces(bytes, |piece| {
        assert!(piece.bytes() - usize::from(piece.whole) <= LINE_BYTES);
        assert_eq!(piece.first, !open, "a piece that begins a line goes on with one, or the other way round");
        open = !piece.whole;
        again.extend_from_slice(piece.held);
        again.extend_from_slice(&piece.rest[..piece.len]);
        assert_eq!(again.ends_with(b"\n"), piece.whole);
    });
    assert_eq!(again, said, "not a byte more or less");
}

/// Entries of the journal, which reads back what was said, and in no field but its own.
pub(crate) fn journal(bytes: &[u8]) {
    let options = Options { cid: "0123456789abcdef".to_owned(), ..Options::default() };
    let mut entry = Entry::new(&options);
    pieces(bytes, |piece| {
        let raw = [piece.held, &piece.rest[..piece.len]].concat();
        let read = fields(entry.build(&journal::message(Stream::Stderr, piece)));
        let names: Vec<&[u8]> = read.iter().map(|(name, _)| *name).collect();
        let known: [&[u8]; 6] = [
            b"MESSAGE",
            b"CONTAINER_ID_FULL",
            b"PRIORITY",
            b"CONTAINER_ID",
            b"SYSLOG_IDENTIFIER",
            b"CONTAINER_PARTIAL_MESSAGE",
        ];
        assert_eq!(names, &known[..5 + usize::from(!piece.whole)]);
        let (text, priority) = (read[0].1, read[2].1);
        match raw.strip_suffix(text) {
            Some([]) => assert_eq!(priority, b"3"),
            Some([b'<', digit, b'>']) => assert_eq!(priority, [*digit]),
            other => panic!("{other:?} is gone from {raw:?}"),
        }
    });
}

/// The fields of an entry: `NAME=value`, or, for a value of more than a line, its length before it
/// (systemd's Native Journal Protocol).
fn fields(mut entry: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    while let Some(end) = entry.iter().position(|byte| matches!(byte, b'=' | b'\n')) {
        let (name, rest) = entry.split_at(end);
        let (value, rest) = if rest[0] == b'=' {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            (&rest[1..end], &rest[end..])
        } else {
            let (len, rest) =
                rest[1..].split_first_chunk::<8>().unwrap_or_else(|| panic!("no length: {rest:?}"));
            rest.split_at(usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX).min(rest.len()))
        };
        assert_eq!(rest.first(), Some(&b'\n'), "a field without its end");
        found.push((name, value));
        entry = &rest[1..];
    }
    assert_eq!(entry, b"", "more than fields");
    found
}

/// A file: what each stream said can be read back from its lines.
pub(crate) fn file(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    // A machine without memory says nothing about what was fed.
    let Ok(memory) = memfd_create("log", MemfdFlags::CLOEXEC) else { return };
    let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    let Ok(mut log) = FileLog::open(&path, Limits::default(), Policy::Replace) else { return };
    let mut said = [Vec::new(), Vec::new()];
    let streams = [Stream::Stdout, Stream::Stderr];
    for (chunk, stream) in bytes.chunks(usize::from(*size).max(1)).zip(streams.into_iter().cycle()) {
        log.write(stream, chunk);
        said[stream.index()].extend_from_slice(chunk);
    }
    log.close(false);
    assert_eq!(log.failure(), None);
    let written = std::fs::read(&path).unwrap_or_default();
    let mut again = [Vec::new(), Vec::new()];
    for line in written.split_inclusive(|byte| *byte == b'\n') {
        let (head, text) = line.split_at_checked(HEAD_BYTES).unwrap_or_else(|| panic!("no head: {line:?}"));
        let (stream, whole) = match &head[HEAD_BYTES - 10..] {
            b" stdout F " => (Stream::Stdout, true),
            b" stdout P " => (Stream::Stdout, false),
            b" stderr F " => (Stream::Stderr, true),
            b" stderr P " => (Stream::Stderr, false),
            other => panic!("{other:?} is no head"),
        };
        assert!(text.len() <= LINE_BYTES + 1 && text.ends_with(b"\n"));
        again[stream.index()].extend_from_slice(&text[..text.len() - usize::from(!whole)]);
    }
    assert_eq!(again, said, "not a byte more or less");
}

/// Shows `check` the pieces of what is said; gives what that is.
fn pieces(bytes: &[u8], mut check: impl FnMut(Piece<'_>)) -> &[u8] {
    let Some((size, bytes)) = bytes.split_first() else { return &[] };
    let mut splitter = Splitter::default();
    for chunk in bytes.chunks(usize::from(*size).max(1)) {
        splitter.feed(chunk, &mut check);
    }
    splitter.flush(&mut check);
    bytes
}
