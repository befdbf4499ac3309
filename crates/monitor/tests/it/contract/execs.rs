//! Execs through the control socket, with a real runtime.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use model::Exit;
use monitor::control::protocol::{Answer, Exec, FdRole, Op};
use monitor::control::{Client, ExecResult};
use testkit::{Bundle, wait_until};

use crate::stand::{Stand, is_there};

const SLEEPER: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

/// Once with execs that the monitor clones itself, and once with a runtime of a name that it does not know.
fn each_way(test: impl Fn(&Stand, Client)) {
    let tool = testkit::runtime_under_test();
    for name in [tool.name(), "another"] {
        let mut stand = Stand::new(Bundle::shell("exec", SLEEPER).seccomp());
        let calls = stand.dir.join("calls");
        let (calls_to, program) = (calls.display(), tool.path.display());
        let text = format!("#!/bin/sh\necho \"$*\" >>{calls_to}\nexec {program} \"$@\"\n");
        stand.runtime = testkit::script(&stand.dir, name, &text);
        let (stand, client) = serve(stand);
        test(&stand, client);
        let called = std::fs::read_to_string(&calls).unwrap().contains(" exec ");
        assert_eq!(called, name == "another", "{name}");
    }
}

fn serve(stand: Stand) -> (Stand, Client) {
    let control = stand.dir.join("control");
    stand.podman().arg("--control-socket").arg(&control).spawn().pid_message("data");
    stand.start();
    let client = Client::connect(&control).unwrap();
    (stand, client)
}

fn pipe() -> (File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (File::from(read), write)
}

fn begin(
    stand: &Stand,
    client: &mut Client,
    args: &[&str],
    terminal: bool,
    timeout_ms: Option<u64>,
    fds: &[(FdRole, &OwnedFd)],
) -> Result<monitor::control::client::Started, ExecResult> {
    let process = Some(stand.process_json(args, terminal));
    let fds: Vec<_> = fds.iter().map(|(role, fd)| (*role, fd.as_fd())).collect();
    client.exec(Exec { process, timeout_ms, kill_on_close: false }, &fds).unwrap()
}

#[test]
fn output_goes_straight_to_the_clients_pipes() {
    each_way(|stand, mut client| {
        let ((mut out, out_end), (mut err, err_end)) = (pipe(), pipe());
        let (stdin, mut feed) = pipe();
        let stdin = OwnedFd::from(stdin);
        let args = ["sh", "-c", "read x; echo out-$x; echo err >&2; exit 7"];
        let fds = [(FdRole::Stdin, &stdin), (FdRole::Stdout, &out_end), (FdRole::Stderr, &err_end)];
        let started = begin(stand, &mut client, &args, false, None, &fds).unwrap();
        drop((out_end, err_end, stdin));
        assert!(started.pid > 0 && started.terminal.is_none());
        rustix::io::write(&mut feed, b"hi\n").unwrap();
        let (mut text, mut errors) = (String::new(), String::new());
        out.read_to_string(&mut text).unwrap();
        err.read_to_string(&mut errors).unwrap();
        assert_eq!((text.as_str(), errors.as_str()), ("out-hi\n", "err\n"));
        let result = client.exec_end(&started).unwrap();
        assert_eq!((result.exit, result.message.as_str()), (Exit::Code(7), ""));
        assert!(result.finished_ns > 0);
        assert!(!stand.bundle.path().join(".exec-1.pid").exists());
    });
}

#[test]
fn many_at_once_each_with_its_own_end() {
    each_way(|stand, mut client| {
        let started: Vec<_> = (0..12)
            .map(|n| {
                begin(stand, &mut client, &["sh", "-c", &format!("exit {n}")], false, None, &[]).unwrap()
            })
            .collect();
        for (n, started) in started.iter().enumerate().rev() {
            let exit = client.exec_end(started).unwrap().exit;
            assert_eq!(exit, Exit::Code(u8::try_from(n).unwrap()));
        }
        assert_eq!(client.state().unwrap().execs, 0);
    });
}

