//! The one epoll instance and the names of what it watches.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;

pub use rustix::event::epoll::EventFlags as Ready;

/// What kind of descriptor became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The signalfd.
    Signals,
    /// The container's stdout pipe, or the terminal.
    Stdout,
    /// The container's stderr pipe.
    Stderr,
    /// The write end of the container's stdin.
    Stdin,
    /// The `ctl` fifo.
    Ctl,
    /// The listening attach socket.
    AttachListener,
    /// An attach client, by its index.
    AttachClient,
    /// The listening control socket.
    ControlListener,
    /// A control client, by its index.
    ControlClient,
    /// The console socket that the runtime sends the terminal through.
    Console,
    /// The eventfd or inotify that tells of an OOM kill.
    Oom,
    /// The sd-notify proxy's socket.
    Notify,
    /// A pidfd: of the container, or (index > 0) of an exec.
    Pid,
    /// An exec's own descriptor (terminal, error pipe), by the exec's index.
    Exec,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Signals,
        Self::Stdout,
        Self::Stderr,
        Self::Stdin,
        Self::Ctl,
        Self::AttachListener,
        Self::AttachClient,
        Self::ControlListener,
        Self::ControlClient,
        Self::Console,
        Self::Oom,
        Self::Notify,
        Self::Pid,
        Self::Exec,
    ];
}

/// What became ready: a kind and, where there are several, which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The kind.
    pub kind: Kind,
    /// Which one of it.
    pub index: u32,
}

impl Token {
    /// The token of the only one of its kind.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self { kind, index: 0 }
    }

    /// The token of number `index` of its kind.
    #[must_use]
    pub fn nth(kind: Kind, index: u32) -> Self {
        Self { kind, index }
    }

    fn encode(self) -> epoll::EventData {
        epoll::EventData::new_u64((u64::from(self.kind as u32) << 32) | u64::from(self.index))
    }

    fn decode(data: epoll::EventData) -> Option<Self> {
        let raw = data.u64();
        let kind = Kind::ALL.get(usize::try_from(raw >> 32).ok()?)?;
        Some(Self { kind: *kind, index: u32::try_from(raw & 0xffff_ffff).ok()? })
    }
}

/// The level-triggered epoll instance.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    /// A new, empty one.
    ///
    /// # Errors
    /// No descriptor or no memory is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Begins to watch `fd` for `interest`. Empty interest tells of hang-ups and errors only.
    ///
    /// # Errors
    /// As epoll_ctl(2): the descriptor is watched already, can't be watched, or memory is short.
    pub fn add(&self, fd: impl AsFd, token: Token, interest: Ready) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, token.encode(), interest)?)
    }

    /// Changes what `fd` is watched for.
    ///
    /// # Errors
    /// As epoll_ctl(2): the descriptor is not watched.
    pub fn modify(&self, fd: impl AsFd, token: Token, interest: Ready) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, token.encode(), interest)?)
    }

    /// No longer watches `fd`. To be called before the descriptor is closed when a copy of it lives on.
    ///
    /// # Errors
    /// As epoll_ctl(2): the descriptor is not watched.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits until something is ready, or for `timeout` (none: for ever), and puts it into `into`.
    /// A signal that is caught meanwhile is an empty answer.
    ///
    /// # Errors
    /// None that a caller can mend.
    pub fn wait(&self, into: &mut Vec<(Token, Ready)>, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = [epoll::Event { flags: Ready::empty(), data: epoll::EventData::new_u64(0) }; 16];
        let timeout = timeout.map(|timeout| rustix::event::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        into.clear();
        match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok(count) => {
                into.extend(events[..count].iter().filter_map(|e| Some((Token::decode(e.data)?, e.flags))));
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for (position, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, position);
            for index in [0, 7, u32::MAX] {
                let token = Token::nth(kind, index);
                assert_eq!(Token::decode(token.encode()), Some(token));
            }
        }
        assert_eq!(Token::decode(epoll::EventData::new_u64(99 << 32)), None);
    }
}
