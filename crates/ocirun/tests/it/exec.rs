//! Execs: a further process is what its process.json says, and as confined as the container's own.

use std::fs;

use serde_json::{Value, json};
use testkit::{Bundle, wait_until};

use crate::kit::{Container, Oci, field};

fn process(bundle: &Bundle, document: &Value) -> String {
    let path = bundle.path().join("process.json");
    fs::write(&path, document.to_string()).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn streams_status_and_namespaces() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("exec"));
    let container = oci.start(&bundle);
    let outcome = container.exec(&[], &["sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (42, "out\n", "err\n"));
    assert_eq!(container.exec(&[], &["sh", "-c", "kill -9 $$"]).code, 137);
    let line =
        "for n in mnt net ipc uts pid cgroup user; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup";
    let inside = container.exec(&[], &["sh", "-c", line]).ok().out;
    let pid = container.pid();
    for name in ["mnt", "net", "ipc", "uts", "pid", "cgroup", "user"] {
        let link = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert!(inside.contains(&*link.to_string_lossy()), "{name}: {inside}");
    }
    for line in fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().lines() {
        assert!(inside.contains(line), "{line} is not in {inside}");
    }
}

#[test]
fn options_of_the_command_line() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execopt"));
    let container = oci.start(&bundle);
    let options = ["--user", "7:8", "--additional-gids", "9", "--env", "A=b", "--cwd", "/etc"];
    let line = "id -u; id -g; id -G; echo $A; pwd";
    assert_eq!(container.exec(&options, &["sh", "-c", line]).ok().out, "7\n8\n8 9\nb\n/etc\n");
    let status =
        container.exec(&["--cap", "CAP_SYS_ADMIN", "--no-new-privs"], &["cat", "/proc/self/status"]).ok().out;
    assert_ne!(u64::from_str_radix(field(&status, "CapEff"), 16).unwrap() & 1 << 21, 0, "{status}");
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    // Options of the program are the program's.
    assert_eq!(container.exec(&[], &["echo", "--env", "-t"]).ok().out, "--env -t\n");
}

/// CVE-2026-30892, and -1, with which setresuid(2) changes nothing.
#[test]
fn an_exec_says_who_it_is_in_numbers() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execwho"));
    let container = oci.start(&bundle);
    for (user, ids) in [("1", "1 0"), ("1:2", "1 2"), ("4294967294", "4294967294 0")] {
        assert_eq!(
            container.exec(&["--user", user], &["sh", "-c", "echo $(id -u) $(id -g)"]).ok().out,
            format!("{ids}\n")
        );
    }
    for odd in ["4294967295", "0:4294967295", "4294967296", "-1", "1x", "", "root"] {
        assert_ne!(container.exec(&["--user", odd], &["id"]).code, 0, "{odd:?}");
    }
    let bundle = Bundle::shell("who", "id").edit(|spec| spec["process"]["user"]["uid"] = json!(u32::MAX));
    oci.run_bundle(&bundle).fails("process.user.uid");
}

#[test]
fn all_of_process_json() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execjson"));
    let container = oci.start(&bundle);
    let line = "pwd; umask; id -u; id -G; echo $X; echo $HOME; ulimit -n; cat /proc/self/oom_score_adj; cat /proc/self/status";
    let document = json!({
        "args": ["sh", "-c", line], "cwd": "/tmp", "env": ["X=y", "PATH=/bin"],
        "user": {"uid": 1000, "gid": 1001, "umask": 0o027, "additionalGids": [5, 6]},
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}],
        "noNewPrivileges": true, "oomScoreAdj": 500,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
    });
    fs::create_dir_all(bundle.rootfs().join("tmp")).unwrap();
    let path = process(&bundle, &document);
    let out = container.exec(&["--process", &path], &[]).ok().out;
    assert!(out.starts_with("/tmp\n0027\n1000\n1001 5 6\ny\n/home\n77\n500\n"), "{out}");
    for (name, value) in
        [("CapBnd", 0x21), ("CapPrm", 0x20), ("CapEff", 0x20), ("CapInh", 0x20), ("CapAmb", 0x20)]
    {
        assert_eq!(u64::from_str_radix(field(&out, name), 16).unwrap(), value, "{name}: {out}");
    }
    assert_eq!(field(&out, "NoNewPrivs"), "1");
}

