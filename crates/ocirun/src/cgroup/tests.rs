//! Plans as data, and their effect on this machine's control groups.

use std::collections::BTreeMap;

use model::oci::LinuxResources;

use super::plan::Devices;
use super::*;

fn resources(json: serde_json::Value) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

fn cgroup(unified: bool) -> Cgroup {
    Cgroup { paths: BTreeMap::new(), unified, unit: None, rights: Rights::Root }
}

fn check(json: serde_json::Value, facts: Facts, v1: &str, v2: &str) {
    let resources = resources(json);
    for (unified, expected) in [(false, v1), (true, v2)] {
        let text = match plan(&resources, &cgroup(unified), facts, Devices::Keep) {
            Ok(plan) => {
                plan.writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect::<Vec<_>>().join("; ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected, "unified {unified}: {resources:?}");
    }
}

#[test]
fn memory() {
    use serde_json::json;
    let none = Facts::default();
    check(json!({"memory": {"limit": 1000}}), none, "memory.limit_in_bytes=1000", "memory.max=1000");
    check(
        json!({"memory": {"limit": 1000, "swap": 3000, "reservation": 500}}),
        none,
        "memory.limit_in_bytes=1000; memory.memsw.limit_in_bytes=3000; memory.soft_limit_in_bytes=500",
        "memory.swap.max=2000; memory.max=1000; memory.low=500",
    );
    // Growing: the outer limit first.
    check(
        json!({"memory": {"limit": 1000, "swap": 3000}}),
        Facts { memory_limit: Some(100), ..none },
        "memory.memsw.limit_in_bytes=3000; memory.limit_in_bytes=1000",
        "memory.swap.max=2000; memory.max=1000",
    );
    check(
        json!({"memory": {"limit": -1}}),
        Facts { counts_swap: true, ..none },
        "memory.memsw.limit_in_bytes=-1; memory.limit_in_bytes=-1",
        "memory.swap.max=max; memory.max=max",
    );
    check(
        json!({"memory": {"limit": 1000, "swap": 1000}}),
        none,
        "memory.limit_in_bytes=1000; memory.memsw.limit_in_bytes=1000",
        "memory.swap.max=0; memory.max=1000",
    );
    check(
        json!({"memory": {"swap": 1000}}),
        none,
        "memory.memsw.limit_in_bytes=1000",
        "linux.resources.memory.swap: a limit of swap needs a limit of memory",
    );
    check(
        json!({"memory": {"limit": 2000, "swap": 1000}}),
        none,
        "memory.limit_in_bytes=2000; memory.memsw.limit_in_bytes=1000",
        "linux.resources.memory.swap: memory and swap together are less than memory alone",
    );
    check(
        json!({"memory": {"limit": 2000, "checkBeforeUpdate": true}}),
        Facts { memory_usage: Some(3000), ..none },
        "memory.limit_in_bytes=2000",
        "linux.resources.memory.limit: 2000 is below the 3000 bytes in use",
    );
    check(
        json!({"memory": {"swappiness": 0, "disableOOMKiller": true, "kernel": 5, "kernelTCP": 6, "useHierarchy": true}}),
        none,
        "memory.oom_control=1; memory.swappiness=0",
        "",
    );
    check(
        json!({"memory": {"swappiness": 101}}),
        none,
        "linux.resources.memory.swappiness: 101 is not between 0 and 100",
        "",
    );
}

#[test]
fn processors() {
    use serde_json::json;
    let none = Facts::default();
    check(json!({"cpu": {"shares": 1024}}), none, "cpu.shares=1024", "cpu.weight=100");
    check(
        json!({"cpu": {"quota": 5000, "period": 10000, "burst": 0}}),
        none,
        "cpu.cfs_period_us=10000; cpu.cfs_burst_us=0; cpu.cfs_quota_us=5000",
        "cpu.max.burst=0; cpu.max=5000 10000",
    );
    check(json!({"cpu": {"quota": -1}}), none, "cpu.cfs_quota_us=-1", "cpu.max=max 100000");
    check(json!({"cpu": {"period": 50000}}), none, "cpu.cfs_period_us=50000", "cpu.max=max 50000");
    check(
        json!({"cpu": {"cpus": "0", "mems": "0", "idle": 1, "shares": 5}}),
        none,
        "cpuset.cpus=0; cpuset.mems=0; cpu.shares=5; cpu.idle=1",
        "cpu.idle=1; cpuset.cpus=0; cpuset.mems=0",
    );
    check(
        json!({"cpu": {"realtimePeriod": 1000, "realtimeRuntime": 500}}),
        none,
        "cpu.rt_period_us=1000; cpu.rt_runtime_us=500",
        "linux.resources.cpu: real time limits cannot be used on cgroup v2",
    );
    check(json!({"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": ""}}), none, "", "");
}

#[test]
fn shares_are_weights() {
    for (shares, weight) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (300_000, 10_000)] {
        assert_eq!(plan_v2::cpu_weight(shares), weight, "{shares}");
    }
    let weights: Vec<_> = (2..5000).map(plan_v2::cpu_weight).collect();
    assert!(weights.windows(2).all(|pair| pair[0] <= pair[1]));
}

#[test]
fn everything_else() {
    use serde_json::json;
    let none = Facts::default();
    check(json!({"pids": {"limit": 5}}), none, "pids.max=5", "pids.max=5");
    check(json!({"pids": {"limit": -1}}), none, "pids.max=max", "pids.max=max");
    check(json!({"pids": {"limit": 0}}), none, "", "");
    let block = json!({"blockIO": {
        "weight": 1000, "leafWeight": 10,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 20}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]}});
    let throttles = "blkio.throttle.read_bps_device=8:0 1; blkio.throttle.write_bps_device=8:0 2; \
                     blkio.throttle.read_iops_device=8:0 3; blkio.throttle.write_iops_device=8:0 0";
    let max = "io.max=8:0 rbps=1; io.max=8:0 wbps=2; io.max=8:0 riops=3; io.max=8:0 wiops=max";
    check(
        block.clone(),
        none,
        &format!(
            "blkio.weight=1000; blkio.leaf_weight=10; blkio.weight_device=8:0 10; \
             blkio.leaf_weight_device=8:0 20; {throttles}"
        ),
        &format!("io.weight=10000; io.weight=8:0 1; {max}"),
    );
    check(
        block,
        Facts { bfq: true, ..none },
        &format!(
            "blkio.bfq.weight=1000; blkio.leaf_weight=10; blkio.bfq.weight_device=8:0 10; \
             blkio.leaf_weight_device=8:0 20; {throttles}"
        ),
        &format!("io.bfq.weight=1000; io.bfq.weight=8:0 10; {max}"),
    );
    check(
        json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]}),
        none,
        "hugetlb.2MB.limit_in_bytes=4; hugetlb.2MB.rsvd.limit_in_bytes=4",
        "hugetlb.2MB.max=4; hugetlb.2MB.rsvd.max=4",
    );
    let cause = "linux.resources.hugepageLimits: \"../x\" is no name of a file";
    check(json!({"hugepageLimits": [{"pageSize": "../x", "limit": 4}]}), none, cause, cause);
    check(
        json!({"network": {"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 5}]}}),
        none,
        "net_cls.classid=1048577; net_prio.ifpriomap=lo 5",
        "",
    );
    let line = "rdma.max=mlx5 hca_handle=3 hca_object=4";
    check(json!({"rdma": {"mlx5": {"hcaHandles": 3, "hcaObjects": 4}}}), none, line, line);
    check(
        json!({"unified": {"memory.high": "5", "io.max": "8:0 rbps=1\n8:16 rbps=2"}}),
        none,
        "linux.resources.unified: cannot be used on cgroup v1",
        "io.max=8:0 rbps=1; io.max=8:16 rbps=2; memory.high=5",
    );
    check(
        json!({"unified": {"../cgroup.procs": "5"}}),
        none,
        "linux.resources.unified: cannot be used on cgroup v1",
        "linux.resources.unified: \"../cgroup.procs\" is no name of a file",
    );
}

#[test]
fn old_values_are_written_as_they_were_read() {
    let check = |file: &str, value: &str, old: &str, expected: &str| {
        let (file, value) = (file.to_owned(), value.to_owned());
        let write = Write { controller: String::new(), file, value, refused: Refused::Fails };
        assert_eq!(change::old_value(&write, old).as_deref(), Some(expected), "{write:?}");
    };
    check("pids.max", "5", "max\n", "max");
    check("cpu.max", "5 6", "max 100000\n", "max 100000");
    check("cpuset.cpus", "0", "\n", "\n");
    check("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", "0");
    check("io.weight", "5", "default 100\n8:0 7\n", "default 100");
    check("io.weight", "8:0 5", "default 100\n8:0 7\n", "8:0 7");
    check("io.weight", "8:16 5", "default 100\n8:0 7\n", "8:16 default");
    check(
        "io.max",
        "8:0 rbps=5",
        "8:0 rbps=7 wbps=max riops=max wiops=max\n",
        "8:0 rbps=7 wbps=max riops=max wiops=max",
    );
    check("io.max", "8:0 rbps=5", "", "8:0 rbps=max wbps=max riops=max wiops=max");
    check("blkio.throttle.read_bps_device", "8:0 5", "8:16 7\n", "8:0 0");
    check("blkio.throttle.read_bps_device", "8:0 5", "8:0 7\n", "8:0 7");
}

/// A cgroup of the test's own, gone when the test is over.
struct Made(Cgroup, String, std::process::Child);

impl Made {
    fn new(name: &str, json: serde_json::Value) -> Result<Self, Error> {
        let path = format!("/wh-oci2-{}-{name}/c1", std::process::id());
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id().cast_signed();
        let resources = resources(json);
        let annotations = BTreeMap::new();
        let request = Request {
            id: "c1",
            cgroups_path: Some(&path),
            resources: &resources,
            annotations: &annotations,
            driver: Driver::Cgroupfs,
            rights: Rights::Root,
            owner: None,
        };
        let layout = Layout::detect().unwrap();
        let mut child = child;
        match Cgroup::create(&layout, &request, pid) {
            Ok(cgroup) => {
                cgroup.join(pid).unwrap();
                Ok(Self(cgroup, path, child))
            }
            Err(error) => {
                child.kill().unwrap();
                child.wait().unwrap();
                // What failed has left nothing.
                let Layout::V1 { hierarchies } = layout else { return Err(error) };
                for hierarchy in hierarchies {
                    let made = hierarchy.mount.join(path[1..].split('/').next().unwrap());
                    assert!(!made.exists(), "{}", made.display());
                }
                Err(error)
            }
        }
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let directory = self.0.directory(controller).unwrap();
        std::fs::read_to_string(directory.join(file)).unwrap().trim().to_owned()
    }

    fn pid(&self) -> i32 {
        self.2.id().cast_signed()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.0.thaw();
        let _ = self.2.kill();
        let _ = self.2.wait();
        let _ = self.0.remove();
        for path in self.0.paths.values() {
            let _ = std::fs::remove_dir(path.parent().unwrap());
        }
    }
}

fn is_v1() -> bool {
    let v1 = matches!(Layout::detect().unwrap(), Layout::V1 { .. });
    if !v1 {
        testkit::not_tested("cgroup v1: this machine has v2 alone");
    }
    v1
}

#[test]
fn limits_are_set_and_changed_together() {
    use serde_json::json;
    if !is_v1() {
        return;
    }
    let made = Made::new(
        "limits",
        json!({"memory": {"limit": 104_857_600, "swap": 209_715_200}, "cpu": {"shares": 100, "quota": 5000, "period": 10000},
               "pids": {"limit": 50}, "devices": [{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}]}),
    )
    .unwrap();
    assert_eq!(made.0.pids().unwrap(), [made.pid()]);
    assert_eq!(made.read("memory", "memory.limit_in_bytes"), "104857600");
    assert_eq!(made.read("memory", "memory.memsw.limit_in_bytes"), "209715200");
    assert_eq!(made.read("cpu", "cpu.cfs_quota_us"), "5000");
    assert_eq!(made.read("pids", "pids.max"), "50");
    assert!(made.read("devices", "devices.list").lines().any(|line| line == "c 10:229 r"));
    for hierarchy in ["freezer", "blkio", "name=systemd", "cpuset"] {
        assert_eq!(made.read(hierarchy, "cgroup.procs"), made.pid().to_string(), "{hierarchy}");
    }

    // Larger than the limit of memory and swap that is there.
    let larger = resources(json!({"memory": {"limit": 314_572_800, "swap": 419_430_400}}));
    made.0.update(&LinuxResources::default(), &larger).unwrap();
    assert_eq!(made.read("memory", "memory.limit_in_bytes"), "314572800");

    // One of them is refused: all stay.
    let refused =
        resources(json!({"memory": {"limit": 209_715_200}, "pids": {"limit": 7}, "cpu": {"quota": 10}}));
    let wrong =
        resources(json!({"memory": {"limit": 209_715_200}, "pids": {"limit": 7}, "cpu": {"shares": 1}}));
    let late = resources(json!({"pids": {"limit": 7}, "hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}));
    for (resources, text) in
        [(refused, "cpu.cfs_quota_us"), (wrong, "shares: 1 is below"), (late, "hugetlb.3MB")]
    {
        let error = made.0.update(&LinuxResources::default(), &resources).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!(made.read("memory", "memory.limit_in_bytes"), "314572800");
        assert_eq!(made.read("pids", "pids.max"), "50");
        assert_eq!(made.read("cpu", "cpu.cfs_quota_us"), "5000");
    }
    let stats = serde_json::to_value(made.0.stats()).unwrap();
    assert_eq!(stats["memory"]["usage"]["limit"], 314_572_800);
    assert_eq!(stats["pids"], json!({"current": 1, "limit": 50}));
    assert!(stats["cpuset"]["cpus"].as_array().is_some_and(|cpus| !cpus.is_empty()));
    assert_eq!(stats["network_interfaces"], json!(null));
}

#[test]
fn a_period_that_the_old_quota_forbids_is_tried_again() {
    use serde_json::json;
    if !is_v1() {
        return;
    }
    let made = Made::new("period", json!({"cpu": {"quota": 500_000, "period": 500_000}})).unwrap();
    // The parent allows as much: a child must not have more than that, at any moment.
    let parent = made.0.directory("cpu").unwrap().parent().unwrap().to_owned();
    apply::write(&parent.join("cpu.cfs_quota_us"), "100000").unwrap();
    made.0
        .update(&LinuxResources::default(), &resources(json!({"cpu": {"quota": 5000, "period": 10000}})))
        .unwrap();
    assert_eq!(made.read("cpu", "cpu.cfs_period_us"), "10000");
    assert_eq!(made.read("cpu", "cpu.cfs_quota_us"), "5000");
}

#[test]
fn what_is_refused_leaves_nothing() {
    use serde_json::json;
    if !is_v1() {
        return;
    }
    let cases = [
        (json!({"unified": {"memory.high": "1"}}), "cannot be used on cgroup v1"),
        (json!({"network": {"classID": 7}}), "no cgroup of net_cls"),
        (json!({"cpu": {"cpus": "0-999"}}), "cpuset.cpus"),
        (json!({"pids": {"limit": 9}, "memory": {"limit": 8_000_000, "swap": 4_000_000}}), "memsw"),
        (json!({"devices": [{"allow": true, "type": "z", "access": "r"}]}), "unknown type"),
    ];
    for (json, text) in cases {
        let error = Made::new("refused", json).map(drop).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_cgroup_in_use_is_refused() {
    if !is_v1() {
        return;
    }
    let made = Made::new("used", serde_json::json!({})).unwrap();
    let (resources, annotations) = (LinuxResources::default(), BTreeMap::new());
    let request = Request {
        id: "c2",
        cgroups_path: Some(&made.1),
        resources: &resources,
        annotations: &annotations,
        driver: Driver::Cgroupfs,
        rights: Rights::Root,
        owner: None,
    };
    let error = Cgroup::create(&Layout::detect().unwrap(), &request, 1).unwrap_err();
    assert!(matches!(error, Error::InUse { processes: 1, .. }), "{error}");
    assert!(made.0.exists());
}

#[test]
fn freezing_killing_and_removing() {
    if !is_v1() {
        return;
    }
    let mut made = Made::new("freeze", serde_json::json!({})).unwrap();
    assert!(!made.0.is_frozen().unwrap());
    made.0.freeze().unwrap();
    made.0.freeze().unwrap();
    assert!(made.0.is_frozen().unwrap());
    made.0.thaw().unwrap();
    assert!(!made.0.is_frozen().unwrap());
    // What the container made below goes too, and a frozen one dies.
    for path in made.0.paths.values() {
        std::fs::create_dir_all(path.join("below/deeper")).unwrap();
    }
    made.0.freeze().unwrap();
    made.0.signal(rustix::process::Signal::KILL).unwrap();
    let status = made.2.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    made.0.remove().unwrap();
    assert!(!made.0.exists());
    made.0.remove().unwrap();
    assert_eq!(made.0.pids().unwrap(), [0; 0]);
    made.0.signal(rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_record_is_read_back() {
    let mut cgroup = cgroup(false);
    cgroup.paths.insert("memory".into(), "/sys/fs/cgroup/memory/x".into());
    let text = serde_json::to_string(&cgroup).unwrap();
    assert_eq!(serde_json::from_str::<Cgroup>(&text).unwrap(), cgroup);
    assert_eq!(cgroup.main_directory(), cgroup.directory("memory"));
}
