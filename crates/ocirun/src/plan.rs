//! What a container's init will do: config.json checked, and turned into steps. Pure.

use std::path::{Path, PathBuf};

use model::oci::{Hooks, Linux, LinuxDevice, LinuxIdMapping, LinuxTimeOffset, Spec};

use crate::error::{Error, Result};
use crate::mempolicy::MemoryPolicy;
use crate::mounts::options::{self, MountOptions};
use crate::namespaces::{Kind, Namespaces};
use crate::netdev;
use crate::process::ProcessPlan;

/// The versions of the specification that are understood: from 1.0 to this one.
pub const OCI_VERSION: &str = "1.3.0";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedMount {
    /// Absolute, as the container sees it.
    pub(crate) destination: String,
    /// What is mounted.
    pub(crate) what: What,
    /// The options.
    pub(crate) options: MountOptions,
    /// How ids are mapped, if they are.
    pub(crate) id_maps: Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A path outside.
    Bind(PathBuf),
    /// The container's cgroups.
    Cgroup,
    /// A new filesystem: type and source.
    New(String, Option<String>),
    /// Nothing new: what is there gets other options.
    Remount,
}

/// A kernel parameter of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// Its name with slashes, below /proc/sys.
    pub(crate) path: String,
    pub(crate) value: String,
    /// Whose it is.
    pub(crate) namespace: Kind,
}

/// All that init does before it becomes the container's program.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InitPlan {
    pub(crate) rootfs: PathBuf,
    pub(crate) root_readonly: bool,
    pub(crate) propagation: Option<(u64, bool)>,
    pub(crate) namespaces: Namespaces,
    pub(crate) uid_maps: Vec<LinuxIdMapping>,
    pub(crate) gid_maps: Vec<LinuxIdMapping>,
    pub(crate) time_offsets: Vec<(String, LinuxTimeOffset)>,
    pub(crate) mounts: Vec<PlannedMount>,
    /// Whether /dev is ours to fill.
    pub(crate) fill_dev: bool,
    pub(crate) devices: Vec<LinuxDevice>,
    pub(crate) masked: Vec<String>,
    pub(crate) readonly: Vec<String>,
    pub(crate) sysctl: Vec<Sysctl>,
    /// Network devices: the host's name and the container's.
    pub(crate) net_devices: Vec<(String, String)>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) personality: Option<u64>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// The SELinux label of new filesystems, where the kernel has SELinux.
    pub(crate) mount_label: Option<String>,
    pub(crate) process: ProcessPlan,
    pub(crate) hooks: Hooks,
    pub(crate) no_pivot: bool,
    pub(crate) keyring: Option<String>,
}

/// What the command line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Switches {
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
}

impl InitPlan {
    /// Checks `spec`, whose bundle is the absolute path `bundle`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first field that can't be.
    pub(crate) fn new(
        spec: &Spec,
        bundle: &Path,
        id: &str,
        switches: Switches,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        check_version(&spec.oci_version)?;
        let root = spec.root.as_ref().ok_or_else(|| Error::invalid("root", "missing"))?;
        if root.path.is_empty() || root.path.contains('\0') {
            return Err(Error::invalid("root.path", "empty"));
        }
        let process = spec.process.as_ref().ok_or_else(|| Error::invalid("process", "missing"))?;
        let process = ProcessPlan::new(process, warnings)?;
        let none = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        let namespaces = Namespaces::new(&linux.namespaces)?;
        check_linux(linux, &namespaces, spec)?;
        let mut mounts = Vec::with_capacity(spec.mounts.len());
        for mount in &spec.mounts {
            mounts.push(plan_mount(mount, bundle, warnings)?);
        }
        if !namespaces.has(Kind::Mount) && !mounts.is_empty() {
            return Err(Error::invalid("mounts", "there is no mount namespace for them"));
        }
        let fill_dev = !mounts.iter().any(|mount| {
            matches!(mount.what, What::Bind(_)) && matches!(mount.destination.trim_end_matches('/'), "/dev")
        });
        Ok(Self {
            rootfs: bundle.join(&root.path),
            root_readonly: root.readonly,
            propagation: propagation(linux)?,
            uid_maps: linux.uid_mappings.clone(),
            gid_maps: linux.gid_mappings.clone(),
            time_offsets: time_offsets(linux, &namespaces)?,
            mounts,
            fill_dev: fill_dev && namespaces.has(Kind::Mount),
            devices: devices(linux)?,
            masked: paths(&linux.masked_paths, "linux.maskedPaths")?,
            readonly: paths(&linux.readonly_paths, "linux.readonlyPaths")?,
            sysctl: sysctls(linux, &namespaces)?,
            net_devices: net_devices(linux, &namespaces)?,
            hostname: spec.hostname.clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname.clone().filter(|name| !name.is_empty()),
            personality: personality(linux)?,
            memory_policy: MemoryPolicy::new(linux)?,
            mount_label: None,
            process,
            hooks: checked_hooks(spec)?,
            no_pivot: switches.no_pivot,
            keyring: (!switches.no_new_keyring).then(|| format!("_ses.{id}")),
            namespaces,
        })
    }
}

