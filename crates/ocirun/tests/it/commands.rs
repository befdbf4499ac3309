//! Each command, as its callers use it.

use std::fs;

use serde_json::{Value, json};
use testkit::{Bundle, wait_until};

use crate::kit::{Oci, cgroups_of};

#[test]
fn a_container_goes_through_its_life() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("life"));
    let pid_file = bundle.path().join("pid");
    oci.create_with(&bundle, &["--pid-file", &pid_file.to_string_lossy()]).ok();
    let container = crate::kit::Container { oci: &oci, bundle: &bundle };
    let state = container.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], bundle.id());
    assert_eq!(state["bundle"], *bundle.path().to_string_lossy());
    assert_eq!(state["ociVersion"], "1.0.2");
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), container.pid().to_string());
    oci.run(&["start", bundle.id()]).ok();
    assert_eq!(container.status(), "running");
    oci.run(&["delete", bundle.id()]).fails("is not stopped: running");
    oci.run(&["kill", bundle.id(), "TERM"]).ok();
    container.wait_for_status("stopped");
    assert_eq!(container.state()["pid"], 0);
    oci.run(&["kill", bundle.id(), "TERM"]).fails("container not running");
    oci.run(&["delete", bundle.id()]).ok();
    oci.run(&["state", bundle.id()]).fails("container does not exist");
    assert!(cgroups_of(bundle.id()).is_empty());
    assert!(!oci.root().join(bundle.id()).exists());
}

#[test]
fn run_gives_the_programs_output_and_status_and_leaves_nothing() {
    let oci = Oci::new();
    let bundle = Bundle::shell("run", "echo out; echo err >&2; exit 7");
    let outcome = oci.run_bundle(&bundle);
    assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (7, "out\n", "err\n"));
    assert!(!oci.root().join(bundle.id()).exists());
    assert!(cgroups_of(bundle.id()).is_empty());
    let bundle = Bundle::shell("signal", "kill -KILL $$");
    // Init of a pid namespace ignores its own signals: without a namespace it does not.
    let bundle = bundle.edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    });
    assert_eq!(oci.run_bundle(&bundle).code, 137);
}

#[test]
fn run_hands_signals_on() {
    run_hands_on("TERM");
}

/// To a program that answers it by status 9, with which `run` ends then, too.
fn run_hands_on(signal: &str) {
    let script = format!("trap 'exit 9' {signal}; echo ready; while :; do sleep 0.05; done");
    let (oci, bundle) = (Oci::new(), Bundle::shell("relay", &script));
    let out = bundle.path().join("out");
    let mut command = oci.command();
    command.args(["run", "--bundle", &bundle.path().to_string_lossy(), bundle.id()]);
    let mut child = command.stdout(fs::File::create(&out).unwrap()).spawn().unwrap();
    wait_until("the trap", || fs::read_to_string(&out).unwrap().contains("ready"));
    let kill = format!("kill -{signal} {}", child.id());
    assert!(std::process::Command::new("bash").args(["-c", &kill]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(9), "{signal}");
}

#[test]
fn run_hands_on_real_time_signals_too() {
    // What asks a systemd in a container to halt.
    run_hands_on("37");
}

#[test]
fn signal_0_asks_whether_it_runs() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("zero"));
    let container = oci.create(&bundle);
    oci.run(&["kill", bundle.id(), "0"]).ok();
    oci.run(&["start", bundle.id()]).ok();
    oci.run(&["kill", bundle.id(), "0"]).ok();
    assert_eq!(container.status(), "running");
    oci.run(&["kill", bundle.id(), "KILL"]).ok();
    container.wait_for_status("stopped");
    oci.run(&["kill", bundle.id(), "0"]).fails("container not running");
    oci.run(&["kill", "none", "0"]).fails("does not exist");
}

#[test]
fn an_id_is_taken_once() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("twice"));
    let container = oci.create(&bundle);
    let pid = container.pid();
    oci.create_with(&bundle, &[]).fails("container with given ID already exists");
    assert_eq!((container.pid(), container.status().as_str()), (pid, "created"));
    for bad in ["", "../x", "a/b", ".", "é"] {
        oci.run(&["state", bad]).fails("container id");
    }
}