#[test]
fn an_exec_is_confined_as_the_container_is() {
    let oci = Oci::new();
    let bundle =
        Bundle::sleeper("confined").seccomp().edit(|spec| spec["process"]["noNewPrivileges"] = json!(false));
    let container = oci.start(&bundle);
    let init = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    let exec = container.exec(&[], &["cat", "/proc/self/status"]).ok().out;
    for name in [
        "Seccomp",
        "Seccomp_filters",
        "NoNewPrivs",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "Uid",
        "Gid",
        "Groups",
    ] {
        assert_eq!(field(&init, name), field(&exec, name), "{name}");
    }
    assert_eq!(field(&exec, "Seccomp"), "2");
    // The same where no privilege is left, and so another order of steps.
    let nnp = container.exec(&["--no-new-privs", "--user", "5:5"], &["cat", "/proc/self/status"]).ok().out;
    assert_eq!((field(&nnp, "Seccomp"), field(&nnp, "NoNewPrivs")), ("2", "1"));
    assert_eq!(field(&nnp, "CapEff"), "0000000000000000");
}

/// A caller may be bound to the processors that are reserved for it.
#[test]
fn the_callers_affinity_is_not_the_containers() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("affinity"));
    let bound = |args: &[&str]| {
        let mut command = std::process::Command::new("taskset");
        command.arg("1").arg(env!("CARGO_BIN_EXE_wharf-oci")).arg("--root").arg(oci.root()).args(args);
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let allowed = |status: &str| field(status, "Cpus_allowed_list").to_owned();
    let all = allowed(&fs::read_to_string("/proc/1/status").unwrap());
    assert_ne!(all, "0", "this test needs two processors");
    let path = bundle.path().to_string_lossy().into_owned();
    let created = std::process::Command::new("taskset")
        .args(["1", env!("CARGO_BIN_EXE_wharf-oci"), "--root"])
        .arg(oci.root())
        .args(["create", "--bundle", &path, bundle.id()])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(created.success());
    let container = Container { oci: &oci, bundle: &bundle };
    oci.run(&["start", bundle.id()]).ok();
    let of_init = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert_eq!(allowed(&of_init), all);
    assert_eq!(allowed(&bound(&["exec", bundle.id(), "cat", "/proc/self/status"])), all);
    // What it is told to have, it has, though nothing is said of afterwards.
    let with = |affinity: Value| {
        let path = process(
            &bundle,
            &json!({"args": ["cat", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"],
            "execCPUAffinity": affinity}),
        );
        allowed(&container.exec(&["--process", &path], &[]).ok().out)
    };
    assert_eq!(with(json!({"initial": "1"})), "1");
    assert_eq!(with(json!({"initial": "1", "final": "0"})), "0");
    assert_eq!(with(json!({"final": "0-1"})), "0-1");
}

#[test]
fn a_process_json_that_leaves_things_out_has_the_containers() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execleft"));
    let bundle = bundle.edit(|spec| {
        spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
        spec["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    });
    let container = oci.start(&bundle);
    // Fields 19 and 41 of /proc/PID/stat (proc(5)): nice and policy.
    let line =
        "ionice; set -- $(cat /proc/self/stat); echo ${19} ${41}; grep Cpus_allowed_list /proc/self/status";
    let path =
        process(&bundle, &json!({"args": ["sh", "-c", line], "cwd": "/", "env": ["PATH=/bin:/usr/bin"]}));
    let out = container.exec(&["--process", &path], &[]).ok().out;
    assert_eq!(out, "idle\n5 3\nCpus_allowed_list:\t0\n");
    let mut own = json!({"args": ["sh", "-c", line], "cwd": "/", "env": ["PATH=/bin:/usr/bin"]});
    own["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 2});
    own["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    let path = process(&bundle, &own);
    let out = container.exec(&["--process", &path], &[]).ok().out;
    assert!(out.starts_with("best-effort: prio 6\n2 0\n"), "{out}");
}

#[test]
fn the_memory_policy_is_the_containers_and_its_execs() {
    let oci = Oci::new();
    let line = "head -1 /proc/self/numa_maps | cut -d' ' -f2; sleep 1000";
    let with =
        |policy: Value| Bundle::shell("mempolicy", line).edit(|spec| spec["linux"]["memoryPolicy"] = policy);
    let bundle = with(json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}));
    let container = oci.start(&bundle);
    wait_until("its output", || container.output().ends_with('\n'));
    assert_eq!(container.output(), "bind=static:0\n");
    let exec = container.exec(&[], &["head", "-1", "/proc/self/numa_maps"]).ok().out;
    assert_eq!(exec.split(' ').nth(1), Some("bind=static:0"), "{exec}");
    oci.create_with(&with(json!({"mode": "MPOL_BIND", "nodes": "1000"})), &[])
        .fails("set memoryPolicy: invalid argument");
    oci.create_with(&with(json!({"mode": "MPOL_NEAR"})), &[]).fails("check linux.memoryPolicy.mode");
}

/// The keyring is the container's own, and execs have the same name of theirs, unless the caller's is to be kept.
#[test]
fn the_session_keyring_is_the_containers_own() {
    let oci = Oci::new();
    let bundle = Bundle::sleeper("keyring").edit(|spec| spec["linux"]["maskedPaths"] = json!([]));
    let keys = |container: &Container<'_>| container.exec(&[], &["cat", "/proc/keys"]).ok().out;
    let container = oci.start(&bundle);
    let name = format!("_ses.{}:", container.id());
    // That of init can be searched by those who possess it alone: the exec sees its own.
    assert_eq!(keys(&container).matches(&name).count(), 1, "{}", keys(&container));
    drop(container);
    let line = "cat /proc/keys";
    let bundle = Bundle::shell("nokeyring", line).edit(|spec| spec["linux"]["maskedPaths"] = json!([]));
    let path = bundle.path().to_string_lossy().into_owned();
    let kept = oci.run(&["run", "--no-new-keyring", "--bundle", &path, bundle.id()]).ok().out;
    assert!(!kept.contains(&format!("_ses.{}", bundle.id())), "{kept}");
    assert!(oci.run_bundle(&bundle).ok().out.contains(&format!("_ses.{}:", bundle.id())));
}

/// Without SELinux a label can't be had, and is not left out silently.
#[test]
fn a_label_that_cannot_be_set_is_an_error() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execlabel"));
    let container = oci.start(&bundle);
    let outcome = container.exec(&["--process-label", "no such label"], &["true"]);
    assert_eq!(outcome.fails("set SELinux label no such label").code, 255);
}

#[test]
fn failures_are_told_and_give_255() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execfail"));
    let container = oci.start(&bundle);
    let cases: [(&[&str], &[&str], &str); 5] = [
        (&[], &["nonexistent"], "exec nonexistent: executable file not found in $PATH"),
        (&[], &["/etc"], "exec /etc: permission denied"),
        (
            &["--cwd", "/nonexistent"],
            &["true"],
            "change directory to /nonexistent: no such file or directory",
        ),
        (&["--cwd", "relative"], &["true"], "is not an absolute path"),
        (&["--cgroup", "../.."], &["true"], "leads out of the container's cgroup"),
    ];
    for (options, args, words) in cases {
        let outcome = container.exec(options, args).fails(words);
        assert_eq!(outcome.code, 255, "{outcome:?}");
    }
    let path = process(&bundle, &json!({"args": "sh"}));
    container.exec(&["--process", &path], &[]).fails("invalid type");
    oci.run(&["kill", bundle.id(), "KILL"]).ok();
    container.wait_for_status("stopped");
    assert_eq!(container.exec(&[], &["true"]).fails("stopped container").code, 255);
    assert_eq!(oci.run(&["exec", "none", "true"]).fails("does not exist").code, 255);
}

#[test]
fn a_created_container_can_be_entered() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execearly"));
    let container = oci.create(&bundle);
    assert_eq!(container.exec(&[], &["hostname"]).ok().out, "wharf\n");
    assert_eq!(container.status(), "created");
}

