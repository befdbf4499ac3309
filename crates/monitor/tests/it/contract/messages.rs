//! Contract §3: every cell of the table of sync messages, and what is said when things go wrong.

use serde_json::json;

use crate::stand::{Call, Stand};

const SLEEPER: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

/// A fake runtime whose "container" is a child of its own that sleeps and then ends with 7.
const ENDS_WITH_7: &str = "beget 'exit 7'";
const SLEEPS: &str = "beget 'exec sleep 100'";

#[test]
fn create_tells_the_pid_and_nothing_else() {
    for key in ["pid", "data"] {
        let stand = Stand::fake(ENDS_WITH_7);
        let monitor = if key == "pid" { stand.crio() } else { stand.podman() }.spawn();
        assert_eq!(monitor.first(), 0);
        monitor.pid_message(key);
        assert_eq!(monitor.message(), None);
        assert_eq!(stand.exit_file(), "7");
    }
}

#[test]
fn exec_of_crio_tells_only_the_exit_code() {
    let stand = Stand::shell(SLEEPER);
    stand.podman().spawn().pid_message("data");
    stand.start();
    let monitor = stand.crio_exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]).spawn();
    assert_eq!(monitor.message(), Some(json!({ "exit_code": 7 })));
    assert_eq!(monitor.message(), None);
    assert_eq!(monitor.first(), 7);
    let log = std::fs::read_to_string(stand.dir.join("exec.log")).unwrap();
    assert!(log.contains(" stdout F out\n") && log.contains(" stderr F err\n"), "{log}");
}

#[test]
fn exec_of_podman_tells_the_pid_and_then_the_exit_code() {
    let stand = Stand::shell(SLEEPER);
    stand.podman().spawn().pid_message("data");
    stand.start();
    let monitor = stand.podman_exec(&["sh", "-c", "exit 7"]).spawn();
    assert_eq!(monitor.first(), 0);
    monitor.pid_message("data");
    assert_eq!(monitor.message(), Some(json!({ "data": 7 })));
    assert_eq!(monitor.message(), None);
    // The exit file has the container's name also for an exec.
    let file = stand.dir.join("session").join(stand.id());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "7");
}

/// All four calls, with the key of the number in each.
fn calls(stand: &Stand) -> [(Call<'_>, &'static str); 4] {
    [
        (stand.crio(), "pid"),
        (stand.crio_exec(&["true"]), "exit_code"),
        (stand.podman(), "data"),
        (stand.podman_exec(&["true"]), "data"),
    ]
}

#[test]
fn a_runtime_that_fails_is_quoted() {
    let stand = Stand::fake("echo 'no \"such\" thing' >&2; exit 3");
    for (call, key) in calls(&stand) {
        let monitor = call.spawn();
        assert_eq!(monitor.message(), Some(json!({ key: -1, "message": "no \"such\" thing" })));
        assert_eq!(monitor.message(), None);
    }
    assert!(!stand.has_exit_file());
}

#[test]
fn no_terminal_from_the_runtime() {
    let stand = Stand::fake(SLEEPS);
    for (call, key) in calls(&stand) {
        let monitor = call.arg("-t").spawn();
        let expected = json!({ key: -1, "message": "Runtime did not set up terminal" });
        assert_eq!(monitor.message(), Some(expected));
        assert_eq!(monitor.message(), None);
        kill_pid_in(&stand, "pidfile");
        kill_pid_in(&stand, "exec.pid");
    }
}

