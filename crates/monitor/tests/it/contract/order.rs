//! Contract §1: the process model, and the order of what a caller can see.

use std::fs::File;
use std::io::Read as _;

use crate::attach_client::Client;
use crate::stand::{Stand, is_readable, wait_readable};
use serde_json::json;

const SLEEPER: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

#[test]
fn the_first_process_leaves_a_pid_file_and_the_monitor_goes_on() {
    let stand = Stand::shell("exit 0");
    let monitor = stand.podman().spawn();
    assert_eq!(monitor.first(), 0);
    let text = std::fs::read_to_string(stand.dir.join("conmon.pid")).unwrap();
    let pid: i32 = text.parse().expect("a number and no newline");
    assert_ne!(pid, monitor.pid());
    assert!(crate::stand::is_there(pid));
    monitor.pid_message("data");
    stand.start();
    assert_eq!(stand.exit_file(), "0");
    stand.wait_gone(pid);
}

#[test]
fn with_sync_the_caller_is_the_parent() {
    let stand = Stand::fake("beget 'exit 9'");
    let monitor = stand.crio_exec(&["true"]).args(["-P"]).arg(stand.dir.join("conmon.pid")).spawn();
    assert_eq!(monitor.first(), 9);
    assert!(!stand.dir.join("conmon.pid").exists());
}

#[test]
fn nothing_happens_before_the_start_pipe_is_read() {
    let stand = Stand::fake("touch $DIR/ran; exit 1");
    let monitor = stand.podman().start_pipe().spawn();
    assert!(monitor.no_message_yet() && !stand.dir.join("conmon.pid").exists());
    assert!(!stand.dir.join("ran").exists());
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", monitor.pid())).unwrap();
    assert_eq!(children, "", "no fork before it was moved");
    monitor.go();
    assert_eq!(monitor.message().unwrap()["data"], -1);
    assert!(stand.dir.join("ran").exists());
}

#[test]
fn a_term_before_the_start_ends_it_with_1() {
    let stand = Stand::fake("touch $DIR/ran");
    let monitor = stand.podman().start_pipe().spawn();
    let pid = rustix::process::Pid::from_raw(monitor.pid()).unwrap();
    testkit::wait_until("SIGTERM is caught", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", monitor.pid())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        u64::from_str_radix(mask, 16).unwrap() & (1 << 14) != 0
    });
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(monitor.first(), 1);
    assert!(!stand.dir.join("ran").exists());
}

#[test]
fn the_callers_stdout_is_let_go_of() {
    let stand = Stand::shell(SLEEPER);
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let monitor = stand.podman().stdout(write).spawn();
    monitor.pid_message("data");
    let mut rest = String::new();
    wait_readable(&read, "the end of stdout");
    File::from(read).read_to_string(&mut rest).unwrap();
    // stderr() reads to the end as well.
    assert_eq!((rest.as_str(), monitor.stderr().as_str()), ("", ""));
}

#[test]
fn an_exec_waits_for_its_client() {
    let stand = Stand::shell(SLEEPER);
    stand.podman().spawn().pid_message("data");
    stand.start();
    let monitor = stand
        .podman_exec(&["sh", "-c", "echo early; exit 4"])
        .arg("--exec-attach")
        .start_pipe()
        .attach_pipe()
        .spawn();
    assert!(!is_readable(monitor.attach.as_ref().unwrap(), std::time::Duration::from_millis(100)));
    monitor.go();
    let attach = monitor.attach.as_ref().unwrap();
    wait_readable(attach, "the attach message");
    let mut buffer = [0u8; 4096];
    let len = rustix::io::read(attach, &mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"{\"data\": 0}\n");
    let mut client = Client::connect(&stand.dir.join("session"));
    assert!(monitor.no_message_yet(), "the runtime waits for a second byte");
    monitor.go();
    monitor.pid_message("data");
    assert_eq!(client.rest(2), b"early\n");
    assert_eq!(monitor.message(), Some(json!({ "data": 4 })));
}

#[test]
fn inherited_descriptors_reach_the_runtime_and_close_before_the_exit_is_told() {
    let stand = Stand::fake("ls -l /proc/self/fd/7 >$DIR/fd7 2>&1; beget 'exec 7>&-; sleep 0.3'");
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let monitor = stand.podman().pass(write, 7).spawn();
    monitor.pid_message("data");
    let fd7 = std::fs::read_to_string(stand.dir.join("fd7")).unwrap();
    assert!(fd7.contains("pipe:"), "{fd7}");
    assert!(!stand.has_exit_file() || is_readable(&read, std::time::Duration::ZERO));
    stand.exit_file();
    assert!(is_readable(&read, std::time::Duration::ZERO), "closed before the exit file was there");
    assert_eq!(rustix::io::read(&read, &mut [0u8; 8]).unwrap(), 0);
}

