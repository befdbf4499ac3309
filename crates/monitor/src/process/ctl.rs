//! The `ctl` fifo: lines that resize the terminal and reopen logs (contract §4).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Set the terminal's size.
    Resize {
        /// Its height, 0 to 1000.
        rows: u16,
        /// Its width, 0 to 1000.
        columns: u16,
    },
    /// Open the logs anew.
    ReopenLogs,
    /// It is no order: why, and the line.
    Wrong(String),
}

/// Longer lines are dropped.
const LINE_MAX: usize = 200;

/// Cuts what arrives into lines, and lines into orders.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Takes `bytes` in and calls `each` with what the lines that they end ask for.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Order)) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.held.len() < LINE_MAX {
                    self.held.push(byte);
                } else {
                    self.too_long = true;
                }
                continue;
            }
            each(if self.too_long {
                Order::Wrong(format!("ctl line of more than {LINE_MAX} bytes"))
            } else {
                order(&String::from_utf8_lossy(&self.held))
            });
            self.held.clear();
            self.too_long = false;
        }
    }
}

fn order(line: &str) -> Order {
    let decimal = |word: Option<&str>| {
        word.filter(|word| word.chars().all(|c| c.is_ascii_digit())).and_then(|word| word.parse::<u32>().ok())
    };
    let mut words = line.split_ascii_whitespace();
    let (Some(kind), Some(first), Some(second)) =
        (decimal(words.next()), decimal(words.next()), decimal(words.next()))
    else {
        return Order::Wrong(format!("ctl line {line:?} is not three numbers"));
    };
    let size = |n: u32| u16::try_from(n).ok().filter(|&n| n <= 1000);
    match (kind, size(first), size(second)) {
        (1, Some(rows), Some(columns)) => Order::Resize { rows, columns },
        (1, _, _) => Order::Wrong(format!("terminal size {first} x {second} is out of range")),
        (2, _, _) => Order::ReopenLogs,
        _ => Order::Wrong(format!("ctl line {line:?} is of an unknown type")),
    }
}

/// A fifo in the bundle that always has a reader and a writer: us.
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
    reader: OwnedFd,
    _writer: OwnedFd,
}

impl Fifo {
    /// Makes it, in place of one that is there.
    ///
    /// # Errors
    /// unlink, mknod or open failed.
    pub fn make(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o660),
            0,
        )?;
        let open = |flags| rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let reader = open(OFlags::RDONLY)?;
        let writer = open(OFlags::WRONLY)?;
        Ok(Self { path: path.to_owned(), reader, _writer: writer })
    }

    /// Reads what is there, at most one buffer of it.
    ///
    /// # Errors
    /// read(2)'s; `WouldBlock` when there is nothing.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.reader, buffer)?)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Fifo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(chunks: &[&str]) -> Vec<Order> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for chunk in chunks {
            lines.push(chunk.as_bytes(), |order| all.push(order));
        }
        all
    }

    #[test]
    fn lines_split_and_joined() {
        let size = |rows, columns| Order::Resize { rows, columns };
        assert_eq!(orders(&["1 24 80\n"]), [size(24, 80)]);
        assert_eq!(
            orders(&["1 2", "4 8", "0\n2 0 0\n1 0 1000 extra words\n"]),
            [size(24, 80), Order::ReopenLogs, size(0, 1000)]
        );
        assert_eq!(orders(&["1 007 010\n"]), [size(7, 10)]);
        assert_eq!(orders(&["2 99999 99999\n1 1 1"]), [Order::ReopenLogs]);
        let long = format!("1 1 1 {}\n1 1 1\n", "x".repeat(300));
        let orders = orders(&[&long]);
        assert!(matches!(&orders[..], [Order::Wrong(_), last] if *last == size(1, 1)));
    }

    #[test]
    fn wrong_lines() {
        for line in [
            "",
            "1",
            "1 2",
            "x y z",
            "1 0x10 5",
            "1 10.5 5",
            "1 -1 5",
            "1 1001 5",
            "1 5 70000",
            "3 1 1",
            "1 +5 5",
        ] {
            let orders = orders(&[line, "\n"]);
            assert!(matches!(orders[..], [Order::Wrong(_)]), "{line:?}: {orders:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(chunks in proptest::collection::vec(proptest::collection::vec(0u8.., 0..400), 0..8)) {
            let mut lines = Lines::default();
            let mut seen = 0;
            for chunk in &chunks {
                lines.push(chunk, |_| seen += 1);
                assert!(lines.held.len() <= LINE_MAX);
            }
            assert_eq!(seen, chunks.concat().iter().filter(|&&b| b == b'\n').count());
        }
    }
}
