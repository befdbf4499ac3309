//! Taking a container apart: its processes, what the runtime keeps, its cgroups, its name, its directory.
//!
//! Driven by the record and by what is there, so that it can be repeated, by another process too. It does
//! not stop at the first error: what can be removed is removed.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sys::Ctx as _;
use sys::pidfd::PidFd;

use crate::cgroups::Group;
use crate::dir::{Dir, Root};
use crate::driver::{Driver, says_gone};
use crate::record::Record;
use crate::{Error, Result, point};

/// How long processes that were killed may take to be gone.
const DEATH: Duration = Duration::from_secs(30);
/// How long a monitor whose container has ended may take to write that down and end.
const MONITOR_END: Duration = Duration::from_secs(10);
/// Pauses between tries of the runtime's delete.
const PAUSES_MS: [u64; 5] = [0, 20, 100, 300, 1000];

/// What is taken apart, which decides the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A create that failed: the monitor goes first, or it would go on with it.
    Create,
    /// A container: its monitor may end by itself and write down the exit.
    Container,
}

/// Ends all processes of the container, lets the runtime forget it, removes its cgroups. Errors are what
/// is still there.
pub(crate) fn destroy(dir: &Dir, record: &Record, driver: &Driver, what: What) -> Vec<Error> {
    let mut errors = Vec::new();
    if what == What::Create {
        note(&mut errors, kill_monitor(dir, record, what));
        note(&mut errors, point("undo.monitor-killed"));
    }
    let deleted = delete_in_runtime(dir, driver);
    note(&mut errors, point("delete.runtime-deleted"));
    let group = record.own_group();
    let mut alive = false;
    if let Some(group) = &group {
        alive |= !group.kill(DEATH);
    }
    match record.hold_init() {
        Ok(Some(init)) => alive |= !ended(&init),
        Ok(None) => {}
        Err(error) => errors.push(error),
    }
    if alive {
        errors.push(Error::Timeout { op: "kill processes of", object: dir.id().to_string(), after: DEATH });
    }
    match deleted {
        // A runtime that can't be run, or that never knew the container, is no reason to keep what is dead.
        Err(error) if !alive => tracing::warn!(container = %dir.id(), %error, "runtime's delete failed"),
        Err(error) => errors.push(error),
        Ok(()) => {}
    }
    if what == What::Container {
        note(&mut errors, kill_monitor(dir, record, what));
    }
    if let Some(group) = group.filter(|_| !alive) {
        if record.handler.systemd {
            crate::systemd::forget_scope(&group);
        }
        note(&mut errors, group.remove());
    }
    note(&mut errors, point("delete.cgroup-removed"));
    errors
}

fn note(errors: &mut Vec<Error>, result: Result<()>) {
    if let Err(error) = result {
        errors.push(error);
    }
}

/// Kills what is still alive; true once it is gone.
fn ended(process: &PidFd) -> bool {
    // One that is reaped can't be signalled, and is gone.
    let _ = process.signal(9);
    process.wait(Some(DEATH)).unwrap_or(false)
}

fn delete_in_runtime(dir: &Dir, driver: &Driver) -> Result<()> {
    let mut result = Ok(());
    for pause in PAUSES_MS {
        std::thread::sleep(Duration::from_millis(pause));
        result = match driver.run("delete", ["delete", "--force", dir.id().as_str()], &[]) {
            Ok(_) => return Ok(()),
            Err(Error::Runtime { message, .. }) if says_gone(&message) => return Ok(()),
            Err(error @ Error::Timeout { .. }) => return Err(error),
            Err(Error::Sys(error)) if error.is_gone() => return Err(error.into()),
            Err(error) => Err(error),
        };
    }
    result
}

