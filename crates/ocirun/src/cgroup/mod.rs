//! Control groups of a container: where they are, what is written there, and what is read back.
//!
//! ```text
//! LinuxResources + layout ──plan──▶ writes ──apply──▶ files      (pure, then acting)
//! cgroupsPath ──place──▶ directories of every hierarchy (v1), or one (v2); or a systemd scope
//! ```
//! What is decided here follows runc, so that a container moves between the runtimes unchanged.

mod apply;
mod bpf;
mod change;
mod devices;
mod layout;
mod live;
mod place;
mod plan;
mod plan_v1;
mod plan_v2;
mod pressure;
mod stats;
pub mod systemd;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::oci::LinuxResources;
use serde::{Deserialize, Serialize};

use crate::error::Error;

pub use devices::{DevicePolicy, Rule};
pub use layout::{Hierarchy, Layout};
pub use place::{Place, Unit};
pub use plan::{Devices, Facts, Plan, Refused, Write, plan};
pub use pressure::{Percent, Pressure, Waits};
pub use stats::Stats;

/// That `object`, a field or a step, can't be.
fn impossible(object: impl std::fmt::Display, cause: impl std::fmt::Display) -> Error {
    Error::Step(format!("{object}: {cause}"))
}

/// Who makes the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// We do, with mkdir.
    Cgroupfs,
    /// systemd does, as a scope.
    Systemd,
}

/// With whose rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rights {
    /// Root of the first user namespace: what can't be done is an error.
    Root,
    /// Anybody else: what can't be done is left out, unless limits ask for it.
    Rootless,
}

/// What a container's cgroup is to be.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<&'a str>,
    /// `linux.resources`.
    pub resources: &'a LinuxResources,
    /// `org.systemd.property.…` are used by the systemd driver.
    pub annotations: &'a BTreeMap<String, String>,
    /// Who makes it.
    pub driver: Driver,
    /// With whose rights.
    pub rights: Rights,
    /// Who is to own it (v2): who the program runs as, if it may change its cgroups.
    pub owner: Option<u32>,
}

/// A container's cgroup that is there. It is part of the container's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its directory in each hierarchy by controller (v1: `memory`, `name=systemd`, `""` for the unified
    /// hierarchy of the hybrid layout), or under `""` alone (v2).
    pub paths: BTreeMap<String, PathBuf>,
    /// Whether there is only cgroup v2.
    pub unified: bool,
    /// The scope, with the systemd driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// With whose rights it was made.
    pub rights: Rights,
}

impl Cgroup {
    /// The directory of `controller`, if the cgroup has one.
    #[must_use]
    pub fn directory(&self, controller: &str) -> Option<&Path> {
        let key = if self.unified { "" } else { controller };
        self.paths.get(key).map(PathBuf::as_path)
    }

    /// The directory whose `cgroup.procs` has all of the container's processes.
    #[must_use]
    pub fn main_directory(&self) -> Option<&Path> {
        const ORDER: [&str; 5] = ["", "devices", "pids", "memory", "name=systemd"];
        if self.unified {
            return self.paths.get("").map(PathBuf::as_path);
        }
        // A v1 cgroup may lack any controller, rootless ones nearly all.
        let known = ORDER[1..].iter().find_map(|name| self.paths.get(*name));
        known.or_else(|| self.paths.values().next()).map(PathBuf::as_path)
    }
}
