//! Waiting for descriptors: poll(2), epoll(7), timerfd_create(2), eventfd(2).

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::{Ctx as _, Result};

/// Waits until `fd` can be read or is hung up: `false` after `timeout`, `None` waits for ever.
pub fn readable(fd: impl AsFd, timeout: Option<Duration>) -> std::io::Result<bool> {
    wait_for(fd, PollFlags::IN, timeout)
}

/// Waits until `fd` can be written or is hung up: `false` after `timeout`, `None` waits for ever.
pub fn writable(fd: impl AsFd, timeout: Option<Duration>) -> std::io::Result<bool> {
    wait_for(fd, PollFlags::OUT, timeout)
}

fn wait_for(fd: impl AsFd, flags: PollFlags, timeout: Option<Duration>) -> std::io::Result<bool> {
    // A time-out that is past what Instant can hold is for ever.
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map(|end| timespec(end.saturating_duration_since(Instant::now())));
        let mut fds = [PollFd::new(&fd, flags)];
        match rustix::event::poll(&mut fds, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// What to wait for with an [`Epoll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Only `EPOLLHUP` and `EPOLLERR`, which always come.
    HangUp,
    /// Data, or the other side's end.
    Read,
    /// Room.
    Write,
    /// Both.
    ReadWrite,
    /// `EPOLLPRI`: cgroup and /proc files that changed.
    Priority,
}

/// One descriptor that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The token it was added with.
    pub token: u64,
    /// There is something to read, or the end of it.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The other side is gone (`EPOLLHUP`, `EPOLLERR`).
    pub hang_up: bool,
    /// `EPOLLPRI`.
    pub priority: bool,
}

/// An epoll(7) instance, level-triggered.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// A new one, empty.
    pub fn new() -> Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC).ctx("create", "epoll")?;
        Ok(Self { fd })
    }

    /// Watches `fd`; its events carry `token`. The kernel forgets it when its last copy is closed.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        epoll::add(&self.fd, fd, epoll::EventData::new_u64(token), flags(interest)).ctx("add to", "epoll")
    }

    /// Changes what is waited for.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        epoll::modify(&self.fd, fd, epoll::EventData::new_u64(token), flags(interest))
            .ctx("modify in", "epoll")
    }

    /// Stops watching `fd`. One that is not watched is fine.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        match epoll::delete(&self.fd, fd) {
            Err(Errno::NOENT) => Ok(()),
            result => result.ctx("remove from", "epoll"),
        }
    }

    /// Waits, for at most `timeout` (`None`: for ever), and puts what is ready into `events`, which is
    /// cleared first and keeps its memory. Interrupted by a signal, it returns with none.
    pub fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> Result<()> {
        events.clear();
        let mut ready =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 32];
        let timeout = timeout.map(timespec);
        let count = match epoll::wait(&self.fd, &mut ready, timeout.as_ref()) {
            Err(Errno::INTR) => 0,
            count => count.ctx("wait for", "epoll")?,
        };
        for event in ready.iter().take(count) {
            // By value: the structure is packed.
            let flags = event.flags;
            events.push(Event {
                token: event.data.u64(),
                readable: flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
                writable: flags.contains(epoll::EventFlags::OUT),
                hang_up: flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR),
                priority: flags.contains(epoll::EventFlags::PRI),
            });
        }
        Ok(())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    match interest {
        Interest::HangUp => epoll::EventFlags::empty(),
        Interest::Read => epoll::EventFlags::IN,
        Interest::Write => epoll::EventFlags::OUT,
        Interest::ReadWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        Interest::Priority => epoll::EventFlags::PRI,
    }
}

/// A timer that is a descriptor (timerfd_create(2), monotonic clock, non-blocking).
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// One that is not set.
    pub fn new() -> Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).ctx("create", "timerfd")?;
        Ok(Self { fd })
    }

    /// Makes it readable once, `after` from now; `None` unsets it. Zero fires at once.
    pub fn set(&self, after: Option<Duration>) -> Result<()> {
        let zero = timespec(Duration::ZERO);
        let value = after.map_or(zero, |after| timespec(after.max(Duration::from_nanos(1))));
        let value = Itimerspec { it_interval: zero, it_value: value };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &value).ctx("set", "timerfd")?;
        Ok(())
    }

    /// Takes the expiry, so that it is not readable any more: whether there was one.
    pub fn take(&self) -> Result<bool> {
        take_counter(&self.fd).ctx("read", "timerfd")
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An eventfd(2) counter, close-on-exec and non-blocking.
pub fn eventfd() -> Result<OwnedFd> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ctx("create", "eventfd")
}

/// Reads a non-blocking eventfd or timerfd to zero: whether it had counted anything.
pub fn take_counter(fd: impl AsFd) -> std::io::Result<bool> {
    let mut counter = [0; 8];
    loop {
        match rustix::io::read(&fd, &mut counter) {
            Ok(_) => return Ok(true),
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_become_readable_and_hang_up() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        assert!(!readable(&reader, Some(Duration::from_millis(5))).unwrap());
        assert!(writable(&writer, None).unwrap());
        let epoll = Epoll::new().unwrap();
        epoll.add(&reader, 7, Interest::Read).unwrap();
        let mut events = Vec::new();
        epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events, []);
        rustix::io::write(&writer, b"x").unwrap();
        epoll.wait(&mut events, None).unwrap();
        assert_eq!(events[0].token, 7);
        assert!(events[0].readable && !events[0].hang_up);
        drop(writer);
        epoll.modify(&reader, 8, Interest::HangUp).unwrap();
        epoll.wait(&mut events, None).unwrap();
        assert!(events[0].hang_up && events[0].token == 8);
        assert!(readable(&reader, None).unwrap());
        epoll.remove(&reader).unwrap();
        epoll.remove(&reader).unwrap();
        epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events, []);
    }

    #[test]
    fn timers_fire_once() {
        let timer = Timer::new().unwrap();
        assert!(!timer.take().unwrap());
        timer.set(Some(Duration::ZERO)).unwrap();
        assert!(readable(&timer, Some(Duration::from_secs(30))).unwrap());
        assert!(timer.take().unwrap());
        assert!(!timer.take().unwrap());
        timer.set(Some(Duration::from_secs(1000))).unwrap();
        timer.set(None).unwrap();
        assert!(!readable(&timer, Some(Duration::ZERO)).unwrap());
        let counter = eventfd().unwrap();
        assert!(!take_counter(&counter).unwrap());
        rustix::io::write(&counter, &1u64.to_ne_bytes()).unwrap();
        assert!(take_counter(&counter).unwrap());
    }
}
