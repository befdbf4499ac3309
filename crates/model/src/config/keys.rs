//! Which keys there are, and what is near to one that there is not.

use serde_json::{Map, Value};

use super::ConfigError;

/// Keys of a table: acted on, and known but not acted on.
struct Table {
    used: &'static [&'static str],
    unused: &'static [&'static str],
}

const TOP: Table = Table { used: &["crio", "wharfinger"], unused: &[] };
const CRIO: Table = Table {
    used: &["runtime"],
    unused: &[
        "api",
        "image",
        "metrics",
        "network",
        "nri",
        "stats",
        "tracing",
        "root",
        "runroot",
        "imagestore",
        "storage_driver",
        "storage_option",
        "log_dir",
        "version_file",
        "version_file_persist",
        "clean_shutdown_file",
        "internal_wipe",
        "internal_repair",
    ],
};
const WHARFINGER: Table =
    Table { used: &["root", "default_workload_trust", "untrusted_runtime", "on_downgrade"], unused: &[] };
const RUNTIME: Table = Table {
    used: &[
        "default_runtime",
        "conmon",
        "conmon_env",
        "conmon_cgroup",
        "cgroup_manager",
        "container_exits_dir",
        "container_attach_socket_dir",
        "log_size_max",
        "no_pivot",
        "ctr_stop_timeout",
        "runtimes",
    ],
    unused: &[
        "default_ulimits",
        "decryption_keys_path",
        "default_env",
        "selinux",
        "seccomp_profile",
        "privileged_seccomp_profile",
        "apparmor_profile",
        "blockio_config_file",
        "blockio_reload",
        "irqbalance_config_file",
        "irqbalance_config_restore_file",
        "rdt_config_file",
        "default_capabilities",
        "add_inheritable_capabilities",
        "default_sysctls",
        "allowed_devices",
        "additional_devices",
        "device_ownership_from_security_context",
        "default_mounts_file",
        "hooks_dir",
        "pids_limit",
        "log_filter",
        "log_level",
        "log_to_journald",
        "bind_mount_prefix",
        "read_only",
        "uid_mappings",
        "gid_mappings",
        "minimum_mappable_uid",
        "minimum_mappable_gid",
        "drop_infra_ctr",
        "infra_ctr_cpuset",
        "shared_cpuset",
        "namespaces_dir",
        "pinns_path",
        "enable_criu_support",
        "enable_pod_events",
        "hostnetwork_disable_selinux",
        "disable_hostport_mapping",
        "timezone",
        "workloads",
        "separate_pull_cgroup",
        "absent_mount_sources_to_reject",
        "container_min_memory",
    ],
};
const HANDLER: Table = Table {
    used: &[
        "runtime_path",
        "runtime_type",
        "runtime_root",
        "runtime_args",
        "monitor_path",
        "monitor_env",
        "monitor_cgroup",
        "container_create_timeout",
    ],
    unused: &[
        "runtime_config_path",
        "privileged_without_host_devices",
        "allowed_annotations",
        "default_annotations",
        "platform_runtime_paths",
        "container_min_memory",
        "no_sync_log",
        "exec_cpu_affinity",
        "runtime_pull_image",
        "seccomp_profile",
        "stream_websockets",
        "inherit_default_runtime",
    ],
};

/// Takes out what is not acted on, with a warning each.
pub(super) fn known_only(value: Value) -> Result<(Value, Vec<String>), ConfigError> {
    let mut warnings = Vec::new();
    let mut top = table("", value)?;
    filter("", &mut top, &TOP, &mut warnings)?;
    if let Some(wharfinger) = top.remove("wharfinger") {
        let mut wharfinger = table("wharfinger", wharfinger)?;
        filter("wharfinger", &mut wharfinger, &WHARFINGER, &mut warnings)?;
        top.insert("wharfinger".to_owned(), Value::Object(wharfinger));
    }
    if let Some(crio) = top.remove("crio") {
        let mut crio = table("crio", crio)?;
        filter("crio", &mut crio, &CRIO, &mut warnings)?;
        if let Some(runtime) = crio.remove("runtime") {
            let runtime = self::runtime(runtime, &mut warnings)?;
            crio.insert("runtime".to_owned(), runtime);
        }
        top.insert("crio".to_owned(), Value::Object(crio));
    }
    Ok((Value::Object(top), warnings))
}