#[test]
fn what_was_never_started_is_deleted_without_force() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("created"));
    let container = oci.create(&bundle);
    let pid = container.pid();
    oci.run(&["delete", bundle.id()]).ok();
    wait_until("init to go", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    assert!(cgroups_of(bundle.id()).is_empty());
    oci.run(&["delete", bundle.id()]).fails("does not exist");
    oci.run(&["delete", "--force", bundle.id()]).ok();
}

#[test]
fn lists_and_processes() {
    let (oci, one, two) = (Oci::new(), Bundle::sleeper("list1"), Bundle::sleeper("list2"));
    assert_eq!(oci.run(&["list", "--format", "json"]).ok().out, "[]");
    let running = oci.start(&one);
    let _created = oci.create(&two);
    let listed: Value = serde_json::from_str(&oci.run(&["list", "-f", "json"]).ok().out).unwrap();
    let mut shown: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["id"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    shown.sort_unstable();
    let mut expected = [(one.id(), "running"), (two.id(), "created")];
    expected.sort_unstable();
    assert_eq!(shown, expected);
    let mut quiet: Vec<String> = oci.run(&["list", "-q"]).ok().out.lines().map(str::to_owned).collect();
    quiet.sort_unstable();
    assert_eq!(quiet, expected.map(|(id, _)| id.to_owned()));
    let table = oci.run(&["list"]).ok().out;
    assert!(table.starts_with("ID ") && table.contains("OWNER\n"), "{table}");
    let pids: Vec<i32> =
        serde_json::from_str(&oci.run(&["ps", "--format", "json", one.id()]).ok().out).unwrap();
    assert!(pids.contains(&running.pid()), "{pids:?}");
    let table = oci.run(&["ps", one.id()]).ok().out;
    assert!(
        table.lines().next().unwrap().contains("PID") && table.contains(&running.pid().to_string()),
        "{table}"
    );
    oci.run(&["list", "--format", "xml"]).fails("xml");
}

#[test]
fn pause_and_resume() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("pause"));
    let container = oci.start(&bundle);
    oci.run(&["resume", bundle.id()]).fails("not paused");
    oci.run(&["pause", bundle.id()]).ok();
    assert_eq!(container.status(), "paused");
    oci.run(&["pause", bundle.id()]).fails("not running: paused");
    container.exec(&[], &["true"]).fails("cannot exec in a paused container");
    // It is as frozen as the others, and goes on with them.
    let mut patient = oci.command();
    patient
        .args(["exec", "--ignore-paused", bundle.id(), "echo", "thawed"])
        .stdout(std::process::Stdio::piped());
    let patient = patient.spawn().unwrap();
    oci.run(&["resume", bundle.id()]).ok();
    assert_eq!(container.status(), "running");
    assert_eq!(patient.wait_with_output().unwrap().stdout, b"thawed\n");
    container.exec(&[], &["true"]).ok();
    oci.run(&["pause", bundle.id()]).ok();
    oci.run(&["kill", bundle.id(), "KILL"]).ok();
    container.wait_for_status("stopped");
}

#[test]
fn a_paused_container_is_deleted_with_force() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("frozen"));
    let _container = oci.start(&bundle);
    oci.run(&["pause", bundle.id()]).ok();
    oci.run(&["delete", "--force", bundle.id()]).ok();
    assert!(cgroups_of(bundle.id()).is_empty());
}

#[test]
fn kill_all_reaches_the_children_too() {
    let oci = Oci::new();
    let line = "sleep 1000 & sleep 1000 & echo ready; wait";
    let bundle = Bundle::shell("all", line).edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    });
    let container = oci.start(&bundle);
    wait_until("the children", || container.output().contains("ready"));
    let pids = || -> Vec<i32> {
        serde_json::from_str(&oci.run(&["ps", "-f", "json", bundle.id()]).ok().out).unwrap()
    };
    assert_eq!(pids().len(), 3);
    oci.run(&["kill", "--all", bundle.id(), "SIGKILL"]).ok();
    container.wait_for_status("stopped");
    wait_until("all to go", || pids().is_empty());
}

