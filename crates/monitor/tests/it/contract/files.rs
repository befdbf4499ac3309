//! Contract §6: exit files, the exit record, the exit command, oom files.

use std::os::unix::fs::MetadataExt as _;

use model::{Exit, ExitRecord, Oom};
use testkit::wait_until;

use crate::stand::Stand;

const SLEEPER: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

#[test]
fn exit_files_hold_the_bare_status() {
    for (line, status) in
        [("exit 0", "0"), ("exit 7", "7"), ("exit 255", "255"), ("kill -9 $$; sleep 9", "137")]
    {
        // As pid 1 it can't kill itself: a child does, and the shell returns its status.
        let line = if status == "137" { "sh -c 'kill -9 $$'; exit $?" } else { line };
        let stand = Stand::shell(line);
        assert_eq!(stand.run(stand.podman()), status);
        assert_eq!(std::fs::read_to_string(stand.dir.join("persist/exit")).unwrap(), status);
        let metadata = std::fs::metadata(stand.dir.join("exits").join(stand.id())).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o644);
        assert_eq!(
            std::fs::read_dir(stand.dir.join("exits")).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let stand = Stand::shell(SLEEPER);
    stand.podman().spawn().pid_message("data");
    stand.start();
    stand.kill("KILL");
    assert_eq!(stand.exit_file(), "137");
}

#[test]
fn the_exit_file_is_never_seen_empty() {
    use rustix::fs::inotify;
    let stand = Stand::shell("exit 12");
    stand.podman().spawn().pid_message("data");
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(
        &watch,
        stand.dir.join("exits"),
        inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO,
    )
    .unwrap();
    stand.start();
    stand.exit_file();
    let mut space = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut space);
    loop {
        let event = events.next().unwrap();
        let name = event.file_name().unwrap().to_str().unwrap();
        if name == stand.id() {
            assert!(event.events().contains(inotify::ReadFlags::MOVED_TO), "it came by a rename");
            break;
        }
        assert!(name.starts_with('.'), "{name} looks like an id");
    }
}

#[test]
fn without_directories_nothing_is_written() {
    let stand = Stand::shell("exit 3");
    let call = stand.podman().without("--exit-dir", 1).without("--persist-dir", 1);
    call.spawn().pid_message("data");
    let pid = stand.monitor_pid();
    stand.start();
    stand.wait_gone(pid);
    assert!(!stand.has_exit_file());
}

#[test]
fn the_exit_record_tells_more() {
    let stand = Stand::shell("exit 7");
    let control = stand.dir.join("control");
    let monitor = stand.podman().arg("--control-socket").arg(&control).spawn();
    let pid = monitor.pid_message("data");
    assert!(control.exists(), "the socket is there before the pid is told");
    stand.start();
    stand.exit_file();
    let text = std::fs::read(stand.bundle.path().join("exit.json")).expect("written before the exit file");
    let record: ExitRecord = serde_json::from_slice(&text).unwrap();
    assert_eq!((record.version, record.id.as_str(), record.pid), (1, stand.id(), pid));
    assert_eq!((record.exit, record.oom), (Exit::Code(7), Oom::None));
    assert!(record.finished_ns > 1_700_000_000_000_000_000 && record.boottime_ns > 0);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(record.boot_id, boot_id.trim());
    assert!(record.usage.max_rss_kib > 0);
    stand.wait_gone(stand.monitor_pid());
    assert!(!control.exists());
}

#[test]
fn without_our_option_there_is_no_record() {
    let stand = Stand::shell("exit 7");
    stand.run(stand.podman());
    assert!(!stand.bundle.path().join("exit.json").exists());
}

/// Leaves behind how it was called.
fn exit_command(stand: &Stand, end: &str) -> std::path::PathBuf {
    testkit::script(
        &stand.dir,
        "exit-command",
        &format!(
            "#!/bin/sh\ncd {}\nprintf '[%s]' \"$@\" >called.tmp\nls /proc/$$/fd >fds\nls exits >seen\n\
             readlink /proc/$$/fd/2 >stdout\nmv called.tmp called\n{end}\n",
            stand.dir.path().display()
        ),
    )
}

