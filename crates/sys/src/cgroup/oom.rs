//! Who was killed for want of memory.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use super::events::value;
use super::group::tree;
use super::{Cgroup, Place, Version, file};
use crate::inotify::{Inotify, WatchFlags};
use crate::{Ctx as _, Error, Result, poll};

impl Cgroup {
    /// How many processes of the group and below it the kernel has killed for want of memory: `oom_kill` of
    /// `memory.events` (version 2) or of `memory.oom_control` (version 1, Linux 4.13). `None` if the group
    /// has no memory controller, or is the root.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        let Some(place) = self.memory() else { return Ok(None) };
        match place.version {
            Version::V2 => match file::read(place, "memory.events") {
                Ok(text) => Ok(value(&text, "oom_kill")),
                Err(error) if error.is_gone() => Ok(None),
                Err(error) => Err(error),
            },
            Version::V1 => {
                let mut sum = None;
                for dir in tree(&place.dir)? {
                    let below = Place { dir, ..place.clone() };
                    let kills = match file::read(&below, "memory.oom_control") {
                        Ok(text) => value(&text, "oom_kill"),
                        Err(error) if error.is_gone() => None,
                        Err(error) => return Err(error),
                    };
                    sum = sum.map_or(kills, |sum| Some(sum + kills.unwrap_or(0)));
                }
                Ok(sum)
            }
        }
    }

    fn memory(&self) -> Option<&Place> {
        self.place("memory").filter(|place| !place.is_root() && place.exists())
    }
}

/// Tells when a group runs out of memory: readable after such an event, and when the group is removed.
///
/// The event comes before the victim is dead, and the count may come a moment later: look at
/// [`OomWatch::kills`] when a process has ended.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    /// The file that has the count.
    file: OwnedFd,
}

#[derive(Debug)]
enum Source {
    /// Version 1: an eventfd that is registered with `cgroup.event_control`.
    Eventfd(OwnedFd),
    /// Version 2: `memory.events` is watched.
    Inotify(Inotify),
}

impl OomWatch {
    /// Watches a group. `None` if it has no memory controller.
    pub fn new(cgroup: &Cgroup) -> Result<Option<Self>> {
        let Some(place) = cgroup.memory() else { return Ok(None) };
        match Self::of_place(place) {
            // A group of version 2 for which the controller is not enabled.
            Err(error) if error.is_gone() && place.exists() => Ok(None),
            watch => watch.map(Some),
        }
    }

    fn of_place(place: &Place) -> Result<Self> {
        match place.version {
            Version::V1 => {
                let file = file::open(place, "memory.oom_control", OFlags::RDONLY)?;
                let eventfd = poll::eventfd()?;
                let line = format!("{} {}", eventfd.as_raw_fd(), file.as_raw_fd());
                file::write(place, "cgroup.event_control", &line)?;
                Ok(Self { source: Source::Eventfd(eventfd), file })
            }
            Version::V2 => {
                let file = file::open(place, "memory.events", OFlags::RDONLY)?;
                let inotify = Inotify::new()?;
                inotify.add(place.dir.join("memory.events"), WatchFlags::MODIFY)?;
                Ok(Self { source: Source::Inotify(inotify), file })
            }
        }
    }

    /// Takes the events, so that it is not readable any more: whether there were any.
    pub fn take(&self) -> Result<bool> {
        match &self.source {
            Source::Eventfd(fd) => poll::take_counter(fd).ctx("read", "eventfd"),
            Source::Inotify(inotify) => Ok(!inotify.take()?.is_empty()),
        }
    }

    /// How many processes of this group were killed; of version 2 also those below. `None` when the group
    /// is removed.
    pub fn kills(&self) -> Result<Option<u64>> {
        let mut buffer = [0; 1024];
        match rustix::io::pread(&self.file, &mut buffer, 0) {
            Ok(len) => Ok(value(&String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()), "oom_kill")),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(error) => Err(Error::new("read", "oom_kill", error)),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Eventfd(fd) => fd.as_fd(),
            Source::Inotify(inotify) => inotify.as_fd(),
        }
    }
}
