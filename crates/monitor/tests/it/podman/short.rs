//! Containers that run and end: output, exit codes, errors.

use super::{IMAGE, Podman, all};

#[test]
fn run_and_exit_codes() {
    let gave = all(|podman| {
        [
            podman.run(&["--rm", IMAGE, "sh", "-c", "echo out; echo err >&2"]),
            podman.run(&["--rm", IMAGE, "sh", "-c", "exit 7"]),
            podman.run(&["--rm", IMAGE, "sh", "-c", "kill -9 $$; sleep 1"]),
        ]
    });
    assert_eq!((gave[0].stdout.as_str(), gave[0].stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(gave[1].status, Some(7));
}

#[test]
fn commands_that_are_not_there() {
    let statuses = all(|podman| {
        let status = |program: &str| {
            let gave = podman.run(&["--rm", IMAGE, program]);
            // The message holds a time in conmon's case and in ours, and is the runtime's.
            (gave.status, gave.stderr.contains("OCI"))
        };
        [status("/no/such/program"), status("/etc")]
    });
    assert_eq!(statuses, [(Some(127), true), (Some(126), true)]);
}

#[test]
fn stdin_goes_in_and_out() {
    let gave = all(|podman| {
        let args = podman.run_args("run", &["--rm", "-i", IMAGE, "sh", "-c", "cat; echo end"]);
        podman.gave_with(&args, "one\ntwo\n")
    });
    assert_eq!(gave.stdout, "one\ntwo\nend\n");
}

#[test]
fn much_output_arrives_whole() {
    all(|podman| {
        let gave = podman.run(&["--rm", IMAGE, "seq", "1", "100000"]);
        let lines: Vec<&str> = gave.stdout.lines().collect();
        assert_eq!((lines.len(), lines.last().copied()), (100_000, Some("100000")));
        gave.status
    });
}

#[test]
fn rm_cleans_up_through_the_exit_command() {
    all(|podman| {
        podman.detached("gone", &["--rm", IMAGE, "sh", "-c", "sleep 0.5; exit 3"]);
        testkit::wait_until("the container to be removed", || podman.good(&["ps", "-aq"]).is_empty());
    });
}

#[test]
fn detached_logs_wait_and_inspect() {
    let (logs, wait, code) = all(|podman| {
        podman.detached("c", &[IMAGE, "sh", "-c", "echo one; echo two >&2; printf three; exit 9"]);
        let wait = podman.good(&["wait", "c"]);
        podman.wait_state("c", "exited");
        let logs = podman.gave(&["logs", "c"]);
        (logs, wait, podman.inspect("c", "{{.State.ExitCode}}"))
    });
    assert_eq!((wait.as_str(), code.as_str()), ("9\n", "9"));
    assert!(logs.stdout.starts_with("one\n") && logs.stderr.contains("two"), "{logs:?}");
}

#[test]
fn logs_of_a_limited_size_end_with_the_last_line() {
    all(|podman| {
        let log = podman.dir.join("limited.log");
        let path = format!("path={}", log.display());
        let options = ["--log-opt", &path, "--log-opt", "max-size=10kb", "--name", "c"];
        let gave = podman.run(&[&options[..], &[IMAGE, "seq", "1", "20000"]].concat());
        let size = std::fs::metadata(&log).unwrap().len();
        assert!(size > 0 && size <= 10_240, "{size}");
        let logs = podman.good(&["logs", "c"]);
        (gave.status, logs.lines().last().map(str::to_owned))
    });
}

#[test]
fn a_time_out() {
    all(|podman| {
        let gave = podman.run(&["--timeout", "1", "--name", "c", IMAGE, "sleep", "1000"]);
        podman.wait_state("c", "exited");
        (gave.status, podman.inspect("c", "{{.State.ExitCode}}"))
    });
}

/// conmon from apt often misses the kill of a container's init (it looks no more after the end); ours must not.
#[test]
fn an_oom_kill_is_told() {
    let codes = |podman: &Podman| {
        let greedy = [
            "--memory",
            "32m",
            "--name",
            "c",
            IMAGE,
            "dd",
            "if=/dev/zero",
            "of=/dev/null",
            "bs=100M",
            "count=1",
        ];
        podman.run(&greedy);
        podman.wait_state("c", "exited");
        (podman.inspect("c", "{{.State.OOMKilled}}"), podman.inspect("c", "{{.State.ExitCode}}"))
    };
    let (runc, wharf_oci) = (testkit::require("runc"), testkit::Runtime::named("wharf-oci").path);
    for runtime in [&runc, &wharf_oci] {
        let ours = codes(&Podman::new(crate::stand::MONITOR.into(), runtime.clone()));
        assert_eq!(ours, ("true".to_owned(), "137".to_owned()), "{}", runtime.display());
        assert_eq!(codes(&Podman::new(testkit::require("conmon"), runtime.clone())).1, ours.1);
    }
}

#[test]
fn restart_policies_restart() {
    let count = all(|podman| {
        podman.detached("c", &["--restart", "on-failure:2", IMAGE, "sh", "-c", "echo again; exit 1"]);
        testkit::wait_until("two restarts", || {
            podman.inspect("c", "{{.RestartCount}} {{.State.Status}}") == "2 exited"
        });
        podman.good(&["logs", "c"]).lines().count()
    });
    assert_eq!(count, 3);
}
