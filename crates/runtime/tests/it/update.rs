//! Update: all or nothing, read back, kept.

use std::path::PathBuf;

use model::State;
use model::oci::LinuxResources;
use runtime::{Container, Kind};
use serde_json::{Value, json};
use testkit::{Bundle, cgroup_manager_under_test, runtime_under_test};

use crate::rig::{LONG, Rig, TERM, waiter};

fn limits(value: Value) -> LinuxResources {
    serde_json::from_value(value).unwrap()
}

fn config_of(rig_root: &Bundle, path: PathBuf) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("config of {}: {e}", rig_root.id()));
    serde_json::from_slice(&bytes).unwrap()
}

async fn end(container: &Container) {
    container.stop(TERM, LONG).await.unwrap();
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_limits_are_in_force_and_kept() {
    let rig = Rig::new("update");
    let bundle = waiter("update", "trap 'exit 0' TERM").edit(|spec| {
        spec["linux"]["resources"] = json!({"memory": {"limit": 128 << 20}, "pids": {"limit": 50}});
    });
    let container = rig.ready(&bundle).await;
    let before = container.limits().await.unwrap();
    assert_eq!(before.memory.as_ref().unwrap().limit, Some(128 << 20));
    let wanted = json!({
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
        "pids": {"limit": 33},
    });
    let found = container.update(limits(wanted)).await.unwrap();
    assert_eq!(found, container.limits().await.unwrap());
    assert_eq!(found, rig.another().get(container.id()).await.unwrap().limits().await.unwrap());
    assert_eq!(found.memory.unwrap().limit, Some(64 << 20));
    let cpu = found.cpu.unwrap();
    assert_eq!((cpu.quota, cpu.period, cpu.cpus.as_deref()), (Some(50_000), Some(100_000), Some("0")));
    assert_eq!(found.pids.unwrap().limit, Some(33));
    // What was not named is as it was, and the user's own bundle was not touched.
    let kept = config_of(&bundle, rig.dir(&bundle).join("config.json"));
    assert_eq!(kept["linux"]["resources"]["memory"]["limit"], 64 << 20);
    assert_eq!(kept["linux"]["resources"]["pids"]["limit"], 33);
    assert_eq!(&config_of(&bundle, bundle.path().join("config.json")), bundle.spec());
    assert!(!rig.dir(&bundle).join("update.json").exists());
    // No limit is a limit, too.
    let before = container.limits().await.unwrap();
    let found = container.update(limits(json!({"pids": {"limit": -1}, "cpu": {"quota": -1}}))).await;
    // crun does not tell systemd of a quota that is lifted, and systemd writes its old one again.
    let crun = runtime_under_test().name() == "crun" && cgroup_manager_under_test() == "systemd";
    match found {
        Err(error) if crun => {
            assert!(error.to_string().contains("cpu.quota is 50000 where -1 was asked for"), "{error}");
            assert_eq!(container.limits().await.unwrap(), before, "nothing has changed");
        }
        found => {
            let found = found.unwrap();
            assert_eq!((found.pids.unwrap().limit, found.cpu.unwrap().quota), (Some(-1), Some(-1)));
        }
    }
    end(&container).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_the_kernel_refuses_changes_nothing() {
    let rig = Rig::new("rollback");
    // Memory of a tmpfs can't be taken back: a limit below it is refused.
    let bundle =
        waiter("rollback", "trap 'exit 0' TERM; head -c 16777216 /dev/zero >/dev/shm/x").edit(|spec| {
            spec["linux"]["resources"] = json!({"memory": {"limit": 128 << 20}, "cpu": {"shares": 1000}});
        });
    let container = rig.ready(&bundle).await;
    let before = container.limits().await.unwrap();
    let kept = std::fs::read(rig.dir(&bundle).join("config.json")).unwrap();
    let used = container.stats().await.unwrap().memory.usage;
    assert!(used > 8 << 20, "{used}");
    let cases = [
        json!({"cpu": {"shares": 300, "cpus": "0"}, "pids": {"limit": 20}, "memory": {"limit": 4 << 20}}),
        json!({"cpu": {"shares": 300, "cpus": "4000"}, "pids": {"limit": 20}}),
        json!({"cpu": {"shares": 300, "mems": "4000"}, "memory": {"limit": 100 << 20}}),
        json!({"cpu": {"shares": 300, "cpus": "4000"}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}),
    ];
    // Version 2 kills where version 1 refuses.
    let refused_by_v1 = std::path::Path::new("/sys/fs/cgroup/memory").exists();
    for wanted in cases.into_iter().skip(usize::from(!refused_by_v1)) {
        let error = container.update(limits(wanted.clone())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "{error}");
        assert!(error.to_string().len() > bundle.id().len() + 20, "{error}");
        assert_eq!(container.limits().await.unwrap(), before, "{wanted}: {error}");
        assert_eq!(std::fs::read(rig.dir(&bundle).join("config.json")).unwrap(), kept);
        assert!(!rig.dir(&bundle).join("update.json").exists());
    }
    assert_eq!(container.status().state, State::Running);
    end(&container).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_limits_are_refused_before_the_runtime_sees_them() {
    let rig = Rig::new("absurd");
    let bundle = waiter("absurd", "trap 'exit 0' TERM");
    let container = rig.ready(&bundle).await;
    let before = container.limits().await.unwrap();
    for (wanted, words) in [
        (json!({"cpu": {"shares": 1}}), "cpu.shares"),
        (json!({"cpu": {"shares": 262_145}}), "cpu.shares"),
        (json!({"cpu": {"quota": -5}}), "cpu.quota"),
        (json!({"cpu": {"quota": 1u64 << 50}}), "processors"),
        (json!({"cpu": {"period": 5}}), "cpu.period"),
        (json!({"memory": {"limit": -100}}), "memory.limit"),
        (json!({"memory": {"limit": 1}}), "memory.limit"),
        (json!({"pids": {"limit": i64::MAX}}), "pids.limit"),
        (json!({"unified": {"../../x": "1"}}), "unified"),
        (json!({"cpu": {"shares": 300}, "unified": {"memory.nonsense": "1"}}), "no such file"),
    ] {
        let error = container.update(limits(wanted.clone())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{wanted}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("update {}: ", bundle.id())) && text.contains(words), "{text}");
    }
    assert_eq!(container.limits().await.unwrap(), before);
    end(&container).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_has_processes_can_be_updated() {
    let rig = Rig::new("update-states");
    let bundle = waiter("update-states", "trap 'exit 0' TERM");
    let container = rig.create(&bundle).await;
    let wanted = || limits(json!({"pids": {"limit": 77}}));
    assert_eq!(container.update(wanted()).await.unwrap().pids.unwrap().limit, Some(77));
    container.start().await.unwrap();
    rig.said(&bundle, "ready");
    container.pause().await.unwrap();
    assert_eq!(container.update(wanted()).await.unwrap().pids.unwrap().limit, Some(77));
    assert_eq!(container.status().state, State::Paused);
    container.resume().await.unwrap();
    container.stop(TERM, LONG).await.unwrap();
    let refused = container.update(wanted()).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("update {}: container is exited", bundle.id()));
    container.delete(false).await.unwrap();
}
