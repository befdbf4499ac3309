//! A process as wharf-oci starts it and as crun does: the same, in all that /proc tells.

use std::process::{Command, Stdio};

use serde_json::json;
use testkit::{Bundle, Scratch, require};

use crate::kit::Oci;

const FIELDS: &str = "^(Umask|Uid|Gid|Groups|NStgid|NSpid|NSpgid|NSsid|Kthread|SigPnd|SigBlk|SigIgn|SigCgt|Shd|Cap|NoNewPrivs|Seccomp|Spec|x86|Cpus_allowed_list)";

fn shown_by_both(bundle: &Bundle) -> (String, String) {
    let ours = Oci::new().run_bundle(bundle).ok().out;
    let root = Scratch::new("crunroot");
    let output = Command::new(require("crun"))
        .arg("--root")
        .arg(root.path())
        .args(["run", "--bundle"])
        .arg(bundle.path())
        .arg(bundle.id())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    (ours, String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn status_and_limits_are_cruns() {
    let line = format!(
        "grep -E '{FIELDS}' /proc/self/status; cat /proc/self/limits /proc/self/oom_score_adj; ls /proc/self/fd"
    );
    let bundle = Bundle::shell("peer", &line).in_cgroup().seccomp();
    let (ours, theirs) = shown_by_both(&bundle);
    assert_eq!(ours, theirs);
}

#[test]
fn status_of_a_user_with_ambient_capabilities_is_cruns() {
    let line = format!("grep -E '{FIELDS}' /proc/self/status; env | sort; pwd");
    let bundle = Bundle::shell("peeruser", &line).in_cgroup().edit(|spec| {
        let set = json!(["CAP_NET_BIND_SERVICE", "CAP_KILL"]);
        spec["process"]["user"] =
            json!({"uid": 1000, "gid": 1000, "umask": 0o77, "additionalGids": [10, 20]});
        spec["process"]["capabilities"] =
            json!({"bounding": set, "effective": set, "permitted": set, "inheritable": set, "ambient": set});
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["process"]["cwd"] = json!("/etc");
    });
    let (ours, theirs) = shown_by_both(&bundle);
    // crun does not set PWD in the environment either: what differs would show here.
    assert_eq!(ours, theirs);
}

#[test]
fn the_mounts_are_cruns_but_for_what_is_listed() {
    let line = "cut -d' ' -f5- /proc/self/mountinfo | sed -E 's/ (shared|master|propagate_from):[0-9]+//g' | grep -v '^/sys/fs/cgroup'";
    let bundle = Bundle::shell("peermounts", line).in_cgroup();
    let (ours, theirs) = shown_by_both(&bundle);
    let points = |text: &str| {
        let mut points: Vec<String> =
            text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        points.sort_unstable();
        points.dedup();
        points
    };
    assert_eq!(points(&ours), points(&theirs));
    let rights = |text: &str, point: &str| {
        let line = text
            .lines()
            .rev()
            .find(|line| line.split(' ').next() == Some(point))
            .unwrap_or_default()
            .to_owned();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    // What is made read-only keeps nosuid, nodev and noexec with us; with crun 1.8 it loses them.
    for point in ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"] {
        assert_eq!(rights(&ours, point), rights(&theirs, point), "{point}\n{ours}\n{theirs}");
    }
}

/// What the kernel says of a program that runs in real time; busybox's cat is one process and needs no other.
#[test]
fn real_time_scheduling() {
    let oci = Oci::new();
    // With groups for real time (v1), a new cgroup has none of it.
    let grouped = std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    let shown = |scheduler: serde_json::Value| {
        let bundle = Bundle::new("realtime", &["cat", "/proc/self/stat"]).edit(|spec| {
            spec["process"]["scheduler"] = scheduler;
            if grouped {
                spec["linux"]["resources"]["cpu"] =
                    json!({"realtimeRuntime": 1000, "realtimePeriod": 1_000_000});
            }
        });
        let stat = oci.run_bundle(&bundle).ok().out;
        // proc_pid_stat(5): fields 40 and 41.
        let fields: Vec<&str> = stat.split(' ').collect();
        (fields[39].to_owned(), fields[40].to_owned())
    };
    let pair = |priority: &str, policy: &str| (priority.to_owned(), policy.to_owned());
    assert_eq!(shown(json!({"policy": "SCHED_FIFO", "priority": 7})), pair("7", "1"));
    let times = json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000, "period": 20_000_000,
        "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    assert_eq!(shown(times), pair("0", "6"));
}
