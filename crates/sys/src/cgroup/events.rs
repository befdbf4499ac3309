//! What changes in a group, by `cgroup.events` of version 2.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use super::{Cgroup, Place, file};
use crate::Result;

/// A group's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events {
    /// There are processes in it or below it.
    pub populated: bool,
    /// It is frozen, with all processes stopped.
    pub frozen: bool,
}

impl Cgroup {
    /// The group's state: from `cgroup.events` in version 2, asked for otherwise.
    pub fn events(&self) -> Result<Events> {
        match self.v2_own() {
            Some(place) if self.own().count() == 1 => {
                let text = file::read(place, "cgroup.events")?;
                Ok(Events { populated: flag(&text, "populated"), frozen: flag(&text, "frozen") })
            }
            _ => Ok(Events { populated: !self.pids()?.is_empty(), frozen: self.is_frozen()? }),
        }
    }

    /// `cgroup.events` of version 2, if the group is there: readable with `POLLPRI` after a change (and
    /// always with `POLLIN`). Read it to its end before waiting again.
    pub fn events_fd(&self) -> Result<Option<OwnedFd>> {
        self.v2_own().map(|place| file::open(place, "cgroup.events", OFlags::RDONLY)).transpose()
    }

    /// The group in version 2, if it exists and is not the root.
    pub(super) fn v2_own(&self) -> Option<&Place> {
        self.v2().filter(|place| !place.is_root() && place.exists())
    }
}

/// Whether a file of `name value` lines has a 1 there.
pub(super) fn flag(text: &str, name: &str) -> bool {
    value(text, name) == Some(1)
}

/// The number at `name` in a file of `name value` lines.
pub(super) fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
