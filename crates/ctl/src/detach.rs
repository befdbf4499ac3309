//! Detach keys: a sequence in the input that leaves the container and lets it go on.

/// A sequence of bytes to look for in what the user types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// From podman's spelling: `ctrl-p,ctrl-q`, single letters, comma between. Empty: no keys.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(key).collect::<Option<_>>().map(Self).ok_or_else(|| {
            format!(
                "detach keys {text:?}: letters or ctrl-@, ctrl-a to ctrl-z, ctrl-[ \\ ] ^ _, comma between"
            )
        })
    }
}

fn key(text: &str) -> Option<u8> {
    match text.strip_prefix("ctrl-") {
        None => match text.as_bytes() {
            [byte] if byte.is_ascii() => Some(*byte),
            _ => None,
        },
        Some(letter) => match letter.to_ascii_lowercase().as_bytes() {
            [byte @ b'a'..=b'z'] => Some(byte - b'a' + 1),
            [byte @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(byte & 0x1f),
            _ => None,
        },
    }
}

/// Looks for the keys in a stream that comes in pieces.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: DetachKeys,
    seen: usize,
}

/// What came of a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// To be passed on.
    Pass(Vec<u8>),
    /// To be passed on, and then leave.
    Detach(Vec<u8>),
}

impl Watch {
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self { keys, seen: 0 }
    }

    /// Takes a piece. Bytes that may begin the keys are held back until it is clear.
    pub(crate) fn feed(&mut self, input: &[u8]) -> Typed {
        let keys = &self.keys.0;
        let mut out = Vec::with_capacity(input.len() + self.seen);
        for &byte in input {
            if keys.is_empty() {
                out.push(byte);
                continue;
            }
            // The longest beginning of the keys that what was held back and this byte end with.
            let mut held: Vec<u8> = keys[..self.seen].to_vec();
            held.push(byte);
            let keep =
                (0..=held.len().min(keys.len())).rev().find(|&n| held.ends_with(&keys[..n])).unwrap_or(0);
            out.extend_from_slice(&held[..held.len() - keep]);
            self.seen = keep;
            if keep == keys.len() {
                self.seen = 0;
                return Typed::Detach(out);
            }
        }
        Typed::Pass(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        assert_eq!(DetachKeys::parse("ctrl-p,ctrl-q").unwrap().0, [16, 17]);
        assert_eq!(DetachKeys::parse("a,ctrl-[,z").unwrap().0, [b'a', 27, b'z']);
        assert!(DetachKeys::parse("").unwrap().0.is_empty());
        for bad in ["ctrl-", "ctrl-1", "ab", "é", ","] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_in_any_pieces() {
        type Case<'a> = (&'a [&'a [u8]], &'a [u8], bool);
        let cases: [Case<'_>; 6] = [
            (&[b"abc"], b"abc", false),
            (&[b"ab\x10\x11cd"], b"ab", true),
            (&[b"ab\x10", b"\x11"], b"ab", true),
            (&[b"\x10", b"x"], b"\x10x", false),
            (&[b"\x10\x10", b"\x11"], b"\x10", true),
            (&[b"\x11\x10"], b"\x11", false),
        ];
        for (pieces, passed, left) in cases {
            let mut watch = Watch::new(DetachKeys::parse("ctrl-p,ctrl-q").unwrap());
            let (mut out, mut detached) = (Vec::new(), false);
            for piece in pieces {
                match watch.feed(piece) {
                    Typed::Pass(bytes) => out.extend(bytes),
                    Typed::Detach(bytes) => {
                        out.extend(bytes);
                        detached = true;
                    }
                }
            }
            assert_eq!((out.as_slice(), detached), (passed, left), "{pieces:?}");
        }
    }
}