#[test]
fn signals_go_to_the_container_and_do_not_end_the_monitor() {
    for (signal, name) in [
        (rustix::process::Signal::TERM, "TERM"),
        (rustix::process::Signal::INT, "INT"),
        (rustix::process::Signal::QUIT, "QUIT"),
    ] {
        let line = format!("trap 'exit 5' {name}; echo ready; while :; do sleep 0.1; done");
        let stand = Stand::shell(&line);
        stand.podman().spawn().pid_message("data");
        stand.start();
        testkit::wait_until("ready", || stand.log_lines() == ["stdout F ready"]);
        let monitor = rustix::process::Pid::from_raw(stand.monitor_pid()).unwrap();
        rustix::process::kill_process(monitor, rustix::process::Signal::PIPE).unwrap();
        rustix::process::kill_process(monitor, signal).unwrap();
        assert_eq!(stand.exit_file(), "5", "{name}");
    }
}

#[test]
fn a_term_while_creating_goes_to_the_runtime() {
    let stand =
        Stand::fake("trap 'echo got it >&2; exit 8' TERM; touch $DIR/ready; while :; do sleep 0.1; done");
    let monitor = stand.podman().spawn();
    testkit::wait_until("the runtime runs", || stand.dir.join("ready").exists());
    assert_eq!(monitor.first(), 0);
    let pid = rustix::process::Pid::from_raw(stand.monitor_pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(monitor.message(), Some(json!({ "data": -1, "message": "got it" })));
}

#[test]
fn a_grandchild_that_holds_stdout_does_not_delay_the_exit() {
    let stand = Stand::fake("beget 'echo said; sleep 60 & echo $! >$DIR/grandchild; exit 6'");
    stand.podman().spawn().pid_message("data");
    assert_eq!(stand.exit_file(), "6");
    stand.wait_gone(stand.monitor_pid());
    assert_eq!(stand.log_lines(), ["stdout F said"]);
    let grandchild: i32 =
        std::fs::read_to_string(stand.dir.join("grandchild")).unwrap().trim().parse().unwrap();
    assert!(crate::stand::is_there(grandchild));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(grandchild).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
fn what_a_container_said_just_before_its_end_is_kept() {
    let stand = Stand::shell("seq 1 5000; echo err >&2; printf tail");
    stand.run(stand.podman());
    let lines = stand.log_lines();
    let numbers: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("stdout F ")).collect();
    assert_eq!(numbers.len(), 5000, "no line is cut or lost");
    assert!(numbers.iter().enumerate().all(|(at, line)| **line == (at + 1).to_string()));
    assert!(lines.contains(&"stderr F err".to_owned()) && lines.contains(&"stdout P tail".to_owned()));
}

#[test]
fn an_early_end_is_not_missed() {
    // The process is dead before the runtime returns.
    let stand = Stand::fake("beget 'exit 11'; sleep 0.3; exit 0");
    let monitor = stand.podman().spawn();
    let pid = monitor.pid_message("data");
    assert!(pid > 0);
    assert_eq!(stand.exit_file(), "11");
}

#[test]
fn a_process_that_is_no_child_is_watched_all_the_same() {
    // As in some systemd scopes: it can be seen to end, but not how.
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let stand = Stand::fake(&format!("echo {} >$PIDFILE", stranger.id()));
    let call = stand.podman().arg("--control-socket").arg(stand.dir.join("control"));
    let pid = call.spawn().pid_message("data");
    assert_eq!(pid, i32::try_from(stranger.id()).unwrap());
    assert!(crate::stand::is_there(stand.monitor_pid()) && !stand.has_exit_file());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(stand.exit_file(), "0");
    let record = std::fs::read_to_string(stand.bundle.path().join("exit.json")).unwrap();
    assert!(record.contains("\"exit\":\"lost\""), "{record}");
}

#[test]
fn the_monitor_is_in_a_session_of_its_own_with_a_plain_umask() {
    let stand = Stand::shell(SLEEPER);
    stand.podman().spawn().pid_message("data");
    let pid = stand.monitor_pid();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session: i32 = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().parse().unwrap();
    assert_eq!(session, pid);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Umask:\t0022"), "{status}");
    for fd in 0..3 {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert_eq!(target.to_str(), Some("/dev/null"));
    }
}