#[test]
fn detached_with_a_pid_file() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execdetach"));
    let container = oci.start(&bundle);
    let file = bundle.path().join("execpid");
    let out = fs::File::create(bundle.path().join("execout")).unwrap();
    let status = oci
        .command()
        .args(["exec", "--detach", "--pid-file", &file.to_string_lossy(), bundle.id()])
        .args(["sh", "-c", "echo hello; exec sleep 1000"])
        .stdout(out)
        .status()
        .unwrap();
    assert!(status.success());
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    let pids: Vec<i32> = serde_json::from_str(&oci.run(&["ps", "-f", "json", bundle.id()]).ok().out).unwrap();
    assert!(pids.contains(&pid), "{pid} is not in {pids:?}");
    wait_until("its output", || fs::read_to_string(bundle.path().join("execout")).unwrap() == "hello\n");
    assert_eq!(container.status(), "running");
}

#[test]
fn a_cgroup_of_its_own() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execcg"));
    let container = oci.start(&bundle);
    let init = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let exec = container.exec(&["--cgroup", "one"], &["cat", "/proc/self/cgroup"]).ok().out;
    for (init, exec) in init.lines().zip(exec.lines()) {
        assert_eq!(format!("{init}/one"), exec);
    }
    let two = container.exec(&["--cgroup", "pids,memory:two"], &["cat", "/proc/self/cgroup"]);
    if init.contains(":pids:") {
        for line in two.ok().out.lines() {
            let below = line.contains(":pids:") || line.contains(":memory:");
            assert_eq!(line.ends_with("/two"), below, "{line}");
        }
    } else {
        // Version 2 has one hierarchy for all.
        two.fails("no cgroup of controller \"pids\"");
    }
    container.exec(&["--cgroup", "frob:x"], &["true"]).fails("no cgroup of controller \"frob\"");
    oci.run(&["delete", "--force", bundle.id()]).ok();
    assert!(crate::kit::cgroups_of(bundle.id()).is_empty());
}

