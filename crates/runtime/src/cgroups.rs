//! One cgroup in all hierarchies: who is in it, killing them, removing it, counting its OOM kills.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sys::Ctx as _;
use sys::pidfd::PidFd;

use crate::Result;

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) mount: PathBuf,
    /// Of version 1: "memory", "name=systemd"; empty for version 2.
    pub(crate) controllers: Vec<String>,
}

/// The hierarchies of this machine, version 1 first, as they are mounted when first asked.
pub(crate) fn hierarchies() -> &'static [Hierarchy] {
    static ALL: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mounts = sys::proc::mounts().unwrap_or_default();
        let mut all: Vec<Hierarchy> = Vec::new();
        for mount in mounts.iter().filter(|m| m.root == Path::new("/")) {
            let controllers = match mount.fs_type.as_str() {
                "cgroup2" => Vec::new(),
                "cgroup" => mount
                    .super_options
                    .iter()
                    .map(String::as_str)
                    .filter(|option| {
                        !matches!(*option, "rw" | "ro" | "xattr" | "noprefix" | "clone_children")
                    })
                    .filter(|option| !option.starts_with("release_agent="))
                    .map(str::to_owned)
                    .collect(),
                _ => continue,
            };
            let hierarchy = Hierarchy { mount: mount.mount_point.clone(), controllers };
            if !all
                .iter()
                .any(|other| other.mount == hierarchy.mount || other.controllers == hierarchy.controllers)
            {
                all.push(hierarchy);
            }
        }
        all.sort_by_key(|hierarchy| hierarchy.controllers.is_empty());
        all
    })
}

/// Whether there is a hierarchy of version 1.
pub(crate) fn is_v1() -> bool {
    hierarchies().iter().any(|hierarchy| hierarchy.controllers.iter().any(|c| c == "memory" || c == "pids"))
}

/// The file of a cgroup by which a process with one thread joins it, with `0` for itself. Of version 1 that is `tasks`:
/// the kernel takes no lock then that it would wait for a grace period for, of some 10 ms.
pub(crate) fn open_to_join(dir: &Path) -> Result<OwnedFd> {
    let open = |name: &str| fs::OpenOptions::new().write(true).open(dir.join(name));
    let file = match open("tasks") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => open("cgroup.procs"),
        opened => opened,
    };
    Ok(file.ctx("open cgroup", dir)?.into())
}

/// The cgroup of one path in all hierarchies where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    path: String,
}

