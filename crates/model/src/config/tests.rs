use serde_json::json;

use super::*;

fn error(value: Value) -> String {
    Config::from_value(value).unwrap_err().to_string()
}

#[test]
fn nothing_is_all_defaults() {
    let (config, warnings) = Config::from_value(json!({})).unwrap();
    assert_eq!((config, warnings), (Config::default(), vec![]));
}

#[test]
fn a_file_of_crio() {
    let value = json!({
        "crio": {
            "storage_driver": "overlay",
            "image": {"pause_image": "x"},
            "runtime": {
                "default_runtime": "crun",
                "conmon": "/usr/bin/conmon",
                "conmon_cgroup": "",
                "conmon_env": ["PATH=/bin"],
                "cgroup_manager": "cgroupfs",
                "selinux": false,
                "runtimes": {
                    "crun": {"runtime_path": "/usr/bin/crun", "runtime_type": "oci", "runtime_root": "/run/crun",
                             "monitor_path": "", "container_create_timeout": 60, "allowed_annotations": []},
                    "kata": {"runtime_type": "vm"},
                },
            },
        },
        "wharfinger": {"untrusted_runtime": "kata", "on_downgrade": "refuse", "default_workload_trust": "untrusted"},
    });
    let (config, warnings) = Config::from_value(value).unwrap();
    let crun = &config.crio.runtime.runtimes["crun"];
    assert_eq!(crun.runtime_path.as_deref(), Some("/usr/bin/crun".as_ref()));
    assert_eq!((crun.monitor_path.as_ref(), crun.container_create_timeout), (None, 60));
    assert_eq!(config.crio.runtime.runtimes["kata"].runtime_type, RuntimeType::Vm);
    assert_eq!(config.crio.runtime.cgroup_manager, Some(CgroupManager::Cgroupfs));
    assert_eq!(config.wharfinger.on_downgrade, OnDowngrade::Refuse);
    assert_eq!(config.wharfinger.default_workload_trust, Trust::Untrusted);
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings.contains(&"config key crio.runtime.selinux: known, and not acted on".to_owned()));
}

#[test]
fn unknown_keys_name_the_nearest() {
    let cases = [
        (json!({"krio": {}}), "config key krio: unknown, did you mean crio?"),
        (
            json!({"crio": {"runtime": {"cgroup_manger": "systemd"}}}),
            "config key crio.runtime.cgroup_manger: unknown, did you mean crio.runtime.cgroup_manager?",
        ),
        (
            json!({"crio": {"runtime": {"runtimes": {"runc": {"runtime_pth": "/x"}}}}}),
            "config key crio.runtime.runtimes.runc.runtime_pth: unknown, did you mean crio.runtime.runtimes.runc.runtime_path?",
        ),
        (json!({"crio": {"zzzzzzzzzzzzzzzzzzzzzzz": 1}}), "config key crio.zzzzzzzzzzzzzzzzzzzzzzz: unknown"),
    ];
    for (value, text) in cases {
        assert_eq!(error(value), text);
    }
}

#[test]
fn bad_values() {
    let handler = |table: Value| json!({"crio": {"runtime": {"runtimes": {"x": table}}}});
    let cases = [
        (json!([]), "not a table"),
        (json!({"crio": {"runtime": 5}}), "crio.runtime: not a table"),
        (json!({"crio": {"runtime": {"cgroup_manager": "sytemd"}}}), "sytemd"),
        (json!({"wharfinger": {"default_workload_trust": "maybe"}}), "maybe"),
        (handler(json!({"container_create_timeout": 5})), "at least 30"),
        (handler(json!({"container_create_timeout": -1})), "-1"),
        (handler(json!({"runtime_type": "pod"})), "pod"),
        (handler(json!({"monitor_env": ["NOEQUALS"]})), "NOEQUALS"),
        (json!({"crio": {"runtime": {"default_runtime": "nope"}}}), "no handler \"nope\""),
        (json!({"crio": {"runtime": {"runtimes": {"../x": {}}}}}), "letters, digits"),
    ];
    for (value, part) in cases {
        let text = error(value);
        assert!(text.contains(part), "{text} has no {part}");
    }
}
