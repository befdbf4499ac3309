//! Execs by the library in containers that runc and crun made, as the monitor makes them.
//!
//! It lists and runs its tests itself, by the protocol of libtest that nextest speaks: one thread is a must.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use model::oci::{Process, Spec};
use ocirun::exec::{Streams, Target};
use ocirun::process::ProcessPlan;
use serde_json::json;
use sys::pidfd::PidFd;
use sys::spawn::SingleThread;
use testkit::{Bundle, Scratch, require};

const TESTS: [(&str, fn()); 3] = [
    ("an_exec_in_a_container_of_runc", || exec_in_a_container_of("runc")),
    ("an_exec_in_a_container_of_crun", || exec_in_a_container_of("crun")),
    ("a_container_that_is_gone_cannot_be_prepared", gone),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|arg| arg == word);
    if has("--list") {
        if !has("--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    for (name, test) in TESTS {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
}

/// A running container of another runtime; deleted when dropped.
struct Foreign {
    runtime: std::path::PathBuf,
    root: Scratch,
    bundle: Bundle,
}

impl Foreign {
    fn start(name: &str) -> Self {
        let foreign = Self {
            runtime: require(name),
            root: Scratch::new("foreignroot"),
            bundle: Bundle::sleeper("foreign").in_cgroup().seccomp(),
        };
        let path = foreign.bundle.path().to_string_lossy().into_owned();
        foreign.call(&["create", "--bundle", &path, foreign.bundle.id()]);
        foreign.call(&["start", foreign.bundle.id()]);
        foreign
    }

    fn call(&self, args: &[&str]) -> String {
        // Into a file: what is created keeps it open.
        let out = self.bundle.path().join("call");
        let status = Command::new(&self.runtime)
            .arg("--root")
            .arg(self.root.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out).unwrap())
            .status()
            .unwrap();
        assert!(status.success(), "{args:?}: {status}");
        std::fs::read_to_string(out).unwrap()
    }

    fn init(&self) -> PidFd {
        let state: serde_json::Value =
            serde_json::from_str(&self.call(&["state", self.bundle.id()])).unwrap();
        PidFd::open(state["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let mut delete = Command::new(&self.runtime);
        delete.arg("--root").arg(self.root.path()).args(["delete", "--force", self.bundle.id()]);
        delete.status().expect("run the runtime");
    }
}

fn process(args: &[&str]) -> ProcessPlan {
    let document = json!({"args": args, "cwd": "/", "env": ["PATH=/bin:/usr/bin"], "noNewPrivileges": true});
    let process: Process = serde_json::from_value(document).unwrap();
    ProcessPlan::new(&process, &mut Vec::new()).unwrap()
}

/// Runs a process to its end: its output and exit status.
fn run(target: &Target, args: &[&str]) -> (String, i32) {
    let (reader, writer) = std::io::pipe().unwrap();
    let streams = Streams { stdio: [None, Some(OwnedFd::from(writer)), None], ..Streams::default() };
    let proof = SingleThread::check().unwrap();
    let process = target.spawn(proof, &process(args), streams, |_, _| Ok(())).unwrap();
    let mut out = String::new();
    let mut reader = reader;
    reader.read_to_string(&mut out).unwrap();
    let sys::process::wait::Reap::Ended(ended) =
        sys::process::wait::wait_pid_blocking(process.pid()).unwrap()
    else {
        panic!("the exec is no child of ours");
    };
    (out, ended.status.code().unwrap_or(-1))
}

fn exec_in_a_container_of(runtime: &str) {
    let foreign = Foreign::start(runtime);
    let config: Spec = serde_json::from_value(foreign.bundle.spec().clone()).unwrap();
    let init = foreign.init();
    let pid = init.pid();
    let target = Target::of_init(foreign.bundle.id(), init, &config, None).unwrap();
    let line = "for n in mnt net ipc uts pid; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; grep ^Seccomp: /proc/self/status; exit 9";
    let own: Vec<_> =
        ["mnt", "net", "pid"].map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap()).into();
    // Prepared once, used again and again.
    for _ in 0..3 {
        let (out, code) = run(&target, &["sh", "-c", line]);
        assert_eq!(code, 9, "{out}");
        for name in ["mnt", "net", "ipc", "uts", "pid"] {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert!(out.contains(&*link.to_string_lossy()), "{name}: {out}");
        }
        for line in std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().lines() {
            assert!(out.contains(line), "{line} is not in {out}");
        }
        assert!(out.contains("Seccomp:\t2"), "{out}");
    }
    let proof = SingleThread::check().unwrap();
    let error =
        target.spawn(proof, &process(&["nonexistent"]), Streams::default(), |_, _| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "exec nonexistent: executable file not found in $PATH");
    // Nothing of all that has moved this process.
    let now: Vec<_> =
        ["mnt", "net", "pid"].map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap()).into();
    assert_eq!(now, own);
    assert!(sys::proc::children(std::process::id().try_into().unwrap()).unwrap().is_empty());
}

fn gone() {
    let mut child = Command::new("true").spawn().unwrap();
    let init = PidFd::open(child.id().try_into().unwrap()).unwrap();
    child.wait().unwrap();
    let config: Spec = serde_json::from_value(testkit::default_spec(&["true"])).unwrap();
    assert!(Target::of_init("gone", init, &config, None).is_err());
}
