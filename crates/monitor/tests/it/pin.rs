//! The hidden mode pin, with real namespaces.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use sys::ns::{self, Kind};

use crate::scratch::Scratch;

const MONITOR: &str = env!("CARGO_BIN_EXE_wharf-monitor");

/// Pinned namespaces of a test, unpinned at its end.
struct Pins(Scratch);

impl Pins {
    fn new() -> Self {
        Self(Scratch::tmpfs("pin", 1024))
    }

    fn pin(&self, args: &[&str]) -> Output {
        let dir = self.0.path().to_str().unwrap();
        let args = args.iter().map(|arg| arg.replace("DIR", dir));
        Command::new(MONITOR).arg("pin").args(args).stdin(Stdio::null()).output().unwrap()
    }

    fn pinned(&self, args: &[&str]) {
        let output = self.pin(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for dir in fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if dir.is_dir() {
                fs::read_dir(&dir).unwrap().for_each(|file| ns::unpin(file.unwrap().path()).unwrap());
            } else {
                ns::unpin(dir).unwrap();
            }
        }
    }
}

fn is_own(path: &Path, kind: Kind) -> bool {
    let own = ns::open(i32::try_from(std::process::id()).unwrap(), kind).unwrap();
    ns::same(ns::open_path(path).unwrap().as_fd(), own.as_fd()).unwrap()
}

/// What a program prints in the pinned namespaces.
fn inside(entries: &[(&str, &Path)], command: &[&str]) -> String {
    let mut nsenter = Command::new("nsenter");
    for (option, path) in entries {
        nsenter.arg(format!("--{option}={}", path.display()));
    }
    let output = nsenter.args(command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn as_pinns() {
    let pins = Pins::new();
    let sysctls = ["-s", "net.ipv4.ip_forward=1", "-s", "kernel.shm_rmid_forced=1"];
    let forward = fs::read("/proc/sys/net/ipv4/ip_forward").unwrap();
    pins.pinned(&[&["-d", "DIR", "-f", "a", "-n", "-i", "-u", "-c", "--loopback"][..], &sysctls].concat());
    for kind in [Kind::Net, Kind::Ipc, Kind::Uts, Kind::Cgroup] {
        let path = pins.0.join(&format!("{}ns/a", kind.file()));
        assert!(!is_own(&path, kind), "{kind:?} is new");
    }
    let (net, ipc) = (pins.0.join("netns/a"), pins.0.join("ipcns/a"));
    let entries = [("net", net.as_path()), ("ipc", ipc.as_path())];
    let cat = ["cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shm_rmid_forced"];
    assert_eq!(inside(&entries, &cat), "1\n1\n");
    assert_eq!(fs::read("/proc/sys/net/ipv4/ip_forward").unwrap(), forward, "ours is as it was");
    let devices = inside(&entries[..1], &["cat", "/proc/net/dev"]);
    assert!(devices.contains("lo:"));
    assert!(inside(&entries[..1], &["cat", "/proc/net/fib_trie"]).contains("127.0.0.1"), "loopback is up");
}

#[test]
fn the_hosts_and_a_file_that_is_there() {
    let pins = Pins::new();
    fs::create_dir(pins.0.join("netns")).unwrap();
    fs::write(pins.0.join("netns/a"), "").unwrap();
    pins.pinned(&["-d", "DIR", "-f", "a", "--net=host", "--uts"]);
    assert!(is_own(&pins.0.join("netns/a"), Kind::Net));
    assert!(!is_own(&pins.0.join("utsns/a"), Kind::Uts));
}

#[test]
fn a_process_s() {
    let pins = Pins::new();
    let pid = std::process::id().to_string();
    pins.pinned(&["--at", "net=DIR/x", "--at", "pid=DIR/y", "--pid", &pid]);
    assert!(is_own(&pins.0.join("x"), Kind::Net) && is_own(&pins.0.join("y"), Kind::Pid));
}

#[test]
fn a_user_namespace_owns_the_others() {
    let pins = Pins::new();
    let maps = ["--uid-mapping=0-100000-1000@5000-200000-1@", "--gid-mapping=0-300000-1000"];
    let sysctl = ["-s", "net.ipv4.ping_group_range=0 0"];
    pins.pinned(&[&["-d", "DIR", "-f", "a", "-U", "-n", "-i"][..], &maps, &sysctl].concat());
    let (user, net) = (pins.0.join("userns/a"), pins.0.join("netns/a"));
    let entries = [("user", user.as_path()), ("net", net.as_path())];
    let map = inside(&entries[..1], &["cat", "/proc/self/uid_map"]);
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "1000", "5000", "200000", "1"]);
    assert_eq!(inside(&entries, &["cat", "/proc/sys/net/ipv4/ping_group_range"]).trim(), "0\t0");
    // Only who owns the network namespace through its user namespace may do this.
    inside(
        &entries,
        &["sh", "-c", "ip link set lo up 2>/dev/null || ifconfig lo up || busybox ip link set lo up"],
    );
}

#[test]
fn what_fails_leaves_nothing() {
    let pins = Pins::new();
    let cases: [&[&str]; 4] = [
        &["-d", "DIR", "-f", "a"],
        &["-d", "DIR", "-f", "a", "-n", "-s", "net.no.such=1"],
        // The second file can't be made: its directory is a file.
        &["--at", "net=DIR/x", "--at", "ipc=DIR/blocked/y"],
        &["--at", "net=DIR/x", "--pid", "2147483647"],
    ];
    fs::write(pins.0.join("blocked"), "").unwrap();
    for args in cases {
        let output = pins.pin(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stderr.starts_with(b"wharf-monitor pin: "), "{args:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let prefix = format!("{}/", pins.0.path().display());
        assert!(!mounts.contains(&prefix), "{args:?}: something stays pinned");
    }
    assert!(!pins.0.join("x").exists());
}
