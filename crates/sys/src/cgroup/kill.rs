//! Ending all processes of a group.

use std::time::{Duration, Instant};

use super::group::tree;
use super::{Cgroup, Place, Version, file};
use crate::pidfd::PidFd;
use crate::{Error, Result};

/// How long [`Cgroup::kill`] tries.
const KILL_WITHIN: Duration = Duration::from_secs(10);
/// How long processes that fork may hold up a freeze before they are killed as they are.
const FREEZE_WITHIN: Duration = Duration::from_millis(200);
/// How long one round waits for what it killed.
const ROUND: Duration = Duration::from_millis(500);

impl Cgroup {
    /// Kills all processes in the group and below it, in whatever hierarchy, frozen ones too, and returns
    /// when there are none (zombies may be left for their parents).
    ///
    /// A hierarchy in which the group also holds the calling process is left out: a container that was put
    /// there only in some hierarchies must not take its caller, and all beside it, along.
    ///
    /// # Errors
    /// If there are still some after ten seconds, or the group holds the calling process everywhere.
    pub fn kill(&self) -> Result<()> {
        self.kill_within(KILL_WITHIN)
    }

    /// The same with another time.
    pub fn kill_within(&self, timeout: Duration) -> Result<()> {
        self.apart("kill")?.kill_until(Instant::now() + timeout)
    }

    fn kill_until(&self, end: Instant) -> Result<()> {
        loop {
            self.kill_v2()?;
            if self.pids()?.is_empty() {
                return Ok(());
            }
            let killed = self.kill_one_by_one()?;
            let round = Instant::now() + ROUND;
            for pidfd in &killed {
                pidfd.wait(Some(round.min(end).saturating_duration_since(Instant::now())))?;
            }
            if Instant::now() >= end {
                let left = self.pids()?;
                return match left.len() {
                    0 => Ok(()),
                    count => {
                        Err(Error::other("kill cgroup", self.name(), format!("{count} processes do not end")))
                    }
                };
            }
            if killed.is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// All at once, forks included (`cgroup.kill`, Linux 5.14), where the group is in version 2.
    fn kill_v2(&self) -> Result<()> {
        let Some(place) = self.v2_own() else { return Ok(()) };
        match file::write(place, "cgroup.kill", "1") {
            // No such file, or the group is a threaded one.
            Err(error) if error.is_gone() || error.errno() == Some(libc::EOPNOTSUPP) => Ok(()),
            result => result,
        }
    }

    /// Freezes the group, so that it can't fork away, signals every process, and thaws it to let them die.
    fn kill_one_by_one(&self) -> Result<Vec<PidFd>> {
        let is_v1 = self.freezer().is_some_and(|place| place.version == Version::V1);
        if is_v1 {
            // If it can't be frozen, the rounds go on until nothing is left.
            let _ = self.freeze_within(FREEZE_WITHIN);
        }
        let signalled = self.signal_all(libc::SIGKILL);
        if is_v1 {
            self.thaw_all()?;
        }
        signalled
    }

    /// Sends a signal to all processes in the group and below it, and returns them. Those that end
    /// meanwhile are left out, and hierarchies as in [`Cgroup::kill`].
    pub fn signal(&self, signal: i32) -> Result<Vec<PidFd>> {
        self.apart("signal")?.signal_all(signal)
    }

    fn signal_all(&self, signal: i32) -> Result<Vec<PidFd>> {
        let mut signalled = Vec::new();
        for pid in self.pids()? {
            let pidfd = match PidFd::open(pid) {
                Err(error) if error.is_gone() => continue,
                pidfd => pidfd?,
            };
            // Only after the open is it sure whom we hold; its pid may have been used again.
            if !self.contains(pid) {
                continue;
            }
            match pidfd.signal(signal) {
                Err(error) if error.is_gone() => {}
                result => {
                    result?;
                    signalled.push(pidfd);
                }
            }
        }
        Ok(signalled)
    }

    /// Whether process `pid` is in the group or below it, in any hierarchy whose root this is not.
    #[must_use]
    pub fn contains(&self, pid: i32) -> bool {
        Self::of_pid(pid).is_ok_and(|of_pid| self.own().any(|place| of_pid.is_within(place)))
    }

    /// Whether this group is that one, or below it.
    fn is_within(&self, place: &Place) -> bool {
        self.places().iter().any(|other| other.mount == place.mount && other.dir.starts_with(&place.dir))
    }

    /// The group without hierarchies in which it holds this process.
    ///
    /// # Errors
    /// If that leaves nothing of it.
    pub(super) fn apart(&self, op: &'static str) -> Result<Self> {
        let this = Self::of_pid(rustix::process::getpid().as_raw_pid())?;
        let apart: Vec<Place> = self.own().filter(|place| !this.is_within(place)).cloned().collect();
        if apart.is_empty() && self.exists() {
            return Err(Error::other(op, format!("cgroup {}", self.name()), "it holds this process"));
        }
        Ok(Self::new(apart))
    }

    /// Thaws the group and every one below it in version 1's freezer.
    fn thaw_all(&self) -> Result<()> {
        self.thaw()?;
        let Some(place) = self.freezer() else { return Ok(()) };
        for dir in tree(&place.dir)? {
            let place = Place { dir, ..place.clone() };
            match file::write(&place, "freezer.state", "THAWED") {
                Err(error) if error.is_gone() => {}
                result => result?,
            }
        }
        Ok(())
    }
}
