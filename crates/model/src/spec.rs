//! From what an operator asks for to a config.json of the OCI runtime specification.
//!
//! The defaults are those that podman's users know: eleven capabilities, masked and read-only paths of
//! /proc and /sys, private pid, mount, ipc and uts namespaces, no devices but the standard ones, a
//! seccomp profile. Users and groups are numbers here: names are looked up in the root file system by
//! whoever may open it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::capability::{self, CapabilitySet};
use crate::oci::LinuxResources;

mod mount;
mod resources;
mod seccomp;

pub use mount::Mount;
pub use resources::{check_resources, merge_resources};
pub use seccomp::default_profile;

/// Capabilities of a container that asks for none.
pub const DEFAULT_CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];
const READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether a container has a network of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// One of its own with only the loopback interface.
    #[default]
    None,
    /// The host's.
    Host,
}

/// Numbers that a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// More groups.
    pub additional_gids: Vec<u32>,
}

/// A limit of setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`, …
    pub kind: String,
    /// In force.
    pub soft: u64,
    /// The most that may be asked for.
    pub hard: u64,
}

/// What the host is like, as far as a config depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Host {
    /// The unified cgroup hierarchy: containers get a cgroup namespace.
    pub cgroup_v2: bool,
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerSpec {
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value` each; a later one wins. PATH, TERM (with a terminal) and HOSTNAME have defaults.
    pub env: Vec<String>,
    /// The working directory; absent: `/`.
    pub workdir: Option<String>,
    /// Who it runs as.
    pub user: User,
    /// The host name; absent: `hostname_default`.
    pub hostname: Option<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// No writes to the root file system.
    pub read_only: bool,
    /// The network.
    pub network: Network,
    /// Capabilities beyond the defaults, `NET_ADMIN`, `CAP_NET_ADMIN` or `all`.
    pub cap_add: Vec<String>,
    /// Capabilities taken away, after that; `all` with cap_add names is those only.
    pub cap_drop: Vec<String>,
    /// All capabilities, all devices, nothing masked, no seccomp.
    pub privileged: bool,
    /// No way to more powers through set-user-id programs.
    pub no_new_privileges: bool,
    /// No seccomp filter.
    pub seccomp_unconfined: bool,
    /// More mounts, after the standard ones; one of them with the same target is replaced.
    pub mounts: Vec<Mount>,
    /// Limits.
    pub resources: LinuxResources,
    /// Process limits.
    pub rlimits: Vec<Rlimit>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// Why no config.json can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}: {cause}")]
pub struct SpecError {
    what: &'static str,
    text: String,
    cause: String,
}

impl SpecError {
    fn new(what: &'static str, text: &str, cause: impl Into<String>) -> Self {
        Self { what, text: text.chars().take(100).collect(), cause: cause.into() }
    }
}

impl ContainerSpec {
    /// The config.json for it.
    ///
    /// # Errors
    /// [`SpecError`] for a relative path, an unknown capability, a bad variable, absurd limits.
    pub fn to_config(&self, host: Host) -> Result<Value, SpecError> {
        self.check()?;
        let hostname = self.hostname.clone();
        let (masked, read_only) =
            if self.privileged { (&[][..], &[][..]) } else { (&MASKED[..], &READ_ONLY[..]) };
        let mut linux = json!({
            "namespaces": self.namespaces(host),
            "resources": self.resources()?,
            "maskedPaths": masked,
            "readonlyPaths": read_only,
        });
        if !self.seccomp_unconfined && !self.privileged {
            linux["seccomp"] = json!(default_profile(&self.effective_capabilities()?));
        }
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": self.process()?,
            "root": {"path": self.rootfs, "readonly": self.read_only},
            "mounts": self.all_mounts(),
            "linux": linux,
        });
        // The host's network has the host's name, where none was asked for.
        if let Some(hostname) = hostname {
            config["hostname"] = json!(hostname);
        }
        if !self.annotations.is_empty() {
            config["annotations"] = json!(self.annotations);
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), SpecError> {
        if !self.rootfs.is_absolute() {
            return Err(SpecError::new("rootfs", &self.rootfs.to_string_lossy(), "not an absolute path"));
        }
        match self.args.first() {
            None => return Err(SpecError::new("command", "", "none was given")),
            Some(program) if program.is_empty() => return Err(SpecError::new("command", "", "it is empty")),
            Some(_) => {}
        }
        if let Some(bad) = self.args.iter().chain(&self.env).find(|text| text.contains('\0')) {
            return Err(SpecError::new("argument", bad, "it has a NUL byte"));
        }
        if let Some(bad) = self.env.iter().find(|text| text.find('=').is_none_or(|at| at == 0)) {
            return Err(SpecError::new("variable", bad, "not NAME=value"));
        }
        if let Some(dir) = self.workdir.as_ref().filter(|dir| !dir.starts_with('/')) {
            return Err(SpecError::new("working directory", dir, "not an absolute path"));
        }
        if let Some(name) = &self.hostname {
            let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
            if name.is_empty() || name.len() > 64 || !letters {
                return Err(SpecError::new("host name", name, "1 to 64 letters, digits, - and ."));
            }
        }
        check_resources(&self.resources)
    }

    fn process(&self) -> Result<Value, SpecError> {
        let mut process = json!({
            "terminal": self.terminal,
            "user": {"uid": self.user.uid, "gid": self.user.gid, "umask": 0o22},
            "args": self.args,
            "env": self.environment(),
            "cwd": self.workdir.as_deref().unwrap_or("/"),
            "capabilities": self.capabilities()?,
            "noNewPrivileges": self.no_new_privileges,
        });
        if !self.user.additional_gids.is_empty() {
            process["user"]["additionalGids"] = json!(self.user.additional_gids);
        }
        if let Some(adj) = self.oom_score_adj {
            process["oomScoreAdj"] = json!(adj);
        }
        if !self.rlimits.is_empty() {
            let limit = |r: &Rlimit| json!({"type": r.kind, "soft": r.soft, "hard": r.hard});
            process["rlimits"] = self.rlimits.iter().map(limit).collect();
        }
        Ok(process)
    }

    fn environment(&self) -> Vec<String> {
        let mut env = vec![PATH.to_owned()];
        if self.terminal {
            env.push("TERM=xterm".to_owned());
        }
        if let Some(hostname) = &self.hostname {
            env.push(format!("HOSTNAME={hostname}"));
        }
        for variable in &self.env {
            let name = variable.split('=').next().unwrap_or_default();
            env.retain(|known| known.split('=').next() != Some(name));
            env.push(variable.clone());
        }
        env
    }

    /// What the container may have at most, by name.
    fn effective_capabilities(&self) -> Result<Vec<&'static str>, SpecError> {
        let all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("all"));
        let named = |list: &[String]| -> Result<u64, SpecError> {
            list.iter().filter(|name| !name.eq_ignore_ascii_case("all")).try_fold(0, |set, name| {
                let upper = name.to_ascii_uppercase();
                let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
                let number = capability::number(&full)
                    .ok_or_else(|| SpecError::new("capability", name, "no such capability"))?;
                Ok(set | 1u64 << number)
            })
        };
        let (add, drop) = (named(&self.cap_add)?, named(&self.cap_drop)?);
        let everything = CapabilitySet::parse(capability::names()).0.0;
        let set = if self.privileged || all(&self.cap_add) {
            everything & !drop
        } else if all(&self.cap_drop) {
            add
        } else {
            (CapabilitySet::parse(&DEFAULT_CAPABILITIES).0.0 | add) & !drop
        };
        Ok(CapabilitySet(set).names().collect())
    }

    /// Root has them all; another user only those that were asked for, which it keeps through exec.
    fn capabilities(&self) -> Result<Value, SpecError> {
        let bounding = self.effective_capabilities()?;
        if self.user.uid == 0 {
            return Ok(json!({"bounding": bounding, "effective": bounding, "permitted": bounding}));
        }
        let asked = |name: &&&str| {
            let short = name.trim_start_matches("CAP_");
            self.cap_add.iter().any(|a| a.eq_ignore_ascii_case(name) || a.eq_ignore_ascii_case(short))
        };
        let kept: Vec<&str> = bounding.iter().filter(asked).copied().collect();
        Ok(
            json!({"bounding": bounding, "effective": kept, "permitted": kept, "inheritable": kept, "ambient": kept}),
        )
    }

    fn namespaces(&self, host: Host) -> Value {
        let mut kinds = vec!["pid", "ipc", "mount"];
        // A container in the host's network keeps the host's name unless it asks for one.
        if self.network == Network::None || self.hostname.is_some() {
            kinds.push("uts");
        }
        if self.network == Network::None {
            kinds.push("network");
        }
        if host.cgroup_v2 {
            kinds.push("cgroup");
        }
        kinds.into_iter().map(|kind| json!({"type": kind})).collect()
    }

    fn resources(&self) -> Result<Value, SpecError> {
        let mut resources = serde_json::to_value(&self.resources)
            .map_err(|e| SpecError::new("resources", "", e.to_string()))?;
        let mut rules = vec![json!({"allow": self.privileged, "access": "rwm"})];
        if let Some(more) = resources.get("devices").and_then(Value::as_array) {
            rules.extend(more.iter().cloned());
        }
        resources["devices"] = Value::Array(rules);
        Ok(resources)
    }

    fn all_mounts(&self) -> Value {
        let mut mounts = mount::standard(if self.privileged { "rw" } else { "ro" });
        mounts.retain(|m| !self.mounts.iter().any(|own| Path::new(&own.target) == Path::new(&m.target)));
        mounts.iter().chain(&self.mounts).map(Mount::to_json).collect()
    }
}

#[cfg(test)]
mod tests;
