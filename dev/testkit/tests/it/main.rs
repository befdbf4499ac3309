//! The test kit against real runtimes.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;

use testkit::{Bundle, LeakCheck};

/// Runs the bundle in the foreground by a runtime alone, and gives what it printed.
fn run(bundle: &Bundle, runtime: &str) -> String {
    let root = testkit::Scratch::new("root");
    let output = Command::new(testkit::require(runtime))
        .arg("--root")
        .arg(root.path())
        .args(["run", "--bundle"])
        .args([bundle.path().as_os_str(), bundle.id().as_ref()])
        .output()
        .expect("run the runtime");
    assert!(output.status.success(), "{runtime}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_default_bundle_runs_under_runc_and_leaves_nothing() {
    let leaks = LeakCheck::start();
    let bundle =
        Bundle::shell("kit", "id -u; hostname; grep Seccomp: /proc/self/status").in_cgroup().seccomp();
    assert_eq!(run(&bundle, "runc"), "0\nwharf\nSeccomp:\t2\n");
    drop(bundle);
    leaks.finish();
}

#[test]
fn an_edit_is_written_at_once() {
    let bundle = Bundle::new("kit", &["true"]).edit(|spec| spec["hostname"] = "quay".into()).terminal();
    let text = std::fs::read(bundle.path().join("config.json")).expect("read");
    let spec: serde_json::Value = serde_json::from_slice(&text).expect("parse");
    assert_eq!(
        (spec["hostname"].as_str(), spec["process"]["terminal"].as_bool()),
        (Some("quay"), Some(true))
    );
}
