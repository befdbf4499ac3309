//! Recovery: after the death of a process that used the library, of a monitor, or of the machine.

use std::sync::Arc;
use std::time::Duration;

use model::{Id, State, Transition};
use sys::Ctx as _;
use sys::lock::FileLock;

use crate::cleanup::{remove_tree, undo_create};
use crate::clock::boot_id;
use crate::container::Locked;
use crate::dir::{Dir, Root};
use crate::driver::Driver;
use crate::event::Happened;
use crate::runtimes::Inner;
use crate::{Error, Result, Runtimes, blocking, point};

/// What recovery did.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Creates that were half done and are undone.
    pub undone: Vec<Id>,
    /// Containers whose exit was found.
    pub exited: Vec<Id>,
    /// Deletes that were finished.
    pub deleted: Vec<Id>,
    /// Stops that go on.
    pub stopping: Vec<Id>,
    /// What could not be put in order.
    pub failed: Vec<(String, Error)>,
}

const OP: &str = "recover";
/// How long a child may take to end, or to run its program, after its parent was killed.
const LAST_CHILD: Duration = Duration::from_secs(10);
/// How long a container that another process works on is waited for.
const BUSY: Duration = Duration::from_secs(1);

impl Runtimes {
    /// Puts the state root in order: undoes half-made creates whose maker is dead, finishes stops and
    /// deletes, records exits, removes temporary files. Safe beside other processes that use the root.
    ///
    /// # Errors
    /// [`Error::Sys`] when the state root can't be read; trouble with one container is only reported.
    pub async fn recover(&self) -> Result<Recovered> {
        let inner = self.inner().clone();
        let mut all = Recovered::default();
        let root = inner.root.clone();
        let swept = blocking::long(move || {
            let swept = sweep(&root)?;
            Ok((swept, root.ids()?))
        });
        let (failed, ids) = swept.await?;
        all.failed = failed;
        for id in ids {
            let inner = inner.clone();
            let which = id.clone();
            match blocking::long(move || one(&inner, &which)).await {
                Ok(Did::Nothing) | Err(Error::NotFound { .. }) => {}
                Ok(Did::Undone) => all.undone.push(id),
                Ok(Did::Exited) => all.exited.push(id),
                Ok(Did::Deleted) => all.deleted.push(id),
                Ok(Did::Stopping) => all.stopping.push(id),
                Err(error) => all.failed.push((id.to_string(), error)),
            }
        }
        // Loading them begins their watches.
        for container in self.list().await? {
            container.watch();
        }
        for id in &all.stopping {
            if let Ok(container) = self.get(id).await {
                // Goes on by itself, as the stop that was interrupted did; trouble is told by the next stop.
                let going = blocking::Going::begin();
                tokio::spawn(async move {
                    let _going = going;
                    container.continue_stop().await
                });
            }
        }
        Ok(all)
    }
}

enum Did {
    Nothing,
    Undone,
    Exited,
    Deleted,
    Stopping,
}

/// Removes what interrupted creates and deletes left under names of their own, and loose names.
fn sweep(root: &Root) -> Result<Vec<(String, Error)>> {
    let mut failed = Vec::new();
    for entry in std::fs::read_dir(root.path()).ctx("list", root.path())? {
        let entry = entry.ctx("list", root.path())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_litter(&name) {
            continue;
        }
        let removed = point("recover.sweep").and_then(|()| {
            if entry.path().is_dir() {
                remove_tree(&entry.path())
            } else {
                Ok(sys::durable::remove(entry.path())?)
            }
        });
        if let Err(error) = removed {
            failed.push((name, error));
        }
    }
    let names = root.names();
    let _lock = root.lock()?;
    for entry in std::fs::read_dir(&names).ctx("list", &names)?.flatten() {
        let target = std::fs::read_link(entry.path()).ok();
        if target.is_none_or(|id| !root.path().join(id).exists())
            && let Err(error) = sys::durable::remove(entry.path())
        {
            failed.push((entry.file_name().to_string_lossy().into_owned(), error.into()));
        }
    }
    Ok(failed)
}

/// Whether the name is that of something temporary whose maker is dead.
fn is_litter(name: &str) -> bool {
    if let Some(pid) = sys::durable::temp_owner(name) {
        return sys::proc::start_time(pid).is_err();
    }
    let mut parts = match (name.strip_prefix(".new-"), name.strip_prefix(".gone-")) {
        (Some(rest), _) => rest.splitn(3, '-'),
        // A deleted container is removed by whoever comes by, its deleter too.
        (None, Some(_)) => return true,
        (None, None) => return false,
    };
    let pid = parts.next().and_then(|text| text.parse::<i32>().ok());
    let start = parts.next().and_then(|text| text.parse::<u64>().ok());
    let (Some(pid), Some(start)) = (pid, start) else { return false };
    sys::proc::start_time(pid).ok() != Some(start)
}

