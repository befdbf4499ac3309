//! `linux.resources` and `linux.cgroupsPath`, as the container sees its cgroup. For cgroup v1.

use serde_json::json;

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn control_groups() {
    if is_v1() {
        check(&cases());
    }
}

#[test]
fn control_groups_that_are_refused() {
    if is_v1() {
        check(&refused());
    }
}

fn is_v1() -> bool {
    let v1 = std::path::Path::new("/sys/fs/cgroup/memory").exists();
    if !v1 {
        testkit::not_tested("the cases that read files of cgroup v1: this machine has v2 alone");
    }
    v1
}

fn limit(name: &'static str, pointer: &str, value: serde_json::Value, file: &str, shown: &str) -> Case {
    case(name)
        .set(&format!("/linux/resources/{pointer}"), value)
        .sh(&format!("cat /sys/fs/cgroup/{file}"))
        .prints(&format!("{shown}\n"))
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        limit(
            "memory limit",
            "memory",
            json!({"limit": 67_108_864}),
            "memory/memory.limit_in_bytes",
            "67108864",
        ),
        limit(
            "memory limit is rounded",
            "memory",
            json!({"limit": 67_108_865}),
            "memory/memory.limit_in_bytes",
            "67108864",
        ),
        limit(
            "no memory limit",
            "memory",
            json!({"limit": -1}),
            "memory/memory.limit_in_bytes",
            "9223372036854771712",
        ),
        limit(
            "memory and swap",
            "memory",
            json!({"limit": 67_108_864, "swap": 134_217_728}),
            "memory/memory.memsw.limit_in_bytes",
            "134217728",
        ),
        limit(
            "swap without a limit",
            "memory",
            json!({"limit": 67_108_864, "swap": -1}),
            "memory/memory.memsw.limit_in_bytes",
            "9223372036854771712",
        ),
        limit(
            "soft limit",
            "memory",
            json!({"reservation": 33_554_432}),
            "memory/memory.soft_limit_in_bytes",
            "33554432",
        ),
        limit("swappiness", "memory", json!({"swappiness": 7}), "memory/memory.swappiness", "7"),
        limit(
            "kernel memory is ignored",
            "memory",
            json!({"kernel": 33_554_432, "kernelTCP": 33_554_432}),
            "memory/memory.kmem.tcp.limit_in_bytes",
            "9223372036854771712",
        )
        .but_prints(Crun, "33554432\n", "crun sets what kernels do not use any more"),
        limit(
            "no oom killer",
            "memory",
            json!({"limit": 67_108_864, "disableOOMKiller": true}),
            "memory/memory.oom_control | head -1",
            "oom_kill_disable 1",
        ),
        limit("shares", "cpu", json!({"shares": 77}), "cpu/cpu.shares", "77"),
        limit(
            "quota and period",
            "cpu",
            json!({"quota": 20000, "period": 50000}),
            "cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us",
            "20000\n50000",
        ),
        limit("period alone", "cpu", json!({"period": 50000}), "cpu/cpu.cfs_period_us", "50000"),
        limit("no quota", "cpu", json!({"quota": -1}), "cpu/cpu.cfs_quota_us", "-1")
            .but_refused(Crun, "crun writes it without the sign"),
        limit(
            "burst",
            "cpu",
            json!({"quota": 20000, "period": 50000, "burst": 10000}),
            "cpu/cpu.cfs_burst_us",
            "10000",
        )
        .but_prints(Runc, "0\n", "runc knows it from 1.2 on")
        .but_prints(Crun, "0\n", "crun knows it from 1.9 on"),
        limit("idle", "cpu", json!({"idle": 1}), "cpu/cpu.idle", "1")
            .but_prints(Runc, "0\n", "runc knows it from 1.2 on")
            .but_prints(Crun, "1\n", ""),
        limit(
            "processors",
            "cpu",
            json!({"cpus": "0", "mems": "0"}),
            "cpuset/cpuset.cpus /sys/fs/cgroup/cpuset/cpuset.mems",
            "0\n0",
        ),
        limit("tasks", "pids", json!({"limit": 33}), "pids/pids.max", "33"),
        limit("tasks without a limit", "pids", json!({"limit": -1}), "pids/pids.max", "max")
            .but_refused(Crun, "crun writes -1"),
        limit("tasks 0 is not set", "pids", json!({"limit": 0}), "pids/pids.max", "max"),
        limit(
            "huge pages",
            "hugepageLimits",
            json!([{"pageSize": "2MB", "limit": 4_194_304}]),
            "hugetlb/hugetlb.2MB.limit_in_bytes",
            "4194304",
        ),
        limit(
            "huge pages of two sizes",
            "hugepageLimits",
            json!([{"pageSize": "2MB", "limit": 4_194_304}, {"pageSize": "1GB", "limit": 0}]),
            "hugetlb/hugetlb.1GB.limit_in_bytes",
            "0",
        ),
        case("no limits at all")
            .set("/linux/resources", json!({}))
            .shared()
            .shared()
            .sh("cat /sys/fs/cgroup/pids/pids.max")
            .prints("max\n"),
        case("resources missing")
            .unset("/linux/resources")
            .sh("cat /sys/fs/cgroup/pids/pids.max")
            .prints("max\n"),
        case("all hierarchies")
            .shared()
            .sh("grep -v -c '/wharfinger-test/' /proc/self/cgroup")
            .exits(1, "0\n"),
        case("the path is the one given")
            .shared()
            .sh("grep ':pids:' /proc/self/cgroup | cut -d: -f3")
            .prints("/wharfinger-test/@id\n"),
        case("a deep path")
            .set("/linux/cgroupsPath", json!("/wharfinger-test/@id/a/b"))
            .sh("grep ':pids:' /proc/self/cgroup | cut -d: -f3")
            .prints("/wharfinger-test/@id/a/b\n"),
        case("a path that leads out")
            .set("/linux/cgroupsPath", json!("/../../wharfinger-test/x/../@id"))
            .sh("grep ':pids:' /proc/self/cgroup | cut -d: -f3")
            .prints("/wharfinger-test/@id\n")
            .but_refused(Crun, "crun takes it as it is"),
        case("a relative path")
            .set("/linux/cgroupsPath", json!("wharfinger-test/@id"))
            .sh("grep ':pids:' /proc/self/cgroup | cut -d: -f3")
            .prints("/wharfinger-test/@id\n"),
        case("the cgroup is gone afterwards")
            .args(&["true"])
            .after("ls -d /sys/fs/cgroup/*/wharfinger-test/@id 2>/dev/null | wc -l")
            .prints("0\n"),
        case("what the container made below is gone too")
            .set("/mounts/6/options", json!(["rw"]))
            .sh("mkdir /sys/fs/cgroup/pids/x")
            .after("ls -d /sys/fs/cgroup/*/wharfinger-test/@id 2>/dev/null | wc -l")
            .prints("0\n"),
        case("too many tasks")
            .set("/linux/resources/pids/limit", json!(1))
            .sh("sleep 0 2>/dev/null; echo forked")
            .exits(2, "")
            .without(Runc, "its own threads count, so that it may fail before"),
        case("too much memory")
            .set("/linux/resources/memory", json!({"limit": 20_971_520, "swap": 20_971_520}))
            .mount("/mnt", "tmpfs", "tmpfs", &["size=64m"])
            .args(&["dd", "if=/dev/zero", "of=/mnt/x", "bs=1M", "count=40"])
            .exits(137, ""),
    ]
}

