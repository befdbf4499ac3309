//! podman from apt, with conmon and runc from apt, with our monitor and runc, and with our monitor and our runtime: the same
//! list of commands must give the same results.
//!
//! Not tested here, since this needs systemd: `--log-driver journald` (the driver's fields are tested in logs.rs) and the
//! timers of health checks (`podman healthcheck run` is what they call).

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use testkit::{Scratch, Terminal, wait_until};

use crate::stand::MONITOR;

mod long;
mod short;
mod terminal;

/// The image's name.
const IMAGE: &str = "localhost/busybox:1";

/// A podman with storage of its own.
struct Podman {
    dir: Scratch,
    monitor: PathBuf,
    runtime: PathBuf,
}

/// What a command gave.
#[derive(Debug, PartialEq, Eq)]
struct Gave {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Podman {
    fn new(monitor: PathBuf, runtime: PathBuf) -> Self {
        let podman = Self { dir: Scratch::new("pod"), monitor, runtime };
        let rootfs = podman.dir.dir("rootfs");
        testkit::install_rootfs(&rootfs);
        let tar = podman.dir.join("image.tar");
        let made = Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&tar).arg(".").status().unwrap();
        // 1: a file got another hard link while it was read, from a test beside this one.
        assert!(matches!(made.code(), Some(0 | 1)), "tar: {made}");
        let imported = podman.command(&["import", "-q"]).arg(&tar).arg(IMAGE).output().unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        podman
    }

    /// What it works with.
    fn with(&self) -> String {
        format!("{} and {}", self.monitor.display(), self.runtime.display())
    }

    /// podman and the options before its subcommand.
    fn head(&self) -> Vec<String> {
        let at = |name: &str| self.dir.join(name).to_str().unwrap().to_owned();
        let (monitor, runtime) = (self.monitor.to_str().unwrap(), self.runtime.to_str().unwrap());
        [
            "podman",
            "--root",
            &at("root"),
            "--runroot",
            &at("run"),
            "--tmpdir",
            &at("tmp"),
            "--cgroup-manager",
            "cgroupfs",
            "--storage-driver",
            "vfs",
            "--events-backend",
            "file",
            "--runtime",
            runtime,
            "--conmon",
            monitor,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn command(&self, args: &[&str]) -> Command {
        let head = self.head();
        let mut command = Command::new(&head[0]);
        // conmon before 2.1.13 leaves its oom file in the working directory.
        command.args(&head[1..]).args(args).stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    /// `podman run` or `create` with what every container here needs: no network, limits that we may set, a log that needs
    /// no journal.
    fn run_args<'a>(&self, verb: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=2000:2000"];
        let common = [&["--network", "none", "--log-driver", "k8s-file"], &limits[..]].concat();
        [&[verb], &common[..], args].concat()
    }

    fn gave(&self, args: &[&str]) -> Gave {
        self.gave_with(args, "")
    }

    fn gave_with(&self, args: &[&str], stdin: &str) -> Gave {
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // A command that reads no stdin may be gone already.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Gave { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn run(&self, args: &[&str]) -> Gave {
        self.gave(&self.run_args("run", args))
    }

    /// stdout of a command that must succeed.
    fn good(&self, args: &[&str]) -> String {
        let gave = self.gave(args);
        assert_eq!(gave.status, Some(0), "{args:?} with {}: {gave:?}", self.with());
        gave.stdout
    }

    /// Starts a container in the background.
    fn detached(&self, name: &str, args: &[&str]) {
        let all = [&["-d", "--name", name], args].concat();
        self.good(&self.run_args("run", &all));
    }

    fn inspect(&self, name: &str, format: &str) -> String {
        self.good(&["inspect", "--format", format, name]).trim().to_owned()
    }

    /// Waits until a container's log holds `needle`.
    fn wait_log(&self, name: &str, needle: &str) {
        wait_until(&format!("{needle:?} in the log of {name}"), || {
            self.good(&["logs", name]).contains(needle)
        });
    }

    fn wait_state(&self, name: &str, state: &str) {
        wait_until(&format!("{name} to be {state}"), || self.inspect(name, "{{.State.Status}}") == state);
    }

    /// podman on a terminal.
    fn on_terminal(&self, args: &[&str]) -> Terminal {
        let head = self.head();
        let argv: Vec<&str> = head.iter().map(String::as_str).chain(args.iter().copied()).collect();
        Terminal::spawn(&argv, &[])
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "--force", "--all", "--time", "0"]).output();
    }
}

/// Runs `scenario` with conmon and runc, then with our monitor and either runtime, and compares.
fn all<T: PartialEq + std::fmt::Debug>(scenario: impl Fn(&Podman) -> T) -> T {
    testkit::require("podman");
    let (conmon, runc) = (testkit::require("conmon"), testkit::require("runc"));
    let wharf_oci = testkit::Runtime::named("wharf-oci").path;
    let theirs = scenario(&Podman::new(conmon, runc.clone()));
    for runtime in [runc, wharf_oci] {
        let podman = Podman::new(MONITOR.into(), runtime);
        let ours = scenario(&podman);
        assert_eq!(ours, theirs, "left: {}, right: conmon and runc", podman.with());
    }
    theirs
}
