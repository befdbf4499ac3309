//! Execs: output apart, exits, time-outs that kill the whole tree, live streams.

use std::time::Duration;

use model::{Exit, Signal, State};
use runtime::{Container, ExecOutput, ExecRequest, ExecStreams, Kind, Output, Size};
use testkit::{Bundle, wait_until};

use crate::kit::{Kit, run};

async fn running(kit: &Kit, bundle: &Bundle) -> Container {
    let container = kit.create(bundle).await;
    container.start().await.expect("start");
    container
}

fn shell(line: &str) -> ExecRequest {
    ExecRequest::new(["sh", "-c", line])
}

fn check(what: &str, future: impl AsyncFnOnce(&Container)) {
    let kit = Kit::new(what);
    let bundle = Bundle::sleeper(what);
    run(async {
        let container = running(&kit, &bundle).await;
        future(&container).await;
        container.delete(true).await.expect("delete");
    });
    drop(bundle);
    kit.finish();
}

/// Processes, anywhere, with `mark` among their arguments.
fn processes(mark: &str) -> usize {
    let pids = sys::proc::pids().expect("pids");
    let has = |pid: &i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
    };
    pids.iter().filter(|pid| has(pid)).count()
}

#[test]
fn output_exit_and_what_the_request_changes() {
    check("exec-out", async |container| {
        let output = container.exec_sync(shell("echo out; echo err >&2; exit 3")).await.expect("exec");
        let expected =
            ExecOutput { stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec(), exit: Exit::Code(3) };
        assert_eq!(output, expected);
        let mut request = shell("echo $A $PWD $(id -u):$(id -g)");
        request.env.insert("A".to_owned(), "b c".to_owned());
        request.cwd = Some("/tmp".to_owned());
        request.user = Some("7:8".to_owned());
        let output = container.exec_sync(request).await.expect("exec");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "b c /tmp 7:8\n");
        let output = container.exec_sync(shell("kill -9 $$")).await.expect("exec");
        assert_eq!(output.exit.code(), 137);
        let output = container.exec_sync(shell("exit 137")).await.expect("exec");
        // conmon says 137 for both; the kernel tells them apart for who was quick enough to hold the process.
        assert_eq!(output.exit.code(), 137);
    });
}

#[test]
fn a_program_that_is_not_there_is_an_error_with_the_runtimes_words() {
    check("exec-nosuch", async |container| {
        let error = container.exec_sync(ExecRequest::new(["/no/such/program"])).await.expect_err("no such");
        assert_eq!(error.kind(), Kind::Internal, "{error}");
        let text = error.to_string();
        assert!(text.contains(container.id().as_str()) && text.contains("/no/such/program"), "{text}");
        let error = container.exec_sync(ExecRequest::new(Vec::<String>::new())).await.expect_err("no args");
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    });
}

#[test]
fn output_is_capped_and_the_rest_is_dropped() {
    check("exec-cap", async |container| {
        let line = "head -c 20000000 /dev/zero; head -c 1000 /dev/zero >&2; echo end >&2";
        let output = container.exec_sync(shell(line)).await.expect("exec");
        assert_eq!(output.stdout.len(), ExecOutput::CAP);
        assert!(output.stderr.ends_with(b"\0end\n"));
        assert_eq!(output.exit, Exit::Code(0));
    });
}

#[test]
fn a_grandchild_that_keeps_the_pipes_does_not_hold_it_up() {
    check("exec-grandchild", async |container| {
        let output = container.exec_sync(shell("sleep 71717 & echo done")).await.expect("exec");
        assert_eq!((output.stdout.as_slice(), output.exit), (&b"done\n"[..], Exit::Code(0)));
        // It goes on, in the container's cgroup.
        wait_until("the grandchild to go on", || processes("71717") >= 1);
    });
    wait_until("the grandchild to go with its container", || processes("71717") == 0);
}

/// CVE-2026-53495: neither the caller nor the monitor keeps anything of an exec that is over, whoever has its pipes.
#[test]
fn execs_whose_children_keep_the_pipes_leave_nothing() {
    let kit = Kit::new("exec-kept");
    let bundle = Bundle::sleeper("exec-kept");
    run(async {
        let container = running(&kit, &bundle).await;
        let file = kit.root().join(container.id().as_str()).join("monitor.pid");
        let monitor = std::fs::read_to_string(file).expect("a pid");
        let open = || {
            let dir = format!("/proc/{}/fd", monitor.trim());
            let theirs = std::fs::read_dir(dir).expect("its descriptors").count();
            (theirs, sys::proc::open_fds().expect("our descriptors").len())
        };
        let one = async || container.exec_sync(shell("sleep 72727 & echo done")).await.expect("exec");
        one().await;
        let before = open();
        for _ in 0..20 {
            assert_eq!(one().await.stdout, b"done\n");
        }
        wait_until("the descriptors of ended execs to be closed", || {
            let now = open();
            now.0 <= before.0 && now.1 <= before.1
        });
        container.delete(true).await.expect("delete");
    });
    wait_until("the children to go with their container", || processes("72727") == 0);
    drop(bundle);
    kit.finish();
}

#[test]
fn a_time_out_kills_the_whole_tree() {
    check("exec-timeout", async |container| {
        let mark = format!("8{}", std::process::id());
        let mut request = shell(&format!("echo begun; (setsid sleep {mark} &); sleep {mark}"));
        request.timeout = Some(Duration::from_secs(2));
        let output = container.exec_sync(request).await.expect("exec");
        assert_eq!((output.stdout.as_slice(), output.exit), (&b"begun\n"[..], Exit::TimedOut));
        wait_until("the tree to be gone", || processes(&mark) == 0);
    });
}