impl Group {
    /// The cgroup `path`, absolute below the mount points. None for the root, which is nobody's.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let path = path.trim_matches('/');
        (!path.is_empty() && !path.split('/').any(|name| name == ".."))
            .then(|| Self { path: path.to_owned() })
    }

    /// The cgroup of a process, as its controllers have it.
    pub(crate) fn of(pid: i32) -> Result<Option<Self>> {
        let lines = sys::proc::cgroups(pid)?;
        let wanted = |controllers: &[String]| {
            controllers.iter().any(|c| c == "memory" || c == "pids" || c == "freezer")
        };
        let line = lines
            .iter()
            .find(|line| wanted(&line.controllers) && line.path != "/")
            .or_else(|| lines.iter().find(|line| line.controllers.is_empty()));
        Ok(line.and_then(|line| Self::at(&line.path)))
    }

    /// The path, with a slash before it.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.path)
    }

    /// Whether `other` is this one, or below it.
    pub(crate) fn has(&self, other: &Self) -> bool {
        other.path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Its directory in each hierarchy where it is there.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        let all = hierarchies().iter().map(|hierarchy| hierarchy.mount.join(&self.path));
        all.filter(|dir| dir.is_dir()).collect()
    }

    /// Its directory in the hierarchy of version 2.
    pub(crate) fn unified(&self) -> Option<PathBuf> {
        let v2 = hierarchies().iter().find(|hierarchy| hierarchy.controllers.is_empty())?;
        Some(v2.mount.join(&self.path)).filter(|dir| dir.is_dir())
    }

    /// Its directory in the hierarchy of `controller`, or in that of version 2.
    pub(crate) fn dir(&self, controller: &str) -> Option<PathBuf> {
        let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|c| c == controller);
        let hierarchy = hierarchies()
            .iter()
            .find(has)
            .or_else(|| hierarchies().iter().find(|hierarchy| hierarchy.controllers.is_empty()))?;
        Some(hierarchy.mount.join(&self.path)).filter(|dir| dir.is_dir())
    }

    /// Makes it in the hierarchies of `controllers` and in that of version 2; gives the directories.
    pub(crate) fn make(&self, controllers: &[&str]) -> Result<Vec<PathBuf>> {
        let mut dirs = Vec::new();
        for hierarchy in hierarchies() {
            let wanted = hierarchy.controllers.iter().any(|c| controllers.contains(&c.as_str()));
            if wanted || (hierarchy.controllers.is_empty() && !is_v1()) {
                let dir = hierarchy.mount.join(&self.path);
                fs::create_dir_all(&dir).ctx("mkdir", &dir)?;
                dirs.push(dir);
            }
        }
        Ok(dirs)
    }

    /// The processes in it and below it.
    pub(crate) fn pids(&self) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        for dir in self.dirs() {
            collect(&dir, &mut pids);
        }
        pids
    }

    /// Kills all that is in it and below it, frozen or not, and waits until they are gone.
    /// False when some are still there after `timeout`.
    pub(crate) fn kill(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut pause = Duration::from_millis(1);
        loop {
            let pids = self.pids();
            if pids.is_empty() {
                return true;
            }
            for dir in self.dirs() {
                // cgroup.kill needs Linux 5.14 and version 2; the signals below do the same more slowly.
                let _ = fs::write(dir.join("cgroup.kill"), "1");
            }
            let held: Vec<PidFd> = pids.iter().filter_map(|pid| PidFd::open(*pid).ok()).collect();
            // Whoever still is in the group now is who was opened, not a later one with its pid.
            let still = self.pids();
            for process in held.iter().filter(|process| still.contains(&process.pid())) {
                // One that has ended meanwhile is what we want.
                let _ = process.signal(9);
            }
            for dir in self.dirs() {
                // A frozen process takes its signal when it is thawed.
                let _ = fs::write(dir.join("freezer.state"), "THAWED");
                let _ = fs::write(dir.join("cgroup.freeze"), "0");
            }
            if Instant::now() >= end {
                return self.pids().is_empty();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Removes it with what is below it. Gone is done; one that is busy is tried again for a while.
    pub(crate) fn remove(&self) -> Result<()> {
        let mut last = Ok(());
        for pause in [0, 1, 2, 5, 10, 20, 50, 100, 200, 300] {
            std::thread::sleep(Duration::from_millis(pause));
            last = self.dirs().iter().try_for_each(|dir| remove(dir));
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// How often the kernel killed something in it for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let Some(dir) = self.dir("memory") else { return 0 };
        let files = ["memory.oom_control", "memory.events"].map(|file| fs::read_to_string(dir.join(file)));
        let count = |text: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            value.and_then(|value| value.trim().parse().ok())
        };
        files.iter().flatten().find_map(|text| count(text)).unwrap_or(0)
    }
}

fn collect(dir: &Path, pids: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}

fn remove(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(dir).ctx("rmdir", dir) {
        Err(error) if error.is_gone() => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_group_is_of_it() {
        let has = |path: &str, other: &str| {
            Group::at(path).expect("a group").has(&Group::at(other).expect("a group"))
        };
        assert!(has("/system.slice/a.scope", "/system.slice/a.scope"));
        assert!(has("/system.slice/a.scope", "/system.slice/a.scope/container"));
        assert!(!has("/system.slice/a.scope", "/system.slice/a.scope2"));
        assert!(!has("/system.slice/a.scope", "/system.slice"));
    }
}
