//! How containers end: starts that fail, want of memory, records that can't be read.

use model::{Exit, Oom, Reason, State};
use runtime::{CreateRequest, HandlerConfig, Kind, MonitorConfig, RuntimeConfig, Runtimes};
use serde_json::json;
use testkit::{Bundle, Scratch, monitor_under_test, runtime_under_test, script};

use crate::rig::{LONG, Rig, TERM, state, waiter};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_leaves_an_exited_container_with_the_runtimes_words() {
    let scratch = Scratch::new("start-fails");
    let text = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" = start ] && {{ echo 'hull breached at 42%d' >&2; exit 1; }}; done\nexec {} \"$@\"\n",
        runtime_under_test().path.display()
    );
    let path = script(scratch.path(), "faulty", &text);
    let handler = HandlerConfig::new("faulty", path, MonitorConfig::new(monitor_under_test().path));
    let set =
        Runtimes::from_config(&RuntimeConfig::new(scratch.path().join("state"), vec![handler])).unwrap();
    let bundle = waiter("start-fails", "true");
    let container =
        set.create(CreateRequest::new(bundle.id().parse().unwrap(), bundle.path())).await.unwrap();
    let pid = container.status().pid.unwrap();
    let error = container.start().await.unwrap_err();
    assert!(error.to_string().contains("hull breached at 42%d"), "{error}");
    let status = container.status();
    let ended = status.ended.clone().unwrap();
    assert_eq!((status.state, ended.exit), (State::Exited, Exit::StartError));
    assert_eq!((ended.code, ended.reason), (128, Reason::StartError));
    assert!(ended.message.unwrap().contains("hull breached at 42%d"));
    assert!(crate::rig::is_gone(pid));
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn want_of_memory_of_init_and_of_a_child_are_told_apart() {
    let rig = Rig::new("oom");
    let limit = |spec: &mut serde_json::Value| {
        spec["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    };
    let init =
        Bundle::new("oom-init", &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]).edit(limit);
    let container = rig.start(&init).await;
    let ended = container.wait().await.unwrap();
    assert_eq!((ended.exit, ended.code), (Exit::Signal(9), 137));
    // conmon looks when the init has ended; systemd may have removed the scope by then (conmon 2.1.12: both tries of a run
    // under the emulator missed the child's).
    let conmon = testkit::monitor_under_test().kind == testkit::MonitorKind::Conmon;
    let may_miss = conmon && testkit::cgroup_manager_under_test() == "systemd";
    if !(may_miss && ended.oom == Oom::None) {
        assert_eq!((ended.oom, ended.reason), (Oom::Init, Reason::OOMKilled));
    }
    container.delete(false).await.unwrap();
    let child = Bundle::shell("oom-child", "dd if=/dev/zero of=/dev/null bs=64M count=1; exit 0").edit(limit);
    let container = rig.start(&child).await;
    let ended = container.wait().await.unwrap();
    assert_eq!((ended.exit, ended.reason), (Exit::Code(0), Reason::Completed));
    assert!(ended.oom == Oom::Child || may_miss && ended.oom == Oom::None, "{:?}", ended.oom);
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_can_not_be_read_changes_nothing_that_was_seen() {
    let rig = Rig::new("record");
    let (bundle, other) = (waiter("record", "trap 'exit 0' TERM"), waiter("record", "trap 'exit 0' TERM"));
    let container = rig.ready(&bundle).await;
    let beside = rig.ready(&other).await;
    let path = rig.dir(&bundle).join("state.json");
    let good = std::fs::read(&path).unwrap();
    for bad in [&b""[..], b"{", b"null", b"[]", b"{\"version\":99}", &good[..good.len() / 2]] {
        std::fs::write(&path, bad).unwrap();
        assert_eq!(state(&container), State::Running);
        let error = rig.another().get(container.id()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert_eq!(rig.another().list().await.unwrap().len(), 1, "the other is not hidden");
    }
    std::fs::write(&path, good).unwrap();
    assert_eq!(rig.another().list().await.unwrap().len(), 2);
    for container in [container, beside] {
        assert_eq!(container.stop(TERM, LONG).await.unwrap().exit, Exit::Code(0));
        container.delete(false).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exits_are_times_and_statuses_of_the_record() {
    let rig = Rig::new("times");
    for (line, exit, reason) in [
        ("exit 0", Exit::Code(0), Reason::Completed),
        ("exit 3", Exit::Code(3), Reason::Error),
        ("exit 255", Exit::Code(255), Reason::Error),
        ("kill -SEGV $$", Exit::Signal(11), Reason::Error),
    ] {
        // A shell that is pid 1 is not killed by its own signals; one that execs is not the point here.
        let bundle = Bundle::shell("times", line).edit(|spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
        });
        let container = rig.start(&bundle).await;
        let ended = container.wait().await.unwrap();
        assert_eq!((ended.exit, ended.reason), (exit, reason), "{line}");
        let status = container.status();
        let (created, started) = (status.created_ns, status.started_ns.unwrap());
        assert!(created <= started && started <= ended.finished_ns.unwrap(), "{status:?}");
        // Whoever looks later sees the same.
        let seen = rig.another().get(container.id()).await.unwrap().status().ended.clone();
        assert_eq!(seen, Some(ended));
        container.delete(false).await.unwrap();
    }
}
