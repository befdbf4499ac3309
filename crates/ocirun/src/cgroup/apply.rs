//! Makes cgroups. All or nothing: what was made before a failure is removed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use model::oci::LinuxResources;
use rustix::io::Errno;
use sys::Ctx as _;

use super::plan::Devices;
use super::{
    Cgroup, DevicePolicy, Error, Facts, Layout, Place, Request, Rights, bpf, impossible, plan, systemd,
};

impl Cgroup {
    /// Makes the cgroup that `request` asks for and sets its limits. systemd makes no empty scope: `pid` is in it then.
    /// Otherwise it goes in afterwards, by itself.
    ///
    /// # Errors
    /// A cgroup with processes in it; a limit that is refused. What was made is removed.
    pub fn create(layout: &Layout, request: &Request<'_>, pid: i32) -> Result<Self, Error> {
        let place = Place::of(request.cgroups_path, request.id, request.driver, request.rights, layout)?;
        let mut cgroup = Self {
            paths: BTreeMap::new(),
            unified: matches!(layout, Layout::V2 { .. }),
            unit: place.unit.clone(),
            rights: request.rights,
        };
        // Values without meaning are told before anything is made.
        plan(request.resources, &cgroup, Facts::default(), Devices::Set)?;
        for (_, path) in &place.paths {
            refuse_used(path)?;
        }
        if let Some(unit) = &place.unit {
            systemd::start(unit, request, pid, cgroup.unified)?;
        }
        let mut made = Vec::new();
        let result = cgroup.make(&place, &mut made).and_then(|()| {
            let plan = plan(request.resources, &cgroup, cgroup.facts(request.resources)?, Devices::Set)?;
            cgroup.apply(&plan)?;
            if cgroup.unit.is_some() {
                cgroup.join(pid)?;
            }
            request.owner.map_or(Ok(()), |owner| cgroup.delegate(owner))
        });
        if let Err(error) = result {
            if let Some(unit) = &place.unit {
                // Ignored: the first error is the one to tell, and a scope without processes ends by itself.
                let _ = systemd::stop(unit);
                // Where systemd does not look, init may be in already, and would keep what was made.
                for mount in place.mounts.iter().filter(|_| !cgroup.unified) {
                    let _ = write(&mount.join("cgroup.procs"), &pid.to_string());
                }
            }
            for path in made.iter().rev() {
                // Ignored: what can't be removed has got a process of somebody else.
                let _ = rustix::fs::rmdir(path);
            }
            return Err(error);
        }
        Ok(cgroup)
    }

    /// Puts a process in. Of the hierarchies of v1, systemd manages some: its own it knows, and the others are ours.
    ///
    /// # Errors
    /// A hierarchy does not take it. It may be in others by then.
    pub(super) fn join(&self, pid: i32) -> Result<(), Error> {
        if self.unified && self.unit.is_some() {
            return Ok(());
        }
        let systemds = self.paths.get("name=systemd").filter(|_| self.unit.is_some());
        for path in
            self.distinct().into_iter().filter(|path| systemds.is_none_or(|systemds| systemds != path))
        {
            match write(&path.join("cgroup.procs"), &pid.to_string()) {
                Err(error) if self.rights == Rights::Rootless && ignorable(&error) => {}
                other => other?,
            }
        }
        Ok(())
    }

    pub(super) fn set_devices(&self, policy: &DevicePolicy) -> Result<(), Error> {
        let result = if self.unified { self.set_devices_v2(policy) } else { self.set_devices_v1(policy) };
        // Without the rights to make device nodes there is not much to forbid.
        if self.rights == Rights::Rootless { Ok(()) } else { result }
    }

    fn set_devices_v1(&self, policy: &DevicePolicy) -> Result<(), Error> {
        let Some(directory) = self.directory("devices") else {
            return Err(impossible("set devices.allow", "the container has no cgroup of devices"));
        };
        let list = directory.join("devices.list");
        let now = std::fs::read_to_string(&list).ctx("read", &list)?;
        for step in policy.steps_from(&DevicePolicy::from_list(&now)) {
            let file = directory.join(if step.allow { "devices.allow" } else { "devices.deny" });
            let line = if step.devices.is_none() { "a".to_owned() } else { step.to_string() };
            write(&file, &line)?;
        }
        Ok(())
    }

    fn set_devices_v2(&self, policy: &DevicePolicy) -> Result<(), Error> {
        let Some(directory) = self.directory("devices") else { return Ok(()) };
        let directory = std::fs::File::open(directory).ctx("open", directory)?;
        let program = sys::bpf::load_device_program(&bpf::program(policy))?;
        Ok(sys::bpf::replace_device_programs(&directory, program)?)
    }