/// Ends the monitor and all that it runs, and removes its cgroup.
fn kill_monitor(dir: &Dir, record: &Record, what: What) -> Result<()> {
    let monitor = record.hold_monitor()?;
    if what == What::Container
        && let Some(monitor) = &monitor
    {
        monitor.wait(Some(MONITOR_END))?;
    }
    let group = record.monitor.cgroup.as_deref().and_then(Group::at);
    let mut gone = group.as_ref().is_none_or(|group| group.kill(DEATH));
    if let Some(monitor) = &monitor {
        gone &= ended(monitor);
    }
    if what == What::Create {
        for process in strays(dir.path()) {
            gone &= ended(&process);
        }
    }
    if !gone {
        return Err(Error::Timeout { op: "kill monitor of", object: dir.id().to_string(), after: DEATH });
    }
    let Some(group) = group else { return Ok(()) };
    if record.handler.systemd {
        crate::systemd::forget_scope(&group);
    }
    group.remove()
}

/// Processes that were started on this bundle: a monitor that its maker did not live to put into a cgroup,
/// a runtime that a monitor did.
pub(crate) fn strays(bundle: &Path) -> Vec<PidFd> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let pids = sys::proc::pids().unwrap_or_default();
    let held = |pid: i32| {
        let process = PidFd::open(pid).ok()?;
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // Read after the open: they are the arguments of the process that is held, unless it is dead.
        works_on(&arguments, bundle).then_some(process)
    };
    pids.into_iter().filter(|pid| *pid != own).filter_map(held).collect()
}

fn works_on(arguments: &[u8], bundle: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let bundle = bundle.as_os_str().as_bytes();
    let list: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    list.windows(2).any(|pair| {
        let flag = pair[0] == b"-b" || pair[0] == b"--bundle";
        flag && (pair[1] == bundle || pair[1].strip_prefix(bundle).is_some_and(|rest| rest.starts_with(b"/")))
    })
}

/// Gives the name back, if it is this container's.
pub(crate) fn release_name(root: &Root, record: &Record) -> Result<()> {
    let Some(name) = &record.name else { return Ok(()) };
    let _lock = root.lock()?;
    if root.named(name)?.as_ref() == Some(&record.id) {
        sys::durable::remove(root.names().join(name.as_str()))?;
    }
    Ok(())
}

/// Removes the container's directory: first from sight, then its content.
pub(crate) fn remove_dir(root: &Root, dir: &Dir) -> Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let gone = root.path().join(format!(".gone-{}-{number}-{}", std::process::id(), dir.id()));
    match std::fs::rename(dir.path(), &gone).ctx("rename", dir.path()) {
        Err(error) if error.is_gone() => return Ok(()),
        result => result?,
    }
    point("delete.dir-renamed")?;
    remove_tree(&gone)
}

/// Removes a tree, tried again as long as something is still being written in it.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let mut last = Ok(());
    for pause in PAUSES_MS {
        std::thread::sleep(Duration::from_millis(pause));
        last = sys::durable::remove_tree(path);
        if last.is_ok() {
            break;
        }
    }
    Ok(last?)
}

/// Undoes a create that was not finished, all of it; when something resists, the directory stays as what
/// is still to be undone.
pub(crate) fn undo_create(root: &Root, dir: &Dir, record: &Record, driver: &Driver) -> Vec<Error> {
    let mut errors = destroy(dir, record, driver, What::Create);
    if record.log_made
        && let Some(log) = &record.log
    {
        note(&mut errors, sys::durable::remove(log).map_err(Into::into));
    }
    note(&mut errors, release_name(root, record));
    if errors.is_empty() {
        note(&mut errors, remove_dir(root, dir));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_arguments_mean_the_bundle() {
        let bundle = Path::new("/run/w/x");
        for (arguments, expected) in [
            ("conmon\0-b\0/run/w/x\0-c\0x", true),
            ("runc\0create\0--bundle\0/run/w/x\0x\0", true),
            ("conmon\0-b\0/run/w/x/execs/1\0", true),
            ("conmon\0-b\0/run/w/xy\0", false),
            ("ls\0/run/w/x\0", false),
            ("", false),
        ] {
            assert_eq!(works_on(arguments.as_bytes(), bundle), expected, "{arguments:?}");
        }
    }
}