#[test]
fn what_is_not_there_is_a_start_error_in_words() {
    each_way(|stand, mut client| {
        let result = begin(stand, &mut client, &["/no/such/thing"], false, None, &[]).unwrap_err();
        assert_eq!(result.exit, Exit::StartError);
        assert!(result.message.contains("/no/such/thing"), "{}", result.message);
        let started = begin(stand, &mut client, &["true"], false, None, &[]).unwrap();
        assert_eq!(client.exec_end(&started).unwrap().exit, Exit::Code(0));
    });
}

#[test]
fn a_process_is_the_same_whoever_starts_it() {
    // Of the cgroups, not the freezer's, where an exec may have one of its own.
    let look = "grep -E '^(Umask|Uid|Gid|Groups|Cap|NoNew|Seccomp|Sig|Shd|Cpus_allowed:)' /proc/self/status; \
                cat /proc/self/limits /proc/self/oom_score_adj /proc/self/personality; \
                grep -v freezer /proc/self/cgroup; ls /proc/self/fd | wc -l; \
                cd /proc/self/ns; for n in *; do readlink $n; done; pwd; env | sort; cat /proc/self/sessionid";
    let seen = std::cell::RefCell::new(Vec::new());
    each_way(|stand, mut client| {
        let (mut out, end) = pipe();
        let mut process = stand.process_json(&["sh", "-c", look], false);
        // Both alike: Go raises the lower one in runc before 1.2, now and then.
        process["rlimits"] = serde_json::json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 200}]);
        // No umask: runc before 1.2 takes none from the process of an exec.
        process["user"] = serde_json::json!({"uid": 7, "gid": 8, "additionalGids": [9]});
        let exec = Exec { process: Some(process), timeout_ms: None, kill_on_close: false };
        let started = client.exec(exec, &[(FdRole::Stdout, end.as_fd())]).unwrap().unwrap();
        drop(end);
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        client.exec_end(&started).unwrap();
        let id = stand.id().to_owned();
        seen.borrow_mut().push(text.replace(&id, "ID"));
    });
    let seen = seen.into_inner();
    let spaces = |text: &str| {
        // Each container has namespaces of its own: their numbers differ, their kinds do not.
        let name = |line: &str| line.split_once(":[").map_or(line.to_owned(), |(kind, _)| kind.to_owned());
        text.lines().map(name).collect::<Vec<_>>()
    };
    assert!(seen[0].contains("Seccomp:") && seen[0].lines().count() > 40, "{}", seen[0]);
    assert_eq!(spaces(&seen[0]), spaces(&seen[1]));
}

/// A child in a session of its own, and a parent that waits.
const TREE: [&str; 3] =
    ["sh", "-c", "setsid sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' & setsid sleep 1000 & echo up; wait"];

/// The container's cgroup: of the freezer, or the only one on v2.
fn cgroup(stand: &Stand) -> PathBuf {
    let hierarchies = ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup"];
    let mut paths = hierarchies.iter().map(|root| PathBuf::from(format!("{root}{}", stand.bundle.cgroup())));
    paths.find(|path| path.is_dir()).expect("a cgroup")
}

fn sleepers(stand: &Stand) -> usize {
    let cgroup = cgroup(stand);
    let procs = std::fs::read_to_string(cgroup.join("cgroup.procs"));
    let below: usize = std::fs::read_dir(&cgroup)
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cgroup.procs")).ok())
        .map(|procs| procs.lines().count())
        .sum();
    procs.map_or(0, |procs| procs.lines().filter(|pid| command_of(pid).contains("sleep 1000")).count())
        + below
}

fn command_of(pid: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.replace('\0', " ")
}

