//! Attach, input, terminals, logs opened anew; events that are followed; monitors that die.

use model::{Exit, State};
use runtime::{Attached, Container, CreateRequest, ExecRequest, Happened, Io, Kind, Output, Size, Stdin};
use testkit::{Bundle, DEADLINE, wait_until};

use crate::kit::{Kit, id, run};

async fn create(kit: &Kit, bundle: &Bundle, io: Io) -> Container {
    let mut request = CreateRequest::new(id(bundle.id()), bundle.path());
    request.io = io;
    kit.runtimes.create(request).await.expect("create")
}

/// Reads until all of `text` has come.
async fn expect(client: &Attached, text: &str) {
    let mut got = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&got).contains(text) {
            match client.read().await.expect("read") {
                Some(Output::Stdout(bytes) | Output::Stderr(bytes)) => got.extend(bytes),
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(DEADLINE, read).await;
    let got = String::from_utf8_lossy(&got).into_owned();
    assert!(got.contains(text), "{got:?} has no {text:?}");
}

async fn ended(client: &Attached) {
    while client.read().await.expect("read").is_some() {}
}

#[test]
fn many_clients_and_input_that_is_kept() {
    let kit = Kit::new("attach");
    let bundle = Bundle::new("attach", &["sh", "-c", "while read line; do echo got $line; done; exit 5"]);
    run(async {
        let container = create(&kit, &bundle, Io::Pipes { stdin: Stdin::Keep }).await;
        let one = container.attach().await.expect("attach before the start");
        let two = container.attach().await.expect("attach twice");
        container.start().await.expect("start");
        one.write(b"first\n").await.expect("write");
        expect(&one, "got first\n").await;
        expect(&two, "got first\n").await;
        one.close_stdin().expect("close");
        drop(one);
        two.write(b"second\n").await.expect("write");
        expect(&two, "got second\n").await;
        let three = container.attach().await.expect("attach later");
        three.write(b"third\n").await.expect("write");
        expect(&three, "got third\n").await;
        container.delete(true).await.expect("delete");
        ended(&three).await;
        let error = container.attach().await.expect_err("deleted");
        assert!(matches!(error.kind(), Kind::Precondition | Kind::NotFound), "{error}");
    });
    drop(bundle);
    kit.finish();
}

#[test]
fn input_once_ends_with_its_client() {
    let kit = Kit::new("once");
    let bundle = Bundle::new("once", &["sh", "-c", "cat; echo end; exit 6"]);
    run(async {
        let container = create(&kit, &bundle, Io::Pipes { stdin: Stdin::Once }).await;
        let client = container.attach().await.expect("attach");
        container.start().await.expect("start");
        client.write(b"words\n").await.expect("write");
        expect(&client, "words\n").await;
        client.close_stdin().expect("close");
        expect(&client, "end\n").await;
        assert_eq!(container.wait().await.expect("wait").exit, Exit::Code(6));
        ended(&client).await;
        container.delete(false).await.expect("delete");
    });
    drop(bundle);
    kit.finish();
}

#[test]
fn no_input_is_an_end_at_once() {
    let kit = Kit::new("noin");
    let bundle = Bundle::new("noin", &["sh", "-c", "cat; exit 8"]);
    run(async {
        let container = create(&kit, &bundle, Io::Null).await;
        container.start().await.expect("start");
        assert_eq!(container.wait().await.expect("wait").exit, Exit::Code(8));
        let error = container.resize(Size { rows: 1, columns: 1 }).await.expect_err("exited");
        assert_eq!(error.kind(), Kind::Precondition, "{error}");
        container.delete(false).await.expect("delete");
    });
    drop(bundle);
    kit.finish();
}

#[test]
fn a_terminal_has_a_size_and_gets_another() {
    let kit = Kit::new("tty");
    let line = "until [ \"$(stty size)\" = '31 91' ]; do sleep 0.05; done; echo first; \
                until [ \"$(stty size)\" = '32 92' ]; do sleep 0.05; done; tty >/dev/null && echo second; read x; exit 9";
    let bundle = Bundle::new("tty", &["sh", "-c", line]).terminal();
    run(async {
        let io = Io::Terminal { size: Some(Size { rows: 31, columns: 91 }) };
        let container = create(&kit, &bundle, io).await;
        let client = container.attach().await.expect("attach");
        container.start().await.expect("start");
        expect(&client, "first\r\n").await;
        container.resize(Size { rows: 32, columns: 92 }).await.expect("resize");
        expect(&client, "second\r\n").await;
        client.write(b"\n").await.expect("write");
        assert_eq!(container.wait().await.expect("wait").exit, Exit::Code(9));
        container.delete(false).await.expect("delete");
    });
    drop(bundle);
    kit.finish();
}

#[test]
fn a_log_that_was_renamed_is_opened_anew() {
    let kit = Kit::new("reopen");
    let bundle =
        Bundle::shell("reopen", "trap 'echo again' USR1; echo ready; while :; do sleep 3600 & wait $!; done");
    run(async {
        let (container, log) = kit.create_logged(&bundle).await;
        let has = |path: &std::path::Path, text: &str| {
            std::fs::read_to_string(path).is_ok_and(|log| log.contains(text))
        };
        container.start().await.expect("start");
        wait_until("the first line", || has(&log, "ready"));
        let old = log.with_extension("old");
        std::fs::rename(&log, &old).expect("rename");
        container.reopen_log().await.expect("reopen");
        assert!(log.exists());
        container.kill(model::Signal::from_number(10).expect("USR1")).await.expect("kill");
        wait_until("the second line", || has(&log, "again"));
        assert!(!has(&old, "again"));
        container.delete(true).await.expect("delete");
        let error = container.reopen_log().await.expect_err("deleted");
        assert!(matches!(error.kind(), Kind::Precondition | Kind::NotFound), "{error}");
    });
    drop(bundle);
    kit.finish();
}

#[test]
fn events_are_followed_in_order() {
    let kit = Kit::new("events");
    let bundle = Bundle::shell("events", "exit 3");
    run(async {
        let mut events = kit.runtimes.events(0).await.expect("events");
        let follow = tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.last() != Some(&Happened::Deleted) {
                let event = events.next().await.expect("an event");
                assert_eq!(event.seq, u64::try_from(seen.len()).expect("small") + 1);
                seen.push(event.happened);
            }
            seen
        });
        let container = kit.create(&bundle).await;
        container.start().await.expect("start");
        container.wait().await.expect("wait");
        container.delete(false).await.expect("delete");
        let seen = tokio::time::timeout(DEADLINE, follow).await.expect("in time").expect("a task");
        let exited = Happened::Exited { exit: Exit::Code(3), oom: model::Oom::None };
        assert_eq!(seen, [Happened::Created, Happened::Started, exited, Happened::Deleted]);
        let mut later = kit.runtimes.events(u64::MAX).await.expect("events");
        assert_eq!(later.try_next().await.expect("none"), None);
    });
    drop(bundle);
    kit.finish();
}

