//! Cuts what was read into lines, whatever the reads' boundaries.
//!
//! The result depends on the bytes alone, not on how they were read: a line goes out whole when its newline has
//! come, and in pieces of [`LINE_BYTES`] when it is longer. Only [`Splitter::flush`] cuts earlier.

use std::convert::Infallible;
use std::ops::ControlFlow;

/// The longest line that is written whole, in bytes without its newline; the CRI's runtimes agree on it.
pub(super) const LINE_BYTES: usize = 16 * 1024;

/// A line, or a piece of one. Its bytes are `held` and then `rest[..len]`; what follows in `rest` is of no concern,
/// but being there allows copies of a fixed size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) held: &'a [u8],
    pub(super) rest: &'a [u8],
    pub(super) len: usize,
    /// Whether it ends with its newline (which is among its bytes).
    pub(super) whole: bool,
    /// Whether it begins a line; otherwise it goes on with the piece before.
    pub(super) first: bool,
}

impl Piece<'_> {
    /// How many bytes it has, its newline included.
    pub(super) fn bytes(&self) -> usize {
        self.held.len() + self.len
    }
}

/// One stream's unfinished line.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    held: Vec<u8>,
    /// The last piece had no newline.
    open: bool,
}

impl Splitter {
    /// Whether bytes are held back.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes `bytes` and emits the pieces that are complete.
    #[inline]
    pub(super) fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(Piece<'_>)) {
        let bytes = self.finish_held(bytes, &mut emit);
        self.feed_rest(bytes, emit);
    }

    /// As [`feed`](Self::feed), when nothing is held.
    #[inline]
    pub(super) fn feed_rest(&mut self, bytes: &[u8], mut emit: impl FnMut(Piece<'_>)) {
        let mut start = 0;
        for_each_newline(bytes, |newline| {
            let mut rest = &bytes[start..];
            let mut len = newline + 1 - start;
            while len > LINE_BYTES + 1 {
                emit(Piece { held: &[], rest, len: LINE_BYTES, whole: false, first: !self.open });
                self.open = true;
                rest = &rest[LINE_BYTES..];
                len -= LINE_BYTES;
            }
            emit(Piece { held: &[], rest, len, whole: true, first: !self.open });
            self.open = false;
            start = newline + 1;
        });
        let mut rest = &bytes[start..];
        while rest.len() > LINE_BYTES {
            emit(Piece { held: &[], rest, len: LINE_BYTES, whole: false, first: !self.open });
            self.open = true;
            rest = &rest[LINE_BYTES..];
        }
        self.held.extend_from_slice(rest);
    }

    /// Goes on with the line that is held, if one is; answers what of `bytes` is left: all of it is gone if the line
    /// is held still.
    pub(super) fn finish_held<'a>(
        &mut self,
        mut bytes: &'a [u8],
        emit: &mut impl FnMut(Piece<'_>),
    ) -> &'a [u8] {
        if !self.holds() {
            return bytes;
        }
        let room = LINE_BYTES - self.held.len();
        let window = &bytes[..bytes.len().min(room + 1)];
        if let Some(newline) = window.iter().position(|byte| *byte == b'\n') {
            emit(Piece { held: &self.held, rest: bytes, len: newline + 1, whole: true, first: !self.open });
            self.open = false;
            bytes = &bytes[newline + 1..];
            self.held.clear();
        } else if bytes.len() > room {
            emit(Piece { held: &self.held, rest: bytes, len: room, whole: false, first: !self.open });
            self.open = true;
            bytes = &bytes[room..];
            self.held.clear();
        } else {
            self.held.extend_from_slice(bytes);
            bytes = &[];
        }
        bytes
    }