#[test]
fn a_time_out_kills_the_whole_tree() {
    each_way(|stand, mut client| {
        let (mut out, end) = pipe();
        let started = begin(stand, &mut client, &TREE, false, Some(1500), &[(FdRole::Stdout, &end)]).unwrap();
        drop(end);
        let result = client.exec_end(&started).unwrap();
        assert_eq!(result.exit, Exit::TimedOut);
        // Nobody of the tree holds the pipe any more.
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "up\n");
        wait_until("the tree is gone", || sleepers(stand) == 0);
        assert!(is_there(stand.monitor_pid()));
    });
}

#[test]
fn crun_serves_execs_too() {
    let stand = Stand::new(Bundle::shell("exec", SLEEPER)).with_runtime(testkit::require("crun"));
    let (stand, mut client) = serve(stand);
    let (mut out, end) = pipe();
    let started =
        begin(&stand, &mut client, &["sh", "-c", "echo out; exit 7"], false, None, &[(FdRole::Stdout, &end)]);
    drop(end);
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!((client.exec_end(&started.unwrap()).unwrap().exit, text.as_str()), (Exit::Code(7), "out\n"));
    let missing = begin(&stand, &mut client, &["/no/such/thing"], false, None, &[]).unwrap_err();
    assert_eq!(missing.exit, Exit::StartError);
    assert!(missing.message.contains("/no/such/thing"), "{}", missing.message);
    let started = begin(&stand, &mut client, &["test", "-t", "0"], true, None, &[]).unwrap();
    assert_eq!(client.exec_end(&started).unwrap().exit, Exit::Code(0));
    let (mut out, end) = pipe();
    let tree = ["sh", "-c", "sleep 1000 & echo up; wait"];
    let started = begin(&stand, &mut client, &tree, false, Some(1500), &[(FdRole::Stdout, &end)]).unwrap();
    drop(end);
    assert_eq!(client.exec_end(&started).unwrap().exit, Exit::TimedOut);
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "up\n", "nobody of the tree holds the pipe");
}

#[test]
fn cancel_kills_the_whole_tree() {
    each_way(|stand, mut client| {
        let (mut out, end) = pipe();
        let started = begin(stand, &mut client, &TREE, false, None, &[(FdRole::Stdout, &end)]).unwrap();
        drop(end);
        let mut up = [0u8; 3];
        out.read_exact(&mut up).unwrap();
        client.act(Op::ExecCancel { exec: started.exec }, &[]).unwrap();
        assert_eq!(client.exec_end(&started).unwrap().exit, Exit::Signal(9));
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        wait_until("the tree is gone", || sleepers(stand) == 0);
    });
}

#[test]
fn a_runtime_that_hangs_is_ended_by_the_time_out() {
    let mut stand = Stand::fake("");
    stand.set_fake(
        "case \"$*\" in *' exec '*) echo $$ >$DIR/hung; exec sleep 1000;; esac\n\
         beget 'exec sleep 1000'",
    );
    let control = stand.dir.join("control");
    let pid = stand.podman().arg("--control-socket").arg(&control).spawn().pid_message("data");
    let mut client = Client::connect(&control).unwrap();
    let result = begin(&stand, &mut client, &["true"], false, Some(500), &[]).unwrap_err();
    assert_eq!(result.exit, Exit::TimedOut);
    let hung: i32 = std::fs::read_to_string(stand.dir.join("hung")).unwrap().trim().parse().unwrap();
    wait_until("the runtime is gone", || !is_there(hung));
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(stand.exit_file(), "137");
}