impl InitPlan {
    /// Whether the runtime has something to do once the mounts are there.
    pub(crate) fn needs_parent(&self) -> bool {
        !self.hooks.prestart.is_empty() || !self.hooks.create_runtime.is_empty()
    }
}

fn check_version(version: &str) -> Result<()> {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(1)), Some(Ok(_)), Some(Ok(_))) => Ok(()),
        (Some(Ok(_)), Some(Ok(_)), Some(Ok(_))) => {
            Err(Error::invalid("ociVersion", format!("{version} is not supported, 1.0.0 to 1.x are")))
        }
        _ => Err(Error::invalid("ociVersion", format!("{version:?} is no version"))),
    }
}

fn check_linux(linux: &Linux, namespaces: &Namespaces, spec: &Spec) -> Result<()> {
    let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if namespaces.is_new(Kind::User) {
        if linux.uid_mappings.is_empty() {
            return Err(Error::invalid("linux.uidMappings", "missing for a new user namespace"));
        }
        if linux.gid_mappings.is_empty() {
            return Err(Error::invalid("linux.gidMappings", "missing for a new user namespace"));
        }
    } else if mapped && !namespaces.has(Kind::User) {
        return Err(Error::invalid("linux.uidMappings", "there is no user namespace for them"));
    }
    if spec.hostname.as_deref().is_some_and(|name| !name.is_empty()) && !namespaces.has(Kind::Uts) {
        return Err(Error::invalid("hostname", "there is no uts namespace for it"));
    }
    if spec.domainname.as_deref().is_some_and(|name| !name.is_empty()) && !namespaces.has(Kind::Uts) {
        return Err(Error::invalid("domainname", "there is no uts namespace for it"));
    }
    if !(namespaces.has(Kind::Mount) || linux.masked_paths.is_empty() && linux.readonly_paths.is_empty()) {
        return Err(Error::invalid("linux.maskedPaths", "there is no mount namespace for them"));
    }
    if linux.intel_rdt.as_ref().is_some_and(|value| !value.is_null()) {
        return Err(Error::invalid(
            "linux.intelRdt",
            "not supported: resctrl is not managed by this runtime",
        ));
    }
    Ok(())
}

fn net_devices(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<(String, String)>> {
    let bad = |cause: String| Err(Error::invalid("linux.netDevices", cause));
    if !linux.net_devices.is_empty() && !namespaces.has(Kind::Network) {
        return bad("there is no network namespace for them".to_owned());
    }
    let mut devices: Vec<(String, String)> = Vec::with_capacity(linux.net_devices.len());
    for (from, device) in &linux.net_devices {
        let to = device.name.as_ref().filter(|name| !name.is_empty()).unwrap_or(from);
        for name in [from, to] {
            if !netdev::is_name(name) || name == from && name.contains('%') {
                return bad(format!("{name:?} is no name of a device"));
            }
        }
        if !to.contains('%') && devices.iter().any(|(_, other)| other == to) {
            return bad(format!("two are to be {to}"));
        }
        devices.push((from.clone(), to.clone()));
    }
    Ok(devices)
}

fn propagation(linux: &Linux) -> Result<Option<(u64, bool)>> {
    match linux.rootfs_propagation.as_deref() {
        None | Some("") => Ok(None),
        Some(word) => options::propagation(word)
            .map(Some)
            .ok_or_else(|| Error::invalid("linux.rootfsPropagation", format!("{word:?} is no propagation"))),
    }
}

fn time_offsets(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<(String, LinuxTimeOffset)>> {
    if !linux.time_offsets.is_empty() && !namespaces.is_new(Kind::Time) {
        return Err(Error::invalid("linux.timeOffsets", "there is no new time namespace for them"));
    }
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::invalid(
                "linux.timeOffsets",
                format!("{clock:?} is neither monotonic nor boottime"),
            ));
        }
        if offset.nanosecs >= 1_000_000_000 {
            return Err(Error::invalid(
                "linux.timeOffsets",
                format!("{} nanoseconds are a second or more", offset.nanosecs),
            ));
        }
    }
    Ok(linux.time_offsets.iter().map(|(clock, offset)| (clock.clone(), *offset)).collect())
}

