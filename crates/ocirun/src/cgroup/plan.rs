//! `linux.resources` → files to write. Pure: what must be read first comes in as [`Facts`].

use model::oci::LinuxResources;

use super::{Cgroup, DevicePolicy, Error, impossible, plan_v1, plan_v2};

/// Everything that is to be done to a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Files, in their order.
    pub writes: Vec<Write>,
    /// The device policy, unless it stays as it is.
    pub devices: Option<DevicePolicy>,
}

/// One file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller whose directory it is in.
    pub controller: String,
    /// Its name.
    pub file: String,
    /// What is written, in one write(2).
    pub value: String,
    /// What it means when the kernel does not take it.
    pub refused: Refused,
}

/// What it means when the kernel does not take a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The limit can't be had: an error.
    Fails,
    /// No such file means that there is nothing to limit.
    MissingIsFine,
    /// EINVAL may come from the old value of a file that is written next: try again after that.
    RetryAfterNext,
}

/// What the plan needs to know of the cgroup before it can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// The memory limit now (v1), to order it against the limit of memory and swap.
    pub memory_limit: Option<u64>,
    /// Whether swap is counted (v1).
    pub counts_swap: bool,
    /// Whether weights are BFQ's.
    pub bfq: bool,
    /// Bytes in use now, for `checkBeforeUpdate`.
    pub memory_usage: Option<u64>,
}

/// Whether the device policy is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// Yes: a new cgroup.
    Set,
    /// The policy stays as it is: an update.
    Keep,
}

/// The plan that gives `cgroup` the limits of `resources`.
///
/// # Errors
/// A value that has no meaning on this version of control groups.
pub fn plan(
    resources: &LinuxResources,
    cgroup: &Cgroup,
    facts: Facts,
    devices: Devices,
) -> Result<Plan, Error> {
    let writes =
        if cgroup.unified { plan_v2::writes(resources, facts)? } else { plan_v1::writes(resources, facts)? };
    let devices = match devices {
        Devices::Set => Some(DevicePolicy::of(&resources.devices)?),
        Devices::Keep => None,
    };
    Ok(Plan { writes, devices })
}

/// Collects writes.
#[derive(Debug, Default)]
pub(super) struct Writes(pub(super) Vec<Write>);

impl Writes {
    pub(super) fn push(&mut self, controller: &str, file: &str, value: impl ToString) {
        self.push_with(controller, file, value, Refused::Fails);
    }

    pub(super) fn push_with(&mut self, controller: &str, file: &str, value: impl ToString, refused: Refused) {
        let (controller, file, value) = (controller.to_owned(), file.to_owned(), value.to_string());
        self.0.push(Write { controller, file, value, refused });
    }
}

/// Only what is set and not 0: Go's omitted integers are zeros, and so runc takes 0 for "not set".
pub(super) fn set<T: Copy + PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// Page sizes are names of files, so no path may hide in them.
pub(super) fn file_part<'a>(object: &str, name: &'a str) -> Result<&'a str, Error> {
    if name.is_empty() || name.contains(['/', '\0']) {
        return Err(impossible(object, format!("{name:?} is no name of a file")));
    }
    Ok(name)
}
