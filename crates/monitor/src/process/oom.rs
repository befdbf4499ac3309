//! Whom the kernel killed for want of memory (contract §6).
//!
//! cgroup v1: an eventfd on memory.oom_control. v2: inotify on memory.events. Both are read once more after the
//! container's end. No failure here ends anything: without a watch there is merely no oom file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{Exit, Oom};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Between the counting of a kill and the death lies less.
const MOMENT: Duration = Duration::from_millis(100);

#[derive(Debug)]
enum Source {
    V1 { event: OwnedFd, control: PathBuf, events: u64 },
    V2 { inotify: OwnedFd },
}

/// A watch over one cgroup's memory.
#[derive(Debug)]
pub struct Watch {
    source: Source,
    counters: File,
    /// Kills that were counted well before the end: it was not the process that we stand beside.
    others: u64,
    /// Kills that were counted when it was last seen alive, and when that was.
    alive: (u64, Instant),
    /// Kills that were counted at all.
    kills: u64,
    /// When to look although nothing happens: after the event comes the kill.
    again_at: Option<Instant>,
}

/// What the counters said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Somebody was killed since the last look.
    pub new: bool,
}

impl Watch {
    /// Watches the memory of the cgroup that process `pid` is in.
    ///
    /// # Errors
    /// It is in none with a memory controller, or a file can't be opened.
    pub fn of(pid: i32) -> io::Result<Self> {
        let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let root = Path::new(CGROUP_ROOT);
        let unified = is_unified(root)?;
        let path = cgroup_path(&membership, unified, "memory")
            .ok_or_else(|| io::Error::other("no memory controller in /proc/PID/cgroup"))?;
        let (dir, name) = if unified {
            (root.join(path), "memory.events")
        } else {
            (root.join("memory").join(path), "memory.oom_control")
        };
        let counters = File::open(dir.join(name))?;
        let source = if unified {
            let inotify = rustix::fs::inotify::init(
                rustix::fs::inotify::CreateFlags::CLOEXEC | rustix::fs::inotify::CreateFlags::NONBLOCK,
            )?;
            rustix::fs::inotify::add_watch(
                &inotify,
                dir.join(name),
                rustix::fs::inotify::WatchFlags::MODIFY,
            )?;
            Source::V2 { inotify }
        } else {
            let event = rustix::event::eventfd(
                0,
                rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
            )?;
            let control = dir.join("cgroup.event_control");
            let line = format!("{} {}", event.as_raw_fd(), counters.as_raw_fd());
            File::options().write(true).open(&control)?.write_all(line.as_bytes())?;
            Source::V1 { event, control, events: 0 }
        };
        let mut watch =
            Self { source, counters, others: 0, alive: (0, Instant::now()), kills: 0, again_at: None };
        watch.kills = watch.count().unwrap_or(0);
        watch.others = watch.kills;
        watch.alive.0 = watch.kills;
        Ok(watch)
    }

    /// Looks again, after the descriptor became ready or the process ended. `alive` tells whether the process `pid` is still
    /// there and not about to die of a SIGKILL.
    pub fn look(&mut self, alive: bool) -> Seen {
        let events = self.take_events();
        self.again_at = (events > 0).then(|| Instant::now() + 2 * MOMENT);
        let counted = self.count();
        let mut new = counted.is_some_and(|kills| kills > self.kills);
        if let Some(kills) = counted {
            self.kills = self.kills.max(kills);
        }
        // systemd removes a scope's cgroup as soon as it is empty: what was not read by then, the event has to tell.
        if matches!(self.source, Source::V2 { .. }) && events > 0 && counted.is_none() {
            self.kills += 1;
            new = true;
        }
        if let Source::V1 { control, events: total, .. } = &mut self.source {
            *total += events;
            // One event comes by itself when the cgroup is removed.
            let removal = *total == 1 && !control.exists();
            // The event comes before the kill is counted; a child cgroup's kills, and those of old kernels, are not counted.
            if events > 0 && !removal && !new {
                self.kills += u64::from(counted.is_none());
                new = true;
            }
        }
        if alive {
            self.settle();
            self.alive = (self.kills, Instant::now());
        }
        Seen { new }
    }

