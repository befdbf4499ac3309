//! What is done to containers that are there: kill, delete, pause, resume, and the listing of them.

use std::path::Path;

use model::oci::State;
use model::signal::Signal;
use sys::Ctx as _;
use sys::pidfd::PidFd;

use crate::create::Context;
use crate::error::{Error, Result, point};
use crate::hooks;
use crate::namespaces::{Kind, Namespaces};
use crate::record::{Dir, Record, Status};

fn wrong(op: &'static str, id: &str, cause: impl Into<String>) -> Error {
    Error::State { op, id: id.to_owned(), cause: cause.into() }
}

/// Whether SIGKILL reaches all or only init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Init.
    Init,
    /// Every process in the cgroup.
    All,
}

/// Sends `signal`.
///
/// # Errors
/// The container is not running; the system's.
pub fn kill(context: &Context, id: &str, signal: Signal, whom: Whom) -> Result<()> {
    let dir = Dir::of(&context.root, id)?;
    let record = dir.read()?;
    let (status, init) = record.status(&dir)?;
    let number = signal.number();
    point("oci.kill.begin")?;
    if whom == Whom::All
        && let Some(cgroup) = &record.cgroup
    {
        return signal_all(cgroup, signal);
    }
    let Some(init) = init else { return Err(wrong("kill", id, "container not running")) };
    let own_pids = has_own_pids(&dir);
    match (&record.cgroup, number) {
        // Without a pid namespace init's end is not that of the others.
        (Some(cgroup), libc::SIGKILL) if !own_pids => signal_all(cgroup, signal)?,
        _ => {}
    }
    match init.signal(number) {
        Err(error) if error.is_gone() && !own_pids => {}
        Err(error) if error.is_gone() => return Err(wrong("kill", id, "container not running")),
        result => result?,
    }
    // A frozen process of v1 dies when it thaws.
    if number == libc::SIGKILL
        && status == Status::Paused
        && let Some(cgroup) = &record.cgroup
    {
        cgroup.thaw()?;
    }
    Ok(())
}

/// Whether init is there, as signal 0 asks.
///
/// # Errors
/// The container is not running; the system's.
pub fn check_running(context: &Context, id: &str) -> Result<()> {
    let dir = Dir::of(&context.root, id)?;
    match dir.read()?.status(&dir)? {
        (_, Some(_)) => Ok(()),
        (_, None) => Err(wrong("kill", id, "container not running")),
    }
}

fn signal_all(cgroup: &crate::cgroup::Cgroup, signal: Signal) -> Result<()> {
    if let Some(named) = rustix::process::Signal::from_named_raw(signal.number()) {
        return cgroup.signal(named);
    }
    for pid in cgroup.pids()? {
        match PidFd::open(pid).and_then(|process| process.signal(signal.number())) {
            Err(error) if error.is_gone() => {}
            result => result?,
        }
    }
    Ok(())
}

fn has_own_pids(dir: &Dir) -> bool {
    let config = dir.config().ok();
    let linux = config.and_then(|config| config.linux).unwrap_or_default();
    Namespaces::new(&linux.namespaces).is_ok_and(|namespaces| namespaces.is_new(Kind::Pid))
}

/// How sure whoever asks for a removal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Only what has ended, or was never started.
    No,
    /// Kill it first; gone is done.
    Yes,
}