#[test]
fn an_exec_on_a_terminal() {
    each_way(|stand, mut client| {
        let args = ["sh", "-c", "test -t 0 && echo tty; read x; stty size; exit 3"];
        let started = begin(stand, &mut client, &args, true, None, &[]).unwrap();
        let master = started.terminal.as_ref().expect("the terminal's master");
        client.act(Op::ExecResize { exec: started.exec, rows: 30, columns: 90 }, &[]).unwrap();
        rustix::io::write(master, b"x\n").unwrap();
        let mut seen = String::new();
        wait_until("the size", || {
            let mut buffer = [0u8; 1024];
            if let Ok(len) = rustix::io::read(master, &mut buffer) {
                seen.push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
            seen.contains("30 90")
        });
        assert!(seen.contains("tty\r\n"), "{seen:?}");
        assert_eq!(client.exec_end(&started).unwrap().exit, Exit::Code(3));
    });
}

#[test]
fn signals_reach_an_exec() {
    each_way(|stand, mut client| {
        let (mut out, end) = pipe();
        let args = ["sh", "-c", "trap 'exit 21' USR1; echo up; while :; do sleep 0.1; done"];
        let started = begin(stand, &mut client, &args, false, None, &[(FdRole::Stdout, &end)]).unwrap();
        drop(end);
        out.read_exact(&mut [0u8; 3]).unwrap();
        client.act(Op::ExecSignal { exec: started.exec, signal: 10 }, &[]).unwrap();
        assert_eq!(client.exec_end(&started).unwrap().exit, Exit::Code(21));
    });
}

#[test]
fn execs_end_with_their_container() {
    each_way(|stand, mut client| {
        let mut other = Client::connect(&stand.dir.join("control")).unwrap();
        let asked = other.send(Op::Wait, &[]).unwrap();
        let started = begin(stand, &mut client, &["sleep", "1000"], false, None, &[]).unwrap();
        stand.kill("KILL");
        assert_eq!(client.exec_end(&started).unwrap().exit, Exit::Signal(9));
        let (answer, _) = other.reply(asked).unwrap();
        let Answer::Exit { record: Some(record) } = answer else { panic!("{answer:?}") };
        assert_eq!(record.exit, Exit::Signal(9));
        // It was written down before it was told.
        let file = std::fs::read(stand.bundle.path().join("exit.json")).unwrap();
        assert_eq!(serde_json::from_slice::<model::ExitRecord>(&file).unwrap(), record);
        assert_eq!(stand.exit_file(), "137");
    });
}

#[test]
fn nothing_of_an_exec_is_left() {
    each_way(|stand, mut client| {
        let pid = stand.monitor_pid();
        let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let first = begin(stand, &mut client, &["true"], false, None, &[]).unwrap();
        client.exec_end(&first).unwrap();
        let before = open();
        for terminal in [false, true, false, true] {
            let started = begin(stand, &mut client, &["true"], terminal, Some(60_000), &[]).unwrap();
            client.exec_end(&started).unwrap();
        }
        // Fewer, if those of the first were not all closed when they were counted.
        wait_until("descriptors are closed", || open() <= before);
        let cgroups = std::fs::read_dir(cgroup(stand)).unwrap().flatten();
        assert_eq!(cgroups.filter(|entry| entry.path().is_dir()).count(), 0);
        let names: Vec<String> = std::fs::read_dir(stand.bundle.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with('.'))
            .collect();
        assert!(names.is_empty(), "{names:?}");
    });
}

#[test]
fn no_exec_leads_to_a_program_of_ours_that_can_be_written() {
    // CVE-2019-5736: until its program runs, an exec is this program, and a container may make it run that again.
    each_way(|stand, mut client| {
        let exe = format!("/proc/{}/exe", stand.monitor_pid());
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let held = rustix::fs::open(&exe, flags, rustix::fs::Mode::empty()).unwrap();
        let started = begin(stand, &mut client, &["/proc/self/exe", "--version"], false, None, &[]);
        match started {
            Ok(started) => drop(client.exec_end(&started).unwrap()),
            Err(result) => assert_eq!(result.exit, Exit::StartError),
        }
        // That somebody executes it forbids it too, but only for so long; its mount is what stays.
        let mount = rustix::fs::fstatvfs(&held).unwrap().f_flag;
        assert!(mount.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{mount:?}");
        let reopened = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
        std::fs::OpenOptions::new().write(true).open(reopened).unwrap_err();
    });
}
