//! Update: new limits for a container, all of them or none.
//!
//! ```text
//! checked ─► old values read and written to update.json ─► runtime update ─► read back ─► config.json ─► update.json removed
//!                                                              └── failed, or not in force ──► old values ─┘
//! ```
//! A process that dies in the middle leaves update.json: recovery, or the next update, goes back to the old
//! values, in the kernel and in config.json.

use std::path::PathBuf;

use model::State;
use model::oci::{LinuxCpu, LinuxMemory, LinuxResources};
use model::spec::{check_resources, merge_resources};
use serde_json::Value;

use crate::blocking;
use crate::container::{Container, Locked};
use crate::dir::Dir;
use crate::event::Happened;
use crate::limits;
use crate::{Error, Result};

const OP: &str = "update";
/// Where config.json has the limits, and under what name update.json has what was there.
const RESOURCES: &str = "/linux/resources";
const CONFIG: &str = "config.json";
/// The largest config.json that is read, in bytes.
const CONFIG_MAX: u64 = 64 << 20;

impl Container {
    /// Changes the limits that `resources` names, and gives all that are in force afterwards. Either all of
    /// them are changed, durably, or none is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that make no sense; [`Error::State`] when it has no process;
    /// [`Error::Runtime`] when the runtime or the kernel refuses, with the old limits in force.
    pub async fn update(&self, resources: LinuxResources) -> Result<LinuxResources> {
        check_resources(&resources).map_err(|error| Error::invalid(OP, self.id(), error))?;
        check_machine(&resources).map_err(|error| Error::invalid(OP, self.id(), error))?;
        self.locked(OP, move |locked| {
            locked.require(&[State::Created, State::Running, State::Paused])?;
            undo_half_done(locked.container())?;
            update(locked, &resources)
        })
        .await
    }

    /// The limits that are in force, as the kernel has them.
    ///
    /// # Errors
    /// [`Error::State`] when it is over, or its cgroup is gone.
    pub async fn limits(&self) -> Result<LinuxResources> {
        let container = self.clone();
        blocking::quick(move || {
            container.present("read limits of")?;
            in_force(&container, "read limits of")
        })
        .await
    }
}

fn update(locked: &mut Locked, resources: &LinuxResources) -> Result<LinuxResources> {
    let container = locked.container().clone();
    let (config_path, mut config) = read_config(container.dir())?;
    let before = in_force(&container, OP)?;
    let named = container.record().own_group().map(|group| limits::named_like(&group, resources));
    // Runtimes pass over what they have no file for, and say that all is well.
    let there = |file: &String| named.as_ref().is_some_and(|named| named.unified.contains_key(file));
    if let Some(file) = resources.unified.keys().find(|file| !there(file)) {
        return Err(Error::invalid(
            OP,
            container.id(),
            format!("unified {file:?}: its cgroup has no such file"),
        ));
    }
    let back = LinuxResources {
        hugepage_limits: named.as_ref().map(|named| named.hugepage_limits.clone()).unwrap_or_default(),
        unified: named.map(|named| named.unified).unwrap_or_default(),
        ..limits::only_like(&before, resources)
    };
    let journal = journal(container.dir());
    let mut saved = serde_json::to_value(&back).map_err(|error| Error::invalid(OP, "resources", error))?;
    if let Some(saved) = saved.as_object_mut() {
        saved.insert(CONFIG.to_owned(), config.pointer(RESOURCES).cloned().unwrap_or_default());
    }
    sys::durable::replace_path(&journal, &to_bytes(&saved)?, 0o600)?;
    crate::point("update.after-journal")?;
    let done = apply(&container, resources).and_then(|found| {
        crate::point("update.after-run")?;
        let place = config
            .as_object_mut()
            .and_then(|c| {
                c.entry("linux").or_insert_with(|| Value::Object(Default::default())).as_object_mut()
            })
            .map(|linux| linux.entry("resources").or_insert_with(|| Value::Object(Default::default())));
        let place = place.ok_or_else(|| Error::invalid(OP, config_path.display(), "linux is no object"))?;
        merge_resources(place, resources).map_err(|error| Error::invalid(OP, container.id(), error))?;
        sys::durable::replace_path(&config_path, &to_bytes(&config)?, 0o600)?;
        Ok(found)
    });
    match done {
        Ok(found) => {
            crate::point("update.after-config")?;
            sys::durable::remove(&journal)?;
            locked.change(Some(Happened::Updated), |_| {})?;
            Ok(found)
        }
        Err(error) => match undo_half_done(&container) {
            Ok(()) => Err(error),
            Err(undo) => {
                Err(Error::Many { op: OP, object: container.id().to_string(), causes: vec![error, undo] })
            }
        },
    }
}