fn plan_mount(mount: &model::oci::Mount, bundle: &Path, warnings: &mut Vec<String>) -> Result<PlannedMount> {
    if mount.destination.is_empty() || mount.destination.contains('\0') {
        return Err(Error::invalid("mounts", format!("{:?} is no destination", mount.destination)));
    }
    let mut destination = mount.destination.clone();
    if !destination.starts_with('/') {
        warnings.push(format!("mount destination {destination:?} is not absolute: taken from /"));
        destination.insert(0, '/');
    }
    let object = format!("mounts {destination}");
    let options = MountOptions::parse(&destination, &mount.options)?;
    let kind = mount.kind.as_deref().unwrap_or("");
    let source = mount.source.as_deref().filter(|source| !source.is_empty());
    let what = if options.bind.is_some() || kind == "bind" {
        let source = source.ok_or_else(|| Error::invalid(&object, "a bind mount without a source"))?;
        What::Bind(bundle.join(source))
    } else if options.remount {
        What::Remount
    } else if matches!(kind, "cgroup" | "cgroup2") {
        What::Cgroup
    } else if kind.is_empty() || kind == "none" {
        // Only a change of propagation and the like.
        if options.propagation.is_empty() && options.set == 0 && options.clear == 0 {
            return Err(Error::invalid(object, "there is no type"));
        }
        What::Remount
    } else {
        What::New(kind.to_owned(), source.map(str::to_owned))
    };
    check_below_proc(&destination, &what)?;
    if options.tmpcopyup && !matches!(&what, What::New(kind, _) if kind == "tmpfs") {
        return Err(Error::invalid(object, "tmpcopyup is for tmpfs"));
    }
    let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    let id_maps =
        (mapped || options.idmap.is_some()).then(|| (mount.uid_mappings.clone(), mount.gid_mappings.clone()));
    if id_maps.is_some() {
        if !matches!(what, What::Bind(_)) {
            return Err(Error::invalid(object, "only bind mounts can have mapped ids"));
        }
        if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
            return Err(Error::invalid(object, "uidMappings and gidMappings must come together"));
        }
    }
    Ok(PlannedMount { destination, what, options, id_maps })
}

/// Files of /proc that something may be mounted on: those that say how much of the machine there is.
const BELOW_PROC: [&str; 12] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/fs/binfmt_misc",
];

