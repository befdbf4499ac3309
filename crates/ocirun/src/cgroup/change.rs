//! Writes plans into a cgroup, and changes limits of a running container. All or nothing: what was written before a failure
//! is taken back, in the files and in systemd.

use std::path::{Path, PathBuf};

use model::oci::LinuxResources;
use sys::Ctx as _;

use super::apply::write;
use super::plan::Devices;
use super::{Cgroup, DevicePolicy, Error, Plan, Refused, Write, impossible, plan, systemd};

impl Cgroup {
    /// Changes limits of a running container, not its devices. `now` is what it has, `wanted` all that it is to have.
    ///
    /// # Errors
    /// A limit that is refused. Then all are as they were.
    pub fn update(&self, now: &LinuxResources, wanted: &LinuxResources) -> Result<(), Error> {
        let plan = plan(wanted, self, self.facts(wanted)?, Devices::Keep)?;
        // systemd writes the files too, so that they are read before.
        let before = self.values(&plan.writes);
        let result = self.tell_systemd(now, wanted).and_then(|()| self.write_all(&plan.writes));
        if result.is_err() {
            // Ignored: the first error is the one to tell.
            let _ = self.tell_systemd(wanted, now);
            restore(before);
        }
        result
    }

    /// Gives a new cgroup its limits and devices.
    pub(super) fn apply(&self, plan: &Plan) -> Result<(), Error> {
        let before = self.values(&plan.writes);
        let result = self.write_all(&plan.writes).and_then(|()| match &plan.devices {
            Some(policy) => self.set_devices(policy),
            None => Ok(()),
        });
        if result.is_err() {
            restore(before);
        }
        result
    }

    fn tell_systemd(&self, from: &LinuxResources, to: &LinuxResources) -> Result<(), Error> {
        let Some(unit) = &self.unit else { return Ok(()) };
        let tell = || Ok(systemd::set_properties(unit, from, to, self.unified)?);
        match self.directory("devices").filter(|_| !self.unified) {
            Some(directory) => self.keeping_devices(directory, to, tell),
            None => tell(),
        }
    }

    /// Where v1's systemd writes one limit of a unit it writes its own list of devices too, which lacks what others have
    /// allowed, and for a moment is empty: the container must not see that.
    fn keeping_devices(
        &self,
        directory: &Path,
        resources: &LinuxResources,
        change: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let list = directory.join("devices.list");
        let mut policy = DevicePolicy::from_list(&std::fs::read_to_string(&list).ctx("read", &list)?);
        if policy.default_allow {
            // The list does not show what is denied.
            policy = DevicePolicy::of(&resources.devices)?;
        }
        let frozen = !self.is_frozen()? && self.freeze().is_ok();
        let result = change().and(self.set_devices(&policy));
        if frozen {
            self.thaw()?;
        }
        result
    }

    /// What has to be written to have again what is in the files of `writes`.
    fn values(&self, writes: &[Write]) -> Vec<(PathBuf, String)> {
        let value = |one: &Write| {
            let path = self.directory(&one.controller)?.join(&one.file);
            let value = old_value(one, &std::fs::read_to_string(&path).ok()?)?;
            Some((path, value))
        };
        writes.iter().filter_map(value).collect()
    }

    fn write_all(&self, writes: &[Write]) -> Result<(), Error> {
        let mut again: Vec<(&Write, PathBuf)> = Vec::new();
        for one in writes {
            let Some(directory) = self.directory(&one.controller) else {
                let object = format!("set {}", one.file);
                return Err(impossible(object, format!("the container has no cgroup of {}", one.controller)));
            };
            let path = directory.join(&one.file);
            match write(&path, &one.value) {
                Ok(()) => {}
                Err(error)
                    if one.refused == Refused::MissingIsFine && error.errno() == Some(libc::ENOENT) =>
                {
                    continue;
                }
                Err(error)
                    if one.refused == Refused::RetryAfterNext && error.errno() == Some(libc::EINVAL) =>
                {
                    again.push((one, path));
                    continue;
                }
                Err(error) => return Err(self.explain(one, directory, error)),
            }
            if one.refused != Refused::RetryAfterNext {
                for (one, path) in again.drain(..) {
                    write(&path, &one.value)?;
                }
            }
            check_shares(one, &path)?;
        }
        Ok(())
    }

    /// Adds what an errno alone does not say.
    fn explain(&self, one: &Write, directory: &Path, error: sys::Error) -> Error {
        let number = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap_or_default();
        if error.errno() == Some(libc::EBUSY) && one.file == "memory.limit_in_bytes" {
            let (usage, peak) = (number("memory.usage_in_bytes"), number("memory.max_usage_in_bytes"));
            let cause = format!(
                "device or resource busy (current usage: {}, peak usage: {})",
                usage.trim(),
                peak.trim()
            );
            return impossible(format!("set memory limit to {}", one.value), cause);
        }
        if self.unified && matches!(error.errno(), Some(libc::ENOENT | libc::EACCES | libc::EPERM)) {
            let available = number("cgroup.controllers");
            if !one.controller.is_empty()
                && !available.split_ascii_whitespace().any(|name| name == one.controller)
            {
                let cause = format!("the controller {:?} is not available", one.controller);
                return impossible(format!("set {}", one.file), cause);
            }
        }
        error.into()
    }
}

/// Ignored where it fails: the old value was taken before.
fn restore(values: Vec<(PathBuf, String)>) {
    for (path, value) in values.into_iter().rev() {
        let _ = write(&path, &value);
    }
}

/// A limit out of the kernel's range is changed by it without a word.
fn check_shares(one: &Write, path: &Path) -> Result<(), Error> {
    if one.file != "cpu.shares" {
        return Ok(());
    }
    let wanted: u64 = one.value.parse().unwrap_or_default();
    let got = std::fs::read_to_string(path).ctx("read", path)?.trim().parse().unwrap_or(wanted);
    let cause = match wanted.cmp(&got) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => format!("{wanted} is below the smallest, {got}"),
        std::cmp::Ordering::Greater => format!("{wanted} is above the largest, {got}"),
    };
    Err(impossible("linux.resources.cpu.shares", cause))
}

/// What to write to have `old` again, after `one` was written.
pub(super) fn old_value(one: &Write, old: &str) -> Option<String> {
    let key = one.value.split_once(' ').map(|(key, _)| key);
    let line_of = |key: &str| old.lines().find(|line| line.split_ascii_whitespace().next() == Some(key));
    match (one.file.as_str(), key) {
        ("memory.oom_control", _) => line_of("oom_kill_disable")?.split(' ').nth(1).map(str::to_owned),
        ("io.weight" | "io.bfq.weight", None) => {
            line_of("default").or_else(|| old.lines().next()).map(str::to_owned)
        }
        ("io.weight" | "io.bfq.weight", Some(key)) => {
            Some(line_of(key).map_or_else(|| format!("{key} default"), str::to_owned))
        }
        ("io.max", Some(key)) => {
            let none = || format!("{key} rbps=max wbps=max riops=max wiops=max");
            Some(line_of(key).map_or_else(none, str::to_owned))
        }
        ("rdma.max", Some(key)) => {
            Some(line_of(key).map_or_else(|| format!("{key} hca_handle=max hca_object=max"), str::to_owned))
        }
        (file, Some(key)) if file.starts_with("blkio.") || file == "net_prio.ifpriomap" => {
            Some(line_of(key).map_or_else(|| format!("{key} 0"), str::to_owned))
        }
        // A file of one value; an empty one is emptied by an empty line.
        _ => Some(if old.trim().is_empty() { "\n".to_owned() } else { old.trim().to_owned() }),
    }
}
