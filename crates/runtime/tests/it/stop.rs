//! Stop, kill and ps.

use std::time::Duration;

use model::{Exit, Signal, State};
use runtime::{ExecRequest, Kind};
use testkit::{LeakCheck, wait_until};

use crate::rig::{LONG, Rig, TERM, is_gone, state, waiter};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_sends_its_signal_and_resolves_when_the_process_is_gone() {
    let leaks = LeakCheck::start();
    let rig = Rig::new("stop");
    for (signal, code) in [("TERM", 5), ("SIGUSR1", 6), ("12", 7), ("RTMIN+3", 8)] {
        let traps = "trap 'exit 5' TERM; trap 'exit 6' USR1; trap 'exit 7' USR2; trap 'exit 8' 37";
        let bundle = waiter("stop", traps);
        let container = rig.ready(&bundle).await;
        let pid = container.status().pid.unwrap();
        let ended = container.stop(signal.parse().unwrap(), LONG).await.unwrap();
        assert_eq!(ended.exit, Exit::Code(code), "{signal}");
        assert!(is_gone(pid), "{signal}");
        assert_eq!(state(&container), State::Exited);
        // Once more is the same answer.
        assert_eq!(container.stop(TERM, LONG).await.unwrap(), ended);
        container.delete(false).await.unwrap();
    }
    drop(rig);
    leaks.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_kills_everything_when_the_grace_is_over() {
    let rig = Rig::new("grace");
    for grace in [Duration::ZERO, Duration::from_millis(300)] {
        let bundle = waiter("grace", "trap '' TERM; sleep 3601 &");
        let container = rig.ready(&bundle).await;
        let pids: Vec<i32> = container.processes().await.unwrap().iter().map(|p| p.pid).collect();
        assert!(pids.len() >= 2, "{pids:?}");
        let ended = container.stop(TERM, grace).await.unwrap();
        assert_eq!((ended.exit, ended.code), (Exit::Signal(9), 137));
        assert!(pids.iter().all(|pid| is_gone(*pid)));
        container.delete(false).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_stop_shortens_the_one_that_goes_on() {
    let rig = Rig::new("shorter");
    let bundle = waiter("shorter", "trap '' TERM");
    let container = rig.ready(&bundle).await;
    let first = tokio::spawn({
        let container = container.clone();
        async move { container.stop(TERM, LONG).await }
    });
    wait_until("the stop to begin", || state(&container) == State::Stopping);
    let second = container.stop(TERM, Duration::ZERO).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), second);
    assert_eq!(second.exit, Exit::Signal(9));
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_stop_of_another_process_shortens_it_too() {
    let rig = Rig::new("other");
    let bundle = waiter("other", "trap '' TERM");
    let container = rig.ready(&bundle).await;
    let first = tokio::spawn({
        let container = container.clone();
        async move { container.stop(TERM, LONG).await }
    });
    wait_until("the stop to begin", || state(&container) == State::Stopping);
    let seen = rig.another().get(container.id()).await.unwrap();
    assert_eq!(seen.status().state, State::Stopping);
    assert_eq!(seen.stop(TERM, Duration::from_millis(100)).await.unwrap().exit, Exit::Signal(9));
    assert_eq!(first.await.unwrap().unwrap().exit, Exit::Signal(9));
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_stop_does_not_lengthen_it() {
    let rig = Rig::new("longer");
    let bundle = waiter("longer", "trap '' TERM");
    let container = rig.ready(&bundle).await;
    let first = tokio::spawn({
        let container = container.clone();
        async move { container.stop(TERM, Duration::from_secs(1)).await }
    });
    wait_until("the stop to begin", || state(&container) != State::Running);
    assert_eq!(container.stop(TERM, LONG).await.unwrap().exit, Exit::Signal(9));
    assert_eq!(first.await.unwrap().unwrap().exit, Exit::Signal(9));
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_container_can_be_stopped() {
    let rig = Rig::new("frozen");
    for (grace, exit) in [(LONG, Exit::Code(5)), (Duration::ZERO, Exit::Signal(9))] {
        let bundle = waiter("frozen", "trap 'exit 5' TERM");
        let container = rig.ready(&bundle).await;
        container.pause().await.unwrap();
        assert_eq!(container.stop(TERM, grace).await.unwrap().exit, exit, "{grace:?}");
        container.delete(false).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_fakes_no_success_and_ends_no_stop() {
    let rig = Rig::new("cancel");
    let bundle = waiter("cancel", "trap '' TERM; trap 'exit 6' USR1");
    let container = rig.ready(&bundle).await;
    let stop = container.stop(TERM, LONG);
    let given_up = tokio::time::timeout(Duration::from_millis(500), stop).await;
    assert!(given_up.is_err());
    wait_until("the stop to begin", || state(&container) == State::Stopping);
    let pid = container.status().pid.unwrap();
    assert!(!is_gone(pid));
    // The job is still there: it sees the end.
    container.kill(Signal::KILL).await.unwrap();
    assert_eq!(container.wait().await.unwrap().exit, Exit::Signal(9));
    assert!(is_gone(pid));
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_blocks_no_other_call() {
    let rig = Rig::new("busy");
    let bundle = waiter("busy", "trap '' TERM");
    let container = rig.ready(&bundle).await;
    let stop = tokio::spawn({
        let container = container.clone();
        async move { container.stop(TERM, LONG).await }
    });
    wait_until("the stop to begin", || state(&container) == State::Stopping);
    assert!(!container.processes().await.unwrap().is_empty());
    assert!(container.stats().await.unwrap().pids.current > 0);
    assert!(rig.runtimes.list().await.unwrap().len() == 1);
    let refused = container.pause().await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Precondition, "{refused}");
    container.kill(Signal::KILL).await.unwrap();
    assert_eq!(stop.await.unwrap().unwrap().exit, Exit::Signal(9));
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlives_init_in_a_shared_pid_namespace_is_killed_too() {
    let rig = Rig::new("shared");
    let bundle = waiter("shared", "trap 'exit 0' TERM; setsid sleep 3602 &").edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    });
    let container = rig.ready(&bundle).await;
    let pids: Vec<i32> = container.processes().await.unwrap().iter().map(|p| p.pid).collect();
    assert!(pids.len() >= 2, "{pids:?}");
    assert_eq!(container.stop(TERM, LONG).await.unwrap().exit, Exit::Code(0));
    assert!(pids.iter().all(|pid| is_gone(*pid)), "{pids:?}");
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execs_are_killed_with_the_container() {
    let rig = Rig::new("execs");
    // In the host's pid namespace the kernel does not do it by itself.
    let bundle = waiter("execs", "trap 'exit 0' TERM").edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    });
    let container = rig.ready(&bundle).await;
    let line = "setsid sleep 3605 & echo $! >/dev/shm/pid; sleep 3606";
    let exec = tokio::spawn({
        let container = container.clone();
        async move { container.exec_sync(ExecRequest::new(["sh", "-c", line])).await }
    });
    let root = format!("/proc/{}/root/dev/shm/pid", container.status().pid.unwrap());
    let inner: i32 =
        testkit::wait_for("the exec", || std::fs::read_to_string(&root).ok()?.trim().parse().ok());
    assert!(!is_gone(inner));
    assert_eq!(container.stop(TERM, LONG).await.unwrap().exit, Exit::Code(0));
    testkit::wait_until("the exec's end", || is_gone(inner));
    let ended = exec.await.unwrap();
    assert!(ended.is_err() || ended.is_ok_and(|output| output.exit == Exit::Signal(9)));
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_was_never_started_is_stopped_at_once() {
    let rig = Rig::new("never");
    let bundle = waiter("never", "true");
    let container = rig.create(&bundle).await;
    let ended = container.stop(TERM, LONG).await.unwrap();
    assert_eq!(ended.exit, Exit::Signal(9));
    assert_eq!(container.status().started_ns, None);
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_sends_any_signal_to_init_alone() {
    let rig = Rig::new("kill");
    let bundle = waiter("kill", "trap 'echo got-usr1' USR1; trap 'exit 9' HUP");
    let container = rig.ready(&bundle).await;
    container.kill("USR1".parse().unwrap()).await.unwrap();
    rig.said(&bundle, "got-usr1");
    assert_eq!(state(&container), State::Running);
    container.kill(Signal::HUP).await.unwrap();
    assert_eq!(container.wait().await.unwrap().exit, Exit::Code(9));
    let refused = container.kill(Signal::KILL).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Precondition, "{refused}");
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_container_can_be_killed() {
    let rig = Rig::new("kill-frozen");
    let bundle = waiter("kill-frozen", "true");
    let container = rig.ready(&bundle).await;
    container.pause().await.unwrap();
    container.kill(Signal::KILL).await.unwrap();
    assert_eq!(container.wait().await.unwrap().exit, Exit::Signal(9));
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_those_of_the_cgroup() {
    let rig = Rig::new("ps");
    let bundle = waiter("ps", "trap 'exit 0' TERM; sleep 3603 &");
    let container = rig.ready(&bundle).await;
    wait_until("both sleeps", || {
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        pids.filter(|p| {
            std::fs::read(p.path().join("cmdline")).is_ok_and(|c| c.starts_with(b"sleep\x003603"))
        })
        .count()
            > 0
    });
    let processes = container.processes().await.unwrap();
    let init = processes.iter().find(|p| Some(p.pid) == container.status().pid).unwrap();
    assert_eq!((init.inner_pid, init.uid), (1, 0));
    assert!(init.command.starts_with("sh -c trap"), "{}", init.command);
    let sleep = processes.iter().find(|p| p.command == "sleep 3603").unwrap();
    assert_eq!(sleep.ppid, init.pid);
    assert!(sleep.inner_pid > 1 && sleep.pid != sleep.inner_pid);
    container.stop(TERM, LONG).await.unwrap();
    let refused = container.processes().await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Precondition, "{refused}");
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_of_what_is_deleted_leaves_the_next_of_its_id_alone() {
    let rig = Rig::new("successor");
    let another = rig.another();
    let bundle = waiter("successor", "trap 'exit 5' TERM");
    for stop_first in [true, false] {
        let old = rig.ready(&bundle).await;
        if stop_first {
            old.stop(TERM, LONG).await.unwrap();
        }
        let seen = another.get(old.id()).await.unwrap();
        seen.delete(true).await.unwrap();
        std::fs::remove_file(rig.log(&bundle)).unwrap();
        let request = runtime::CreateRequest::new(old.id().clone(), bundle.path());
        let new = another.create(request).await.unwrap();
        new.start().await.unwrap();
        let known = old.stop(TERM, Duration::ZERO).await;
        assert!(
            known.as_ref().map_or_else(|error| error.kind() == Kind::NotFound, |_| stop_first),
            "{known:?}"
        );
        assert_eq!(old.exec_sync(ExecRequest::new(["true"])).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(old.delete(true).await.map_err(|error| error.kind()), Ok(()));
        assert_eq!(state(&new), State::Running);
        // Who asks anew gets the new one, and one that is the same whoever asks.
        let found = rig.runtimes.get(new.id()).await.unwrap();
        assert_eq!(found.status().created_ns, new.status().created_ns);
        new.delete(true).await.unwrap();
    }
}