#[test]
fn a_container_without_namespaces_is_entered_by_its_root() {
    let oci = Oci::new();
    let bundle = Bundle::sleeper("chroot").edit(|spec| {
        spec["linux"]["namespaces"] = json!([]);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        spec["mounts"] = json!([]);
        spec.as_object_mut().unwrap().remove("hostname");
    });
    fs::write(bundle.rootfs().join("here"), "inside\n").unwrap();
    let container = oci.start(&bundle);
    assert_eq!(container.exec(&[], &["cat", "/here"]).ok().out, "inside\n");
    assert_eq!(container.exec(&[], &["ls", "/.."]).ok().out, container.exec(&[], &["ls", "/"]).ok().out);
}

#[test]
fn many_at_once() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("execmany"));
    let container: Container<'_> = oci.start(&bundle);
    std::thread::scope(|scope| {
        let container = &container;
        let handles: Vec<_> = (0..12)
            .map(|n| scope.spawn(move || container.exec(&[], &["sh", "-c", &format!("echo {n}; exit {n}")])))
            .collect();
        for (n, handle) in handles.into_iter().enumerate() {
            let outcome = handle.join().unwrap();
            assert_eq!((outcome.code, outcome.out), (i32::try_from(n).unwrap(), format!("{n}\n")));
        }
    });
}
