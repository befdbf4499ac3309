//! From flags and the configuration file to the handlers and the state root.

use std::path::Path;

use anyhow::Context as _;
use runtime::{CgroupManager, RuntimeConfig, Runtimes};

use crate::args::{Global, ManagerArg};

/// Read where `--config` is not given, if it is there.
const CONFIG_FILE: &str = "/etc/wharfinger/wharfinger.conf";

/// The configuration that `global` asks for.
pub(crate) fn config(global: &Global) -> anyhow::Result<RuntimeConfig> {
    let file = match &global.config {
        Some(path) => Some(path.as_path()),
        None => Some(Path::new(CONFIG_FILE)).filter(|path| path.exists()),
    };
    let mut config = match file {
        Some(path) => read(path)?,
        None => RuntimeConfig::detect(runtime::config::DEFAULT_ROOT),
    };
    if let Some(root) = &global.root {
        config.root = std::path::absolute(root).context("state root")?;
    }
    if let Some(manager) = global.cgroup_manager {
        config.cgroup_manager = match manager {
            ManagerArg::Cgroupfs => CgroupManager::Cgroupfs,
            ManagerArg::Systemd => CgroupManager::Systemd,
        };
    }
    if let Some(monitor) = &global.monitor {
        for handler in &mut config.handlers {
            handler.monitor.path.clone_from(monitor);
        }
    }
    if config.handlers.is_empty() {
        anyhow::bail!("no runtime handler: none of wharf-oci, runc, crun is beside this program or in PATH");
    }
    Ok(config)
}

/// The handlers and containers that `global` asks for.
pub(crate) fn runtimes(global: &Global) -> anyhow::Result<Runtimes> {
    Ok(Runtimes::from_config(&config(global)?)?)
}

fn read(path: &Path) -> anyhow::Result<RuntimeConfig> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("read configuration {}", path.display()))?;
    let in_file = || format!("configuration {}", path.display());
    let value: serde_json::Value = toml::from_str(&text).with_context(in_file)?;
    let (config, warnings) = model::config::Config::from_value(value).with_context(in_file)?;
    for warning in warnings {
        tracing::warn!(file = %path.display(), "{warning}");
    }
    Ok(RuntimeConfig::from_file(&config))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_in_crio_s_schema() {
        let text = r#"
            [crio.runtime]
            default_runtime = "mine"
            cgroup_manager = "cgroupfs"
            conmon = "/usr/bin/conmon"
            conmon_env = ["A=1"]
            [crio.runtime.runtimes.mine]
            runtime_path = "/usr/sbin/runc"
            runtime_root = "/run/mine"
            container_create_timeout = 60
            [wharfinger]
            root = "/run/x"
        "#;
        let path = std::env::temp_dir().join(format!("wharf-config-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let config = read(&path).unwrap();
        std::fs::write(&path, "[crio.runtim]\n").unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(config.default_handler, "mine");
        assert_eq!(config.root, Path::new("/run/x"));
        assert_eq!(config.cgroup_manager, CgroupManager::Cgroupfs);
        let mine = config.handlers.iter().find(|h| h.name == "mine").unwrap();
        assert_eq!(mine.create_timeout, Duration::from_secs(60));
        assert_eq!(mine.root.as_deref(), Some(Path::new("/run/mine")));
        assert_eq!(mine.monitor.env, [("A".to_owned(), "1".to_owned())]);
        assert!(error.contains("crio.runtim") && error.contains("did you mean"), "{error}");
    }
}
