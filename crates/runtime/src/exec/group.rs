//! An exec's own cgroup, below its container's: what is killed with it.
//!
//! runc's `exec --cgroup` (and that of what follows its command line) joins one in the hierarchy that is
//! named. crun's on version 1 leaves the container's cgroups in all others, so for crun there is one in
//! every hierarchy: below the container's, under its limits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sys::Ctx as _;
use sys::pidfd::PidFd;

use crate::Result;
use crate::cgroups::{Group, is_v1};
use crate::record::Record;

const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// The hierarchy of version 1 that it is in: it knows how to freeze, and limits nothing.
const CONTROLLER: &str = "freezer";

/// The cgroup, or none where the container has none of its own.
#[derive(Debug)]
pub(super) struct ExecGroup {
    name: String,
    dirs: Vec<PathBuf>,
    /// Stands for the directories and for nothing else.
    group: Option<Group>,
    /// It is in every hierarchy.
    everywhere: bool,
}

impl ExecGroup {
    pub(super) fn make(record: &Record, name: &str, runtime: &str) -> Result<Self> {
        let everywhere = is_v1() && runtime.starts_with("crun");
        let mut group = Self { name: name.to_owned(), dirs: Vec::new(), group: None, everywhere };
        let Some(parent) = parent(record, runtime) else { return Ok(group) };
        let parents = if everywhere { parent.dirs() } else { parent.dir(CONTROLLER).into_iter().collect() };
        for above in parents {
            let dir = above.join(name);
            let made = std::fs::create_dir(&dir).ctx("mkdir", &dir);
            let made = made.and_then(|()| {
                group.dirs.push(dir.clone());
                inherit_cpus(&above, &dir)
            });
            if let Err(error) = made {
                // What is empty can be removed, and the first error is the one to tell.
                let _ = group.remove();
                return Err(error.into());
            }
        }
        group.group = Group::at(&format!("{}/{name}", parent.path())).filter(|_| !group.dirs.is_empty());
        Ok(group)
    }

    /// What is added to the runtime's `exec`.
    pub(super) fn runtime_args(&self) -> Vec<String> {
        if self.group.is_none() {
            return Vec::new();
        }
        let one = is_v1() && !self.everywhere;
        let group = if one { format!("{CONTROLLER}:{}", self.name) } else { self.name.clone() };
        vec!["--cgroup".to_owned(), group]
    }

    /// Kills the program and all that it started. Without a cgroup only the program.
    pub(super) fn kill(&self, process: Option<&PidFd>) {
        if let Some(group) = &self.group
            && !group.kill(KILL_TIMEOUT)
        {
            tracing::warn!(group = %group.path(), "processes of an exec do not die");
        }
        // One that has ended is what is wanted.
        let _ = process.map(|process| process.signal(9));
    }

    /// Removes it. What the program left running goes on in the container's cgroup.
    pub(super) fn remove(&self) -> Result<()> {
        self.dirs.iter().try_for_each(|dir| remove(dir))
    }
}

/// Where an exec's cgroup is made: in the container's. crun counts from that of the init, which on version 2
/// with systemd is one below the scope.
fn parent(record: &Record, runtime: &str) -> Option<Group> {
    let own = record.own_group()?;
    if is_v1() || !runtime.starts_with("crun") {
        return Some(own);
    }
    Some(below(record, &own).unwrap_or(own))
}

/// The cgroup of the init, where it is below the container's.
fn below(record: &Record, own: &Group) -> Option<Group> {
    let found = Group::of(record.init?.pid).ok().flatten()?;
    (own.has(&found) && found != *own).then_some(found)
}

/// Ends what is left of the exec `name`, whose caller is gone.
pub(super) fn sweep(record: &Record, name: &str, timeout: Duration) -> Result<()> {
    let Some(own) = record.own_group() else { return Ok(()) };
    for parent in below(record, &own).into_iter().chain([own]) {
        if let Some(group) = Group::at(&format!("{}/{name}", parent.path())) {
            group.kill(timeout);
            group.remove()?;
        }
    }
    Ok(())
}

/// On version 1 a cpuset without processors takes no process.
fn inherit_cpus(parent: &Path, dir: &Path) -> sys::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let Ok(value) = std::fs::read(parent.join(file)) else { return Ok(()) };
        // On version 2 a cgroup below one with processes has no controllers.
        if !dir.join(file).exists() {
            return Ok(());
        }
        std::fs::write(dir.join(file), value).ctx("write", dir.join(file))?;
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    let mut last = Ok(());
    for pause in [0, 1, 5, 20, 50, 100] {
        std::thread::sleep(Duration::from_millis(pause));
        let parent = dir.parent().map(|parent| parent.join("cgroup.procs")).unwrap_or_default();
        for pid in std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
            // It may have ended; what stays is seen by the removal.
            let _ = std::fs::write(&parent, pid);
        }
        last = match std::fs::remove_dir(dir).ctx("rmdir", dir) {
            Err(error) if error.is_gone() => Ok(()),
            result => result,
        };
        if last.is_ok() {
            break;
        }
    }
    Ok(last?)
}
