//! Many containers at once, some killed from outside, some out of memory: every exit right, nothing left.

use std::sync::Arc;

use model::{Exit, Oom, Reason, Signal, State};
use runtime::{CreateRequest, ExecRequest, Happened, Runtimes};
use serde_json::json;
use testkit::Bundle;
use tokio::sync::Semaphore;

use crate::kit::{Kit, id, run};

const CONTAINERS: u32 = 200;
const AT_ONCE: usize = 32;
const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stopped,
    KilledFromOutside,
    OutOfMemory,
}

fn fate(n: u32) -> Fate {
    match n % 50 {
        17 => Fate::KilledFromOutside,
        33 => Fate::OutOfMemory,
        _ => Fate::Stopped,
    }
}

async fn one(runtimes: Runtimes, n: u32, bundle: std::path::PathBuf) {
    let fate = fate(n);
    let name = testkit::unique_id("churn");
    let container = runtimes.create(CreateRequest::new(id(&name), bundle)).await.expect("create");
    container.start().await.expect("start");
    let code = u8::try_from(n % 100).expect("small");
    if fate != Fate::OutOfMemory {
        let line =
            format!("echo {code} > /dev/shm/code; until [ -e /dev/shm/ready ]; do sleep 0.02; done; exit 3");
        let output = container.exec_sync(ExecRequest::new(["sh", "-c", &line])).await.expect("exec");
        assert_eq!(output.exit, Exit::Code(3));
    }
    let ended = match fate {
        Fate::Stopped => container.stop(Signal::TERM, HOUR).await.expect("stop"),
        Fate::KilledFromOutside => {
            let pid = container.status().pid.and_then(rustix::process::Pid::from_raw).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
            container.wait().await.expect("wait")
        }
        Fate::OutOfMemory => container.wait().await.expect("wait"),
    };
    let (exit, reason, oom) = match fate {
        Fate::Stopped if code == 0 => (Exit::Code(0), Reason::Completed, Oom::None),
        Fate::Stopped => (Exit::Code(code), Reason::Error, Oom::None),
        Fate::KilledFromOutside => (Exit::Signal(9), Reason::Error, Oom::None),
        Fate::OutOfMemory => (Exit::Signal(9), Reason::OOMKilled, Oom::Init),
    };
    assert_eq!((ended.exit, ended.reason, ended.oom), (exit, reason, oom), "{n}: {fate:?}");
    assert_eq!(container.status().state, State::Exited);
    container.delete(false).await.expect("delete");
}

#[test]
fn churn_of_two_hundred_containers() {
    let kit = Kit::new("churn");
    let line =
        "trap 'exit $(cat /dev/shm/code)' TERM; touch /dev/shm/ready; while :; do sleep 3600 & wait $!; done";
    let sleeper = Bundle::shell("churn", line);
    let hungry = Bundle::new("hungry", &["tail", "/dev/zero"]).edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({ "limit": 48 << 20, "swap": 48 << 20 });
    });
    run(async {
        let mut tasks = tokio::task::JoinSet::new();
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        for n in 0..CONTAINERS {
            let bundle = if fate(n) == Fate::OutOfMemory { &hungry } else { &sleeper };
            let (runtimes, bundle, gate) = (kit.runtimes.clone(), bundle.path().to_owned(), gate.clone());
            tasks.spawn(async move {
                let _permit = gate.acquire_owned().await.expect("a permit");
                one(runtimes, n, bundle).await;
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a container's life");
        }
        // Every container's events, in its order, none missing.
        let mut events = kit.runtimes.events(0).await.expect("events");
        let mut seen = std::collections::BTreeMap::<String, Vec<(u64, Happened)>>::new();
        while let Some(event) = events.try_next().await.expect("an event") {
            seen.entry(event.id.to_string()).or_default().push((event.seq, event.happened));
        }
        assert_eq!(seen.len(), usize::try_from(CONTAINERS).expect("small"));
        for (id, events) in seen {
            let numbers: Vec<u64> = events.iter().map(|(seq, _)| *seq).collect();
            assert_eq!(
                numbers,
                (1..=u64::try_from(events.len()).expect("small")).collect::<Vec<_>>(),
                "{id}"
            );
            assert_eq!(events.first().map(|(_, what)| what), Some(&Happened::Created), "{id}");
            assert_eq!(events.last().map(|(_, what)| what), Some(&Happened::Deleted), "{id}");
            assert!(events.iter().any(|(_, what)| matches!(what, Happened::Exited { .. })), "{id}");
        }
    });
    drop((sleeper, hungry));
    kit.finish();
}