#[test]
fn update_and_events() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("update"));
    let bundle = bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20}));
    let container = oci.start(&bundle);
    let data = |field: &str| {
        let events: Value =
            serde_json::from_str(&oci.run(&["events", "--stats", bundle.id()]).ok().out).unwrap();
        assert_eq!((&events["type"], &events["id"]), (&json!("stats"), &json!(bundle.id())));
        events["data"].pointer(field).cloned().unwrap_or(Value::Null)
    };
    assert_eq!(data("/memory/usage/limit"), 64 << 20);
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
        && std::path::Path::new("/proc/pressure").exists()
    {
        for resource in ["cpu", "memory", "blkio"] {
            assert!(data(&format!("/{resource}/psi/some/avg10")).is_f64(), "{resource}");
        }
    }
    oci.run(&["update", "--memory", "96M", "--pids-limit", "50", bundle.id()]).ok();
    assert_eq!((data("/memory/usage/limit"), data("/pids/limit")), (json!(96 << 20), json!(50)));
    let file = bundle.path().join("resources");
    fs::write(&file, r#"{"pids":{"limit":60},"memory":null}"#).unwrap();
    oci.run(&["update", "-r", &file.to_string_lossy(), bundle.id()]).ok();
    assert_eq!((data("/memory/usage/limit"), data("/pids/limit")), (json!(96 << 20), json!(60)));
    // Without a limit of memory none of both can be.
    oci.run(&["update", "--memory", "64M", "--memory-swap", "128M", bundle.id()]).ok();
    oci.run(&["update", "--memory", "-1", bundle.id()]).ok();
    oci.run(&["update", "--memory", "96M", bundle.id()]).ok();
    assert_eq!(data("/memory/usage/limit"), 96 << 20);
    fs::write(&file, r#"{"pids":{"limit":"many"}}"#).unwrap();
    oci.run(&["update", "-r", &file.to_string_lossy(), bundle.id()]).fails("invalid type");
    oci.run(&["update", "--memory", "lots", bundle.id()]).fails("is no number");
    assert_eq!(data("/pids/limit"), 60);
    oci.run(&["kill", bundle.id(), "KILL"]).ok();
    container.wait_for_status("stopped");
    oci.run(&["update", "--pids-limit", "5", bundle.id()]).fails("not running");
    oci.run(&["events", bundle.id()]).fails("not running");
}

/// As engines do, which send all resources: a hook of a vendor has allowed the device, and no document knows it.
#[test]
fn an_update_leaves_devices_alone() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("updatedev").in_cgroup());
    let container = oci.start(&bundle);
    let directory = std::path::PathBuf::from(format!("/sys/fs/cgroup/devices{}", bundle.cgroup()));
    if !directory.exists() {
        testkit::not_tested("devices after an update: cgroup v2 has no list of them to look at");
        return;
    }
    fs::write(directory.join("devices.allow"), "c 10:1 rw").unwrap();
    let file = bundle.path().join("resources");
    fs::write(&file, bundle.spec()["linux"]["resources"].to_string()).unwrap();
    oci.run(&["update", "-r", &file.to_string_lossy(), bundle.id()]).ok();
    let list = fs::read_to_string(directory.join("devices.list")).unwrap();
    assert!(list.lines().any(|line| line.starts_with("c 10:1 ")), "{list}");
    // Nor does one that says otherwise.
    oci.run(&["update", "--pids-limit", "50", bundle.id()]).ok();
    fs::write(&file, r#"{"devices":[{"allow":true,"access":"rwm"}]}"#).unwrap();
    oci.run(&["update", "-r", &file.to_string_lossy(), bundle.id()]).ok();
    assert_eq!(fs::read_to_string(directory.join("devices.list")).unwrap(), list);
    assert_eq!(container.status(), "running");
}

#[test]
fn want_of_memory_is_told_at_once() {
    // The program's memory is taken by a child, which is what the kernel kills.
    let line = "while ! [ -e /go ]; do sleep 0.05; done; tail /dev/zero; sleep 1000";
    let (oci, bundle) = (Oci::new(), Bundle::shell("oom", line));
    let bundle = bundle.edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    let container = oci.start(&bundle);
    let out = bundle.path().join("events");
    let mut command = oci.command();
    command.args(["events", "--interval", "1h", bundle.id()]);
    let mut events = command.stdout(fs::File::create(&out).unwrap()).spawn().unwrap();
    let fds = format!("/proc/{}/fd", events.id());
    let watches = |fd: std::fs::DirEntry| {
        let name = fs::read_link(fd.path()).unwrap_or_default();
        name.to_string_lossy().contains("inotify") || name.to_string_lossy().contains("eventfd")
    };
    wait_until("it to watch", || fs::read_dir(&fds).unwrap().flatten().any(watches));
    fs::write(bundle.rootfs().join("go"), "").unwrap();
    let told = json!({"type": "oom", "id": bundle.id()});
    let shown = || fs::read_to_string(&out).unwrap();
    wait_until("the event", || {
        shown().lines().any(|line| serde_json::from_str(line).is_ok_and(|v: Value| v == told))
    });
    oci.run(&["kill", bundle.id(), "KILL"]).ok();
    assert!(events.wait().unwrap().success());
    drop(container);
}

