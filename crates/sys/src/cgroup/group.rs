//! A group: made, filled, listed, removed.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::file;
use super::layout::{Layout, Version};
use crate::{Ctx as _, Error, Result, fail, proc};

/// How long [`Cgroup::remove`] waits for the kernel to let go of processes that have ended.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);
/// How often a group is begun again of which others remove the upper ones.
const MAX_TRIES: u32 = 50;
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// A group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The hierarchy's version.
    pub version: Version,
    /// Version 1: the hierarchy's controllers. Version 2: empty.
    pub controllers: Vec<String>,
    /// The group's path within the hierarchy.
    pub path: String,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The group's directory.
    pub dir: PathBuf,
}

impl Place {
    /// Whether this is the hierarchy's root, or what is mounted as such: never killed, frozen or removed.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.dir == self.mount
    }

    /// Whether the group exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dir.is_dir()
    }
}

/// One control group, in every hierarchy; its paths there may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    places: Vec<Place>,
}

impl Cgroup {
    pub(super) fn new(places: Vec<Place>) -> Self {
        Self { places }
    }

    /// The groups that process `pid` is in.
    ///
    /// # Errors
    /// [`Error::is_gone`] if there is no such process.
    pub fn of_pid(pid: i32) -> Result<Self> {
        Ok(Layout::detect()?.of_lines(&proc::cgroups(pid)?))
    }

    /// The group in each hierarchy.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The group in the hierarchy that has this controller (`memory`, `name=systemd`), in version 2 if no
    /// version 1 hierarchy has it.
    #[must_use]
    pub fn place(&self, controller: &str) -> Option<&Place> {
        self.places
            .iter()
            .find(|place| place.controllers.iter().any(|name| name == controller))
            .or_else(|| self.v2())
    }

    /// The group in version 2.
    #[must_use]
    pub fn v2(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.version == Version::V2)
    }

    /// A group below this one, in every hierarchy.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let below = |place: &Place| Place {
            path: format!("{}/{name}", place.path.trim_end_matches('/')),
            dir: place.dir.join(name),
            ..place.clone()
        };
        Self::new(self.places.iter().map(below).collect())
    }

    /// Whether it exists in any hierarchy. A hierarchy's root does not count.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.own().any(Place::exists)
    }

    /// Makes the group in all hierarchies, and those above it. What exists is fine. Version 2: all
    /// controllers that can be enabled for it are. `cpuset` of version 1 begins with its parent's values.
    ///
    /// On an error, what it made is removed again.
    pub fn create(&self) -> Result<()> {
        self.create_where(|_| true, None)
    }

    /// Makes the group only in hierarchies with one of these controllers (`name=systemd` is one such name);
    /// in version 2 only these are enabled.
    pub fn create_with(&self, controllers: &[&str]) -> Result<()> {
        let chosen = |place: &Place| {
            place.version == Version::V2
                || place.controllers.iter().any(|name| controllers.contains(&name.as_str()))
        };
        self.create_where(chosen, Some(controllers))
    }

    fn create_where(&self, chosen: impl Fn(&Place) -> bool, controllers: Option<&[&str]>) -> Result<()> {
        let mut made = Vec::new();
        let mut create = |place: &Place| {
            fail::point("cgroup.create").ctx("create cgroup", &place.dir)?;
            for _ in 0..MAX_TRIES {
                match create_place(place, controllers, &mut made) {
                    // Somebody removed one above meanwhile, as it was empty.
                    Err(error) if error.is_gone() => {}
                    result => return result,
                }
            }
            create_place(place, controllers, &mut made)
        };
        let result = self.own().filter(|place| chosen(place)).try_for_each(&mut create);
        if result.is_err() {
            for dir in made.iter().rev() {
                // Somebody else may have put something in: then it is theirs.
                let _ = rustix::fs::unlinkat(CWD, dir, rustix::fs::AtFlags::REMOVEDIR);
            }
        }
        result
    }

    /// Moves process `pid`, with all its threads, into the group, in all hierarchies where it exists.
    ///
    /// # Errors
    /// [`Error::is_gone`] if there is no such process, or the group exists nowhere.
    pub fn add(&self, pid: i32) -> Result<()> {
        let mut added = false;
        for place in self.places.iter().filter(|place| place.exists()) {
            file::write(place, "cgroup.procs", &pid.to_string())?;
            added = true;
        }
        if added { Ok(()) } else { Err(self.nowhere("add to")) }
    }

    /// Descriptors, open for writing, on the `cgroup.procs` of all hierarchies where the group exists: who
    /// writes `0` to all joins it.
    pub fn procs_fds(&self) -> Result<Vec<OwnedFd>> {
        let open = |place: &Place| file::open(place, "cgroup.procs", OFlags::WRONLY);
        self.places.iter().filter(|place| place.exists()).map(open).collect()
    }

    /// The processes in the group and below it, in whatever hierarchy. None if it does not exist, and a
    /// hierarchy's root does not count. Those of other pid namespaces are not seen.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = BTreeSet::new();
        for place in self.own() {
            for dir in tree(&place.dir)? {
                pids.extend(pids_of(place, &dir)?);
            }
        }
        pids.remove(&0);
        Ok(pids.into_iter().collect())
    }

    /// Removes the group and those below it, in all hierarchies. What is not there is removed already.
    ///
    /// # Errors
    /// `EBUSY` if there are still processes in it after five seconds. It goes on with the other hierarchies,
    /// and tells the first error.
    pub fn remove(&self) -> Result<()> {
        self.remove_within(REMOVE_WITHIN)
    }

    /// The same with another time.
    pub fn remove_within(&self, timeout: Duration) -> Result<()> {
        let end = Instant::now() + timeout;
        let mut first_error = Ok(());
        for place in self.own() {
            first_error = first_error.and(remove_place(place, end));
        }
        first_error
    }

    /// The places that are not a hierarchy's root.
    pub(super) fn own(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| !place.is_root())
    }

    pub(super) fn nowhere(&self, op: &'static str) -> Error {
        Error::new(op, format!("cgroup {}", self.name()), Errno::NOENT)
    }

    /// A path to call it by.
    pub(super) fn name(&self) -> &str {
        self.own().next().map_or("/", |place| place.path.as_str())
    }
}