    /// Gives the cgroup to `owner`: the directory and the files that the kernel says may be delegated.
    fn delegate(&self, owner: u32) -> Result<(), Error> {
        let Some(directory) = self.directory("").filter(|_| self.unified) else { return Ok(()) };
        let files = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
        let files =
            files.unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
        for file in std::iter::once("").chain(files.lines()) {
            let path = directory.join(file);
            match std::os::unix::fs::chown(&path, Some(owner), None) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error)
                    if self.rights == Rights::Rootless && error.raw_os_error() == Some(libc::EPERM) => {}
                other => other.ctx("chown", &path)?,
            }
        }
        Ok(())
    }

    fn make(&mut self, place: &Place, made: &mut Vec<PathBuf>) -> Result<(), Error> {
        for ((controller, path), mount) in place.paths.iter().zip(&place.mounts) {
            let result = if self.unified {
                make_v2(mount, path, made)
            } else {
                make_v1(controller, mount, path, made)
            };
            match result {
                Ok(()) => {
                    self.paths.insert(controller.clone(), path.clone());
                }
                Err(error) if self.rights == Rights::Rootless && ignorable(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn facts(&self, resources: &LinuxResources) -> Result<Facts, Error> {
        let mut facts = Facts::default();
        let number = |directory: &Path, file: &str| {
            std::fs::read_to_string(directory.join(file)).ok().and_then(|text| text.trim().parse().ok())
        };
        if let (Some(memory), Some(directory)) = (&resources.memory, self.directory("memory")) {
            if memory.check_before_update == Some(true) {
                facts.memory_usage = number(directory, "memory.current");
            }
            if !self.unified && (memory.swap.is_some() || memory.limit == Some(-1)) {
                facts.memory_limit = number(directory, "memory.limit_in_bytes");
                facts.counts_swap = directory.join("memory.memsw.limit_in_bytes").exists();
            }
        }
        let weights =
            resources.block_io.as_ref().is_some_and(|b| b.weight.is_some() || !b.weight_device.is_empty());
        if weights && let Some(directory) = self.directory(if self.unified { "io" } else { "blkio" }) {
            facts.bfq =
                directory.join(if self.unified { "io.bfq.weight" } else { "blkio.bfq.weight" }).exists();
        }
        Ok(facts)
    }

    /// Each directory once: controllers that share a hierarchy share it.
    pub(super) fn distinct(&self) -> Vec<&Path> {
        let mut paths: Vec<&Path> = self.paths.values().map(PathBuf::as_path).collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

fn refuse_used(path: &Path) -> Result<(), Error> {
    let frozen = |file: &str, state: &str| {
        std::fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim() == state)
    };
    match std::fs::read_to_string(path.join("cgroup.procs")) {
        Ok(text) if !text.is_empty() => {
            Err(Error::InUse { path: path.to_owned(), processes: text.lines().count() })
        }
        Ok(_) if frozen("cgroup.freeze", "1") || frozen("freezer.state", "FROZEN") => {
            Err(impossible(format!("use cgroup {}", path.display()), "it is frozen"))
        }
        _ => Ok(()),
    }
}

/// Makes `path` and what is above it. A new cpuset is empty and takes no process: it gets its parent's.
fn make_v1(controller: &str, mount: &Path, path: &Path, made: &mut Vec<PathBuf>) -> Result<(), sys::Error> {
    for directory in between(mount, path) {
        make_directory(&directory, made)?;
        if controller == "cpuset" {
            let parent = directory.parent().unwrap_or(mount);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(parent, &directory, file)?;
            }
        }
    }
    Ok(())
}

fn inherit(parent: &Path, child: &Path, file: &str) -> Result<(), sys::Error> {
    let (from, to) = (parent.join(file), child.join(file));
    if std::fs::read_to_string(&to).ctx("read", &to)?.trim().is_empty() {
        let value = std::fs::read_to_string(&from).ctx("read", &from)?;
        write(&to, value.trim())?;
    }
    Ok(())
}

/// Makes `path` and what is above it, with all controllers enabled for it.
fn make_v2(mount: &Path, path: &Path, made: &mut Vec<PathBuf>) -> Result<(), sys::Error> {
    let file = mount.join("cgroup.controllers");
    let controllers = std::fs::read_to_string(&file).ctx("read", &file)?;
    for directory in between(mount, path) {
        let parent = directory.parent().unwrap_or(mount);
        enable(parent, controllers.split_ascii_whitespace());
        make_directory(&directory, made)?;
    }
    Ok(())
}

/// Enables what can be. What can't (a tree that is not ours, a controller in use by threads) shows when a limit
/// is set that needs it.
fn enable<'a>(directory: &Path, controllers: impl Iterator<Item = &'a str>) {
    let file = directory.join("cgroup.subtree_control");
    let Ok(enabled) = std::fs::read_to_string(&file) else { return };
    let missing = controllers.filter(|name| !enabled.split_ascii_whitespace().any(|known| known == *name));
    let missing: Vec<String> = missing.map(|name| format!("+{name}")).collect();
    if missing.is_empty() || write(&file, &missing.join(" ")).is_ok() {
        return;
    }
    for one in missing {
        // Ignored: see above.
        let _ = write(&file, &one);
    }
}

/// The directories below `mount` down to `path`, top first.
fn between(mount: &Path, path: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = path.ancestors().take_while(|at| *at != mount).map(Path::to_path_buf).collect();
    all.reverse();
    all
}

fn make_directory(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), sys::Error> {
    match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755)) {
        Ok(()) => made.push(path.to_owned()),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(sys::Error::new("mkdir", path, error)),
    }
    Ok(())
}

/// One write(2) into a file that is there.
pub(super) fn write(path: &Path, value: &str) -> Result<(), sys::Error> {
    let mut file = OpenOptions::new().write(true).open(path).ctx("open", path)?;
    file.write_all(value.as_bytes())
        .map_err(|error| sys::Error::new("write", format!("{value:?} to {}", path.display()), error))
}

fn ignorable(error: &sys::Error) -> bool {
    matches!(error.errno(), Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::ENOENT))
}
