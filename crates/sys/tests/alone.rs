//! Tests that need a process of one thread, or one that may die: this program is its own harness.
//!
//! It speaks as much of libtest's command line as cargo and nextest use.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sys::process::{Command, Fork, Reap, WaitStatus};
use sys::{durable, process};

const TESTS: [(&str, fn()); 6] = [
    ("forked_children_are_reaped", forked_children_are_reaped),
    ("orphans_come_to_the_subreaper", orphans_come_to_the_subreaper),
    ("inherited_descriptors_are_closed", inherited_descriptors_are_closed),
    ("a_forked_child_does_not_release_the_lock", a_forked_child_does_not_release_the_lock),
    ("failpoints_act", failpoints_act),
    ("a_replacement_is_whole_wherever_it_dies", a_replacement_is_whole_wherever_it_dies),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, path] = args.as_slice()
        && mode == "replace"
    {
        std::process::exit(i32::from(durable::replace_path(path, NEW, 0o600).is_err()));
    }
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-') && *arg != "terse").collect();
    let chosen = |name: &str| {
        names.is_empty()
            || names.iter().any(|part| if flag("--exact") { *part == name } else { name.contains(*part) })
    };
    for (name, test) in TESTS.iter().filter(|(name, _)| chosen(name) && !flag("--ignored")) {
        if flag("--list") {
            println!("{name}: test");
        } else {
            test();
            println!("test {name} ... ok");
        }
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

fn temp(what: &str) -> PathBuf {
    let path = PathBuf::from(format!("/tmp/wh-sys-alone-{what}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn forked_children_are_reaped() {
    assert_eq!(process::fork::threads().unwrap(), 1);
    let (reader, writer) = pipe();
    let child = match process::fork().unwrap() {
        Fork::Child => {
            drop(writer);
            let _ = rustix::io::read(&reader, &mut [0; 1]);
            process::exit_now(9);
        }
        Fork::Parent(child) => child,
    };
    assert_eq!(process::wait_pid(child.pid()).unwrap(), Reap::Running);
    assert_eq!(process::wait_any().unwrap(), Reap::Running);
    drop(writer);
    assert!(child.wait(Some(Duration::from_secs(30))).unwrap());
    let Reap::Ended(reaped) = process::wait_any().unwrap() else { panic!("not reaped") };
    assert_eq!((reaped.pid, reaped.status), (child.pid(), WaitStatus::from_raw(9 << 8)));
    assert_eq!(process::wait_any().unwrap(), Reap::NoChild);
    assert_eq!(process::wait_pid(child.pid()).unwrap(), Reap::NoChild);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || wait.recv());
    process::fork().unwrap_err();
    drop(go);
    other.join().unwrap().unwrap_err();
}

fn orphans_come_to_the_subreaper() {
    process::become_subreaper().unwrap();
    let child = Command::new("/bin/sh")
        .args(["-c", "(sleep 0.05; exit 3) & exit 0"])
        .env("PATH", "/usr/bin:/bin")
        .spawn();
    let child = child.unwrap();
    let mut statuses = Vec::new();
    while let Reap::Ended(reaped) = process::wait::wait_any_blocking().unwrap() {
        statuses.push((reaped.pid == child.pid(), reaped.status.code()));
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [(false, Some(3)), (true, Some(0))]);
}

fn inherited_descriptors_are_closed() {
    let (reader, writer) = pipe();
    let (kept_reader, kept_writer) = pipe();
    match process::fork().unwrap() {
        Fork::Child => {
            let keep = [kept_writer.as_raw_fd(), 0, 500];
            let closed = process::close_inherited(3, &keep);
            let open =
                rustix::io::fcntl_getfd(&kept_writer).is_ok() && rustix::io::fcntl_getfd(&writer).is_err();
            // The descriptors that this copy still believes to own are never dropped.
            process::exit_now(i32::from(closed.is_err() || !open));
        }
        Fork::Parent(child) => {
            let Reap::Ended(reaped) = process::wait::wait_pid_blocking(child.pid()).unwrap() else {
                panic!("not reaped")
            };
            assert!(reaped.status.success());
        }
    }
    rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty()).unwrap();
    process::cloexec_from(3).unwrap();
    assert!(rustix::io::fcntl_getfd(&reader).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    drop((writer, kept_reader, kept_writer));
}

fn a_forked_child_does_not_release_the_lock() {
    let dir = temp("lock");
    let path = dir.join("lock");
    let lock = sys::lock::FileLock::acquire(&path).unwrap();
    match process::fork().unwrap() {
        Fork::Child => {
            drop(lock);
            process::exit_now(0);
        }
        Fork::Parent(child) => {
            process::wait::wait_pid_blocking(child.pid()).unwrap();
        }
    }
    assert!(sys::lock::FileLock::try_acquire(&path).unwrap().is_none());
    drop(lock);
    assert!(sys::lock::FileLock::try_acquire(&path).unwrap().is_some());
    durable::remove_tree(&dir).unwrap();
}

const OLD: &[u8] = b"the old content";
const NEW: &[u8] = b"the new content, which is longer";

/// Runs this program's `replace` with these failpoints.
fn replace(path: &Path, failpoints: &str, trace: Option<&Path>) -> WaitStatus {
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new(exe);
    command.args(["replace".as_ref(), path.as_os_str()]).env("WHARF_FAILPOINTS", failpoints);
    if let Some(trace) = trace {
        command.env("WHARF_FAILPOINTS_TRACE", trace);
    }
    command.spawn().unwrap().wait().unwrap().status
}

fn failpoints_act() {
    let dir = temp("failpoints");
    let path = dir.join("f");
    for (failpoints, code, signal) in [
        ("", Some(0), None),
        ("durable.write=error", Some(1), None),
        ("durable.write=error@2", Some(0), None),
        ("durable.write=error@1", Some(1), None),
        ("durable.write=kill", None, Some(libc::SIGKILL)),
        ("durable.write=sleep:1;durable.rename=error", Some(1), None),
        ("other=kill", Some(0), None),
        ("with a typo", Some(1), None),
    ] {
        let status = replace(&path, failpoints, None);
        assert_eq!((status.code(), status.signal()), (code, signal), "{failpoints}");
    }
    let trace = dir.join("trace");
    assert!(replace(&path, "", Some(&trace)).success());
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), "durable.write\ndurable.rename\ndurable.renamed\n");
    durable::remove_tree(&dir).unwrap();
}

fn a_replacement_is_whole_wherever_it_dies() {
    let dir = temp("replace");
    let (path, trace) = (dir.join("f"), dir.join("trace"));
    assert!(replace(&path, "", Some(&trace)).success());
    let names = std::fs::read_to_string(&trace).unwrap();
    assert!(names.lines().count() >= 3);
    for name in names.lines() {
        for how in ["kill", "error"] {
            durable::replace_path(&path, OLD, 0o600).unwrap();
            assert!(!replace(&path, &format!("{name}={how}"), None).success());
            let content = durable::read_bounded(&path, 1000).unwrap();
            assert!(content == OLD || content == NEW, "{name}={how}");
            let temporaries: Vec<PathBuf> = std::fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| durable::temp_owner(path.file_name().unwrap().to_str().unwrap()).is_some())
                .collect();
            assert!(temporaries.len() <= usize::from(how == "kill"), "{name}={how}: {temporaries:?}");
            for temporary in temporaries {
                durable::remove(temporary).unwrap();
            }
        }
    }
    durable::remove_tree(&dir).unwrap();
}
