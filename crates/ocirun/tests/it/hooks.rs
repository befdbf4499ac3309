//! Hooks: order, what they are told, and what their failure does.

use std::fs;

use serde_json::{Value, json};
use testkit::{Bundle, wait_until};

use crate::kit::{Oci, cgroups_of};

/// A hook that appends its name and the state it was given to a file of the bundle.
fn hook(bundle: &Bundle, name: &str) -> Value {
    let file = bundle.path().join("hooks");
    let line = format!("echo \"{name} $(cat)\" >> {}", file.display());
    json!({"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]})
}

#[test]
fn all_six_in_their_order_with_the_state() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("hooks"));
    let outside = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let hooks: serde_json::Map<String, Value> =
        outside.iter().map(|name| ((*name).to_owned(), json!([hook(&bundle, name)]))).collect();
    // This one runs in the container: it writes to its standard output's file, which it has not; so to a file there.
    let inside = json!({"path": "/bin/sh", "args": ["sh", "-c", "cat > /inside"], "env": ["PATH=/bin"]});
    let bundle = bundle.edit(|spec| {
        spec["hooks"] = Value::Object(hooks);
        spec["hooks"]["startContainer"] = json!([inside]);
        spec["annotations"] = json!({"a": "b"});
    });
    let lines = || -> Vec<(String, Value)> {
        let text = fs::read_to_string(bundle.path().join("hooks")).unwrap_or_default();
        let split = |line: &str| {
            let (name, state) = line.split_once(' ').unwrap();
            (name.to_owned(), serde_json::from_str(state).unwrap())
        };
        text.lines().map(split).collect()
    };
    let names = |lines: &[(String, Value)]| lines.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let container = oci.create(&bundle);
    let pid = container.pid();
    assert_eq!(names(&lines()), ["prestart", "createRuntime", "createContainer"]);
    for (name, state) in lines() {
        assert_eq!(state["id"], bundle.id(), "{name}");
        assert_eq!(state["status"], "creating", "{name}");
        assert_eq!(state["pid"], pid, "{name}");
        assert_eq!(state["bundle"], *bundle.path().to_string_lossy(), "{name}");
        assert_eq!(state["annotations"]["a"], "b", "{name}");
    }
    assert!(!bundle.rootfs().join("inside").exists());
    oci.run(&["start", bundle.id()]).ok();
    let state: Value = serde_json::from_slice(&fs::read(bundle.rootfs().join("inside")).unwrap()).unwrap();
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(pid)));
    let all = lines();
    assert_eq!(all[3].0, "poststart");
    assert_eq!((&all[3].1["status"], &all[3].1["pid"]), (&json!("running"), &json!(pid)));
    oci.run(&["delete", "--force", bundle.id()]).ok();
    let all = lines();
    assert_eq!(all[4].0, "poststop");
    assert_eq!(all[4].1["status"], "stopped");
    drop(container);
}

#[test]
fn one_that_fails_undoes_the_create() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let (oci, bundle) = (Oci::new(), Bundle::sleeper("failing"));
        let poststop = hook(&bundle, "poststop");
        let bundle = bundle.edit(|spec| {
            let failing = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo because >&2; exit 3"]});
            spec["hooks"] = json!({kind: [failing], "poststop": [poststop]});
        });
        let words = format!("run {kind} hook /bin/sh: exit status 3: because");
        oci.create_with(&bundle, &[]).fails(&words);
        assert!(cgroups_of(bundle.id()).is_empty());
        assert!(!oci.root().join(bundle.id()).exists());
        let told = fs::read_to_string(bundle.path().join("hooks")).unwrap_or_default();
        assert_eq!(told.lines().count(), 1, "{kind}: poststop hooks run once: {told:?}");
    }
}