    /// Emits what is held as a piece.
    pub(super) fn flush(&mut self, mut emit: impl FnMut(Piece<'_>)) {
        if self.holds() {
            emit(Piece { held: &self.held, rest: &[], len: 0, whole: false, first: !self.open });
            self.open = true;
        }
        self.held.clear();
    }

    /// Gives unused memory back.
    pub(super) fn trim(&mut self) {
        self.held.shrink_to_fit();
    }
}

/// Calls `found` with the place of each newline.
#[inline]
fn for_each_newline(bytes: &[u8], mut found: impl FnMut(usize)) {
    let all: Option<Infallible> = newlines(bytes, |newline| {
        found(newline);
        ControlFlow::Continue(())
    });
    debug_assert!(all.is_none());
}

/// Calls `found` with the place of each newline until it breaks off; with what, if it does.
#[inline]
pub(super) fn newlines<B>(bytes: &[u8], mut found: impl FnMut(usize) -> ControlFlow<B>) -> Option<B> {
    let (blocks, tail) = bytes.as_chunks::<64>();
    for (index, block) in blocks.iter().enumerate() {
        let mut mask = sys::scan::equal_bytes(block, b'\n');
        while mask != 0 {
            if let ControlFlow::Break(with) = found(index * 64 + mask.trailing_zeros() as usize) {
                return Some(with);
            }
            mask &= mask - 1;
        }
    }
    let start = blocks.len() * 64;
    for (index, byte) in tail.iter().enumerate() {
        if *byte == b'\n'
            && let ControlFlow::Break(with) = found(start + index)
        {
            return Some(with);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn collect(out: &mut Vec<(Vec<u8>, bool, bool)>) -> impl FnMut(Piece<'_>) {
        |piece| out.push(([piece.held, &piece.rest[..piece.len]].concat(), piece.whole, piece.first))
    }

    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool, bool)> {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, collect(&mut out));
        }
        splitter.flush(collect(&mut out));
        out
    }

    #[test]
    fn pieces() {
        let line = |text: &str, whole, first| (text.as_bytes().to_vec(), whole, first);
        assert_eq!(split(&[b"a\nb\n"]), [line("a\n", true, true), line("b\n", true, true)]);
        assert_eq!(split(&[b"a", b"b", b"\nc"]), [line("ab\n", true, true), line("c", false, true)]);
        assert_eq!(split(&[b"\n\n"]), [line("\n", true, true), line("\n", true, true)]);
        assert_eq!(split(&[b""]), []);
        let full = "x".repeat(LINE_BYTES);
        let whole = format!("{full}\n");
        assert_eq!(split(&[whole.as_bytes()]), [line(&whole, true, true)]);
        assert_eq!(split(&[full.as_bytes(), b"\n"]), [line(&whole, true, true)]);
        let over = format!("{full}y\n");
        let expected = [line(&full, false, true), line("y\n", true, false)];
        assert_eq!(split(&[over.as_bytes()]), expected);
        assert_eq!(split(&[full.as_bytes(), b"y", b"\n"]), expected);
    }

    #[test]
    fn a_flush_opens_the_line() {
        let mut splitter = Splitter::default();
        let mut out = Vec::new();
        splitter.feed(b"$ ", collect(&mut out));
        assert!(out.is_empty() && splitter.holds());
        splitter.flush(collect(&mut out));
        splitter.feed(b"\n", collect(&mut out));
        assert_eq!(out, [(b"$ ".to_vec(), false, true), (b"\n".to_vec(), true, false)]);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            pieces in vec((0usize..40_000, 1u8..40), 0..6),
            cuts in vec(0usize..200_000, 0..12),
        ) {
            let mut input = Vec::new();
            for (len, step) in pieces {
                input.extend((0..len).map(|n| if n % 7 == 0 && step < 3 { b'\n' } else { b'a' + step % 26 }));
                input.push(b'\n');
            }
            input.pop();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (input.len() + 1)).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
            let got = split(&chunks);
            prop_assert_eq!(&got, &split(&[&input]));
            prop_assert_eq!(got.iter().flat_map(|(bytes, ..)| bytes.clone()).collect::<Vec<_>>(), input);
            for (bytes, whole, _) in &got {
                prop_assert!(bytes.len() - usize::from(*whole) <= LINE_BYTES);
                prop_assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), usize::from(*whole));
            }
        }
    }
}
