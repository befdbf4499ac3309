//! The hidden mode pause, as the first process of a pid namespace.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sys::proc;

const MONITOR: &str = env!("CARGO_BIN_EXE_wharf-monitor");

/// `unshare`, below which the pause process runs.
struct Pod(Child);

impl Pod {
    fn start() -> (Self, i32) {
        let unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", MONITOR, "pause"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pod = Self(unshare);
        let parent = i32::try_from(pod.0.id()).unwrap();
        let mut pid = 0;
        wait("the pause process", || {
            pid = proc::children(parent).unwrap_or_default().first().copied().unwrap_or(0);
            pid > 0 && proc::stat(pid).is_ok_and(|stat| stat.comm == "pause")
        });
        (pod, pid)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn reaps_orphans() {
    let (_pod, pid) = Pod::start();
    for _ in 0..20 {
        let inside = Command::new("nsenter")
            .args(["-t", &pid.to_string(), "-p", "sh", "-c", "(sleep 0.05 &) ; (true &)"])
            .status()
            .unwrap();
        assert!(inside.success());
    }
    wait("orphans to be reaped", || proc::children(pid).unwrap().is_empty());
}

#[test]
fn ends_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut pod, pid) = Pod::start();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        assert_eq!(pod.0.wait().unwrap().code(), Some(0), "{signal:?}");
    }
}
