//! `events`: what a container uses, once or again and again, and that it ran out of memory.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use serde_json::json;
use sys::Ctx as _;
use sys::inotify::{Inotify, WatchFlags};
use sys::pidfd::PidFd;

use crate::cgroup::Cgroup;
use crate::cli::{container_id, one_line_usage as usage, print, switch, text_of};
use crate::create::Context;
use crate::error::{Error, Result};
use crate::lifecycle::with_cgroup;
use crate::record::Dir;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    id: String,
    once: bool,
    interval: Duration,
}

/// Reads the command line.
pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Options> {
    let (mut id, mut once, mut interval) = (None, false, Duration::from_secs(5));
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Long("stats") => once = switch(parser)?,
            Long("interval") => interval = duration(&text_of(parser)?)?,
            Value(value) if id.is_none() => id = Some(container_id(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("events of container: no container id was given".to_owned()))?;
    Ok(Options { id, once, interval })
}

/// Runs the command.
pub(crate) fn run(context: &Context, options: Options) -> Result<()> {
    let Options { id, once, interval } = options;
    let dir = Dir::of(&context.root, &id)?;
    let record = dir.read()?;
    let Some(init) = record.init()? else {
        return Err(Error::State { op: "read events of", id, cause: "container is not running".to_owned() });
    };
    let cgroup = with_cgroup(&record, "read events of")?;
    if once {
        return show(&id, cgroup);
    }
    let mut memory = Memory::watch(cgroup)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let ended = wait(&init, &memory, left)?;
        if memory.ran_out()? {
            print(&format!("{}\n", json!({"type": "oom", "id": id})))?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            show(&id, cgroup)?;
            next = Instant::now() + interval;
        }
    }
}

/// Until the container has ended (which it gives), memory may have run out, or `limit` is over.
fn wait(init: &PidFd, memory: &Memory<'_>, limit: Duration) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let watched = [init.as_fd(), memory.as_fd()];
    let mut fds = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    // A limit that is too long for the kernel is none.
    let limit = Timespec::try_from(limit).ok();
    match poll(&mut fds, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!fds[0].revents().is_empty()),
        Err(error) => Err(sys::Error::new("wait for", "events", error).into()),
    }
}

/// Whoever tells that a cgroup ran out of memory.
enum Memory<'a> {
    /// Version 2: `memory.events` changes, with what it counted last.
    Changes(Inotify, &'a Cgroup, u64),
    /// Version 1: an eventfd, which counts when the cgroup is removed too; with its directory.
    Counter(OwnedFd, Option<PathBuf>),
}

impl<'a> Memory<'a> {
    fn watch(cgroup: &'a Cgroup) -> Result<Self> {
        let directory = cgroup.directory("memory");
        if cgroup.unified {
            let inotify = Inotify::new()?;
            let file = directory.map(|dir| dir.join("memory.events")).filter(|file| file.exists());
            if let Some(file) = file {
                inotify.add(file, WatchFlags::MODIFY)?;
            }
            return Ok(Self::Changes(inotify, cgroup, oom_kills(cgroup)));
        }
        let counter = sys::poll::eventfd()?;
        if let Some(directory) = directory {
            // Kept open by the kernel, not by us (cgroup-v1/memory.rst, "OOM Control").
            let path = directory.join("memory.oom_control");
            let control = std::fs::File::open(&path).ctx("open", path)?;
            let text = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
            let path = directory.join("cgroup.event_control");
            match std::fs::write(&path, text) {
                // Who may not, and a real-time kernel, hear of usage only.
                Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => {}
                result => result.ctx("write", path)?,
            }
        }
        Ok(Self::Counter(counter, directory.map(PathBuf::from)))
    }

    /// Whether it ran out since the last time.
    fn ran_out(&mut self) -> Result<bool> {
        match self {
            Self::Changes(inotify, cgroup, before) => {
                inotify.take()?;
                let now = oom_kills(cgroup);
                Ok(now > std::mem::replace(before, now))
            }
            Self::Counter(counter, directory) => {
                let counted = sys::poll::take_counter(&*counter).ctx("read", "eventfd")?;
                Ok(counted && directory.as_ref().is_some_and(|path| path.exists()))
            }
        }
    }
}

impl AsFd for Memory<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Changes(inotify, ..) => inotify.as_fd(),
            Self::Counter(counter, _) => counter.as_fd(),
        }
    }
}

fn show(id: &str, cgroup: &Cgroup) -> Result<()> {
    let stats = serde_json::to_value(cgroup.stats()).map_err(std::io::Error::from).ctx("write", "stats")?;
    print(&format!("{}\n", json!({"type": "stats", "id": id, "data": stats})))
}

/// How often the kernel has killed in this cgroup (v2) for want of memory.
fn oom_kills(cgroup: &Cgroup) -> u64 {
    let path = cgroup.directory("memory").map(|dir| dir.join("memory.events"));
    let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// A duration as Go writes it: `5s`, `100ms`, `1m`.
fn duration(text: &str) -> Result<Duration> {
    let bad = || Error::Usage(format!("parse command line: --interval {text:?} is no duration above 0"));
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: u64 = text[..split].parse().map_err(|_| bad())?;
    let millis = match &text[split..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    match number.checked_mul(millis) {
        Some(millis @ 1..) => Ok(Duration::from_millis(millis)),
        _ => Err(bad()),
    }
}