#[test]
fn a_dropped_future_kills_the_whole_tree() {
    check("exec-drop", async |container| {
        let mark = format!("7{}", std::process::id());
        let request = shell(&format!("(setsid sleep {mark} &); sleep {mark}"));
        let mut exec = Box::pin(container.exec_sync(request));
        let begin = std::time::Instant::now();
        while processes(&mark) < 2 {
            assert!(begin.elapsed() < testkit::DEADLINE, "the tree is not there");
            let pause = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! {
                ended = &mut exec => panic!("ended: {ended:?}"),
                () = pause => {}
            }
        }
        drop(exec);
        let begin = std::time::Instant::now();
        while processes(&mark) > 0 {
            assert!(begin.elapsed() < testkit::DEADLINE, "the tree is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let output = container.exec_sync(shell("echo still here")).await.expect("exec");
        assert_eq!(output.stdout, b"still here\n");
    });
}

#[test]
fn many_execs_at_once_each_with_its_own_command() {
    check("exec-many", async |container| {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..16_u8 {
            let container = container.clone();
            tasks.spawn(async move { (n, container.exec_sync(shell(&format!("echo {n}; exit {n}"))).await) });
        }
        while let Some(done) = tasks.join_next().await {
            let (n, output) = done.expect("task");
            let output = output.expect("exec");
            assert_eq!((output.stdout, output.exit), (format!("{n}\n").into_bytes(), Exit::Code(n)));
        }
    });
}

#[test]
fn live_streams_with_input() {
    check("exec-live", async |container| {
        let streams = ExecStreams { stdin: true, terminal: None };
        let mut exec = container.exec(ExecRequest::new(["cat"]), streams).await.expect("exec");
        assert!(exec.pid() > 1);
        exec.streams().write(b"one\n").await.expect("write");
        let piece = exec.streams().read().await.expect("read");
        assert_eq!(piece, Some(Output::Stdout(b"one\n".to_vec())));
        exec.streams().close_stdin().expect("close");
        assert_eq!(exec.streams().read().await.expect("read"), None);
        assert_eq!(exec.wait().await.expect("wait"), Exit::Code(0));
        assert_eq!(exec.wait().await.expect("wait"), Exit::Code(0));
        assert_eq!(
            exec.resize(Size { rows: 1, columns: 1 }).await.expect_err("no tty").kind(),
            Kind::Unsupported
        );
    });
}

#[test]
fn a_terminal_and_its_size() {
    check("exec-tty", async |container| {
        let streams = ExecStreams { stdin: false, terminal: Some(Some(Size { rows: 33, columns: 77 })) };
        let line = "echo begun; until [ \"$(stty size)\" = '34 78' ]; do sleep 0.05; done; tty >/dev/null && echo is-tty";
        let mut exec = container.exec(shell(line), streams).await.expect("exec");
        exec.resize(Size { rows: 34, columns: 78 }).await.expect("resize");
        let mut text = Vec::new();
        while let Some(Output::Stdout(piece)) = exec.streams().read().await.expect("read") {
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.starts_with("begun\r\n") && text.contains("is-tty\r\n"), "{text:?}");
        assert_eq!(exec.wait().await.expect("wait"), Exit::Code(0));
    });
}

#[test]
fn not_in_a_container_that_does_not_run() {
    let kit = Kit::new("exec-state");
    let bundle = Bundle::shell("exec-state", "exit 0");
    run(async {
        let container = kit.create(&bundle).await;
        let error = container.exec_sync(shell("true")).await.expect_err("created");
        assert_eq!(error.kind(), Kind::Precondition, "{error}");
        container.start().await.expect("start");
        container.wait().await.expect("wait");
        let error = container.exec_sync(shell("true")).await.expect_err("exited");
        assert_eq!(error.to_string(), format!("exec {}: container is exited", container.id()));
        container.delete(false).await.expect("delete");
        let error = container.exec_sync(shell("true")).await.expect_err("deleted");
        assert!(matches!(error.kind(), Kind::Precondition | Kind::NotFound), "{error}");
    });
    drop(bundle);
    kit.finish();
}

#[test]
fn not_in_one_that_is_paused_or_being_stopped() {
    let kit = Kit::new("exec-frozen");
    let bundle =
        Bundle::shell("exec-frozen", "trap '' TERM; touch /dev/shm/ready; while :; do sleep 3600; done");
    run(async {
        let container = running(&kit, &bundle).await;
        let ready = shell("until [ -e /dev/shm/ready ]; do sleep 0.02; done");
        container.exec_sync(ready).await.expect("exec");
        container.pause().await.expect("pause");
        let error = container.exec_sync(shell("true")).await.expect_err("paused");
        assert_eq!(error.to_string(), format!("exec {}: container is paused", container.id()));
        container.resume().await.expect("resume");
        let stop = tokio::spawn({
            let container = container.clone();
            async move { container.stop(Signal::TERM, Duration::from_secs(3600)).await }
        });
        while container.status().state != State::Stopping {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let error = container.exec_sync(shell("true")).await.expect_err("stopping");
        assert_eq!(error.to_string(), format!("exec {}: container is stopping", container.id()));
        let ended = container.stop(Signal::TERM, Duration::ZERO).await.expect("a shorter stop");
        assert_eq!(ended.exit, Exit::Signal(9));
        stop.await.expect("a task").expect("the longer stop ends too");
        container.delete(false).await.expect("delete");
    });
    drop(bundle);
    kit.finish();
}
