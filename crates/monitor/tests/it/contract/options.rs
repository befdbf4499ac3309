//! Contract §2 and §9: options, their errors, the order of checks, `--version`.

use std::process::{Command, Output};

use crate::stand::{MONITOR, Stand};

fn run(args: &[&str]) -> Output {
    Command::new(MONITOR).args(args).env_remove("_OCI_ATTACHPIPE").output().unwrap()
}

/// stderr of a call that is refused with status 1.
fn refused(line: &str) -> String {
    let args: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let args: Vec<&str> = args.into_iter().map(|word| if word == "''" { "" } else { word }).collect();
    let output = run(&args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
    stderr
}

#[test]
fn version_satisfies_podman_and_crio() {
    let output = run(&["--version"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert_eq!(first[..2], ["conmon", "version"]);
    let version: Vec<u32> = first[2].split('.').map(|number| number.parse().unwrap()).collect();
    assert!(version >= vec![2, 2, 0], "{version:?}");
    assert!(lines.next().unwrap().starts_with("commit: "));
    assert!(lines.next().unwrap().starts_with("wharf-monitor "));
}

#[test]
fn help_names_what_callers_grep_for() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for needle in ["journald", "--log-global-size-max", "--full-attach", "-0, --persist-dir"] {
        assert!(text.contains(needle), "{needle}");
    }
}

#[test]
fn each_error_has_its_text() {
    let head = "-c 0123456789abcdef -u u -r /bin/true";
    let cases = [
        ("--foo", "conmon: option parsing failed: Unknown option --foo"),
        ("-cx", "Unknown option -cx"),
        ("--log-max-files 3000000000", "out of range"),
        ("", "[conmon:e]: Container ID not provided. Use --cid"),
        ("-c c -r /bin/true -l none", "Container UUID not provided. Use --cuuid"),
        ("-c c -u u -l none", "Runtime path not provided. Use --runtime"),
        ("-c c -u u -r /no/such -l none", "Runtime path /no/such is not valid"),
        ("-c c -u u -r /etc/passwd -l none", "Runtime path /etc/passwd is not valid"),
        ("-c c/d -u u -r /bin/true -l none", "is not valid"),
        ("HEAD", "Log driver not provided. Use --log-path"),
        ("HEAD -l ''", "log-path must not be empty"),
        ("HEAD -l k8s-file", "k8s-file requires a filename"),
        ("HEAD -l k8s-file:", "k8s-file requires a filename"),
        ("HEAD -l xyz:/tmp/f", "No such log driver xyz"),
        ("HEAD -l /no/such/dir/log", "Failed to open log file"),
        ("-c short -u u -r /bin/true -l journald", "Container ID must be longer than 12 characters"),
        ("HEAD -l /tmp/wh-none --log-tag t", "k8s-file doesn't support --log-tag"),
        ("HEAD -l /tmp/wh-none --log-label A=b", "k8s-file doesn't support --log-label"),
        ("HEAD -l journald --log-label Ab", "Container labels must be in format LABEL=VALUE"),
        (
            "HEAD -l journald --log-label a=b",
            "Container label names must contain only uppercase letters, numbers and underscore",
        ),
        ("HEAD -l none --log-level loud", "No such log level loud"),
        ("HEAD -l none --log-max-files -1", "log-max-files must be non-negative"),
        (
            "HEAD -l none --log-rotate --log-max-files 0",
            "log-max-files must be at least 1 when log-rotate is enabled",
        ),
        ("HEAD -l none --exit-delay -1", "must be greater than or equal to 0"),
        ("HEAD -l none -e", "Exec process spec path not provided. Use --exec-process-spec"),
        ("HEAD -l none -e --restore /x", "Cannot use 'exec' and 'restore' at the same time"),
        ("HEAD -l none -e --exec-attach", "Attach can only be specified for a non-legacy exec session"),
        ("HEAD -l none -e --exec-attach --api-version", "--attach specified but _OCI_ATTACHPIPE was not"),
        ("HEAD -l none -T soon", "Cannot parse integer value"),
    ];
    for (line, text) in cases {
        let stderr = refused(&line.replace("HEAD", head));
        assert!(stderr.contains(text), "{line}: {stderr}");
    }
}

#[test]
fn checks_come_in_conmons_order() {
    let steps = [
        ("--log-max-files -1", "log-max-files must be"),
        ("", "Container ID not provided"),
        ("-c c --log-level loud", "No such log level"),
        ("-c c -e --restore /x", "at the same time"),
        ("-c c -e --exec-attach", "Attach can only be"),
        ("-c c -e --api-version", "Container UUID not provided"),
        ("-c c -u u -e --exit-delay -1", "Runtime path not provided"),
        ("-c c -r /bin/true -e --exit-delay -1", "Exec process spec path"),
        ("-c c -u u -r /bin/true --exit-delay -1", "greater than or equal"),
        ("-c c -u u -r /bin/true", "Log driver not provided"),
    ];
    for (line, text) in steps {
        let stderr = refused(line);
        assert!(stderr.contains(text), "{line}: {stderr}");
    }
    assert!(run(&["--version", "--log-max-files", "-1"]).status.success());
}

#[test]
fn a_warning_where_an_option_has_no_effect() {
    let stand = Stand::fake("exit 3");
    let monitor = stand.podman().arg("--no-container-partial-message").spawn();
    monitor.first();
    assert!(monitor.stderr().contains("no effect without journald log driver"));
}

#[test]
fn nothing_runs_before_the_options_are_right() {
    let stand = Stand::fake("touch $DIR/ran");
    let (status, stderr) = stand.podman().args(["-l", "nonsense:x"]).refused();
    assert_eq!(status, 1);
    assert!(stderr.contains("No such log driver nonsense"), "{stderr}");
    assert!(!stand.dir.join("ran").exists() && !stand.dir.join("conmon.pid").exists());
}

#[test]
fn a_directory_as_runtime_fails_after_the_fork() {
    let mut stand = Stand::fake("");
    stand.runtime = "/tmp".into();
    let monitor = stand.podman().spawn();
    assert_eq!(monitor.first(), 0);
    let message = monitor.message().unwrap();
    assert_eq!(message["data"], -1);
    assert!(message["message"].as_str().unwrap().contains("/tmp"), "{message}");
}

#[test]
fn the_runtime_gets_its_command_line() {
    let stand = Stand::fake("printf '%s\\n' \"$@\" >$DIR/args; echo $$ >$DIR/self; exit 1");
    let monitor = stand
        .podman()
        .args(["-s", "--runtime-arg", "--root", "--runtime-arg=/a b", "--no-pivot", "--no-new-keyring"])
        .args(["--runtime-opt", "--preserve-fds", "--runtime-opt", "2", "--restore-arg", ""])
        .spawn();
    assert_eq!(monitor.message().unwrap()["data"], -1);
    let args = std::fs::read_to_string(stand.dir.join("args")).unwrap();
    let bundle = stand.bundle.path().display();
    let pidfile = stand.dir.join("pidfile");
    let expected = format!(
        "--systemd-cgroup\n--root\n/a b\ncreate\n--bundle\n{bundle}\n--pid-file\n{}\n--no-pivot\n--no-new-keyring\n\
         --preserve-fds\n2\n\n{}\n",
        pidfile.display(),
        stand.id()
    );
    assert_eq!(args, expected);
}
