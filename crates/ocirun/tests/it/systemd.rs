//! With `--systemd-cgroup`, where systemd is the first process.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use testkit::{Bundle, wait_until};

use crate::kit::Oci;

fn has_systemd() -> bool {
    let there =
        fs::exists("/run/systemd/private").unwrap() && fs::exists("/sys/fs/cgroup/system.slice").unwrap();
    if !there {
        testkit::not_tested("scopes: this machine has no systemd with cgroup v2 alone");
    }
    there
}

/// A container that sleeps in a scope of its own, and the scope's directory.
fn sleeper(what: &str) -> (Bundle, String, PathBuf) {
    let bundle = Bundle::sleeper(what);
    let path = format!("system.slice:whtest:{}", bundle.id());
    let unit = format!("whtest-{}.scope", bundle.id());
    let directory = PathBuf::from("/sys/fs/cgroup/system.slice").join(&unit);
    (bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path)), unit, directory)
}

/// What systemd says of a unit: `Name=value`.
fn show(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--property", property, unit]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_container_goes_through_its_life_in_a_scope() {
    if !has_systemd() {
        return;
    }
    let (oci, (bundle, unit, directory)) = (Oci::with_systemd(), sleeper("scope"));
    let container = oci.start(&bundle);
    let pids = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
    assert!(pids.lines().any(|pid| pid == container.pid().to_string()), "{pids}");
    assert_eq!(show(&unit, "ActiveState"), "ActiveState=active");
    assert_eq!(show(&unit, "TasksMax"), "TasksMax=512");
    let own = container.exec(&[], &["cat", "/proc/self/cgroup"]).ok().out;
    assert_eq!(own, format!("0::/system.slice/{unit}\n"));

    oci.run(&["update", "--pids-limit", "40", "--memory", "64M", bundle.id()]).ok();
    assert_eq!(
        (show(&unit, "TasksMax"), show(&unit, "MemoryMax")),
        ("TasksMax=40".into(), format!("MemoryMax={}", 64 << 20))
    );
    oci.run(&["pause", bundle.id()]).ok();
    assert_eq!(container.status(), "paused");
    oci.run(&["resume", bundle.id()]).ok();
    oci.run(&["kill", bundle.id(), "KILL"]).ok();
    container.wait_for_status("stopped");
    oci.run(&["delete", bundle.id()]).ok();
    wait_until("the unit to be gone", || show(&unit, "LoadState") == "LoadState=not-found");
    assert!(!directory.exists());
}

#[test]
fn a_failed_update_is_undone_in_the_unit() {
    if !has_systemd() {
        return;
    }
    let (oci, (bundle, unit, directory)) = (Oci::with_systemd(), sleeper("scopeundo"));
    let bundle = bundle.edit(|spec| {
        spec["linux"]["resources"] = json!({"pids": {"limit": 50}, "unified": {"memory.high": "41943040"}});
    });
    let _container = oci.start(&bundle);
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap().trim().to_owned();
    let file = bundle.path().join("resources");
    let change = json!({"pids": {"limit": 7}, "memory": {"limit": 67_108_864}, "hugepageLimits": [{"pageSize": "3MB", "limit": 1}],
        "unified": {"memory.high": "20971520"}});
    fs::write(&file, change.to_string()).unwrap();
    oci.run(&["update", "-r", &file.to_string_lossy(), bundle.id()]).fails("hugetlb.3MB");
    for (property, value) in [("TasksMax", "50"), ("MemoryMax", "infinity"), ("MemoryHigh", "41943040")] {
        assert_eq!(show(&unit, property), format!("{property}={value}"));
    }
    assert_eq!(
        (read("pids.max"), read("memory.max"), read("memory.high")),
        ("50".into(), "max".into(), "41943040".into())
    );
}

#[test]
fn a_failed_create_leaves_no_unit() {
    if !has_systemd() {
        return;
    }
    let (oci, (bundle, unit, directory)) = (Oci::with_systemd(), sleeper("scopefail"));
    let bundle = bundle.edit(|spec| spec["linux"]["resources"]["unified"] = json!({"memory.nothing": "1"}));
    oci.create_with(&bundle, &[]).fails("memory.nothing");
    wait_until("the unit to be gone", || show(&unit, "LoadState") == "LoadState=not-found");
    assert!(!directory.exists());
    // Nor does a container get into the scope of another.
    let (first, unit, _) = sleeper("scopetaken");
    let _container = oci.start(&first);
    let path = first.spec()["linux"]["cgroupsPath"].clone();
    let second = Bundle::sleeper("scopelate").edit(|spec| spec["linux"]["cgroupsPath"] = path);
    assert_ne!(oci.create_with(&second, &[]).code, 0);
    assert_eq!(show(&unit, "ActiveState"), "ActiveState=active");
}