#[test]
fn the_exit_command_runs_at_the_very_end() {
    let stand = Stand::shell("exit 3");
    let command = exit_command(&stand, "");
    let (_read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let call = stand.podman().arg("--exit-command").arg(&command).pass(write, 9);
    let call =
        call.args(["--exit-command-arg", "--root", "--exit-command-arg", "", "--exit-command-arg=a b"]);
    assert_eq!(stand.run(call), "3");
    let read = |name: &str| std::fs::read_to_string(stand.dir.join(name)).unwrap();
    assert_eq!(read("called"), "[--root][][a b]");
    assert_eq!(read("seen").trim(), stand.id(), "the exit file is there");
    assert_eq!(read("stdout").trim(), "/dev/null");
    // The shell holds its script open as 10 or so.
    let fds = read("fds");
    assert!(!fds.lines().any(|fd| ["3", "9", "20"].contains(&fd)), "{fds}");
    assert!(!stand.bundle.path().join("attach").exists(), "the attach socket is gone");
}

#[test]
fn the_exit_command_runs_also_after_a_failure_and_its_status_counts() {
    let stand = Stand::fake("exit 1");
    let command = exit_command(&stand, "exit 42");
    let monitor = stand.podman().arg("--sync").arg("--exit-command").arg(&command).spawn();
    assert_eq!(monitor.message().unwrap()["data"], -1);
    assert_eq!(monitor.first(), 42);
    assert!(stand.dir.join("called").exists() && !stand.has_exit_file());
}

#[test]
fn the_exit_command_waits_its_delay() {
    let stand = Stand::fake("beget 'exit 0'");
    let command = exit_command(&stand, "");
    let monitor = stand.podman().arg("--exit-command").arg(&command).args(["--exit-delay", "2"]).spawn();
    monitor.pid_message("data");
    stand.exit_file();
    let told = std::time::Instant::now();
    wait_until("the exit command", || stand.dir.join("called").exists());
    assert!(told.elapsed() > std::time::Duration::from_secs(1));
}

#[test]
fn a_monitor_refuses_to_be_lost() {
    let stand = Stand::fake("beget 'exec sleep 30'");
    let monitor =
        stand.podman().without("--conmon-pidfile", 1).args(["--conmon-pidfile", "/no/such/dir/pid"]).spawn();
    assert_eq!(monitor.first(), 1);
}

/// Two processes: the shell, and a greedy child of it.
const GREEDY_CHILD: &str = "dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; exit 4";
const GREEDY_INIT: &str = "exec dd if=/dev/zero of=/dev/null bs=100M count=1";

fn limited(line: &str) -> Stand {
    Stand::new(testkit::Bundle::shell("oom", line).edit(|spec| {
        spec["linux"]["resources"]["memory"] = serde_json::json!({ "limit": 33_554_432_u64 });
    }))
}

#[test]
fn oom_files_and_who_was_killed() {
    for (line, exit, oom) in [
        (GREEDY_CHILD, Exit::Code(4), Oom::Child),
        (GREEDY_INIT, Exit::Signal(9), Oom::Init),
        ("exit 5", Exit::Code(5), Oom::None),
    ] {
        let stand = limited(line);
        stand.run(stand.podman().arg("--control-socket").arg(stand.dir.join("control")));
        let record = std::fs::read(stand.bundle.path().join("exit.json")).unwrap();
        let record: ExitRecord = serde_json::from_slice(&record).unwrap();
        assert_eq!((record.exit, record.oom), (exit, oom), "{line}");
        for file in [stand.dir.join("persist/oom"), stand.bundle.path().join("oom")] {
            assert_eq!(file.exists(), oom != Oom::None, "{line}: {}", file.display());
        }
    }
}

#[test]
fn a_kill_after_a_childs_oom_is_not_taken_for_one() {
    let line =
        "dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo done; while :; do sleep 0.1; done";
    let stand = limited(line);
    stand.podman().arg("--control-socket").arg(stand.dir.join("control")).spawn().pid_message("data");
    stand.start();
    wait_until("the child's death", || stand.log_lines() == ["stdout F done"]);
    wait_until("the oom file", || stand.dir.join("persist/oom").exists());
    // A kill that follows at once can't be told from the kernel's.
    std::thread::sleep(std::time::Duration::from_secs(3));
    stand.kill("KILL");
    stand.exit_file();
    let record: ExitRecord =
        serde_json::from_slice(&std::fs::read(stand.bundle.path().join("exit.json")).unwrap()).unwrap();
    assert_eq!((record.exit, record.oom), (Exit::Signal(9), Oom::Child));
}