#[test]
fn spec_writes_a_configuration_that_runs() {
    let (oci, bundle) = (Oci::new(), Bundle::shell("spec", "true"));
    let path = bundle.path().to_string_lossy().into_owned();
    oci.run(&["spec", "--bundle", &path]).fails("file exists");
    fs::remove_file(bundle.path().join("config.json")).unwrap();
    oci.run(&["spec", "--bundle", &path]).ok();
    let mut config: Value =
        serde_json::from_slice(&fs::read(bundle.path().join("config.json")).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", "touch /x || echo read-only; id -u"]);
    fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
    let outcome = oci.run_bundle(&bundle).ok();
    assert_eq!(outcome.out, "read-only\n0\n");
}

#[test]
fn features_name_what_there_is() {
    let features: Value = serde_json::from_str(&Oci::new().run(&["features"]).ok().out).unwrap();
    let has =
        |path: &str, word: &str| features.pointer(path).unwrap().as_array().unwrap().contains(&json!(word));
    assert!(has("/hooks", "createContainer") && has("/linux/namespaces", "time"), "{features}");
    assert!(has("/mountOptions", "rro") && has("/linux/seccomp/actions", "SCMP_ACT_NOTIFY"), "{features}");
    assert!(has("/linux/capabilities", "CAP_BPF"));
    assert_eq!(features["linux"]["intelRdt"]["enabled"], false);
    // What is built in, whether or not this host has it.
    for module in ["apparmor", "selinux", "netDevices"] {
        assert_eq!(features["linux"][module]["enabled"], true, "{module}");
    }
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert!(
        has("/linux/memoryPolicy/modes", "MPOL_BIND")
            && has("/linux/memoryPolicy/flags", "MPOL_F_STATIC_NODES")
    );
    assert!(has("/linux/seccomp/supportedFlags", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"), "{features}");
}

#[test]
fn errors_go_to_the_log_too() {
    let oci = Oci::new();
    let log = oci.root().parent().unwrap().join("log");
    let path = log.to_string_lossy().into_owned();
    oci.run(&["--log", &path, "--log-format", "json", "state", "none"])
        .fails("open container none: container does not exist");
    let line: Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim()).unwrap();
    assert_eq!(
        (&line["level"], &line["msg"]),
        (&json!("error"), &json!("open container none: container does not exist"))
    );
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    fs::remove_file(&log).unwrap();
    oci.run(&["--log", &path, "start", "none"]).fails("does not exist");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("level=error msg=\"open container none: container does not exist\""), "{text}");
}

#[test]
fn wrong_command_lines() {
    let oci = Oci::new();
    let cases: [(&[&str], &str); 9] = [
        (&["frob"], "unknown command \"frob\""),
        (&["--frob", "list"], "invalid option '--frob'"),
        (&["create"], "no container id was given"),
        (&["create", "--frob", "x"], "invalid option '--frob'"),
        (&["kill", "x", "SIGFROB"], "SIGFROB"),
        (&["state"], "no container id was given"),
        (&["state", "a", "b"], "unexpected argument"),
        (&["checkpoint", "x"], "container does not exist"),
        (&["exec", "x"], "no program was given"),
    ];
    for (args, words) in cases {
        oci.run(args).fails(words);
    }
    for command in ["create", "update", "exec", "events", "restore", "state"] {
        for option in ["--help", "-h"] {
            let help = oci.run(&[command, option]).ok();
            assert!(help.out.starts_with(&format!("wharf-oci {command} [OPTIONS] ID")), "{help:?}");
            assert_eq!(help.err, "");
        }
    }
    // After the program's name it is the program's.
    oci.run(&["exec", "none", "true", "--help"]).fails("does not exist");
    let version = oci.run(&["--version"]).ok().out;
    assert!(version.starts_with("wharf-oci version ") && version.contains("spec: 1."), "{version}");
}
