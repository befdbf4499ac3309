//! Contract §5 and §8: sd-notify, LISTEN_PID, passthrough, what the runtime inherits.

use std::os::unix::net::UnixDatagram;

use testkit::wait_until;

use crate::stand::Stand;

#[test]
fn the_notify_proxy_passes_on_what_is_harmless() {
    let mut stand = Stand::fake("");
    stand.set_fake("beget 'exec sleep 1000'");
    std::fs::create_dir(stand.bundle.path().join("notify")).unwrap();
    let host = UnixDatagram::bind(stand.dir.join("host.sock")).unwrap();
    host.set_read_timeout(Some(testkit::deadline())).unwrap();
    let monitor =
        stand.podman().arg(format!("--sdnotify-socket={}", stand.dir.join("host.sock").display())).spawn();
    let pid = monitor.pid_message("data");
    let inside = stand.bundle.path().join("notify/notify.sock");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&inside).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o777);
    let container = UnixDatagram::unbound().unwrap();
    for text in ["MAINPID=7", "nothing", "MAINPID=7\nREADY=1\nSTATUS=fine\nWATCHDOG=2\n"] {
        container.send_to(text.as_bytes(), &inside).unwrap();
    }
    let mut buffer = [0u8; 1024];
    let len = host.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"READY=1\nSTATUS=fine");
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(stand.exit_file(), "137");
}

#[test]
fn a_container_that_is_not_root_opens_its_stdio_again() {
    let line = "echo out > /dev/stdout; echo err > /dev/stderr; read word < /dev/stdin; echo $word";
    let bundle = testkit::Bundle::shell("stdio", line);
    let stand = Stand::new(
        bundle.edit(|spec| spec["process"]["user"] = serde_json::json!({ "uid": 1000, "gid": 1000 })),
    );
    stand.podman().arg("-i").spawn().pid_message("data");
    let client = crate::attach_client::Client::connect(stand.bundle.path());
    client.send(b"word\n");
    stand.start();
    assert_eq!(stand.exit_file(), "0");
    let mut lines = stand.log_lines();
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout F word"]);
}

#[test]
fn listen_pid_is_the_runtimes_own() {
    let lines = "echo $LISTEN_PID $$ >$DIR/pids; exit 1";
    for (call, own) in [(true, true), (false, false)] {
        let stand = Stand::fake(lines);
        let mut made = stand.podman().env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
        if call {
            made = made.arg("--replace-listen-pid");
        }
        made.spawn().message();
        let text = std::fs::read_to_string(stand.dir.join("pids")).unwrap();
        let pids: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(pids[0] == pids[1], own, "{text}");
        assert!(own || pids[0] == "1");
    }
}

#[test]
fn the_runtime_inherits_the_environment_and_plain_signals() {
    let stand = Stand::fake(
        "env >$DIR/env; cat /proc/self/status >$DIR/status; cat /proc/self/oom_score_adj >$DIR/oom; exit 1",
    );
    stand.podman().env("HELLO", "there").spawn().message();
    let env = std::fs::read_to_string(stand.dir.join("env")).unwrap();
    assert!(env.contains("HELLO=there\n") && env.contains("_OCI_SYNCPIPE="), "{env}");
    let status = std::fs::read_to_string(stand.dir.join("status")).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let bits = |name: &str| u64::from_str_radix(&field(name), 16).unwrap();
    assert_eq!(bits("SigBlk:"), 0);
    assert_eq!(bits("SigIgn:") & (1 << 12), 0, "SIGPIPE has its usual effect again");
    assert_eq!(field("NoNewPrivs:"), "0");
    let oom = std::fs::read_to_string(stand.dir.join("oom")).unwrap();
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(oom, own);
}

#[test]
fn nothing_of_the_monitors_own_reaches_the_runtime_or_the_container() {
    let stand = Stand::fake("ls /proc/$$/fd >$DIR/fds; exit 1");
    stand.podman().arg("-i").arg("--control-socket").arg(stand.dir.join("control")).spawn().message();
    let fds = std::fs::read_to_string(stand.dir.join("fds")).unwrap();
    // The shell holds its script open as 10 or more.
    let fds: Vec<&str> = fds.lines().filter(|fd| fd.parse::<i32>().unwrap() < 10).collect();
    assert_eq!(fds, ["0", "1", "2"]);
    let stand = Stand::shell("ls /proc/self/fd");
    stand.run(stand.podman().arg("-i"));
    let lines = stand.log_lines();
    // Its own three, and the directory that ls reads.
    assert_eq!(lines, ["stdout F 0", "stdout F 1", "stdout F 2", "stdout F 3"]);
}

#[test]
fn passthrough_needs_no_console() {
    let stand = Stand::fake("[ -z \"$CONSOLE\" ] && beget 'exit 3'");
    let monitor = stand.podman().without("-l", 1).args(["-t", "-l", "passthrough"]).spawn();
    monitor.pid_message("data");
    assert_eq!(stand.exit_file(), "3");
}

#[test]
fn passthrough_hands_over_the_callers_own() {
    let stand = Stand::shell("echo straight; exit 8");
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let call = stand.podman().without("-l", 1).args(["-l", "passthrough"]).stdout(write);
    let monitor = call.spawn();
    monitor.pid_message("data");
    let bundle = stand.bundle.path();
    assert!(
        !bundle.join("attach").exists() && !bundle.join("ctl").exists() && !bundle.join("winsz").exists()
    );
    stand.start();
    assert_eq!(stand.exit_file(), "8");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut text).unwrap();
    assert_eq!(text, "straight\n");
}

#[test]
fn after_the_start_little_power_is_left() {
    let stand = Stand::shell("trap 'exit 0' TERM; while :; do sleep 1; done");
    stand.podman().spawn().pid_message("data");
    let pid = stand.monitor_pid();
    let field = |name: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    // DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, KILL, SYS_RESOURCE at most.
    let kept = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 5) | (1 << 24);
    wait_until("power is dropped", || u64::from_str_radix(&field("CapPrm:"), 16).unwrap() & !kept == 0);
    assert_eq!(u64::from_str_radix(&field("CapEff:"), 16).unwrap() & !kept, 0);
    stand.start();
    // What it starts later has root's full power again.
    let output = testkit::script(
        &stand.dir,
        "after",
        &format!("#!/bin/sh\ngrep CapEff /proc/self/status >{}\n", stand.dir.join("caps").display()),
    );
    drop(output);
    stand.kill("KILL");
    stand.exit_file();
}

#[test]
fn the_exit_command_has_full_power() {
    let stand = Stand::shell("exit 0");
    let caps = stand.dir.join("caps");
    let command = testkit::script(
        &stand.dir,
        "after",
        &format!("#!/bin/sh\ngrep CapEff /proc/self/status >{}\n", caps.display()),
    );
    let call = stand.podman().arg("--exit-command").arg(&command);
    stand.run(call);
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|line| line.starts_with("CapEff")).unwrap().to_owned();
    assert_eq!(std::fs::read_to_string(&caps).unwrap().trim(), own);
}

#[test]
fn an_idle_monitor_does_not_wake_up() {
    let stand = Stand::shell("echo hello; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done");
    stand.podman().spawn().pid_message("data");
    stand.start();
    wait_until("output", || stand.log_lines() == ["stdout F hello"]);
    let pid = stand.monitor_pid();
    let switches = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse().unwrap()
    };
    // Buffers are given back some time after the last output; then there is nothing left to wake up for.
    let mut last = switches();
    wait_until("three quiet seconds", || {
        std::thread::sleep(std::time::Duration::from_secs(3));
        let now = switches();
        std::mem::replace(&mut last, now) == now
    });
}