/// Removes a container. Gives what went wrong without stopping it.
///
/// # Errors
/// It runs; something of it could not be removed.
pub fn delete(context: &Context, id: &str, force: Force) -> Result<Vec<String>> {
    let dir = Dir::of(&context.root, id)?;
    let record = match dir.read() {
        Ok(record) => record,
        // Cut off by a crash in the middle of a create: there is nothing to ask.
        // Any other record is of a container that may run: without it nobody would know of its processes and its cgroup.
        Err(Error::NoContainer(_)) if force == Force::Yes => {
            dir.remove()?;
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let (status, init) = record.status(&dir)?;
    point("oci.delete.begin")?;
    match (status, force) {
        (Status::Running | Status::Paused, Force::No) => {
            let cause = format!("cannot delete container {id} that is not stopped: {}", status.as_str());
            return Err(wrong("delete", id, cause));
        }
        (Status::Stopped, _) => {}
        _ => {
            if let Some(init) = &init {
                end(init, &record)?;
            }
        }
    }
    point("oci.delete.ended")?;
    let config = dir.config();
    let mut failures = Vec::new();
    if let Some(cgroup) = &record.cgroup {
        let killed = if cgroup.exists() { cgroup.signal(rustix::process::Signal::KILL) } else { Ok(()) };
        killed.and_then(|()| cgroup.remove())?;
    }
    point("oci.delete.cgroup-removed")?;
    dir.remove()?;
    point("oci.delete.dir-removed")?;
    let poststop =
        config.ok().and_then(|config| config.hooks).map(|hooks| hooks.poststop).unwrap_or_default();
    let state = record.state("stopped");
    for hook in &poststop {
        if let Err(error) = hooks::run(std::slice::from_ref(hook), "poststop", &state) {
            failures.push(error.to_string());
        }
    }
    Ok(failures)
}

/// Kills init and waits until it has gone.
fn end(init: &PidFd, record: &Record) -> Result<()> {
    let signal = init.signal(libc::SIGKILL);
    match signal {
        Err(error) if error.is_gone() => {}
        result => result?,
    }
    if let Some(cgroup) = &record.cgroup {
        // What is frozen does not die on v1.
        if cgroup.is_frozen().unwrap_or(false) {
            cgroup.thaw()?;
        }
    }
    let limit = std::time::Duration::from_secs(10);
    if init.wait(Some(limit))? {
        return Ok(());
    }
    Err(wrong("delete", &record.id, format!("init {} does not end", init.pid())))
}

/// Freezes all processes.
///
/// # Errors
/// It is not running; the system's.
pub fn pause(context: &Context, id: &str) -> Result<()> {
    let dir = Dir::of(&context.root, id)?;
    let record = dir.read()?;
    let (status, _) = record.status(&dir)?;
    if !matches!(status, Status::Running | Status::Created) {
        return Err(wrong("pause", id, format!("container not running: {}", status.as_str())));
    }
    point("oci.pause.begin")?;
    with_cgroup(&record, "pause")?.freeze()?;
    point("oci.pause.frozen")
}

/// Thaws all processes.
///
/// # Errors
/// It is not paused; the system's.
pub fn resume(context: &Context, id: &str) -> Result<()> {
    let dir = Dir::of(&context.root, id)?;
    let record = dir.read()?;
    let (status, _) = record.status(&dir)?;
    if status != Status::Paused {
        return Err(wrong("resume", id, format!("container not paused: {}", status.as_str())));
    }
    point("oci.resume.begin")?;
    with_cgroup(&record, "resume")?.thaw()?;
    point("oci.resume.thawed")
}

/// The container's cgroup.
///
/// # Errors
/// It has none.
pub fn with_cgroup<'a>(record: &'a Record, op: &'static str) -> Result<&'a crate::cgroup::Cgroup> {
    record.cgroup.as_ref().ok_or_else(|| wrong(op, &record.id, "it has no cgroup"))
}

/// The processes of a container.
///
/// # Errors
/// The system's.
pub fn processes(context: &Context, id: &str) -> Result<Vec<i32>> {
    let dir = Dir::of(&context.root, id)?;
    let record = dir.read()?;
    with_cgroup(&record, "list processes of")?.pids()
}

/// A container as `list` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its record.
    pub record: Record,
    /// Where it is in its life.
    pub status: Status,
}

/// All containers below the root, by id; what can't be read is told of and left out.
///
/// # Errors
/// The root can't be read.
pub fn list(root: &Path) -> Result<(Vec<Listed>, Vec<String>)> {
    let mut listed = Vec::new();
    let mut failures = Vec::new();
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((listed, failures)),
        result => result.ctx("read", root)?,
    };
    for entry in entries {
        let entry = entry.ctx("read", root)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let Ok(dir) = Dir::of(root, name) else { continue };
        match dir.read().and_then(|record| record.status(&dir).map(|(status, _)| Listed { record, status })) {
            Ok(one) => listed.push(one),
            // Being made, or gone since.
            Err(Error::NoContainer(_)) => {}
            Err(error) => failures.push(error.to_string()),
        }
    }
    listed.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    Ok((listed, failures))
}

/// The state of one container.
///
/// # Errors
/// There is none; the system's.
pub fn state(context: &Context, id: &str) -> Result<(Record, State)> {
    let dir = Dir::of(&context.root, id)?;
    let record = dir.read()?;
    let (status, _) = record.status(&dir)?;
    let state = record.state(status.as_str());
    Ok((record, state))
}
