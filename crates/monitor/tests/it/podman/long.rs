//! Containers that run on: exec, attach, stop, kill, pause, health, notify.

use std::os::unix::net::UnixDatagram;

use super::{IMAGE, Podman, all};

const SLEEPER: [&str; 4] =
    [IMAGE, "sh", "-c", "trap 'echo got; exit 4' TERM; echo up; while :; do sleep 0.1; done"];

fn up(podman: &Podman, options: &[&str]) {
    podman.detached("c", &[options, &SLEEPER].concat());
    podman.wait_log("c", "up");
}

#[test]
fn exec_output_input_and_codes() {
    let gave = all(|podman| {
        up(podman, &[]);
        [
            podman.gave(&["exec", "c", "sh", "-c", "echo out; echo err >&2; exit 7"]),
            podman.gave_with(&["exec", "-i", "c", "cat"], "through\n"),
            podman.gave(&["exec", "c", "sh", "-c", "kill -9 $$"]),
            podman.gave(&["exec", "-e", "A=b", "-w", "/tmp", "c", "sh", "-c", "echo $A; pwd"]),
        ]
    });
    assert_eq!(
        (gave[0].status, gave[0].stdout.as_str(), gave[0].stderr.as_str()),
        (Some(7), "out\n", "err\n")
    );
    assert_eq!(gave[1].stdout, "through\n");
    assert_eq!(gave[2].status, Some(137));
}

#[test]
fn exec_of_nothing_and_detached() {
    all(|podman| {
        up(podman, &[]);
        let missing = podman.gave(&["exec", "c", "/no/such/program"]);
        podman.good(&["exec", "-d", "c", "sh", "-c", "echo done >/done"]);
        testkit::wait_until("the detached exec", || {
            podman.gave(&["exec", "c", "cat", "/done"]).stdout == "done\n"
        });
        // Debian's conmon and ours both tell the failure; its text holds a time.
        (missing.status, missing.stderr.contains("no such file"))
    });
}

#[test]
fn stop_with_and_without_grace() {
    let codes = all(|podman| {
        up(podman, &[]);
        podman.good(&["stop", "c"]);
        let gentle = (podman.inspect("c", "{{.State.ExitCode}}"), podman.good(&["logs", "c"]));
        podman.detached("deaf", &[IMAGE, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]);
        podman.wait_log("deaf", "up");
        podman.good(&["stop", "-t", "1", "deaf"]);
        (gentle, podman.inspect("deaf", "{{.State.ExitCode}}"))
    });
    assert_eq!(codes, (("4".to_owned(), "up\ngot\n".to_owned()), "137".to_owned()));
}

#[test]
fn kill_pause_and_start_again() {
    all(|podman| {
        up(podman, &[]);
        podman.good(&["pause", "c"]);
        let paused = podman.inspect("c", "{{.State.Status}}");
        podman.good(&["unpause", "c"]);
        podman.good(&["kill", "-s", "KILL", "c"]);
        podman.wait_state("c", "exited");
        let killed = podman.inspect("c", "{{.State.ExitCode}}");
        podman.good(&["start", "c"]);
        let again = podman.gave(&["exec", "c", "echo", "again"]);
        podman.good(&["restart", "-t", "1", "c"]);
        (paused, killed, again, podman.inspect("c", "{{.State.Status}}"))
    });
}

#[test]
fn health_checks() {
    all(|podman| {
        let options = ["--health-interval", "disable", "--health-cmd", "test -e /well"];
        up(podman, &options);
        let sick = podman.gave(&["healthcheck", "run", "c"]).status;
        podman.good(&["exec", "c", "touch", "/well"]);
        (sick, podman.gave(&["healthcheck", "run", "c"]).status)
    });
}

#[test]
fn readiness_is_told_to_the_host() {
    all(|podman| {
        let path = podman.dir.join("notify.sock");
        let host = UnixDatagram::bind(&path).unwrap();
        host.set_read_timeout(Some(testkit::deadline())).unwrap();
        let args = [&["-d", "--name", "c", "--sdnotify", "conmon"], &SLEEPER[..]].concat();
        let status =
            podman.command(&podman.run_args("run", &args)).env("NOTIFY_SOCKET", &path).output().unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        let mut said = String::new();
        while !said.contains("READY=1") {
            let mut buffer = [0u8; 4096];
            let len = host.recv(&mut buffer).unwrap();
            said.push_str(&String::from_utf8_lossy(&buffer[..len]));
            said.push('\n');
        }
        said.contains("MAINPID=")
    });
}

#[test]
fn attach_without_a_terminal() {
    // podman's own status is 0 or the container's, as its two ends of the connection happen to close.
    let (heard, code) = all(|podman| {
        podman.detached("c", &["-i", IMAGE, "sh", "-c", "read x; echo heard $x; exit 6"]);
        let gave = podman.gave_with(&["attach", "c"], "hello\n");
        podman.wait_state("c", "exited");
        (gave.stdout.trim_end().to_owned(), podman.inspect("c", "{{.State.ExitCode}}"))
    });
    assert_eq!((heard.as_str(), code.as_str()), ("heard hello", "6"));
}

#[test]
fn many_execs_one_after_another_and_at_once() {
    all(|podman| {
        up(podman, &[]);
        let statuses: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    scope.spawn(move || podman.gave(&["exec", "c", "sh", "-c", &format!("exit {n}")]).status)
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(statuses, [Some(0), Some(1), Some(2), Some(3)]);
    });
}
