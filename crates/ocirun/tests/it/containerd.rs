//! containerd's shim with wharf-oci in runc's place (`ctr run --runc-binary`): one script with both, and the same answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use testkit::{Runtime, Scratch, install_rootfs, marked_cgroups, wait_for, wait_until};

/// A containerd of the test's own, with its own mounts.
struct Containerd {
    child: Child,
    dir: Scratch,
    rootfs: PathBuf,
    namespace: String,
}

impl Containerd {
    fn start() -> Self {
        let dir = Scratch::new("containerd");
        let rootfs = dir.dir("rootfs");
        install_rootfs(&rootfs);
        let (root, state) = (dir.dir("root"), dir.dir("state"));
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n",
            dir.path().join("socket")
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "containerd", "--config"])
            .arg(dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Self { child, dir, rootfs, namespace: testkit::unique_id("containerd") };
        wait_until("containerd", || daemon.dir.path().join("socket").exists());
        assert!(daemon.ctr(&["version"]).status.success());
        daemon
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.dir.path().join("socket")).args(["--namespace", &self.namespace]);
        ctr.args(args).stdin(Stdio::null());
        ctr
    }

    fn ctr(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// `ctr run` with `runtime`; `more` comes before the container's name.
    fn run(&self, runtime: &Path, more: &[&str], id: &str, line: &str) -> Output {
        let (runtime, rootfs) = (runtime.to_str().unwrap(), self.rootfs.to_str().unwrap());
        let begin = ["run", "--runc-binary", runtime, "--rootfs"];
        self.ctr(&[&begin[..], more, &[rootfs, id, "/bin/sh", "-c", line]].concat())
    }

    /// The state of a task, as `ctr task ls` has it.
    fn state(&self, id: &str) -> Option<String> {
        let text = String::from_utf8(self.ctr(&["task", "ls"]).stdout).unwrap();
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(id))?;
        line.split_whitespace().last().map(str::to_owned)
    }

    fn wait(&self, id: &str, state: &str) {
        wait_until(state, || self.state(id).as_deref() == Some(state));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // One that has ended is what is wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
            testkit::kill_cgroups(&self.namespace);
        }
        // containerd leaves its namespace's cgroup, and the directory where its shims keep the runtime's state.
        for dir in marked_cgroups(&self.namespace) {
            let _ = fs::remove_dir(dir);
        }
        let _ = fs::remove_dir_all(Path::new("/run/containerd/runc").join(&self.namespace));
    }
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A container's life; what each step gives is checked here.
fn life(daemon: &Containerd, runtime: &Path) {
    let id = &testkit::unique_id("shim");
    let plain = daemon.run(runtime, &["--rm"], id, "echo out; echo err >&2; exit 7");
    assert_eq!(told(&plain), (Some(7), "out".to_owned(), "err".to_owned()));

    let detached = daemon.run(runtime, &["--detach"], id, "trap 'exit 5' TERM; while :; do sleep 0.1; done");
    assert_eq!(told(&detached), (Some(0), String::new(), String::new()));
    daemon.wait(id, "RUNNING");
    let exec = |args: &[&str]| told(&daemon.ctr(&[&["task", "exec", "--exec-id", "e", id], args].concat()));
    assert_eq!(exec(&["/bin/sh", "-c", "echo in; exit 3"]), (Some(3), "in".to_owned(), String::new()));
    let metrics = told(&daemon.ctr(&["task", "metrics", id]));
    assert!(metrics.0 == Some(0) && metrics.1.contains("memory"), "{metrics:?}");
    assert_eq!(told(&daemon.ctr(&["task", "pause", id])).0, Some(0));
    daemon.wait(id, "PAUSED");
    assert_eq!(told(&daemon.ctr(&["task", "resume", id])).0, Some(0));
    daemon.wait(id, "RUNNING");
    assert_eq!(told(&daemon.ctr(&["task", "kill", "--signal", "SIGTERM", id])).0, Some(0));
    daemon.wait(id, "STOPPED");
    let removed = told(&daemon.ctr(&["task", "rm", id]));
    assert!(removed.0 == Some(0) && removed.2.contains("non-zero exit code 5"), "{removed:?}");
    assert_eq!(told(&daemon.ctr(&["container", "rm", id])), (Some(0), String::new(), String::new()));

    let none = daemon.run(runtime, &["--rm"], id, "exec /no/such/program");
    assert_eq!(none.status.code(), Some(127), "{none:?}");
    let rootfs = daemon.rootfs.to_str().unwrap();
    let begin = ["run", "--rm", "--runc-binary", runtime.to_str().unwrap(), "--rootfs", rootfs];
    let refused = told(&daemon.ctr(&[&begin[..], &[id, "/no/such/program"]].concat()));
    assert!(refused.0 == Some(1) && refused.2.contains("/no/such/program"), "{refused:?}");
    assert!(refused.2.contains("no such file or directory"), "{refused:?}");
    assert_eq!(daemon.state(id), None);
}

/// Want of memory, as its events tell.
fn want_of_memory(daemon: &Containerd, runtime: &Path) {
    let id = &testkit::unique_id("shim-oom");
    let heard = daemon.dir.path().join(format!("events-{id}"));
    let mut events = daemon.command(&["events"]);
    let mut events = events.stdout(fs::File::create(&heard).unwrap()).spawn().unwrap();
    let text = || fs::read_to_string(&heard).unwrap();
    // Heard as soon as something is: the listener is there.
    let probe = &testkit::unique_id("shim-probe");
    wait_until("events", || {
        daemon.run(runtime, &["--rm"], probe, "true");
        text().contains("/tasks/exit")
    });
    let limit = (16 << 20).to_string();
    // The shim begins to listen when it has started, and stops at the end.
    let line = "sleep 0.5; dd if=/dev/zero of=/dev/null bs=64M count=1; echo dd: $?; sleep 0.5";
    let ended = told(&daemon.run(runtime, &["--rm", "--memory-limit", &limit], id, line));
    assert_eq!((ended.0, ended.1.as_str()), (Some(0), "dd: 137"), "{ended:?}");
    let oom = wait_for("want of memory", || {
        text().lines().find(|line| line.contains("/tasks/oom")).map(str::to_owned)
    });
    assert!(oom.contains(&**id), "{oom}");
    events.kill().unwrap();
    events.wait().unwrap();
}

#[test]
fn containerds_shim_drives_it_as_it_drives_runc() {
    if ["containerd", "ctr", "containerd-shim-runc-v2"].iter().any(|name| testkit::find(name).is_none()) {
        return testkit::not_tested("wharf-oci under containerd's shim: there is no containerd");
    }
    let daemon = Containerd::start();
    for runtime in ["runc", "wharf-oci"].map(Runtime::named) {
        println!("{}", runtime.name());
        life(&daemon, &runtime.path);
        want_of_memory(&daemon, &runtime.path);
    }
}