fn kill_pid_in(stand: &Stand, file: &str) {
    let pid = std::fs::read_to_string(stand.dir.join(file)).ok().and_then(|pid| pid.trim().parse().ok());
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

#[test]
fn timed_out() {
    for (number, key) in ["pid", "exit_code", "data", "data"].into_iter().enumerate() {
        let stand = Stand::fake(SLEEPS);
        let [a, b, c, d] = calls(&stand);
        let (call, exec) = [(a, false), (b, true), (c, false), (d, true)].into_iter().nth(number).unwrap();
        let monitor = call.0.args(["-T", "1"]).spawn();
        if key != "exit_code" {
            monitor.pid_message(key);
        }
        let expected = exec.then(|| json!({ key: -1, "message": "command timed out" }));
        assert_eq!(monitor.message(), expected);
        if exec {
            assert_eq!(monitor.message(), None);
        } else {
            assert_eq!(stand.exit_file(), "-1");
        }
        let file = if exec { "exec.pid" } else { "pidfile" };
        let pid: i32 = std::fs::read_to_string(stand.dir.join(file)).unwrap().trim().parse().unwrap();
        testkit::wait_until("the process is killed", || !crate::stand::is_there(pid));
    }
}

#[test]
fn sync_mode_returns_255_after_a_time_out() {
    let stand = Stand::fake(SLEEPS);
    let monitor = stand.crio_exec(&["true"]).args(["-T", "1"]).spawn();
    assert_eq!(monitor.first(), 255);
}

#[test]
fn a_gibibyte_on_stderr_neither_blocks_nor_fills_the_message() {
    let stand = Stand::fake("head -c 1073741824 /dev/zero | tr '\\0' '\\001' >&2; exit 1");
    let monitor = stand.podman().spawn();
    let message = monitor.message().unwrap();
    assert_eq!(message["data"], -1);
    let text = message["message"].as_str().unwrap();
    assert!(message.to_string().len() <= 4096 && text.len() > 600, "{}", text.len());
    assert_eq!(monitor.message(), None);
}

#[test]
fn a_pid_file_that_is_not_written_means_not_started() {
    // CRI-O makes an empty one beforehand; the runtime returns 0 and has written nothing.
    let stand = Stand::fake("exit 0");
    for (call, key) in calls(&stand) {
        let message = call.spawn().message().unwrap();
        assert_eq!(message[key], -1);
        assert!(message["message"].as_str().unwrap().contains("wrote no pid"), "{message}");
    }
    for content in ["", "0", "x", "-5"] {
        let stand = Stand::fake(&format!("printf '%s' '{content}' >$PIDFILE"));
        assert_eq!(stand.podman().spawn().message().unwrap()["data"], -1, "{content:?}");
    }
}

#[test]
fn a_stale_pid_file_is_not_taken_for_a_new_one() {
    let stand = Stand::fake("exit 0");
    std::fs::write(stand.dir.join("pidfile"), "1").unwrap();
    assert_eq!(stand.podman().spawn().message().unwrap()["data"], -1);
}

#[test]
fn exec_of_something_that_is_not_there() {
    let stand = Stand::shell(SLEEPER);
    stand.podman().spawn().pid_message("data");
    stand.start();
    for (call, key) in [
        (stand.crio_exec(&["/no/such/program"]), "exit_code"),
        (stand.podman_exec(&["/no/such/program"]), "data"),
    ] {
        let message = call.spawn().message().unwrap();
        assert_eq!(message[key], -1);
        assert!(message["message"].as_str().unwrap().contains("no such file"), "{message}");
    }
}

#[test]
fn a_caller_that_is_gone_does_not_matter() {
    let stand = Stand::fake(ENDS_WITH_7);
    let monitor = stand.podman().start_pipe().spawn();
    // All of the caller's ends close; the end of the start pipe lets the monitor go on.
    drop(monitor);
    assert_eq!(stand.exit_file(), "7");
}

#[test]
fn sync_pipes_that_are_none() {
    let stand = Stand::fake("touch $DIR/ran");
    for value in ["x", "", "-1", "77", "99999999999"] {
        let (status, stderr) = stand.podman().sync_variable(Some(value)).refused();
        assert_eq!(status, 1, "{value:?}");
        assert!(stderr.contains("_OCI_SYNCPIPE"), "{stderr}");
    }
    assert!(!stand.dir.join("ran").exists());
    let stand = Stand::fake(ENDS_WITH_7);
    assert_eq!(stand.podman().sync_variable(None).spawn().first(), 0);
    assert_eq!(stand.exit_file(), "7");
}
