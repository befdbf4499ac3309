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