#[test]
fn one_that_hangs_is_killed_and_one_that_is_missing_is_named() {
    let oci = Oci::new();
    let bundle = Bundle::sleeper("hang").edit(|spec| {
        spec["hooks"] =
            json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
    });
    oci.create_with(&bundle, &[]).fails("run createRuntime hook /bin/sleep: still running after 1 s");
    let bundle = bundle.edit(|spec| spec["hooks"] = json!({"prestart": [{"path": "/nonexistent"}]}));
    oci.create_with(&bundle, &[]).fails("run prestart hook /nonexistent: no such file or directory");
    let bundle = bundle.edit(|spec| spec["hooks"] = json!({"prestart": [{"path": "relative"}]}));
    oci.create_with(&bundle, &[]).fails("is not an absolute path");
}

/// Its state is longer than a pipe, and it reads nothing of it.
#[test]
fn the_timeout_covers_the_reading_of_the_state() {
    let oci = Oci::new();
    let bundle = Bundle::sleeper("unread").edit(|spec| {
        spec["hooks"] =
            json!({"prestart": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
        spec["annotations"] = json!({"long": "x".repeat(200_000)});
    });
    oci.create_with(&bundle, &[]).fails("run prestart hook /bin/sleep: still running after 1 s");
    let count = json!([{"path": "/bin/sh", "args": ["sh", "-c", "test $(cat | wc -c) -gt 200000"]}]);
    let bundle = bundle.edit(|spec| spec["hooks"] = json!({"prestart": count, "createRuntime": count}));
    let _container = oci.create(&bundle);
}

#[test]
fn a_failing_start_hook_fails_the_start() {
    let oci = Oci::new();
    let failing = json!([{"path": "/bin/false"}]);
    let bundle = Bundle::sleeper("start").edit(|spec| spec["hooks"] = json!({"startContainer": failing}));
    let container = oci.create(&bundle);
    oci.run(&["start", bundle.id()]).fails("run startContainer hook /bin/false: exit status 1");
    container.wait_for_status("stopped");
    let bundle = Bundle::sleeper("poststart").edit(|spec| spec["hooks"] = json!({"poststart": failing}));
    let container = oci.create(&bundle);
    oci.run(&["start", bundle.id()]).fails("run poststart hook /bin/false: exit status 1");
    container.wait_for_status("stopped");
}

/// One that runs in the container and brings no environment has the program's.
#[test]
fn a_start_hook_has_the_programs_environment() {
    let oci = Oci::new();
    let hook = |env: &Value| json!({"path": "/bin/sh", "args": ["sh", "-c", "/bin/busybox env >> /env"], "env": env});
    let bundle = Bundle::shell("hookenv", "grep -E '^[AB]=' /env").edit(|spec| {
        spec["process"]["env"] = json!(["PATH=/bin", "A=program"]);
        spec["hooks"] = json!({"startContainer": [hook(&json!([])), hook(&json!(["B=own"]))]});
    });
    assert_eq!(oci.run_bundle(&bundle).ok().out, "A=program\nB=own\n");
}

#[test]
fn a_failing_poststop_hook_is_a_warning() {
    let oci = Oci::new();
    let bundle = Bundle::sleeper("poststop");
    let second = hook(&bundle, "second");
    let bundle = bundle.edit(|spec| spec["hooks"] = json!({"poststop": [{"path": "/bin/false"}, second]}));
    let _container = oci.create(&bundle);
    let outcome = oci.run(&["delete", "--force", bundle.id()]).ok();
    assert!(outcome.err.contains("warning: run poststop hook /bin/false: exit status 1"), "{outcome:?}");
    wait_until("the second hook", || bundle.path().join("hooks").exists());
}

#[test]
fn a_hook_that_reads_nothing_and_one_that_outlives_itself() {
    let oci = Oci::new();
    let bundle = Bundle::shell("quiet", "echo ran").edit(|spec| {
        let long = json!({"path": "/bin/sh", "args": ["sh", "-c", "sleep 2 & exit 0"]});
        spec["hooks"] = json!({"prestart": [{"path": "/bin/true"}, long]});
        // More than a pipe takes at once.
        spec["annotations"] = json!({"long": "x".repeat(200_000)});
    });
    assert_eq!(oci.run_bundle(&bundle).ok().out, "ran\n");
}
