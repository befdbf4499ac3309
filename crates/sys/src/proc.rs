//! What /proc tells (proc(5)), and the clocks.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::durable::read_bounded;
use crate::{Ctx as _, Error, Result};

mod mountinfo;

pub use mountinfo::{Mount, mounts, mounts_of, parse_mountinfo};

/// More than any file of /proc that is read whole here has; mountinfo of a full node comes nearest.
const MAX_BYTES: u64 = 16 << 20;

/// What `/proc/PID/stat` says of a process; times are in clock ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its pid.
    pub pid: i32,
    /// Its name, of at most 15 bytes, with whatever it put there.
    pub comm: String,
    /// `R`, `S`, `D`, `T`, `t`, `Z` or `X`.
    pub state: char,
    /// Its parent, 0 if outside our pid namespace.
    pub ppid: i32,
    /// Its process group.
    pub pgrp: i32,
    /// Its session.
    pub session: i32,
    /// Time in user mode.
    pub utime: u64,
    /// Time in the kernel.
    pub stime: u64,
    /// How many threads it has.
    pub num_threads: u64,
    /// When it started, since boot: with the pid this names a process for ever (until the next boot).
    pub start_time: u64,
    /// The wait(2) status of a zombie, for who may ptrace it.
    pub exit_code: i32,
}

/// Reads `/proc/PID/stat`.
///
/// # Errors
/// [`Error::is_gone`] if there is no such process.
pub fn stat(pid: i32) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = read(&path)?;
    parse_stat(&text).ok_or_else(|| Error::other("parse", &path, "not in the form of proc_pid_stat(5)"))
}

/// Reads the text of a `stat` file. The name may hold spaces, parentheses and newlines.
#[must_use]
pub fn parse_stat(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    // Field 3 of proc_pid_stat(5) is the first here.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        pid: pid.parse().ok()?,
        comm: comm.to_owned(),
        state: field(3)?.chars().next()?,
        ppid: field(4)?.parse().ok()?,
        pgrp: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        utime: field(14)?.parse().ok()?,
        stime: field(15)?.parse().ok()?,
        num_threads: field(20)?.parse().ok()?,
        start_time: field(22)?.parse().ok()?,
        exit_code: field(52)?.parse().ok()?,
    })
}

/// When the process started, in clock ticks since boot.
///
/// # Errors
/// [`Error::is_gone`] if there is no such process.
pub fn start_time(pid: i32) -> Result<u64> {
    Ok(stat(pid)?.start_time)
}

/// The children of a process, of all its threads; none if it is gone.
pub fn children(pid: i32) -> Result<Vec<i32>> {
    let mut children = Vec::new();
    let tasks = match std::fs::read_dir(format!("/proc/{pid}/task")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(children),
        tasks => tasks.ctx_with("read", || format!("/proc/{pid}/task"))?,
    };
    for task in tasks {
        let Ok(task) = task else { continue };
        match read(task.path().join("children")) {
            Ok(text) => {
                children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
            // The thread is gone, or the kernel has no CONFIG_PROC_CHILDREN.
            Err(error) if error.is_gone() && task.path().exists() => return children_by_scan(pid),
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

fn children_by_scan(parent: i32) -> Result<Vec<i32>> {
    Ok(pids()?.into_iter().filter(|pid| stat(*pid).is_ok_and(|stat| stat.ppid == parent)).collect())
}

/// All processes of our pid namespace.
pub fn pids() -> Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc").ctx("read", "/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// One line of `/proc/PID/cgroup` (cgroups(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupLine {
    /// The hierarchy's number, 0 for v2.
    pub hierarchy: u32,
    /// The controllers bound to it, `name=systemd` for a named one; empty for v2.
    pub controllers: Vec<String>,
    /// The path within the hierarchy, from the cgroup namespace's root.
    pub path: String,
}

/// Reads `/proc/PID/cgroup`.
///
/// # Errors
/// [`Error::is_gone`] if there is no such process.
pub fn cgroups(pid: i32) -> Result<Vec<CgroupLine>> {
    Ok(parse_cgroups(&read(format!("/proc/{pid}/cgroup"))?))
}

/// Reads the text of a `cgroup` file; lines of another form are left out.
#[must_use]
pub fn parse_cgroups(text: &str) -> Vec<CgroupLine> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let hierarchy = parts.next()?.parse().ok()?;
        let controllers = parts.next()?;
        let path = parts.next()?;
        let path = path.strip_suffix(" (deleted)").unwrap_or(path).to_owned();
        let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Some(CgroupLine { hierarchy, controllers, path })
    };
    text.lines().filter_map(line).collect()
}

/// All processes that are in the cgroup `path`, or below it, in any hierarchy.
pub fn pids_in_cgroup(path: &str) -> Result<Vec<i32>> {
    let path = path.trim_end_matches('/');
    let within = |line: &CgroupLine| {
        line.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // A process that ends meanwhile is in no cgroup.
    Ok(pids()?.into_iter().filter(|pid| cgroups(*pid).is_ok_and(|lines| lines.iter().any(within))).collect())
}

/// The id of this boot: pids and start times mean nothing after another.
pub fn boot_id() -> Result<String> {
    Ok(read("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The time of day, in nanoseconds since 1970 (`CLOCK_REALTIME`).
#[must_use]
pub fn now_ns() -> i64 {
    nanoseconds(rustix::time::ClockId::Realtime)
}

/// The time since boot, sleep included, in nanoseconds (`CLOCK_BOOTTIME`).
#[must_use]
pub fn boottime_ns() -> i64 {
    nanoseconds(rustix::time::ClockId::Boottime)
}

/// The time since some moment, in nanoseconds (`CLOCK_MONOTONIC`): for durations.
#[must_use]
pub fn monotonic_ns() -> i64 {
    nanoseconds(rustix::time::ClockId::Monotonic)
}

fn nanoseconds(clock: rustix::time::ClockId) -> i64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// The open descriptors of this process and what they are, in order: for leak tests.
pub fn open_fds() -> Result<Vec<(RawFd, PathBuf)>> {
    let entries = std::fs::read_dir("/proc/self/fd").ctx("read", "/proc/self/fd")?;
    // The one that reads the directory is gone, or another file's, when its link is read.
    let link = |fd: RawFd| Some((fd, std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?));
    let numbers: Vec<RawFd> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let mut fds: Vec<(RawFd, PathBuf)> = numbers.into_iter().filter_map(link).collect();
    fds.sort_unstable();
    Ok(fds)
}

/// Reads a file of /proc as text; what is not UTF-8 is replaced.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<String> {
    Ok(String::from_utf8_lossy(&read_bounded(path, MAX_BYTES)?).into_owned())
}

#[cfg(test)]
mod tests;
