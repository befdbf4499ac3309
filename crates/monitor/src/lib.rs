//! The monitor's contract, its control protocol, and the parts of the process wharf-monitor.
//!
//! One process stands beside each container: it starts the OCI runtime, holds the container's output,
//! its terminal and its attach clients, serves execs, and writes down how the container ended before
//! anyone is told. It speaks conmon's command line, pipes and files (docs/monitor.md), and beside them a
//! control protocol of its own (docs/monitor-protocol.md), whose types and client are [`control`].
//!
//! One thread, level-triggered epoll, no async runtime: nothing here may block on a client, and nothing
//! but the reading of output may be left out when memory or descriptors run short.

pub mod attach;
pub mod cli;
pub mod control;
pub mod error;
#[doc(hidden)]
pub mod harness;
pub mod hidden;
pub mod logs;
pub mod message;
pub mod pause;
pub mod pin;
pub mod poll;
pub mod process;

pub use error::Error;

/// Which of the container's two outputs. A terminal's output is all [`Stream::Stdout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Descriptor 1, or the terminal.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// 0 for stdout, 1 for stderr: an index into pairs.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }

    /// The word in a k8s-file log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// The first byte of an attach packet.
    #[must_use]
    pub fn attach_byte(self) -> u8 {
        match self {
            Self::Stdout => 2,
            Self::Stderr => 3,
        }
    }
}
