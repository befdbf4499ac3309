//! State files that a crash, an older version or another boot left.

use std::fs;

use serde_json::Value;
use testkit::Bundle;

use crate::kit::Oci;

fn edit(oci: &Oci, id: &str, change: impl FnOnce(&mut Value)) {
    let path = oci.root().join(id).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut state);
    fs::write(&path, state.to_string()).unwrap();
}

#[test]
fn a_record_that_is_cut_off() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("cutoff"));
    let container = oci.create(&bundle);
    let path = oci.root().join(bundle.id()).join("state.json");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    oci.run(&["state", bundle.id()]).fails("state.json: EOF while parsing");
    let listed = oci.run(&["list", "-q"]).ok();
    assert_eq!(listed.out, "");
    assert!(listed.err.contains("state.json"), "{listed:?}");
    // Nor by force: init and its cgroup would live on, and nobody would know of them.
    oci.run(&["delete", bundle.id()]).fails("state.json");
    oci.run(&["delete", "--force", bundle.id()]).fails("state.json: EOF while parsing");
    fs::write(&path, &whole).unwrap();
    assert_eq!(container.status(), "created");
}

#[test]
fn a_directory_without_a_record_is_removed_by_force() {
    let oci = Oci::new();
    fs::create_dir_all(oci.root().join("half")).unwrap();
    oci.run(&["state", "half"]).fails("does not exist");
    let bundle = Bundle::shell("half", "true");
    oci.run(&["create", "--bundle", &bundle.path().to_string_lossy(), "half"]).fails("already exists");
    oci.run(&["delete", "--force", "half"]).ok();
    assert!(!oci.root().join("half").exists());
}

#[test]
fn a_record_of_another_version() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("version"));
    let container = oci.create(&bundle);
    edit(&oci, bundle.id(), |state| state["version"] = 99.into());
    oci.run(&["state", bundle.id()]).fails("version 99 is not known, 1 is");
    oci.run(&["delete", "--force", bundle.id()]).fails("version 99 is not known, 1 is");
    edit(&oci, bundle.id(), |state| state["version"] = 1.into());
    assert_eq!(container.status(), "created");
}

#[test]
fn a_record_of_another_boot_is_of_a_stopped_container() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("boot"));
    let container = oci.start(&bundle);
    let path = oci.root().join(bundle.id()).join("state.json");
    let real = fs::read(&path).unwrap();
    edit(&oci, bundle.id(), |state| state["bootId"] = "another".into());
    assert_eq!(container.status(), "stopped");
    oci.run(&["kill", bundle.id(), "KILL"]).fails("not running");
    fs::write(&path, real).unwrap();
    assert_eq!(container.status(), "running");
}

#[test]
fn a_pid_that_is_another_process_now_is_left_alone() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("reused"));
    let container = oci.start(&bundle);
    let path = oci.root().join(bundle.id()).join("state.json");
    let real = fs::read(&path).unwrap();
    // This process has the pid of the record, but did not start when the record's did.
    let own = std::process::id();
    edit(&oci, bundle.id(), |state| state["pid"] = own.into());
    assert_eq!(container.status(), "stopped");
    oci.run(&["kill", bundle.id(), "KILL"]).fails("not running");
    fs::write(&path, real).unwrap();
    oci.run(&["delete", "--force", bundle.id()]).ok();
}
