//! The one place for system calls: pidfds, durable files, mounts, sockets, children.
//!
//! Everything here is synchronous and safe to call; `unsafe` stays inside. File descriptors are
//! [`std::os::fd::OwnedFd`] and close-on-exec from birth. Process ids are plain `i32`, and a process that
//! must be the same one later is held by a [`pidfd::PidFd`].

pub mod bpf;
pub mod durable;
pub mod error;
pub mod fail;
pub mod fifo;
#[doc(hidden)]
pub mod harness;
pub mod inotify;
pub mod lock;
pub mod memfd;
pub mod mount;
pub mod mount_attr;
pub mod ns;
pub mod open;
pub mod pages;
pub mod pidfd;
pub mod poll;
pub mod proc;
pub mod process;
pub mod scan;
pub mod seccomp;
pub mod socket;
pub mod solo;
pub mod spawn;
pub mod tty;
pub mod zone;

pub use error::{Ctx, Error, Result};
