//! From CRI-O's configuration file to ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::config::{BUILT_IN, Config};

use crate::config::{
    CgroupManager, DEFAULT_ROOT, HandlerConfig, HandlerKind, MonitorConfig, RuntimeConfig, TrustConfig,
    find_program,
};

impl RuntimeConfig {
    /// What `config` says, with the handlers that need no table added where this machine has them.
    #[must_use]
    pub fn from_file(config: &Config) -> Self {
        let runtime = &config.crio.runtime;
        let root = config.wharfinger.root.clone().unwrap_or_else(|| DEFAULT_ROOT.into());
        let default_monitor = runtime
            .conmon
            .clone()
            .or_else(|| Self::detect("").handlers.first().map(|h| h.monitor.path.clone()));
        let mut handlers: Vec<HandlerConfig> = runtime
            .runtimes
            .iter()
            .map(|(name, table)| {
                let env = table.monitor_env.as_ref().unwrap_or(&runtime.conmon_env);
                let monitor = MonitorConfig {
                    path: first([&table.monitor_path, &default_monitor], "conmon"),
                    env: env
                        .iter()
                        .filter_map(|v| v.split_once('='))
                        .map(|(n, v)| (n.to_owned(), v.to_owned()))
                        .collect(),
                    cgroup: table
                        .monitor_cgroup
                        .clone()
                        .or_else(|| runtime.conmon_cgroup.clone())
                        .filter(|c| !c.is_empty()),
                };
                let mut handler = HandlerConfig::new(
                    name,
                    first([&table.runtime_path, &find_program(Path::new(name))], name),
                    monitor,
                );
                handler.root.clone_from(&table.runtime_root);
                handler.kind = match table.runtime_type {
                    model::config::RuntimeType::Oci => HandlerKind::Oci,
                    model::config::RuntimeType::Vm => HandlerKind::Vm,
                };
                handler.args.clone_from(&table.runtime_args);
                handler.create_timeout = Duration::from_secs(table.container_create_timeout);
                handler
            })
            .collect();
        for mut found in Self::detect("").handlers {
            if handlers.iter().all(|h| h.name != found.name) {
                if let Some(monitor) = &default_monitor {
                    found.monitor.path.clone_from(monitor);
                }
                handlers.push(found);
            }
        }
        let default = runtime.default_runtime.clone().or_else(|| {
            let named = BUILT_IN.iter().find(|name| handlers.iter().any(|h| h.name == **name));
            named.map(|name| (*name).to_owned())
        });
        let mut built = Self::new(root, handlers);
        if let Some(default) = default {
            built.default_handler = default;
        }
        built.cgroup_manager = match runtime.cgroup_manager {
            None => CgroupManager::Auto,
            Some(model::config::CgroupManager::Cgroupfs) => CgroupManager::Cgroupfs,
            Some(model::config::CgroupManager::Systemd) => CgroupManager::Systemd,
        };
        built.trust = TrustConfig {
            level: config.wharfinger.default_workload_trust,
            untrusted_handler: config.wharfinger.untrusted_runtime.clone(),
            on_downgrade: config.wharfinger.on_downgrade,
        };
        built
    }
}

/// The first path that is set, else the name, to be looked for in PATH.
fn first(paths: [&Option<PathBuf>; 2], name: &str) -> PathBuf {
    paths.into_iter().flatten().find(|p| !p.as_os_str().is_empty()).cloned().unwrap_or_else(|| name.into())
}
