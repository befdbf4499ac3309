//! Stats of real containers.

use runtime::Kind;
use serde_json::json;
use testkit::Bundle;

use crate::rig::{LONG, Rig, TERM, waiter};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_are_what_the_container_uses() {
    let rig = Rig::new("stats");
    let bundle = waiter("stats", "trap 'exit 0' TERM; head -c 8388608 /dev/zero >/dev/shm/x; sleep 3604 &")
        .edit(|spec| {
            spec["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
        });
    let container = rig.ready(&bundle).await;
    let stats = container.stats().await.unwrap();
    assert!(stats.time_ns > 1_700_000_000_000_000_000);
    assert!(stats.cpu.usage_ns > 0);
    assert!(stats.memory.usage >= 8 << 20, "{stats:?}");
    assert!(stats.memory.working_set <= stats.memory.usage && stats.memory.peak > 0);
    assert_eq!((stats.memory.limit, stats.pids.limit), (Some(64 << 20), Some(50)));
    assert!((2..50).contains(&stats.pids.current), "{stats:?}");
    assert_eq!(stats.memory.oom_kills, 0);
    container.stop(TERM, LONG).await.unwrap();
    let refused = container.stats().await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Precondition, "{refused}");
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processor_time_and_kills_for_memory_are_counted() {
    let rig = Rig::new("stats-busy");
    let line = "trap 'exit 0' TERM; trap 'dd if=/dev/zero of=/dev/null bs=64M count=1; echo tried' USR1; echo ready; while :; do :; done";
    let bundle = Bundle::shell("stats-busy", line).edit(|spec| {
        spec["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    });
    let container = rig.ready(&bundle).await;
    let first = container.stats().await.unwrap().cpu.usage_ns;
    while container.stats().await.unwrap().cpu.usage_ns < first + 50_000_000 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    container.kill("USR1".parse().unwrap()).await.unwrap();
    rig.said(&bundle, "tried");
    assert!(container.stats().await.unwrap().memory.oom_kills >= 1);
    container.stop(TERM, LONG).await.unwrap();
    container.delete(false).await.unwrap();
}
