//! Control groups, version 1, 2 and both at once (cgroups(7)).
//!
//! [`Layout`] is what hierarchies there are; a [`Cgroup`] is one group in each of them. Every operation is
//! for all of its hierarchies, and works the same whatever the version, until a file is named.
//!
//! A cgroup file is opened within the group's directory, whose file system is checked: a directory that
//! somebody else put in its place is refused.

mod events;
mod file;
mod freeze;
mod group;
mod kill;
mod layout;
mod oom;
mod stats;

pub use events::Events;
pub use group::{Cgroup, Place};
pub use layout::{Hierarchy, Layout, Mode, Version};
pub use oom::OomWatch;
pub(crate) use stats::read_texts;
pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Pressure, PressureLine, Stats};

#[cfg(test)]
mod tests;