fn runtime(value: Value, warnings: &mut Vec<String>) -> Result<Value, ConfigError> {
    let mut runtime = table("crio.runtime", value)?;
    filter("crio.runtime", &mut runtime, &RUNTIME, warnings)?;
    if let Some(handlers) = runtime.remove("runtimes") {
        let mut kept = Map::new();
        for (name, handler) in table("crio.runtime.runtimes", handlers)? {
            let path = format!("crio.runtime.runtimes.{name}");
            let mut handler = table(&path, handler)?;
            filter(&path, &mut handler, &HANDLER, warnings)?;
            kept.insert(name, Value::Object(handler));
        }
        runtime.insert("runtimes".to_owned(), Value::Object(kept));
    }
    // CRI-O's template writes "" for what is not set.
    Ok(Value::Object(without_empty(runtime)))
}

fn without_empty(map: Map<String, Value>) -> Map<String, Value> {
    let entries = map.into_iter().filter(|(_, v)| v.as_str() != Some(""));
    let inner = |value| match value {
        Value::Object(map) => Value::Object(without_empty(map)),
        other => other,
    };
    entries.map(|(key, value)| (key, inner(value))).collect()
}

fn table(path: &str, value: Value) -> Result<Map<String, Value>, ConfigError> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(ConfigError::Value { key: path.to_owned(), cause: "not a table".to_owned() }),
    }
}

fn filter(
    path: &str,
    map: &mut Map<String, Value>,
    table: &Table,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let dotted = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let names: Vec<String> = map.keys().cloned().collect();
    for name in names {
        if table.used.contains(&name.as_str()) {
            continue;
        }
        if !table.unused.contains(&name.as_str()) {
            let known = table.used.iter().chain(table.unused);
            let nearest = known.map(|k| (distance(k, &name), *k)).min().filter(|(d, k)| *d <= k.len() / 2);
            return Err(ConfigError::UnknownKey {
                key: dotted(&name),
                nearest: nearest.map(|(_, k)| dotted(k)),
            });
        }
        map.remove(&name);
        warnings.push(format!("config key {}: known, and not acted on", dotted(&name)));
    }
    Ok(())
}

/// Letters to change, add or remove to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Lays a drop-in file over what was read before it: tables are joined, everything else is replaced.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HandlerConfig, RuntimeConfig, Wharfinger};
    use super::*;

    /// The lists above are the structs' fields, no more and no less.
    #[test]
    fn the_lists_of_keys_are_the_fields() {
        let some = || Some(String::new());
        let path = || Some(std::path::PathBuf::new());
        let runtime = RuntimeConfig {
            default_runtime: some(),
            conmon: path(),
            conmon_cgroup: some(),
            cgroup_manager: Some(super::super::CgroupManager::Cgroupfs),
            container_exits_dir: path(),
            container_attach_socket_dir: path(),
            ..RuntimeConfig::default()
        };
        let handler = HandlerConfig {
            runtime_path: path(),
            runtime_root: path(),
            monitor_path: path(),
            monitor_env: Some(vec![]),
            monitor_cgroup: some(),
            ..HandlerConfig::default()
        };
        let wharfinger = Wharfinger { root: path(), untrusted_runtime: some(), ..Wharfinger::default() };
        let fields = |value: Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        let check = |table: &Table, value: Value| {
            let mut used: Vec<String> = table.used.iter().map(|k| (*k).to_owned()).collect();
            used.sort();
            let mut have = fields(value);
            have.sort();
            assert_eq!(used, have);
        };
        check(&RUNTIME, serde_json::to_value(runtime).unwrap());
        check(&HANDLER, serde_json::to_value(handler).unwrap());
        check(&WHARFINGER, serde_json::to_value(wharfinger).unwrap());
    }

    #[test]
    fn distances() {
        for (a, b, d) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("conmon", "common", 1), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }

    #[test]
    fn drop_ins_join_tables_and_replace_values() {
        let mut base = serde_json::json!({"a": {"x": 1, "y": [1, 2]}, "b": 1});
        merge(&mut base, serde_json::json!({"a": {"y": [3], "z": 2}, "b": {"c": 1}}));
        assert_eq!(base, serde_json::json!({"a": {"x": 1, "y": [3], "z": 2}, "b": {"c": 1}}));
    }
}