pub(crate) fn refused() -> Vec<Case> {
    let bad = |name, pointer: &str, value| case(name).set(&format!("/linux/resources/{pointer}"), value);
    vec![
        bad("unified on v1", "unified", json!({"memory.high": "1"})).refused("unified").but_prints(
            Crun,
            "",
            "crun ignores it",
        ),
        bad("processors that are not there", "cpu", json!({"cpus": "0-999"})).refused("cpuset.cpus"),
        bad("processors that are no list", "cpu", json!({"cpus": "many"})).refused("cpuset.cpus"),
        bad("shares below the smallest", "cpu", json!({"shares": 1})).refused("shares").but_prints(
            Crun,
            "",
            "crun takes what the kernel makes of it",
        ),
        bad("quota below the smallest", "cpu", json!({"quota": 10})).refused("cpu.cfs_quota_us"),
        bad("swap below memory", "memory", json!({"limit": 67_108_864, "swap": 33_554_432})).refused("memsw"),
        bad("swappiness above 100", "memory", json!({"swappiness": 101})).refused("swappiness").but_prints(
            Crun,
            "",
            "the kernel takes up to 200 now",
        ),
        bad(
            "huge pages of a size that is not there",
            "hugepageLimits",
            json!([{"pageSize": "3MB", "limit": 1}]),
        )
        .refused("hugetlb.3MB"),
        bad(
            "huge pages of a size that leads out",
            "hugepageLimits",
            json!([{"pageSize": "2MB/../..", "limit": 1}]),
        )
        .refused("no name of a file"),
        bad("a controller that is not there", "network", json!({"classID": 7})).refused("net_cls"),
        bad(
            "throttle of a device that is not there",
            "blockIO",
            json!({"throttleReadBpsDevice": [{"major": 250, "minor": 77, "rate": 1}]}),
        )
        .refused("blkio.throttle"),
        bad("an unknown shape", "pids", json!({"limit": "many"})).refused("config.json").but_prints(
            Crun,
            "",
            "crun leaves it out",
        ),
    ]
}
