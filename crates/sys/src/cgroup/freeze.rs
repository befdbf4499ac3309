//! Stopping all processes of a group, and letting them go on.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;

use super::events::flag;
use super::{Cgroup, Place, Version, file};
use crate::{Ctx as _, Error, Result};

/// How long [`Cgroup::freeze`] tries.
const FREEZE_WITHIN: Duration = Duration::from_secs(10);
/// After so many looks at `FREEZING` it is begun again: a process that forks can hold it up for ever.
const BEGIN_AGAIN: u32 = 25;
const MIN_PAUSE: Duration = Duration::from_micros(100);
const MAX_PAUSE: Duration = Duration::from_millis(4);

impl Cgroup {
    /// Stops all processes of the group and below it; returns when they are stopped. By the freezer of
    /// version 1 where the group has one, as runc does, else by version 2.
    ///
    /// # Errors
    /// If they did not stop within ten seconds: then they go on again. Also if this process is one of them.
    pub fn freeze(&self) -> Result<()> {
        self.freeze_within(FREEZE_WITHIN)
    }

    /// The same with another time.
    pub fn freeze_within(&self, timeout: Duration) -> Result<()> {
        let end = Instant::now() + timeout;
        let apart = self.apart("freeze")?;
        let place = apart.freezer().ok_or_else(|| self.nowhere("freeze"))?;
        let result = match place.version {
            Version::V1 => freeze_v1(place, end),
            Version::V2 => set_v2(place, true, end),
        };
        if result.is_err() {
            // The first error is the one to tell.
            let _ = self.thaw();
        }
        result
    }

    /// Lets the processes go on. A group that is not frozen, or gone, is fine.
    pub fn thaw(&self) -> Result<()> {
        let Some(place) = self.freezer() else { return Ok(()) };
        let result = match place.version {
            Version::V1 => file::write(place, "freezer.state", "THAWED"),
            Version::V2 => set_v2(place, false, Instant::now() + FREEZE_WITHIN),
        };
        match result {
            Err(error) if error.is_gone() => Ok(()),
            result => result,
        }
    }

    /// Whether all processes are stopped, by this group or one above it.
    pub fn is_frozen(&self) -> Result<bool> {
        let Some(place) = self.freezer() else { return Ok(false) };
        match place.version {
            Version::V1 => Ok(file::read(place, "freezer.state")?.trim() == "FROZEN"),
            Version::V2 => Ok(flag(&file::read(place, "cgroup.events")?, "frozen")),
        }
    }

    /// Where it is frozen, if it exists there.
    pub(super) fn freezer(&self) -> Option<&Place> {
        self.place("freezer").filter(|place| !place.is_root() && place.exists()).or_else(|| self.v2_own())
    }
}

fn freeze_v1(place: &Place, end: Instant) -> Result<()> {
    let mut looks = 0;
    let mut pause = MIN_PAUSE;
    loop {
        file::write(place, "freezer.state", "FROZEN")?;
        if file::read(place, "freezer.state")?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(Error::other("freeze cgroup", &place.dir, "its processes do not stop"));
        }
        looks += 1;
        if looks % BEGIN_AGAIN == 0 {
            file::write(place, "freezer.state", "THAWED")?;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Sets `cgroup.freeze` and waits until `cgroup.events` says the same.
fn set_v2(place: &Place, frozen: bool, end: Instant) -> Result<()> {
    let events = file::open(place, "cgroup.events", OFlags::RDONLY)?;
    file::write(place, "cgroup.freeze", if frozen { "1" } else { "0" })?;
    loop {
        let mut buffer = [0; 256];
        let len = rustix::io::pread(&events, &mut buffer, 0).ctx("read", place.dir.join("cgroup.events"))?;
        let text = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
        // A group that stays frozen by one above it is thawed as far as it can be.
        if flag(&text, "frozen") == frozen || !frozen {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::other("freeze cgroup", &place.dir, "its processes do not stop"));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&events, PollFlags::PRI)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::new("poll", place.dir.join("cgroup.events"), error)),
        }
    }
}
