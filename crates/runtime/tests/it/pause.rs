//! Pause and resume.

use std::time::Duration;

use model::{Exit, State};
use runtime::{ExecRequest, Kind};
use testkit::wait_until;

use crate::rig::{LONG, Rig, TERM, state, waiter};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_container_does_nothing_until_it_is_resumed() {
    let rig = Rig::new("pause");
    let bundle = testkit::Bundle::shell(
        "pause",
        "trap 'exit 0' TERM; trap 'echo got-usr1' USR1; echo ready; while :; do usleep 10000; done",
    );
    let container = rig.ready(&bundle).await;
    container.pause().await.unwrap();
    assert_eq!(state(&container), State::Paused);
    assert_eq!(rig.another().get(container.id()).await.unwrap().status().state, State::Paused);
    // A signal waits: nothing is handled while it is frozen, however often one looks.
    container.kill("USR1".parse().unwrap()).await.unwrap();
    let used = container.stats().await.unwrap().cpu.usage_ns;
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        assert!(!std::fs::read_to_string(rig.log(&bundle)).unwrap().contains("got-usr1"));
    }
    assert_eq!(container.stats().await.unwrap().cpu.usage_ns, used);
    let refused = container.pause().await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Precondition, "{refused}");
    container.resume().await.unwrap();
    assert_eq!(state(&container), State::Running);
    rig.said(&bundle, "got-usr1");
    container.stop(TERM, LONG).await.unwrap();
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_runs_can_be_paused_and_only_what_is_paused_resumed() {
    let rig = Rig::new("pause-states");
    let bundle = waiter("pause-states", "trap 'exit 0' TERM");
    let container = rig.create(&bundle).await;
    let check = |error: runtime::Error, words: &str| {
        assert_eq!(error.kind(), Kind::Precondition);
        assert_eq!(error.to_string(), words.replace("ID", bundle.id()));
    };
    check(container.pause().await.unwrap_err(), "pause ID: container is created");
    check(container.resume().await.unwrap_err(), "resume ID: container is created");
    container.start().await.unwrap();
    check(container.resume().await.unwrap_err(), "resume ID: container is running");
    rig.said(&bundle, "ready");
    container.stop(TERM, LONG).await.unwrap();
    wait_until("the exit", || state(&container) == State::Exited);
    check(container.pause().await.unwrap_err(), "pause ID: container is exited");
    check(container.resume().await.unwrap_err(), "resume ID: container is exited");
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_ends_the_wait_for_an_exec_that_is_frozen() {
    let rig = Rig::new("pause-exec");
    let bundle = waiter("pause-exec", "trap 'exit 0' TERM");
    let container = rig.ready(&bundle).await;
    let there = async || {
        let processes = container.processes().await.unwrap();
        processes.iter().any(|process| process.command.contains("4321"))
    };
    let request =
        ExecRequest { timeout: Some(Duration::from_secs(1)), ..ExecRequest::new(["sleep", "4321"]) };
    let asker = container.clone();
    let asked = tokio::spawn(async move { asker.exec_sync(request).await });
    while !there().await && !asked.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    container.pause().await.unwrap();
    let told = tokio::time::timeout(testkit::deadline(), asked).await.expect("told while it is frozen");
    match told.unwrap() {
        Ok(output) => assert_eq!(output.exit, Exit::TimedOut),
        Err(error) => assert_eq!(error.kind(), Kind::Timeout, "{error}"),
    }
    assert_eq!(state(&container), State::Paused);
    container.resume().await.unwrap();
    let begin = std::time::Instant::now();
    while there().await {
        assert!(begin.elapsed() < testkit::deadline(), "the exec is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    container.stop(TERM, LONG).await.unwrap();
    container.delete(false).await.unwrap();
}
