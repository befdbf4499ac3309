//! `linux.namespaces`, maps of ids, sysctl, names of the machine.

use serde_json::{Value, json};

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn namespaces() {
    check(&cases());
}

/// `cat` of a file that only a namespace of its own changes: whether it is the host's.
fn shares(name: &'static str, kind: &str, file: &str) -> Case {
    case(name)
        .set("/linux/namespaces", without(kind))
        .before(&format!("readlink /proc/self/ns/{file} > rootfs/host"))
        .sh(&format!(
            "test \"$(readlink /proc/self/ns/{file})\" = \"$(cat /host)\" && echo shared || echo own"
        ))
}

fn usual() -> Vec<&'static str> {
    vec!["pid", "ipc", "uts", "mount", "network"]
}

fn without(kind: &str) -> Value {
    usual().into_iter().filter(|one| *one != kind).map(|kind| json!({"type": kind})).collect()
}

fn maps(size: u32) -> Value {
    json!([{"containerID": 0, "hostID": 100_000, "size": size}])
}

/// A user namespace, with the root file system given to its root.
fn user(name: &'static str) -> Case {
    case(name)
        .add("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", maps(65536))
        .set("/linux/gidMappings", maps(65536))
        .before("chown -R 100000:100000 rootfs; chmod 755 .")
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        shares("own ipc namespace", "none", "ipc").prints("own\n"),
        shares("host's ipc namespace", "ipc", "ipc").prints("shared\n")
            .set("/mounts/4", json!({"destination": "/dev/mqueue", "type": "tmpfs", "source": "x"})),
        shares("own network namespace", "none", "net").prints("own\n"),
        shares("host's network namespace", "network", "net").prints("shared\n"),
        shares("own uts namespace", "none", "uts").prints("own\n"),
        shares("host's uts namespace", "uts", "uts").unset("/hostname").prints("shared\n"),
        shares("own pid namespace", "none", "pid").prints("own\n"),
        shares("host's pid namespace", "pid", "pid").prints("shared\n"),
        shares("host's cgroup namespace", "none", "cgroup").prints("shared\n"),
        shares("own cgroup namespace", "none", "cgroup").add("/linux/namespaces", json!({"type": "cgroup"})).prints("own\n"),
        case("no mount namespace").set("/linux/namespaces", without("mount")).refused("mount").without(Crun, "crun mounts in the host's namespace"),
        case("a namespace of an unknown type").add("/linux/namespaces", json!({"type": "colour"})).refused("colour"),
        case("a namespace twice").add("/linux/namespaces", json!({"type": "uts"})).refused("uts").but_prints(Crun, "", "crun takes it once"),
        case("a hostname").set("/hostname", json!("quay-7")).sh("hostname").prints("quay-7\n"),
        case("a hostname without a namespace").set("/linux/namespaces", without("uts")).refused("hostname"),
        case("a domain name").set("/domainname", json!("harbour")).sh("cat /proc/sys/kernel/domainname").prints("harbour\n")
            .but_prints(Runc, "(none)\n", "runc knows it from 1.2 on"),
        case("a new network has lo alone").shared().sh("ls /sys/class/net").prints("lo\n"),
        case("lo is up").shared().sh("cat /sys/class/net/lo/flags").prints("0x9\n"),
        case("a joined network").set("/linux/namespaces", json!([{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"},
                {"type": "network", "path": "@bundle/ns"}]))
            .before("touch ns; unshare --net=ns readlink /proc/self/ns/net > rootfs/host").sh("readlink /proc/self/ns/net | cmp - /host && echo same").prints("same\n"),
        case("a joined namespace of the wrong kind").set("/linux/namespaces/4", json!({"type": "network", "path": "@bundle/ns"})).before("touch ns; unshare --uts=ns true")
            .refused("/ns"),
        case("a joined namespace that is a file").before("touch f").set("/linux/namespaces/4", json!({"type": "network", "path": "@bundle/f"})).refused("/f"),
        case("a joined namespace that is not there").set("/linux/namespaces/4", json!({"type": "network", "path": "/nowhere/ns"})).refused("/nowhere/ns"),
        case("a sysctl of the network").set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
            .sh("cat /proc/sys/net/ipv4/ip_forward").prints("1\n"),
        case("a sysctl of ipc").set("/linux/sysctl", json!({"kernel.msgmax": "4096"})).sh("cat /proc/sys/kernel/msgmax").prints("4096\n"),
        case("a sysctl of the hosts network").set("/linux/sysctl", json!({"net.ipv4.ip_forward": "0"}))
            .set("/linux/namespaces", without("network")).refused("net.ipv4.ip_forward"),
        case("a sysctl of the machine").set("/linux/sysctl", json!({"vm.swappiness": "5"})).refused("vm.swappiness"),
        case("a sysctl that is not there").set("/linux/sysctl", json!({"net.ipv4.nothing": "5"})).refused("nothing"),
        case("a sysctl that leads out").set("/linux/sysctl", json!({"net/../kernel/panic": "5"})).refused("panic"),
        user("a user namespace").sh("cat /proc/self/uid_map | tr -s ' '; id -u").prints(" 0 100000 65536\n0\n"),
        user("a user namespace's rights").set("/process/capabilities", json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]}))
            .sh("mount -t tmpfs x /mnt && echo ok").prints("ok\n"),
        user("a user in a user namespace").set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [2000]}))
            .sh("id -u; id -G").prints("1000\n1000 2000\n"),
        user("devices in a user namespace are bound").sh("echo x > /dev/null; stat -c %t:%T /dev/null; grep -c ' /dev/null ' /proc/self/mountinfo").prints("1:3\n1\n"),
        user("files in a user namespace").sh("touch /x; stat -c %u /x").after("stat -c %u rootfs/x").prints("0\n100000\n"),
        user("uid that is not mapped").set("/process/user", json!({"uid": 70_000, "gid": 0})).refused("70000"),
        user("setgroups is allowed").sh("cat /proc/self/setgroups").prints("allow\n"),
        user("oom score in a user namespace").set("/process/oomScoreAdj", json!(100)).sh("cat /proc/self/oom_score_adj").prints("100\n"),
        case("a user namespace without maps").add("/linux/namespaces", json!({"type": "user"})).refused("uidMappings"),
        case("maps without a user namespace").set("/linux/uidMappings", maps(10)).set("/linux/gidMappings", maps(10)).refused("user namespace")
            .but_prints(Runc, "", "runc checks from 1.2 on").but_prints(Crun, "", "crun ignores them"),
        user("overlapping maps").set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 5, "hostID": 200_000, "size": 10}]))
            .refused("uid_map").refused("map"),
        case("a time namespace").add("/linux/namespaces", json!({"type": "time"}))
            .set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000_000}, "monotonic": {"secs": 5}}))
            .sh("cut -d. -f1 /proc/uptime | awk '{print ($1 >= 1000000000)}'; tr -s ' ' < /proc/self/timens_offsets | tr '\\t' ' ' | tr -s ' '").prints("1\nmonotonic 5 0\nboottime 1000000000 0\n")
            .but_refused(Runc, "runc knows it from 1.2 on").but_refused(Crun, "crun 1.8 fails at the offsets"),
        case("time offsets without a namespace").set("/linux/timeOffsets", json!({"boottime": {"secs": 5}})).refused("timeOffsets")
            .but_prints(Runc, "", "runc knows it from 1.2 on").but_prints(Crun, "", "crun ignores them"),
        case("an id-mapped mount").before("mkdir src; chown 7 src; mount -t tmpfs -o mode=755 x src; chown 7 src")
            .add("/linux/namespaces", json!({"type": "user"})).set("/linux/uidMappings", maps(65536)).set("/linux/gidMappings", maps(65536))
            .add("/mounts", json!({"destination": "/mnt", "type": "bind", "source": "@bundle/src", "options": ["bind"],
                "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65536}], "gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65536}]}))
            .before("chown -R 100000:100000 rootfs; chmod 755 .; mkdir src; mount -t tmpfs -o mode=755 x src; touch src/f; chown 7 src/f")
            .sh("stat -c %u /mnt/f").prints("7\n")
            .but_prints(Runc, "65534\n", "runc knows it from 1.2 on"),
    ]
}
