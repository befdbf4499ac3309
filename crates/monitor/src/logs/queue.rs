//! Messages that wait for the journal, one behind the other in one piece of memory: most are a few bytes long.

use super::sender::Message;

/// Before each message: its priority and whether it is a piece, and its length.
const HEAD_BYTES: usize = 5;
/// So many bytes at the front that are done with are not worth moving the others.
const SLACK_BYTES: usize = 64 * 1024;

/// A queue of messages.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// Where the first one is.
    front: usize,
    count: usize,
}

impl Queue {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() - self.front
    }

    /// Adds one at the end.
    pub(super) fn push(&mut self, message: &Message<'_>) {
        let len: usize = message.parts.iter().map(|part| part.len()).sum();
        // A message is a line of at most 16 KiB.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.bytes.push(message.priority | (u8::from(message.piece) << 7));
        self.bytes.extend_from_slice(&len.to_le_bytes());
        message.parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.count += 1;
    }

    /// The first.
    pub(super) fn front(&self) -> Option<Message<'_>> {
        let (head, rest) = self.bytes[self.front..].split_first_chunk::<HEAD_BYTES>()?;
        let [flags, len @ ..] = *head;
        let message = rest.get(..usize::try_from(u32::from_le_bytes(len)).ok()?)?;
        Some(Message { priority: flags & 0x7f, parts: [message, b""], piece: flags & 0x80 != 0 })
    }

    /// Takes the first away.
    pub(super) fn pop(&mut self) {
        let Some(len) = self.front().map(|message| message.parts[0].len()) else { return };
        self.front += HEAD_BYTES + len;
        self.count -= 1;
        if self.count == 0 {
            self.bytes.clear();
            self.front = 0;
        } else if self.front > SLACK_BYTES && self.front > self.bytes.len() / 2 {
            self.bytes.drain(..self.front);
            self.front = 0;
        }
    }

    /// Gives the memory back, if it is empty.
    pub(super) fn trim(&mut self) {
        if self.count == 0 {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out() {
        let mut queue = Queue::default();
        let long = vec![b'x'; 10_000];
        let (mut next, mut first) = (0u32, 0u32);
        for round in 0..200 {
            for _ in 0..round % 7 + 1 {
                let number = next.to_string();
                let piece = next.is_multiple_of(3);
                queue.push(&Message { priority: 6, parts: [number.as_bytes(), &long], piece });
                next += 1;
            }
            for _ in 0..round % 5 {
                let Some(message) = queue.front() else { break };
                let text = &message.parts[0][..message.parts[0].len() - long.len()];
                assert_eq!((text, message.piece), (first.to_string().as_bytes(), first.is_multiple_of(3)));
                assert_eq!(message.priority, 6);
                queue.pop();
                first += 1;
            }
            assert_eq!(queue.len(), (next - first) as usize);
        }
        while queue.front().is_some() {
            queue.pop();
        }
        queue.pop();
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
        queue.trim();
        assert!(queue.front().is_none());
    }
}
