//! Bad surroundings: full disks, no descriptors, gone directories, hard output.

use testkit::wait_until;

use crate::attach_client::Client;
use crate::stand::Stand;

#[test]
fn a_full_log_directory_blocks_nobody() {
    let stand = Stand::shell("read x; seq 1 200000; exit 5");
    let full = testkit::Scratch::tmpfs("full", 65536);
    let log = full.join("log");
    let call = stand.podman().without("-l", 1).arg("-l").arg(&log);
    call.arg("-i").spawn().pid_message("data");
    let mut client = Client::connect(stand.bundle.path());
    stand.start();
    client.send(b"go\n");
    assert!(client.rest(2).ends_with(b"\n200000\n"), "clients still get all");
    assert_eq!(stand.exit_file(), "5");
    stand.wait_gone(stand.monitor_pid());
}

#[test]
fn an_exit_directory_that_vanished_ends_nothing_early() {
    let stand = Stand::shell("exit 5");
    let command = testkit::script(
        &stand.dir,
        "after",
        &format!("#!/bin/sh\ntouch {}\n", stand.dir.join("ran").display()),
    );
    stand.podman().arg("--exit-command").arg(&command).spawn().pid_message("data");
    std::fs::remove_dir(stand.dir.join("exits")).unwrap();
    stand.start();
    wait_until("the exit command", || stand.dir.join("ran").exists());
    assert_eq!(std::fs::read_to_string(stand.dir.join("persist/exit")).unwrap(), "5");
}

#[test]
fn a_bundle_that_vanished_ends_nothing_early() {
    let stand = Stand::fake("beget 'while [ ! -e $DIR/go ]; do sleep 0.1; done; exit 5'");
    let bundle = stand.dir.dir("away");
    let call = stand
        .podman()
        .without("-b", 1)
        .arg("-b")
        .arg(&bundle)
        .arg("--control-socket")
        .arg(bundle.join("control"));
    call.spawn().pid_message("data");
    std::fs::remove_dir_all(&bundle).unwrap();
    std::fs::write(stand.dir.join("go"), "").unwrap();
    assert_eq!(stand.exit_file(), "5");
    stand.wait_gone(stand.monitor_pid());
}

#[test]
fn hard_output_is_survived() {
    // NUL, invalid UTF-8, no newline for 300 MB, stdout closed at once: none of it may lose the exit.
    for (line, status) in [
        ("printf 'a\\000b\\377\\n'; exit 1", "1"),
        ("head -c 300000000 /dev/zero; exit 2", "2"),
        ("exec >&-; sleep 0.2; exit 3", "3"),
        ("exec >&- 2>&-; sleep 0.2; exit 4", "4"),
        ("i=0; while [ $i -lt 2000 ]; do true & i=$((i+1)); done; wait; exit 6", "6"),
    ] {
        let stand = Stand::shell(line);
        let call = stand.podman().args(["--log-global-size-max", "1000000"]);
        assert_eq!(stand.run(call), status, "{line}");
    }
}

#[test]
fn without_descriptors_clients_wait_and_the_exit_is_told() {
    let stand = Stand::shell("read x; echo out; exit 9");
    stand.podman().arg("-i").spawn().pid_message("data");
    let pid = stand.monitor_pid();
    let first = Client::connect(stand.bundle.path());
    stand.start();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = rustix::process::Rlimit { current: Some(u64::try_from(open).unwrap()), maximum: Some(4096) };
    rustix::process::prlimit(rustix::process::Pid::from_raw(pid), rustix::process::Resource::Nofile, limit)
        .unwrap();
    let _others: Vec<Client> = (0..4).map(|_| Client::connect(stand.bundle.path())).collect();
    first.send(b"go\n");
    assert_eq!(stand.exit_file(), "9");
}

#[test]
fn attach_garbage_is_only_input() {
    let stand = Stand::shell("cat >/dev/null; exit 0");
    stand.podman().arg("-i").spawn().pid_message("data");
    stand.start();
    let client = Client::connect(stand.bundle.path());
    let garbage: Vec<u8> = (0..32768u32).map(|n| (n * 7 % 251) as u8).collect();
    for len in [1, 5, 8193, 32768] {
        client.send(&garbage[..len]);
    }
    client.end_input();
    assert_eq!(stand.exit_file(), "0");
}

#[test]
fn restore_calls_the_runtime_with_the_image() {
    let stand = Stand::fake("printf '%s ' \"$@\" >$DIR/args; beget 'exit 3'");
    let monitor =
        stand.podman().args(["--restore", "/some/image", "--runtime-opt", "--tcp-established"]).spawn();
    monitor.pid_message("data");
    assert_eq!(stand.exit_file(), "3");
    let args = std::fs::read_to_string(stand.dir.join("args")).unwrap();
    assert!(args.starts_with("restore --bundle "), "{args}");
    assert!(
        args.contains(" --detach --image-path /some/image --work-path ")
            && args.contains(" --tcp-established ")
    );
}