/// Makes one group and those above it; what was made is added to `made`.
fn create_place(place: &Place, controllers: Option<&[&str]>, made: &mut Vec<PathBuf>) -> Result<()> {
    let below = place.dir.strip_prefix(&place.mount).unwrap_or(Path::new(""));
    let mut dir = place.mount.clone();
    for name in below {
        if place.version == Version::V2 {
            enable(place, &dir, controllers);
        }
        dir.push(name);
        match rustix::fs::mkdirat(CWD, &dir, Mode::from_raw_mode(0o755)) {
            Ok(()) => made.push(dir.clone()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::new("create cgroup", &dir, error)),
        }
        if place.controllers.iter().any(|name| name == "cpuset") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(place, &dir, file)?;
            }
        }
    }
    Ok(())
}

/// Enables controllers for the groups below `dir`. What the kernel refuses (a controller that is used in
/// version 1) is left: who needs it finds its file missing.
///
/// A group that has processes is left as it is: some controllers could be enabled, but would make it a
/// threaded one, and those below it useless (the kernel's cgroup-v2, Threads). Only the root, which has no
/// type, may have both.
fn enable(place: &Place, dir: &Path, controllers: Option<&[&str]>) {
    let at = |dir: &Path| Place { dir: dir.to_owned(), ..place.clone() };
    let list = |file: &str| file::read(&at(dir), file).unwrap_or_default();
    if !list("cgroup.type").is_empty() && !list("cgroup.procs").trim().is_empty() {
        return;
    }
    let (available, enabled) = (list("cgroup.controllers"), list("cgroup.subtree_control"));
    for name in available.split_ascii_whitespace() {
        let wanted = controllers.is_none_or(|controllers| controllers.contains(&name));
        if wanted && !enabled.split_ascii_whitespace().any(|other| other == name) {
            // One by one, so that one that is refused does not keep the others out.
            let _ = file::write(&at(dir), "cgroup.subtree_control", &format!("+{name}"));
        }
    }
}

/// Copies the parent's value into a new group, which can't take processes while it is empty.
fn inherit(place: &Place, dir: &Path, name: &str) -> Result<()> {
    let at = |dir: &Path| Place { dir: dir.to_owned(), ..place.clone() };
    if !file::read(&at(dir), name)?.trim().is_empty() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(&place.mount);
    let value = file::read(&at(parent), name)?;
    file::write(&at(dir), name, value.trim())
}

/// `dir` and all groups below, each before those below it. Empty if it is gone.
pub(super) fn tree(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(dir) = dirs.get(next).cloned() {
        // A group's directory has a link for each group in it, and two of its own: most need no look inside.
        if rustix::fs::stat(&dir).is_ok_and(|stat| stat.st_nlink == 2) {
            next += 1;
            continue;
        }
        match std::fs::read_dir(&dir) {
            Ok(entries) => {
                let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
                dirs.extend(entries.filter_map(Result::ok).filter(is_dir).map(|entry| entry.path()));
                next += 1;
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                dirs.remove(next);
            }
            Err(error) => return Err(Error::new("read", &dir, error)),
        }
    }
    Ok(dirs)
}

/// The processes that are in the group `dir` itself.
pub(super) fn pids_of(place: &Place, dir: &Path) -> Result<Vec<i32>> {
    let place = Place { dir: dir.to_owned(), ..place.clone() };
    match file::read(&place, "cgroup.procs") {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        // Threaded groups (EOPNOTSUPP) have their processes listed above them.
        Err(error) if error.is_gone() || error.errno() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn remove_place(place: &Place, end: Instant) -> Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        let mut busy = None;
        for dir in tree(&place.dir)?.iter().rev() {
            match rustix::fs::unlinkat(CWD, dir, rustix::fs::AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error @ (Errno::BUSY | Errno::NOTEMPTY)) => {
                    busy.get_or_insert(Error::new("remove cgroup", dir, error));
                }
                Err(error) => return Err(Error::new("remove cgroup", dir, error)),
            }
        }
        let Some(busy) = busy else { return Ok(()) };
        if Instant::now() >= end {
            return Err(busy);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