    /// When to look again although the descriptor is not ready.
    #[must_use]
    pub fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// A kill is counted a moment before it is done: who was seen alive just then may be the one.
    fn settle(&mut self) {
        if self.alive.1.elapsed() > MOMENT {
            self.others = self.alive.0;
        }
    }

    /// Whom it was, once the process has ended as `exit` tells and [`look`](Self::look) was called for the last time.
    #[must_use]
    pub fn verdict(&mut self, exit: Exit, seen: bool) -> Oom {
        self.settle();
        let init = self.kills > self.others && exit == Exit::Signal(9);
        match (seen, init) {
            (false, _) => Oom::None,
            (true, true) => Oom::Init,
            (true, false) => Oom::Child,
        }
    }

    // Not inlined: its buffer would stay on the stack below the loop for good.
    #[inline(never)]
    fn take_events(&mut self) -> u64 {
        match &self.source {
            Source::V1 { event, .. } => {
                let mut count = [0u8; 8];
                match rustix::io::read(event, &mut count) {
                    Ok(8) => u64::from_ne_bytes(count),
                    _ => 0,
                }
            }
            Source::V2 { inotify } => {
                let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
                let mut reader = rustix::fs::inotify::Reader::new(inotify, &mut buffer);
                let mut events = 0;
                // Others tell that the file is gone.
                while let Ok(event) = reader.next() {
                    events += u64::from(event.events().contains(rustix::fs::inotify::ReadFlags::MODIFY));
                }
                events
            }
        }
    }

    fn count(&mut self) -> Option<u64> {
        let mut text = String::new();
        self.counters.rewind().ok()?;
        self.counters.read_to_string(&mut text).ok()?;
        kills(&text)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1 { event, .. } => event.as_fd(),
            Source::V2 { inotify } => inotify.as_fd(),
        }
    }
}

/// Whether version 2 alone is mounted (cgroups(7)); the hybrid layout is version 1 to us.
pub(super) fn is_unified(root: &Path) -> io::Result<bool> {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    Ok(rustix::fs::statfs(root)?.f_type == CGROUP2_SUPER_MAGIC)
}

/// The path of a process's cgroup below the root of the unified hierarchy, or of that of `controller`,
/// without a leading slash: from /proc/PID/cgroup (cgroups(7)).
pub(super) fn cgroup_path<'a>(membership: &'a str, unified: bool, controller: &str) -> Option<&'a str> {
    membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = if unified {
            number == "0" && controllers.is_empty()
        } else {
            controllers.split(',').any(|name| name == controller)
        };
        ours.then(|| path.trim_start_matches('/'))
    })
}

/// What memory.events or memory.oom_control counts as kills: `oom_kill`, or `oom` where a whole group was refused.
fn kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|n| n.trim().parse().ok())
}

/// Whether `pid` runs on: it is no zombie, and no SIGKILL waits for it.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:").is_none_or(|state| state.starts_with(['Z', 'X'])) {
        return false;
    }
    let killed = |name| {
        let mask = field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        mask.is_none_or(|mask| mask & (1 << 8) != 0)
    };
    !killed("SigPnd:") && !killed("ShdPnd:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_memory_cgroups() {
        let hybrid = "12:pids:/p\n4:memory:/wharfinger/c1\n1:name=systemd:/x\n0::/unified\n";
        let cases = [
            (hybrid, false, Some("wharfinger/c1")),
            (hybrid, true, Some("unified")),
            ("3:cpu,memory:/a:b\n", false, Some("a:b")),
            ("0::/only\n", false, None),
            ("3:memory\n", false, None),
            ("", true, None),
        ];
        for (membership, unified, path) in cases {
            assert_eq!(cgroup_path(membership, unified, "memory"), path);
        }
    }

    #[test]
    fn counters() {
        assert_eq!(kills("low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), Some(1));
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn we_are_alive() {
        assert!(is_alive(std::process::id().try_into().unwrap()));
        assert!(!is_alive(i32::MAX));
    }
}
