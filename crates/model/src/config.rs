//! The configuration of the lifecycle layer: CRI-O's names, so that its file is read as it is, and ours
//! under `[wharfinger]`.
//!
//! An unknown key is an error that names the nearest known one. A key of CRI-O that is known here and not
//! acted on is a warning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::trust::{OnDowngrade, Trust};

mod keys;

pub use keys::merge;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// CRI-O's tables.
    pub crio: Crio,
    /// Ours.
    pub wharfinger: Wharfinger,
}

/// CRI-O's tables, as far as they are acted on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Crio {
    /// `[crio.runtime]`.
    pub runtime: RuntimeConfig,
}

/// `[wharfinger]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wharfinger {
    /// Where the state directories of containers are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// The trust in workloads that ask for nothing.
    pub default_workload_trust: Trust,
    /// The handler for untrusted workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untrusted_runtime: Option<String>,
    /// What becomes of an untrusted workload that no untrusted handler can have: `warn` or `refuse`.
    pub on_downgrade: OnDowngrade,
}

/// `[crio.runtime]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeConfig {
    /// The handler of containers that ask for none; absent: the first usable of wharf-oci, runc, crun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_runtime: Option<String>,
    /// The monitor's program; absent: wharf-monitor, else conmon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conmon: Option<PathBuf>,
    /// The monitor's environment, `NAME=value` each.
    pub conmon_env: Vec<String>,
    /// The cgroup or slice of monitors; absent: beside the container's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conmon_cgroup: Option<String>,
    /// Who makes cgroups; absent: found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_manager: Option<CgroupManager>,
    /// Where conmon leaves exit statuses; absent: in the container's state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_exits_dir: Option<PathBuf>,
    /// Where conmon puts attach sockets; absent: in the container's state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_attach_socket_dir: Option<PathBuf>,
    /// Bytes after which the monitor begins a log anew; -1 is never.
    pub log_size_max: i64,
    /// Do not pivot_root (for a root file system in the initramfs).
    pub no_pivot: bool,
    /// Seconds between the stop signal and the kill, where the caller names none.
    pub ctr_stop_timeout: u64,
    /// The handlers by name.
    pub runtimes: BTreeMap<String, HandlerConfig>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            default_runtime: None,
            conmon: None,
            conmon_env: Vec::new(),
            conmon_cgroup: None,
            cgroup_manager: None,
            container_exits_dir: None,
            container_attach_socket_dir: None,
            log_size_max: -1,
            no_pivot: false,
            ctr_stop_timeout: 30,
            runtimes: BTreeMap::new(),
        }
    }
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// The runtime, by mkdir.
    Cgroupfs,
    /// systemd, asked through D-Bus.
    Systemd,
}

impl std::str::FromStr for CgroupManager {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cgroupfs" => Ok(Self::Cgroupfs),
            "systemd" => Ok(Self::Systemd),
            _ => Err(format!("cgroup manager {text:?}: it is cgroupfs or systemd")),
        }
    }
}

/// How a runtime is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeType {
    /// By runc's command line.
    #[default]
    Oci,
    /// The same, and each container is a virtual machine: execs always go through the runtime.
    Vm,
}

/// `[crio.runtime.runtimes.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandlerConfig {
    /// The program; absent: NAME in PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_path: Option<PathBuf>,
    /// How it is driven.
    pub runtime_type: RuntimeType,
    /// Its state directory (`--root`); absent: one of our own below our state root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_root: Option<PathBuf>,
    /// More global arguments.
    pub runtime_args: Vec<String>,
    /// The monitor for this handler; absent: `conmon` of `[crio.runtime]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_path: Option<PathBuf>,
    /// Its environment, `NAME=value` each; absent: `conmon_env`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_env: Option<Vec<String>>,
    /// Its cgroup or slice; absent: `conmon_cgroup`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_cgroup: Option<String>,
    /// Seconds that a create may take, 30 or more.
    pub container_create_timeout: u64,
}

impl Default for HandlerConfig {
    fn default() -> Self {
        Self {
            runtime_path: None,
            runtime_type: RuntimeType::Oci,
            runtime_root: None,
            runtime_args: Vec::new(),
            monitor_path: None,
            monitor_env: None,
            monitor_cgroup: None,
            container_create_timeout: 240,
        }
    }
}

/// Why a configuration is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A key that nobody knows.
    #[error("config key {key}: unknown{}", nearest.as_ref().map_or_else(String::new, |n| format!(", did you mean {n}?")))]
    UnknownKey {
        /// The key with its tables, dotted.
        key: String,
        /// The known key that is nearest to it.
        nearest: Option<String>,
    },
    /// A value of the wrong type or out of its range.
    #[error("config {key}: {cause}")]
    Value {
        /// The key with its tables, dotted, as far as it is known.
        key: String,
        /// What is wrong.
        cause: String,
    },
}

impl Config {
    /// Takes a parsed file, and says which of its keys are known and not acted on.
    ///
    /// # Errors
    /// [`ConfigError`] at the first unknown key or bad value.
    pub fn from_value(value: Value) -> Result<(Self, Vec<String>), ConfigError> {
        let (value, warnings) = keys::known_only(value)?;
        let config: Self = serde_json::from_value(value)
            .map_err(|e| ConfigError::Value { key: "file".to_owned(), cause: e.to_string() })?;
        config.check()?;
        Ok((config, warnings))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let error = |key: String, cause: &str| Err(ConfigError::Value { key, cause: cause.to_owned() });
        let runtime = &self.crio.runtime;
        for (name, handler) in &runtime.runtimes {
            let key = format!("crio.runtime.runtimes.{name}");
            if crate::Id::new(name.as_str()).is_err() {
                return error(key, "the name takes letters, digits and _ . + -");
            }
            if handler.container_create_timeout < 30 {
                return error(format!("{key}.container_create_timeout"), "at least 30 seconds");
            }
            if let Some(bad) = handler.monitor_env.iter().flatten().find(|v| !is_assignment(v)) {
                return error(format!("{key}.monitor_env"), &format!("{bad:?} is not NAME=value"));
            }
        }
        if let Some(bad) = runtime.conmon_env.iter().find(|v| !is_assignment(v)) {
            return error("crio.runtime.conmon_env".to_owned(), &format!("{bad:?} is not NAME=value"));
        }
        for (key, name) in [
            ("crio.runtime.default_runtime", &runtime.default_runtime),
            ("wharfinger.untrusted_runtime", &self.wharfinger.untrusted_runtime),
        ] {
            let Some(name) = name else { continue };
            if !runtime.runtimes.contains_key(name) && !BUILT_IN.contains(&name.as_str()) {
                return error(key.to_owned(), &format!("no handler {name:?} in crio.runtime.runtimes"));
            }
        }
        Ok(())
    }
}

/// Handlers that need no table, in the order in which a default is looked for.
pub const BUILT_IN: [&str; 3] = ["wharf-oci", "runc", "crun"];

fn is_assignment(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| !name.is_empty()) && !text.contains('\0')
}

#[cfg(test)]
mod tests;
