//! Rows of docs/lifecycle.md that no other file here proves: handlers, status, reboot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::trust::{OnDowngrade, Trust};
use model::{Exit, Reason, Signal, State};
use runtime::{CreateRequest, HandlerConfig, HandlerKind, Kind, MonitorConfig, RuntimeConfig, Runtimes};
use testkit::{Bundle, Scratch, monitor_under_test, runtime_under_test, script, wait_until};

use crate::rig::{LONG, Rig, TERM, is_gone, state, waiter};

/// The runtime under test behind a script that writes down each call.
fn counted(scratch: &Scratch) -> (HandlerConfig, PathBuf) {
    let calls = scratch.path().join("calls");
    let text = format!(
        "#!/bin/sh\necho \"$@\" >>{}\nexec {} \"$@\"\n",
        calls.display(),
        runtime_under_test().path.display()
    );
    let path = script(scratch.path(), "counted", &text);
    (HandlerConfig::new("counted", path, MonitorConfig::new(monitor_under_test().path)), calls)
}

fn calls(file: &Path) -> usize {
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

/// A runtime of its own: whoever watched containers in it is gone when it is dropped.
fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn runtimes(root: &Path, handlers: Vec<HandlerConfig>) -> Result<Runtimes, runtime::Error> {
    Runtimes::from_config(&RuntimeConfig::new(root, handlers))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_is_asked_for_its_version_once() {
    let scratch = Scratch::new("version");
    let (handler, file) = counted(&scratch);
    let runtimes = runtimes(&scratch.path().join("root"), vec![handler]).unwrap();
    assert_eq!(calls(&file), 0, "nothing is asked before it must be known");
    let first = runtimes.default_handler().unwrap().version().await.unwrap();
    assert_eq!(runtimes.default_handler().unwrap().version().await.unwrap(), first);
    assert_eq!(calls(&file), 1);
    assert!(first.version.starts_with(|c: char| c.is_ascii_digit()), "{first:?}");
    assert_eq!(runtimes.default_handler().unwrap().name(), "counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_handler_disables_itself_only() {
    let scratch = Scratch::new("broken");
    let (good, _) = counted(&scratch);
    let monitor = || MonitorConfig::new(monitor_under_test().path);
    std::fs::write(scratch.path().join("plain"), "").unwrap();
    let mut vm = HandlerConfig::new("vm", &good.path, monitor());
    vm.kind = HandlerKind::Vm;
    let bad = [
        HandlerConfig::new("absent", "/nonexistent/rt", monitor()),
        HandlerConfig::new("plain", scratch.path().join("plain"), monitor()),
        HandlerConfig::new("dir", scratch.path(), monitor()),
        HandlerConfig::new("monitorless", &good.path, MonitorConfig::new("/nonexistent/monitor")),
        vm,
    ];
    let all = [vec![good.clone()], bad.to_vec()].concat();
    let set = runtimes(&scratch.path().join("root"), all).unwrap();
    assert!(set.handler("counted").is_ok());
    for handler in &bad {
        let error = set.handler(&handler.name).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        assert!(error.to_string().starts_with(&format!("use handler {}: ", handler.name)), "{error}");
    }
    assert_eq!(set.handler("nobody").unwrap_err().kind(), Kind::NotFound);
    let error = runtimes(&scratch.path().join("other"), vec![bad[0].clone()]).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/rt"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn untrusted_workloads_get_their_handler_or_are_refused() {
    let scratch = Scratch::new("trust");
    let (good, _) = counted(&scratch);
    let other = HandlerConfig { name: "apart".to_owned(), ..good.clone() };
    let mut config = RuntimeConfig::new(scratch.path().join("root"), vec![good, other]);
    config.trust.untrusted_handler = Some("apart".to_owned());
    let set = Runtimes::from_config(&config).unwrap();
    let name =
        |trust, privileged, asked| set.handler_for(trust, privileged, asked).map(|h| h.name().to_owned());
    assert_eq!(name(Trust::Untrusted, false, None).unwrap(), "apart");
    assert_eq!(name(Trust::Untrusted, true, None).unwrap(), "counted");
    assert_eq!(name(Trust::Trusted, false, None).unwrap(), "counted");
    assert_eq!(name(Trust::Trusted, false, Some("apart")).unwrap(), "apart");
    assert_eq!(name(Trust::Trusted, false, Some("nobody")).unwrap_err().kind(), Kind::NotFound);
    config.trust.on_downgrade = OnDowngrade::Refuse;
    let set = Runtimes::from_config(&config).unwrap();
    let refused = set.handler_for(Trust::Untrusted, true, None).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported, "{refused}");
    assert!(set.handler_for(Trust::Untrusted, false, None).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_asks_nobody() {
    let scratch = Scratch::new("status");
    let (mut handler, file) = counted(&scratch);
    handler.root = Some(scratch.path().join("runtime-root"));
    let set = runtimes(&scratch.path().join("root"), vec![handler]).unwrap();
    let bundle = waiter("status", "trap 'exit 0' TERM");
    let mut request = CreateRequest::new(bundle.id().parse().unwrap(), bundle.path());
    request.log = Some(scratch.path().join("log"));
    let container = set.create(request).await.unwrap();
    assert_eq!(container.status().started_ns, None);
    container.start().await.unwrap();
    wait_until("ready", || {
        std::fs::read_to_string(scratch.path().join("log")).is_ok_and(|l| l.contains("ready"))
    });
    let before = calls(&file);
    let snapshot = container.status();
    for _ in 0..1000 {
        assert_eq!(container.status().state, State::Running);
        assert_eq!(set.get(container.id()).await.unwrap().status().pid, snapshot.pid);
    }
    assert_eq!(set.list().await.unwrap().len(), 1);
    assert_eq!(calls(&file), before, "the runtime was asked");
    // The handler's state directory was told to each call.
    let text = std::fs::read_to_string(&file).unwrap();
    let root = scratch.path().join("runtime-root").display().to_string();
    assert!(text.lines().filter(|l| !l.contains("--version")).all(|l| l.contains(&root)), "{text}");
    container.stop(TERM, LONG).await.unwrap();
    // What was handed out stays as it was.
    assert_eq!(snapshot.state, State::Running);
    assert_eq!(container.status().state, State::Exited);
    assert!(Arc::ptr_eq(&container.status(), &container.status()));
    container.delete(false).await.unwrap();
}

#[test]
fn what_nobody_saw_end_is_255_and_unknown() {
    let rig = Rig::new("lost");
    let bundle = waiter("lost", "trap 'exit 0' TERM");
    let tokio =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Whoever watched it is gone with its tokio runtime.
    tokio().block_on(rig.ready(&bundle));
    let dir = rig.dir(&bundle);
    let text = std::fs::read(dir.join("state.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let pid = |value: &serde_json::Value| i32::try_from(value["pid"].as_i64().unwrap()).unwrap();
    for pid in [pid(&record["monitor"]["process"]), pid(&record["init"])] {
        sys::pidfd::PidFd::open(pid).unwrap().signal(9).unwrap();
        wait_until("its end", || is_gone(pid));
    }
    // Where nobody waits for orphans, the kernel still has its status: this stands for a pid that is used again.
    let mut record = record;
    record["init"]["start"] = 1.into();
    std::fs::write(dir.join("state.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    for file in ["exit.json".to_owned(), format!("exits/{}", bundle.id())] {
        let _ = std::fs::remove_file(dir.join(file));
    }
    tokio().block_on(async {
        let other = rig.another();
        let recovered = other.recover().await.unwrap();
        assert!(recovered.failed.is_empty(), "{recovered:?}");
        let container = other.get(&bundle.id().parse().unwrap()).await.unwrap();
        wait_until("the exit", || state(&container) == State::Exited);
        let ended = container.status().ended.clone().unwrap();
        assert_eq!((ended.exit, ended.code, ended.reason), (Exit::Lost, 255, Reason::Unknown));
        assert_eq!(ended.finished_ns, None);
        container.delete(false).await.unwrap();
    });
}

#[test]
fn after_a_reboot_everything_older_is_over_at_once() {
    let rig = Rig::new("reboot");
    let bundles: Vec<Bundle> = (0..5).map(|_| waiter("reboot", "trap 'exit 0' TERM")).collect();
    tokio().block_on(async {
        for bundle in &bundles {
            let container = rig.ready(bundle).await;
            container.kill(Signal::KILL).await.unwrap();
            container.wait().await.unwrap();
        }
    });
    for bundle in &bundles {
        // As it was on disk when the power went.
        let path = rig.dir(bundle).join("state.json");
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["boot_id"] = "00000000-0000-0000-0000-000000000000".into();
        record["state"] = "running".into();
        record["ended"] = serde_json::Value::Null;
        std::fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
        for file in ["exit.json".to_owned(), format!("exits/{}", bundle.id())] {
            let _ = std::fs::remove_file(rig.dir(bundle).join(file));
        }
    }
    tokio().block_on(async {
        let other = rig.another();
        let recovered = other.recover().await.unwrap();
        assert_eq!(recovered.exited.len(), bundles.len(), "{recovered:?}");
        for container in other.list().await.unwrap() {
            assert_eq!(container.status().state, State::Exited);
            assert_eq!(container.status().ended.clone().unwrap().exit, Exit::Lost);
            container.delete(false).await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_roots_and_no_log_are_no_obstacle() {
    let scratch = Scratch::new("deep");
    let deep = scratch.path().join("d".repeat(100)).join("e".repeat(60));
    let monitor = MonitorConfig::new(monitor_under_test().path);
    let runtime = runtime_under_test();
    let mut handler = HandlerConfig::new("deep", &runtime.path, monitor);
    // The runtime's own state has a limit of its own.
    handler.root = Some(scratch.path().join("r"));
    let set = runtimes(&deep, vec![handler]).unwrap();
    let bundle = Bundle::shell("deep", "echo unheard; exit 4");
    let container =
        set.create(CreateRequest::new(bundle.id().parse().unwrap(), bundle.path())).await.unwrap();
    container.start().await.unwrap();
    assert_eq!(container.wait().await.unwrap().code, 4);
    let error = container.logs(runtime::LogOptions::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("read log of {}: not possible: its output is not kept", bundle.id())
    );
    container.delete(false).await.unwrap();
}
