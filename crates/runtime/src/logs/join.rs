//! Joins the records that are pieces of one line.

use model::log::{Record, Stream, Tag};

/// A line that is longer comes in pieces of this size, so that a program that never ends its line can't
/// fill the reader's memory.
pub const LINE_MAX: usize = 1 << 20;

/// One line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When its first byte was logged, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// Where it was written to.
    pub stream: Stream,
    /// What, without the newline.
    pub content: Vec<u8>,
    /// Whether there was a newline: not for a piece of a line over [`LINE_MAX`], nor for the last words of a
    /// program that ended without one.
    pub ended: bool,
}

/// The lines that have begun, one a stream.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    stdout: Option<LogLine>,
    stderr: Option<LogLine>,
}

impl Joiner {
    /// Takes one record; gives the line that it ends, if it does.
    pub(super) fn add(&mut self, record: &Record<'_>) -> Option<LogLine> {
        let slot = match record.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let begun = slot.take();
        let mut line = begun.unwrap_or_else(|| LogLine {
            time_ns: record.time_ns,
            stream: record.stream,
            content: Vec::new(),
            ended: false,
        });
        line.content.extend_from_slice(record.content);
        line.ended = record.tag == Tag::Full;
        if line.ended || line.content.len() >= LINE_MAX {
            return Some(line);
        }
        *slot = Some(line);
        None
    }

    /// The lines that nobody will end any more, the older first.
    pub(super) fn rest(&mut self) -> Vec<LogLine> {
        let mut rest: Vec<LogLine> = [self.stdout.take(), self.stderr.take()].into_iter().flatten().collect();
        rest.sort_by_key(|line| line.time_ns);
        rest.retain(|line| !line.content.is_empty());
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stream: Stream, tag: Tag, content: &[u8]) -> Record<'_> {
        Record { time_ns: 1, stream, tag, content }
    }

    #[test]
    fn pieces_of_two_streams_are_told_apart() {
        use Stream::{Stderr, Stdout};
        let mut joiner = Joiner::default();
        assert_eq!(joiner.add(&record(Stdout, Tag::Partial, b"he")), None);
        assert_eq!(joiner.add(&record(Stderr, Tag::Partial, b"wor")), None);
        let line = joiner.add(&record(Stdout, Tag::Full, b"llo")).unwrap();
        assert_eq!((line.content.as_slice(), line.ended), (&b"hello"[..], true));
        assert_eq!(joiner.add(&record(Stdout, Tag::Full, b"")).unwrap().content, b"");
        let rest = joiner.rest();
        assert_eq!((rest[0].content.as_slice(), rest[0].ended, rest.len()), (&b"wor"[..], false, 1));
        assert_eq!(joiner.rest(), []);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let mut joiner = Joiner::default();
        let piece = vec![b'x'; LINE_MAX / 2];
        assert_eq!(joiner.add(&record(Stream::Stdout, Tag::Partial, &piece)), None);
        let line = joiner.add(&record(Stream::Stdout, Tag::Partial, &piece)).unwrap();
        assert_eq!((line.content.len(), line.ended), (LINE_MAX, false));
    }
}