/// Undoes a create whose maker is dead, if that is what the directory holds: true when it is gone.
pub(crate) fn sweep_creating(inner: &Arc<Inner>, dir: &Dir) -> Result<bool> {
    let maker_lives = match dir.load(OP) {
        Err(Error::NotFound { .. }) => return Ok(true),
        record => record?.maker_lives()?,
    };
    // A child of a dead maker may hold the lock for a moment more.
    let patience = if maker_lives { Duration::ZERO } else { LAST_CHILD };
    let lock = match FileLock::acquire_within(dir.file("lock"), patience) {
        Err(error) if error.is_gone() => return Ok(true),
        Err(error) => return Err(error.into()),
        Ok(None) => return Ok(false),
        Ok(Some(lock)) => lock,
    };
    let record = dir.load(OP)?;
    if record.state != State::Creating {
        return Ok(false);
    }
    point("recover.undo-create")?;
    let driver = Driver::new(&record.handler, dir, inner.config.command_timeout);
    let mut errors = undo_create(&inner.root, dir, &record, &driver);
    drop(lock);
    match errors.len() {
        0 => Ok(true),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Many { op: "undo create of", object: dir.id().to_string(), causes: errors }),
    }
}

fn one(inner: &Arc<Inner>, id: &Id) -> Result<Did> {
    let dir = inner.root.dir(id);
    let record = dir.load(OP)?;
    if record.state == State::Creating {
        return Ok(if sweep_creating(inner, &dir)? { Did::Undone } else { Did::Nothing });
    }
    let container = inner.load(id, OP)?;
    // What another process is doing it will finish; so it is not waited for.
    let lock = match FileLock::acquire_within(dir.file("lock"), BUSY) {
        // Deleted since it was listed.
        Err(error) if error.is_gone() => return Ok(Did::Nothing),
        lock => lock?,
    };
    let Some(lock) = lock else { return Ok(Did::Nothing) };
    let record = dir.load(OP)?;
    let mut locked = Locked::adopt(container, OP, record, lock);
    sweep_files(&dir)?;
    crate::exec::sweep(&dir, locked.record())?;
    crate::stream::publish(&inner.root, &dir, locked.record())?;
    if locked.record().deleting {
        point("recover.finish-delete")?;
        crate::delete::delete(&mut locked, true)?;
        return Ok(Did::Deleted);
    }
    if !locked.record().state.is_alive() {
        return Ok(Did::Nothing);
    }
    point("recover.look")?;
    reconcile(&mut locked)
}

/// Makes the record of a living container agree with what is there.
fn reconcile(locked: &mut Locked) -> Result<Did> {
    if locked.record().boot_id != boot_id()? {
        lost_at_boot(locked)?;
        return Ok(Did::Exited);
    }
    let init = locked.record().hold_init()?;
    let dead = match &init {
        Some(init) => init.is_dead()?,
        None => true,
    };
    if dead {
        let monitor_alive = match locked.record().hold_monitor()? {
            Some(monitor) => !monitor.wait(Some(Duration::from_secs(5)))?,
            None => false,
        };
        if monitor_alive {
            tracing::warn!(container = %locked.record().id, "monitor outlives its container");
        }
        crate::watch::commit(locked, init.as_ref())?;
        return Ok(Did::Exited);
    }
    if locked.record().state == State::Created && locked.record().starting_ns.is_some() {
        half_started(locked)?;
    }
    crate::pause::reconcile(locked)?;
    crate::update::undo_half_done(locked.container())?;
    let record = locked.record();
    Ok(if record.stop.is_some() && record.state == State::Stopping { Did::Stopping } else { Did::Nothing })
}

/// Nothing of an older boot is alive.
fn lost_at_boot(locked: &mut Locked) -> Result<()> {
    point("recover.other-boot")?;
    crate::watch::commit(locked, None)
}

/// A start was begun and nobody wrote down how it went: the runtime knows.
pub(crate) fn half_started(locked: &mut Locked) -> Result<()> {
    let container = locked.container().clone();
    let output = container.driver().run("ask state of", ["state", container.id().as_str()], &[])?;
    let started = started(&output).map_err(|cause| Error::invalid("ask state of", container.id(), cause))?;
    if started {
        locked.transition(Transition::Started, Happened::Started, |record| {
            record.started_ns = record.starting_ns.take();
        })
    } else {
        locked.change(None, |record| record.starting_ns = None)
    }
}

/// Whether a container was started, as a runtime's answer to `state` has it ("status", runtime.md).
pub(crate) fn started(answer: &[u8]) -> std::result::Result<bool, String> {
    let state: serde_json::Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    match state.get("status").and_then(serde_json::Value::as_str) {
        Some("running" | "paused") => Ok(true),
        Some("created") => Ok(false),
        other => Err(format!("answers {other:?}")),
    }
}

/// Removes temporary files of dead processes.
fn sweep_files(dir: &Dir) -> Result<()> {
    for entry in std::fs::read_dir(dir.path()).ctx("list", dir.path())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_litter(&name) {
            sys::durable::remove(entry.path())?;
        }
    }
    Ok(())
}
