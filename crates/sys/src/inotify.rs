//! Watching files and directories (inotify(7)).

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::inotify;
pub use rustix::fs::inotify::{ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::{Ctx as _, Error, Result};

/// A set of watches; readable when something happened.
#[derive(Debug)]
pub struct Inotify {
    fd: OwnedFd,
}

/// A watch's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watch(i32);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// To what is watched by this; of no watch when the queue overflowed.
    pub watch: Watch,
    /// What; `QUEUE_OVERFLOW` means that some were lost, `IGNORED` that the watch is gone.
    pub what: ReadFlags,
    /// The name within a watched directory.
    pub name: Option<OsString>,
}

impl Inotify {
    /// A set without watches, non-blocking.
    pub fn new() -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self { fd: inotify::init(flags).ctx("create", "inotify")? })
    }

    /// Watches `path`; for one that is watched already, this changes what for.
    pub fn add(&self, path: impl AsRef<Path>, what: WatchFlags) -> Result<Watch> {
        let path = path.as_ref();
        inotify::add_watch(&self.fd, path, what).map(Watch).ctx("watch", path)
    }

    /// Ends a watch. One that is gone is fine.
    pub fn remove(&self, watch: Watch) -> Result<()> {
        match inotify::remove_watch(&self.fd, watch.0) {
            Err(Errno::INVAL) => Ok(()),
            result => result.ctx("end watch of", "inotify"),
        }
    }

    /// All that happened since the last time; does not wait.
    pub fn take(&self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => events.push(Event {
                    watch: Watch(event.wd()),
                    what: event.events(),
                    name: event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec())),
                }),
                Err(Errno::AGAIN) => return Ok(events),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::new("read", "inotify", error)),
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::tests::TempDir;

    #[test]
    fn files_that_come_are_told() {
        let dir = TempDir::new("inotify");
        let inotify = Inotify::new().unwrap();
        let watch = inotify.add(&dir.0, WatchFlags::CREATE | WatchFlags::MOVED_TO).unwrap();
        assert_eq!(inotify.take().unwrap(), []);
        std::fs::write(dir.0.join("a"), "").unwrap();
        assert!(crate::poll::readable(&inotify, None).unwrap());
        let events = inotify.take().unwrap();
        assert_eq!((events[0].watch, events[0].name.as_deref()), (watch, Some("a".as_ref())));
        assert!(events[0].what.contains(ReadFlags::CREATE));
        inotify.remove(watch).unwrap();
        inotify.remove(watch).unwrap();
    }
}