#[test]
fn a_container_outlives_its_monitor_and_its_exit_is_seen() {
    let kit = Kit::new("monitor-dies");
    let bundle = Bundle::sleeper("monitor-dies");
    run(async {
        let container = kit.create(&bundle).await;
        container.start().await.expect("start");
        let file = kit.root().join(container.id().as_str()).join("monitor.pid");
        let monitor = std::fs::read_to_string(file).expect("a pid").trim().parse().expect("a number");
        let kill = |pid: i32| {
            let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        };
        kill(monitor);
        let dead = || sys::proc::stat(monitor).is_err();
        let begin = std::time::Instant::now();
        while !dead() && begin.elapsed() < DEADLINE {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(container.status().state, State::Running);
        let output = container.exec_sync(ExecRequest::new(["echo", "alone"])).await.expect("exec without it");
        assert_eq!((output.stdout.as_slice(), output.exit), (&b"alone\n"[..], Exit::Code(0)));
        let error = container.attach().await.expect_err("nobody to attach to");
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        kill(container.status().pid.expect("a pid"));
        let ended = container.wait().await.expect("wait");
        // The kernel keeps the status for who held the process (Linux 6.15); else nobody knows.
        assert!(matches!(ended.exit, Exit::Signal(9) | Exit::Lost), "{ended:?}");
        container.delete(false).await.expect("delete");
    });
    drop(bundle);
    kit.finish();
}

#[test]
fn a_create_that_is_given_up_leaves_nothing() {
    let kit = Kit::new("given-up");
    let bundle = Bundle::sleeper("given-up");
    run(async {
        for pause_ms in [0, 20, 60, 150] {
            let request = CreateRequest::new(id(&testkit::unique_id("given-up")), bundle.path());
            let create = kit.runtimes.create(request);
            let pause = std::time::Duration::from_millis(pause_ms);
            if let Ok(Ok(made)) = tokio::time::timeout(pause, create).await {
                made.delete(true).await.expect("delete");
            }
        }
        // A create may be so slow to begin that nothing is there yet: it must be empty for a while.
        let (begin, mut empty) = (std::time::Instant::now(), 0);
        while empty < 50 && begin.elapsed() < DEADLINE {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            empty = if kit.litter().is_empty() { empty + 1 } else { 0 };
        }
        assert_eq!(kit.litter(), Vec::<String>::new());
    });
    // What began later still was cut off with the runtime: recovery's work, as after any end of a process.
    run(async {
        kit.runtimes.recover().await.expect("recover");
        for container in kit.runtimes.list().await.expect("list") {
            container.delete(true).await.expect("delete");
        }
    });
    drop(bundle);
    kit.finish();
}
