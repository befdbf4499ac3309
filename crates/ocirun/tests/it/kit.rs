//! Runs wharf-oci on bundles, each test with a state root of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::{Bundle, Scratch, wait_until};

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    /// Panics unless the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Panics unless it failed with one line that has `words` in it.
    #[track_caller]
    pub(crate) fn fails(self, words: &str) -> Self {
        assert_ne!(self.code, 0, "{self:?}");
        assert_eq!(self.err.trim_end().lines().count(), 1, "{self:?}");
        assert!(self.err.contains(words), "{words:?} is not in {self:?}");
        self
    }
}

/// A state root, with the containers that were made in it.
#[derive(Debug)]
pub(crate) struct Oci {
    root: Scratch,
    program: PathBuf,
    systemd: bool,
}

impl Oci {
    pub(crate) fn new() -> Self {
        Self {
            root: Scratch::new("ociroot"),
            program: env!("CARGO_BIN_EXE_wharf-oci").into(),
            systemd: false,
        }
    }

    /// With cgroups that systemd makes.
    pub(crate) fn with_systemd() -> Self {
        let mut oci = Self::new();
        oci.systemd = true;
        oci
    }

    /// With a copy of the program that no other test runs.
    pub(crate) fn with_own_program() -> Self {
        let mut oci = Self::new();
        let copy = oci.root.join("wharf-oci");
        // By another program: what this process has open for writing could not be executed by all of its threads.
        let status = Command::new("cp").arg(&oci.program).arg(&copy).status().expect("run cp");
        assert!(status.success(), "cp: {status}");
        oci.program = copy;
        oci
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.root.join("state")
    }

    /// `verb` of the bundle under strace, which has the arguments `strace`.
    pub(crate) fn under_strace(&self, strace: &[&str], verb: &str, bundle: &Bundle) -> Command {
        let mut command = Command::new(testkit::require("strace"));
        command.arg("-f").args(strace).arg(&self.program).arg("--root").arg(self.root());
        command.args([verb, "--bundle"]).arg(bundle.path()).arg(bundle.id());
        command
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.root()).stdin(Stdio::null());
        if self.systemd {
            command.arg("--systemd-cgroup");
        }
        command
    }

    /// Runs a command whose processes all end with it.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        let output = self.command().args(args).output().expect("run wharf-oci");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// `run` in the foreground.
    pub(crate) fn run_bundle(&self, bundle: &Bundle) -> Outcome {
        self.run(&["run", "--bundle", &bundle.path().to_string_lossy(), bundle.id()])
    }

    /// `create`, with the container's output in a file of the bundle.
    pub(crate) fn create_with(&self, bundle: &Bundle, options: &[&str]) -> Outcome {
        let out = File::create(bundle.path().join("out")).expect("make out");
        let err = File::create(bundle.path().join("err")).expect("make err");
        let status = self
            .command()
            .args(["create", "--bundle", &bundle.path().to_string_lossy()])
            .args(options)
            .arg(bundle.id())
            .stdout(out)
            .stderr(err)
            .status()
            .expect("run wharf-oci");
        let read = |name| fs::read_to_string(bundle.path().join(name)).expect("read output");
        Outcome { code: status.code().unwrap_or(-1), out: read("out"), err: read("err") }
    }

    /// A created container; deleted when dropped.
    pub(crate) fn create<'a>(&'a self, bundle: &'a Bundle) -> Container<'a> {
        self.create_with(bundle, &[]).ok();
        Container { oci: self, bundle }
    }

    /// A running container; deleted when dropped.
    pub(crate) fn start<'a>(&'a self, bundle: &'a Bundle) -> Container<'a> {
        let container = self.create(bundle);
        self.run(&["start", bundle.id()]).ok();
        container
    }
}

impl Drop for Oci {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            self.run(&["delete", "--force", &entry.file_name().to_string_lossy()]);
        }
    }
}

/// A container that is deleted when dropped.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    pub(crate) oci: &'a Oci,
    pub(crate) bundle: &'a Bundle,
}

impl Container<'_> {
    pub(crate) fn id(&self) -> &str {
        self.bundle.id()
    }

    pub(crate) fn state(&self) -> Value {
        let state = self.oci.run(&["state", self.id()]).ok();
        serde_json::from_str(&state.out).expect("the state as JSON")
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a pid")
    }

    pub(crate) fn wait_for_status(&self, status: &str) {
        wait_until(&format!("{} to be {status}", self.id()), || self.status() == status);
    }

    pub(crate) fn exec(&self, options: &[&str], args: &[&str]) -> Outcome {
        let mut all = vec!["exec"];
        all.extend(options);
        all.push(self.id());
        all.extend(args);
        self.oci.run(&all)
    }

    /// What the container has written to its standard output.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.bundle.path().join("out")).expect("read out")
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.oci.run(&["delete", "--force", self.id()]);
    }
}

/// The value of a field of /proc/PID/status.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

/// Whether anything named after the container is left of it.
pub(crate) fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("read cgroups").flatten() {
        let path = hierarchy.path().join(id);
        if path.exists() {
            found.push(path);
        }
    }
    found
}

/// Whether `path` is a mount point here.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}
