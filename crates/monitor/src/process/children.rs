//! Who of our children has ended, and how; statuses that come early are kept.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use sys::pidfd::PidFd;
use sys::solo::{self, Reaped};

/// Endings are kept only while somebody may ask for a pid that is not known yet.
#[derive(Debug, Default)]
pub(super) struct Children {
    awaited: Vec<i32>,
    ended: BTreeMap<i32, Reaped>,
    keep_all: u32,
}

impl Children {
    /// Waits for all that have ended.
    pub(super) fn reap(&mut self) {
        while let Ok(Some(reaped)) = solo::reap_any() {
            if self.keep_all > 0 || self.awaited.contains(&reaped.pid) {
                self.ended.insert(reaped.pid, reaped);
            }
        }
    }

    /// From now on the endings of all are kept: a runtime is about to beget a child whose pid we shall learn later.
    pub(super) fn keep_all(&mut self) {
        self.keep_all += 1;
    }

    /// No longer on behalf of one caller of [`keep_all`](Self::keep_all).
    pub(super) fn keep_awaited(&mut self) {
        self.keep_all = self.keep_all.saturating_sub(1);
        if self.keep_all == 0 {
            self.ended.retain(|pid, _| self.awaited.contains(pid));
        }
    }

    /// The ending of `pid` will be asked for.
    pub(super) fn await_pid(&mut self, pid: i32) {
        self.awaited.push(pid);
    }

    /// How `pid` ended, if it has: told once.
    pub(super) fn take(&mut self, pid: i32) -> Option<Reaped> {
        let reaped = self.ended.remove(&pid)?;
        self.awaited.retain(|&awaited| awaited != pid);
        Some(reaped)
    }

    /// Whether `pid` has ended and was not asked for yet.
    pub(super) fn has_ended(&self, pid: i32) -> bool {
        self.ended.contains_key(&pid)
    }
}

/// The process that we stand beside, when it is not our child (some systemd scopes): only its end can be seen.
#[derive(Debug)]
pub(super) struct Stranger(PidFd);

impl Stranger {
    /// `pid`, if it is there and no child of ours.
    pub(super) fn meet(pid: i32) -> Option<Result<Self, sys::Error>> {
        let id = rustix::process::Pid::from_raw(pid)?;
        let options = rustix::process::WaitIdOptions::EXITED
            | rustix::process::WaitIdOptions::NOHANG
            | rustix::process::WaitIdOptions::NOWAIT;
        match rustix::process::waitid(rustix::process::WaitId::Pid(id), options) {
            Err(rustix::io::Errno::CHILD) => Some(PidFd::open(pid).map(Self)),
            _ => None,
        }
    }

    /// Whether it is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.0.is_dead().unwrap_or(false)
    }
}

impl AsFd for Stranger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
