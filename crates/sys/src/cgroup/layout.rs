//! Which hierarchies are mounted where.

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::group::{Cgroup, Place};
use crate::proc::{self, CgroupLine, Mount};
use crate::{Error, Result};

/// A hierarchy's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One or more controllers with a tree of their own.
    V1,
    /// The tree of all other controllers.
    V2,
}

/// How the system is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Version 1 only.
    Legacy,
    /// Controllers in version 1, and a version 2 tree beside.
    Hybrid,
    /// Version 2 only.
    Unified,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its version.
    pub version: Version,
    /// Version 1: its controllers, or `name=systemd` and the like. Version 2: empty, as each group tells.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The group that is mounted there: `/`, or less of it in a container.
    pub root: String,
}

/// All hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
}

/// What version 1 has; other options of such a mount (`rw`, `xattr`, `noprefix`) are no controllers.
const V1_CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

impl Layout {
    /// This system's layout, read at the first call that succeeds.
    ///
    /// # Errors
    /// If no cgroup file system is mounted.
    pub fn detect() -> Result<Arc<Self>> {
        // Guards the one copy; held while /proc/self/mountinfo is read.
        static CACHE: Mutex<Option<Arc<Layout>>> = Mutex::new(None);
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = cache.as_ref() {
            return Ok(Arc::clone(layout));
        }
        let layout = Arc::new(Self::of_mounts(&proc::mounts()?));
        if layout.hierarchies.is_empty() {
            return Err(Error::other("find", "cgroup file system", "none is mounted"));
        }
        *cache = Some(Arc::clone(&layout));
        Ok(layout)
    }

    /// The layout that these mounts make. Of several mounts of a hierarchy the one that shows most counts.
    #[must_use]
    pub fn of_mounts(mounts: &[Mount]) -> Self {
        let mut found: Vec<((u32, u32), Hierarchy)> = Vec::new();
        for mount in mounts {
            let Some(hierarchy) = Hierarchy::of_mount(mount) else { continue };
            match found.iter_mut().find(|(device, _)| *device == mount.device) {
                None => found.push((mount.device, hierarchy)),
                Some((_, old)) if hierarchy.root.len() < old.root.len() => *old = hierarchy,
                Some(_) => {}
            }
        }
        Self { hierarchies: found.into_iter().map(|(_, hierarchy)| hierarchy).collect() }
    }

    /// All hierarchies.
    #[must_use]
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// How the system is set up.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let has = |version| self.hierarchies.iter().any(|hierarchy| hierarchy.version == version);
        match (has(Version::V1), has(Version::V2)) {
            (false, _) => Mode::Unified,
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::Legacy,
        }
    }

    /// The names of all controllers that groups can have: those of version 1, and those that version 2's
    /// mounted root has.
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for hierarchy in &self.hierarchies {
            match hierarchy.version {
                Version::V1 => names.extend(hierarchy.controllers.iter().cloned()),
                Version::V2 => {
                    // Unreadable is as good as empty: nothing can be enabled there.
                    let text = proc::read(hierarchy.mount.join("cgroup.controllers")).unwrap_or_default();
                    names.extend(text.split_ascii_whitespace().map(str::to_owned));
                }
            }
        }
        names
    }

    /// The group `path` in every hierarchy, whether it exists or not.
    ///
    /// # Errors
    /// If the path has a `..`.
    pub fn cgroup(&self, path: impl AsRef<Path>) -> Result<Cgroup> {
        let path = normal(path.as_ref())?;
        let place = |hierarchy: &Hierarchy| hierarchy.place(&path);
        Ok(Cgroup::new(self.hierarchies.iter().filter_map(place).collect()))
    }

    /// The groups that these lines of `/proc/PID/cgroup` name, each in its hierarchy.
    pub(super) fn of_lines(&self, lines: &[CgroupLine]) -> Cgroup {
        let place = |hierarchy: &Hierarchy| {
            let is_it = |line: &&CgroupLine| match hierarchy.version {
                Version::V2 => line.hierarchy == 0,
                Version::V1 => {
                    line.hierarchy != 0
                        && line.controllers.iter().any(|name| hierarchy.controllers.contains(name))
                }
            };
            let line = lines.iter().find(is_it)?;
            hierarchy.place(&normal(Path::new(&line.path)).ok()?)
        };
        Cgroup::new(self.hierarchies.iter().filter_map(place).collect())
    }
}

impl Hierarchy {
    fn of_mount(mount: &Mount) -> Option<Self> {
        let version = match mount.fs_type.as_str() {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let is_controller =
            |name: &&String| V1_CONTROLLERS.contains(&name.as_str()) || name.starts_with("name=");
        let controllers = match version {
            Version::V1 => mount.super_options.iter().filter(is_controller).cloned().collect(),
            Version::V2 => Vec::new(),
        };
        let root = mount.root.to_str()?.to_owned();
        Some(Self { version, controllers, mount: mount.mount_point.clone(), root })
    }

    /// The group `path`, if it can be seen in this mount.
    fn place(&self, path: &str) -> Option<Place> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        let dir = if below.as_os_str().is_empty() { self.mount.clone() } else { self.mount.join(below) };
        Some(Place {
            version: self.version,
            controllers: self.controllers.clone(),
            path: path.to_owned(),
            mount: self.mount.clone(),
            dir,
        })
    }
}

/// `path` with a leading slash and without empty parts, `.` and a slash at the end.
fn normal(path: &Path) -> Result<String> {
    let mut normal = String::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                let name = name.to_str().ok_or_else(|| Error::other("use cgroup", path, "not UTF-8"))?;
                normal.push('/');
                normal.push_str(name);
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::other("use cgroup", path, "has a .."));
            }
        }
    }
    Ok(if normal.is_empty() { "/".to_owned() } else { normal })
}