/// Lets the runtime set `resources`, and reads what came of it. What the runtime can't (crun 1.8 can't lift
/// a limit of tasks) is written here, where no systemd keeps a copy of the limits; an error is the runtime's.
fn apply(container: &Container, resources: &LinuxResources) -> Result<LinuxResources> {
    let text = to_bytes(resources)?;
    let update = ["update", "--resources", "-", container.id().as_str()];
    let ran = container.driver().run(OP, update, &text).and_then(|_| check(container, resources));
    let error = match ran {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    match write(container, resources) {
        Ok(found) => {
            tracing::debug!(container = %container.id(), %error, "the runtime can't set limits that the kernel takes");
            Ok(found)
        }
        Err(_) => Err(error),
    }
}

/// Sets `resources` without the runtime.
fn write(container: &Container, resources: &LinuxResources) -> Result<LinuxResources> {
    let record = container.record();
    match record.own_group() {
        Some(group) if !record.handler.systemd && only_known(resources) => limits::write(&group, resources)?,
        _ => return Err(Error::unsupported(OP, container.id(), "only the runtime can")),
    }
    check(container, resources)
}

/// Whether there is nothing in it but what [`limits::write`] writes.
fn only_known(resources: &LinuxResources) -> bool {
    let (memory, cpu) =
        (resources.memory.clone().unwrap_or_default(), resources.cpu.clone().unwrap_or_default());
    let known = LinuxResources {
        memory: resources.memory.as_ref().map(|_| LinuxMemory {
            limit: memory.limit,
            reservation: memory.reservation,
            swap: memory.swap,
            ..LinuxMemory::default()
        }),
        cpu: resources.cpu.as_ref().map(|_| LinuxCpu {
            shares: cpu.shares,
            quota: cpu.quota,
            period: cpu.period,
            cpus: cpu.cpus,
            mems: cpu.mems,
            ..LinuxCpu::default()
        }),
        pids: resources.pids.clone(),
        hugepage_limits: resources.hugepage_limits.clone(),
        unified: resources.unified.clone(),
        ..LinuxResources::default()
    };
    known == *resources
}

/// # Errors
/// [`Error::Runtime`] when something of `resources` is not in force.
fn check(container: &Container, resources: &LinuxResources) -> Result<LinuxResources> {
    let found = in_force(container, OP)?;
    match limits::difference(resources, &found) {
        None => Ok(found),
        Some(difference) => Err(Error::runtime(OP, container.id(), difference)),
    }
}

/// Goes back to the limits before an update that did not come to its end.
pub(crate) fn undo_half_done(container: &Container) -> Result<()> {
    let journal = journal(container.dir());
    let bytes = match sys::durable::read_bounded(&journal, CONFIG_MAX) {
        Err(error) if error.is_gone() => return Ok(()),
        result => result?,
    };
    let (back, old) =
        read_journal(&bytes).map_err(|error| Error::invalid("read", journal.display(), error))?;
    if back != LinuxResources::default() && in_force(container, OP).is_ok() {
        go_back(container, &back)?;
    }
    // It may have been written when the update was cut off, or failed.
    let (path, mut config) = read_config(container.dir())?;
    if let Some(old) = old.filter(|old| config.pointer(RESOURCES).unwrap_or(&Value::Null) != old) {
        if let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) {
            if old.is_null() {
                linux.remove("resources");
            } else {
                linux.insert("resources".to_owned(), old);
            }
        }
        sys::durable::replace_path(&path, &to_bytes(&config)?, 0o600)?;
    }
    Ok(sys::durable::remove(&journal)?)
}

/// The old limits, and what config.json had, of an update.json.
pub(crate) fn read_journal(bytes: &[u8]) -> serde_json::Result<(LinuxResources, Option<Value>)> {
    let mut saved: Value = serde_json::from_slice(bytes)?;
    let old = saved.as_object_mut().and_then(|saved| saved.remove(CONFIG));
    Ok((serde_json::from_value(saved)?, old))
}

/// The runtime is told, since it keeps a copy that it would set again with the next update; what counts is
/// what the files say then.
fn go_back(container: &Container, back: &LinuxResources) -> Result<()> {
    let update = ["update", "--resources", "-", container.id().as_str()];
    let told = container.driver().run(OP, update, &to_bytes(back)?);
    if container.record().handler.systemd {
        told?;
        return check(container, back).map(drop);
    }
    if let Err(error) = told {
        tracing::debug!(container = %container.id(), %error, "the runtime can't go back to the old limits");
    }
    write(container, back).map(drop)
}

fn in_force(container: &Container, op: &'static str) -> Result<LinuxResources> {
    let record = container.record();
    let group = record.own_group().filter(|group| record.state.is_alive() && !group.dirs().is_empty());
    match group {
        Some(group) => Ok(limits::read(&group)),
        None => Err(Error::State { op, id: record.id.to_string(), state: record.state }),
    }
}

fn journal(dir: &Dir) -> PathBuf {
    dir.file("update.json")
}

fn read_config(dir: &Dir) -> Result<(PathBuf, Value)> {
    let path = dir.file("config.json");
    let bytes = sys::durable::read_bounded(&path, CONFIG_MAX)?;
    let config =
        serde_json::from_slice(&bytes).map_err(|error| Error::invalid("read", path.display(), error))?;
    Ok((path, config))
}

fn to_bytes(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::invalid(OP, "resources", error))
}

/// What this machine can't give, whatever the kernel says to it.
fn check_machine(resources: &LinuxResources) -> std::result::Result<(), String> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if let Some(cpu) = &resources.cpu
        && let Some(quota) = cpu.quota.and_then(|n| u64::try_from(n).ok())
    {
        let period = cpu.period.filter(|n| *n > 0).unwrap_or(100_000);
        // A hundred times what is there is a mistake in the unit.
        if quota / period > (processors as u64).saturating_mul(100) {
            return Err(format!(
                "cpu.quota {quota} is {} processors, and there are {processors}",
                quota / period
            ));
        }
    }
    Ok(())
}