/// The components of a path, without looking at the filesystem.
fn components(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

/// Whether a mount at `destination` may be on a procfs: over the whole of /proc, or on those files of it.
pub(crate) fn may_cover_proc(destination: &str) -> bool {
    let clean = format!("/{}", components(destination).join("/"));
    clean == "/proc" || BELOW_PROC.contains(&clean.as_str())
}

fn check_below_proc(destination: &str, what: &What) -> Result<()> {
    let parts = components(destination);
    if parts.first() != Some(&"proc") || matches!(what, What::Remount) {
        return Ok(());
    }
    let clean = format!("/{}", parts.join("/"));
    let allowed = match what {
        _ if BELOW_PROC.contains(&clean.as_str()) => true,
        What::New(kind, _) => kind == "proc" && parts.len() == 1,
        // The whole of a proc: whether it is one is seen when it is opened.
        What::Bind(_) => parts.len() == 1,
        What::Cgroup | What::Remount => false,
    };
    if allowed { Ok(()) } else { Err(Error::invalid(format!("mounts {destination}"), "inside /proc")) }
}

fn devices(linux: &Linux) -> Result<Vec<LinuxDevice>> {
    const DEFAULT: [(&str, i64, i64); 6] = [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ];
    let mut devices: Vec<LinuxDevice> = Vec::with_capacity(DEFAULT.len() + linux.devices.len());
    for device in &linux.devices {
        let bad = |cause: String| Err(Error::invalid(format!("linux.devices {}", device.path), cause));
        if !device.path.starts_with('/') || device.path.contains('\0') {
            return bad("not an absolute path".to_owned());
        }
        if !matches!(device.kind.as_str(), "c" | "u" | "b" | "p") {
            return bad(format!("{:?} is no type of device", device.kind));
        }
        let range = 0..=0xffff_ffff;
        if device.kind != "p" && !(range.contains(&device.major) && range.contains(&device.minor)) {
            return bad(format!("{}:{} is no device number", device.major, device.minor));
        }
        devices.push(device.clone());
    }
    for (path, major, minor) in DEFAULT {
        if !devices.iter().any(|device| device.path == path) {
            let (path, kind) = (path.to_owned(), "c".to_owned());
            devices.push(LinuxDevice { path, kind, major, minor, ..LinuxDevice::default() });
        }
    }
    Ok(devices)
}

fn paths(list: &[String], field: &str) -> Result<Vec<String>> {
    for path in list {
        if !path.starts_with('/') || path.contains('\0') {
            return Err(Error::invalid(field, format!("{path:?} is not an absolute path")));
        }
    }
    Ok(list.to_vec())
}

fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<Sysctl>> {
    const IPC: [&str; 8] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    let mut parsed = Vec::with_capacity(linux.sysctl.len());
    for (name, value) in &linux.sysctl {
        let bad = |cause: &str| Err(Error::invalid(format!("linux.sysctl {name}"), cause));
        // As sysctl(8): the first separator tells which of the two is meant.
        let path: String = if name.find('.') < name.find('/') && name.contains('.') || !name.contains('/') {
            name.chars()
                .map(|c| {
                    if c == '.' {
                        '/'
                    } else if c == '/' {
                        '.'
                    } else {
                        c
                    }
                })
                .collect()
        } else {
            name.clone()
        };
        if path.is_empty()
            || path.split('/').any(|part| matches!(part, "" | "." | ".."))
            || path.contains('\0')
        {
            return bad("no kernel parameter");
        }
        let namespace = match path.as_str() {
            "kernel/hostname" => return bad("use hostname instead"),
            "kernel/domainname" => Kind::Uts,
            path if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Kind::Ipc,
            path if path.starts_with("net/") => Kind::Network,
            path if path.starts_with("user/") => Kind::User,
            _ => return bad("not of a namespace of the container's own"),
        };
        if !namespaces.has(namespace) {
            return bad(HOSTS);
        }
        parsed.push(Sysctl { path, value: value.clone(), namespace });
    }
    Ok(parsed)
}

const HOSTS: &str = "the namespace that it belongs to is the host's";

/// Refuses kernel parameters of a namespace that is joined by a path and is the one that we are in (CVE-2022-0532).
///
/// # Errors
/// Such a one; the system's.
pub(crate) fn check_sysctls(plan: &InitPlan) -> Result<()> {
    for Sysctl { path, namespace, .. } in &plan.sysctl {
        if plan.namespaces.is_ours(*namespace)? {
            return Err(Error::invalid(format!("linux.sysctl {path}"), HOSTS));
        }
    }
    Ok(())
}

fn personality(linux: &Linux) -> Result<Option<u64>> {
    let Some(wanted) = &linux.personality else { return Ok(None) };
    if !wanted.flags.is_empty() {
        return Err(Error::invalid("linux.personality.flags", "none are supported"));
    }
    match wanted.domain.as_str() {
        "LINUX" => Ok(Some(0)),
        "LINUX32" => Ok(Some(8)),
        other => {
            Err(Error::invalid("linux.personality.domain", format!("{other:?} is neither LINUX nor LINUX32")))
        }
    }
}

fn checked_hooks(spec: &Spec) -> Result<Hooks> {
    let hooks = spec.hooks.clone().unwrap_or_default();
    let lists = [
        &hooks.prestart,
        &hooks.create_runtime,
        &hooks.create_container,
        &hooks.start_container,
        &hooks.poststart,
        &hooks.poststop,
    ];
    for hook in lists.into_iter().flatten() {
        if !hook.path.starts_with('/') {
            return Err(Error::invalid("hooks", format!("{:?} is not an absolute path", hook.path)));
        }
        if hook.timeout.is_some_and(|seconds| seconds <= 0) {
            return Err(Error::invalid("hooks", format!("the timeout of {} is not above 0", hook.path)));
        }
    }
    Ok(hooks)
}
