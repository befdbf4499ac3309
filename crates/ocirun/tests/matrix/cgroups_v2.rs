//! `linux.resources` on cgroup v2, where v1's values are converted: as the container sees its own cgroup.

use serde_json::{Value, json};

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn control_groups() {
    if is_v2() {
        check(&cases());
    }
}

#[test]
fn control_groups_that_are_refused() {
    if is_v2() {
        check(&refused());
    }
}

fn is_v2() -> bool {
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !v2 {
        testkit::not_tested("the cases that read files of cgroup v2: this machine has v1");
    }
    v2
}

/// Numbers of a disk, or of one that is not there.
fn disk() -> (u64, u64) {
    let mut names: Vec<_> = std::fs::read_dir("/sys/block")
        .expect("read /sys/block")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    names.sort();
    let numbers = names.iter().find_map(|path| {
        let name = path.file_name()?.to_str()?;
        ["vd", "sd", "nvme"].iter().any(|kind| name.starts_with(kind)).then_some(())?;
        let text = std::fs::read_to_string(path.join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    numbers.unwrap_or((8, 0))
}

fn with(name: &'static str, pointer: &str, value: Value) -> Case {
    case(name)
        .add("/linux/namespaces", json!({"type": "cgroup"}))
        .set(&format!("/linux/resources/{pointer}"), value)
}

fn limit(name: &'static str, pointer: &str, value: Value, files: &str, shown: &str) -> Case {
    let files: Vec<_> = files.split(' ').map(|file| format!("/sys/fs/cgroup/{file}")).collect();
    with(name, pointer, value).sh(&format!("cat {}", files.join(" "))).prints(&format!("{shown}\n"))
}

fn memory() -> Vec<Case> {
    const SIZE: u64 = 67_108_864;
    let both = "memory.max memory.swap.max";
    vec![
        limit("v2 memory limit", "memory", json!({"limit": SIZE}), both, "67108864\nmax"),
        limit("v2 memory limit is rounded", "memory", json!({"limit": SIZE + 1}), "memory.max", "67108864"),
        limit("v2 no memory limit", "memory", json!({"limit": -1}), both, "max\nmax"),
        limit(
            "v2 swap is what is over memory",
            "memory",
            json!({"limit": SIZE, "swap": 3 * SIZE}),
            both,
            "67108864\n134217728",
        ),
        limit(
            "v2 as much swap as memory is none",
            "memory",
            json!({"limit": SIZE, "swap": SIZE}),
            both,
            "67108864\n0",
        ),
        limit("v2 swap without a limit", "memory", json!({"limit": SIZE, "swap": -1}), both, "67108864\nmax"),
        limit("v2 soft limit is low", "memory", json!({"reservation": 33_554_432}), "memory.low", "33554432"),
        limit(
            "v2 what it does not have is ignored",
            "memory",
            json!({"kernel": 33_554_432, "kernelTCP": 33_554_432, "swappiness": 7, "disableOOMKiller": true}),
            "memory.max",
            "max",
        )
        .but_refused(Crun, "crun says that v2 has none"),
        with("v2 too much memory", "memory", json!({"limit": 20_971_520, "swap": 20_971_520}))
            .mount("/mnt", "tmpfs", "tmpfs", &["size=64m"])
            .args(&["dd", "if=/dev/zero", "of=/mnt/x", "bs=1M", "count=40"])
            .exits(137, ""),
    ]
}

fn processor() -> Vec<Case> {
    const LINE: &str = "a straight line between the ends, until runc 1.3.2 and crun 1.23";
    vec![
        limit("v2 usual shares", "cpu", json!({"shares": 1024}), "cpu.weight", "100")
            .but_prints(Runc, "39\n", LINE)
            .but_prints(Crun, "39\n", LINE),
        limit("v2 fewest shares", "cpu", json!({"shares": 2}), "cpu.weight", "1"),
        limit("v2 most shares", "cpu", json!({"shares": 262_144}), "cpu.weight", "10000"),
        limit(
            "v2 quota and period",
            "cpu",
            json!({"quota": 20000, "period": 50000}),
            "cpu.max",
            "20000 50000",
        ),
        limit("v2 quota alone", "cpu", json!({"quota": 20000}), "cpu.max", "20000 100000"),
        limit("v2 period alone", "cpu", json!({"period": 50000}), "cpu.max", "max 50000"),
        limit("v2 no quota", "cpu", json!({"quota": -1, "period": 50000}), "cpu.max", "max 50000"),
        limit("v2 burst", "cpu", json!({"quota": 20000, "burst": 10000}), "cpu.max.burst", "10000")
            .but_prints(Runc, "0\n", "runc knows it from 1.2 on"),
        limit("v2 idle", "cpu", json!({"idle": 1}), "cpu.idle", "1").but_prints(
            Runc,
            "0\n",
            "runc knows it from 1.2 on",
        ),
        limit("v2 idle has no weight", "cpu", json!({"idle": 1, "shares": 512}), "cpu.idle", "1").but_prints(
            Runc,
            "0\n",
            "runc knows it from 1.2 on",
        ),
        limit("v2 processors", "cpu", json!({"cpus": "0", "mems": "0"}), "cpuset.cpus cpuset.mems", "0\n0"),
    ]
}

fn others() -> Vec<Case> {
    let (major, minor) = disk();
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let all = json!({
        "throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
        "throttleReadIOPSDevice": rate(100), "throttleWriteIOPSDevice": rate(200)
    });
    let shown = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200");
    vec![
        limit("v2 tasks", "pids", json!({"limit": 33}), "pids.max", "33"),
        limit("v2 tasks without a limit", "pids", json!({"limit": -1}), "pids.max", "max"),
        limit("v2 tasks 0 is not set", "pids", json!({"limit": 0}), "pids.max", "max"),
        limit("v2 throttles of a disk are one line", "blockIO", all, "io.max", &shown),
        limit("v2 weight of block I/O", "blockIO", json!({"weight": 500}), "io.weight", "default 4950"),
        limit(
            "v2 huge pages",
            "hugepageLimits",
            json!([{"pageSize": "2MB", "limit": 4_194_304}]),
            "hugetlb.2MB.max hugetlb.2MB.rsvd.max",
            "4194304\n4194304",
        )
        .but_prints(Crun, "4194304\nmax\n", "crun leaves reservations alone"),
        limit(
            "v2 files as they are",
            "unified",
            json!({"memory.high": "41943040", "memory.min": "1048576", "cgroup.max.depth": "3"}),
            "memory.high memory.min cgroup.max.depth",
            "41943040\n1048576\n3",
        ),
        limit(
            "v2 a file wins over a field",
            "unified",
            json!({"memory.max": "33554432"}),
            "memory.max",
            "33554432",
        ),
        limit(
            "v2 a file of more lines",
            "unified",
            json!({"io.max": format!("{major}:{minor} rbps=1048576\n{major}:{minor} wiops=50")}),
            "io.max",
            &format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=50"),
        )
        .but_refused(Runc, "the kernel takes one line at a time")
        .but_refused(Crun, "the kernel takes one line at a time"),
        case("v2 a deep path")
            .set("/linux/cgroupsPath", json!("/wharfinger-test/@id/a/b"))
            .sh("cat /proc/self/cgroup")
            .prints("0::/wharfinger-test/@id/a/b\n"),
        case("v2 the cgroup is gone afterwards")
            .args(&["true"])
            .after("ls -d /sys/fs/cgroup/wharfinger-test/@id 2>/dev/null | wc -l")
            .prints("0\n"),
        with("v2 what the container made below is gone too", "pids", json!({"limit": 33}))
            .set("/mounts/6/options", json!(["rw"]))
            .sh("mkdir /sys/fs/cgroup/x")
            .after("ls -d /sys/fs/cgroup/wharfinger-test/@id 2>/dev/null | wc -l")
            .prints("0\n"),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    [memory(), processor(), others()].into_iter().flatten().collect()
}

pub(crate) fn refused() -> Vec<Case> {
    vec![
        with("v2 swap without a limit of memory", "memory", json!({"swap": 67_108_864}))
            .refused("memory.swap"),
        with("v2 swap below memory", "memory", json!({"limit": 67_108_864, "swap": 33_554_432}))
            .refused("memory.swap"),
        with("v2 real time", "cpu", json!({"realtimeRuntime": 1000, "realtimePeriod": 10000}))
            .refused("real time")
            .but_prints(Runc, "", "runc leaves it out"),
        with("v2 processors that are not there", "cpu", json!({"cpus": "0-999"})).refused("cpuset.cpus"),
        with("v2 quota below the smallest", "cpu", json!({"quota": 10})).refused("cpu.max"),
        with(
            "v2 huge pages of a size that is not there",
            "hugepageLimits",
            json!([{"pageSize": "3MB", "limit": 1}]),
        )
        .refused("hugetlb.3MB"),
        with("v2 a file that is not there", "unified", json!({"memory.nothing": "1"}))
            .refused("memory.nothing"),
        with("v2 a file that leads out", "unified", json!({"../cgroup.procs": "1"}))
            .refused("no name of a file"),
        with("v2 a value that is none", "unified", json!({"memory.high": "much"})).refused("memory.high"),
        with("v2 RDMA of a device that is not there", "rdma", json!({"mlx9": {"hcaHandles": 3}}))
            .refused("rdma.max")
            .but_prints(Crun, "", "crun leaves it out"),
        with(
            "v2 throttle of a device that is not there",
            "blockIO",
            json!({"throttleReadBpsDevice": [{"major": 250, "minor": 77, "rate": 1}]}),
        )
        .refused("io.max"),
    ]
}
