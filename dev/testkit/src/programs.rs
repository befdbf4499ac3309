//! The programs under test and their peers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The workspace's root directory, as it was when this crate was compiled.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The directory of our static programs `wharf-monitor` and `wharf-oci`.
///
/// `WHARF_PROGRAMS` names it; without, it is the workspace's `target/static`, where they are built (once,
/// under a lock) if they are missing or older than their sources.
pub fn programs() -> PathBuf {
    if let Some(dir) = std::env::var_os("WHARF_PROGRAMS") {
        return dir.into();
    }
    let dir = workspace().join("target/static");
    if stale(&dir) {
        locked(&cache().join("build.lock"), || {
            if stale(&dir) {
                build();
            }
        });
    }
    dir
}

/// The path of one of our static programs.
pub fn program(name: &str) -> PathBuf {
    let path = programs().join(name);
    assert!(path.is_file(), "{}: not there: run `cargo xtask build`", path.display());
    path
}

fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--package", "xtask", "--", "build"])
        .current_dir(workspace())
        .status()
        .unwrap_or_else(|error| panic!("run cargo: {error}"));
    assert!(status.success(), "cargo xtask build: {status}");
}

fn stale(dir: &Path) -> bool {
    let built = ["wharf-monitor", "wharf-oci"].iter().map(|name| modified(&dir.join(name))).min().flatten();
    let Some(built) = built else { return true };
    let root = workspace();
    let sources = ["model", "sys", "monitor", "ocirun"].iter().map(|name| root.join("crates").join(name));
    sources.chain([root.join("Cargo.lock")]).filter_map(|path| newest(&path)).any(|time| time > built)
}

fn newest(path: &Path) -> Option<SystemTime> {
    if path.file_name().is_some_and(|name| name == "tests") {
        return None;
    }
    if path.is_dir() {
        let entries = fs::read_dir(path).ok()?.flatten();
        return entries.filter_map(|entry| newest(&entry.path())).max();
    }
    modified(path)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// The directory for what all tests of a user on this machine share.
pub(crate) fn cache() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let dir = PathBuf::from(format!("/tmp/.wharf-testkit-{uid}"));
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("mkdir {}: {error}", dir.display()));
    dir
}

/// Does something while holding a lock file.
pub(crate) fn locked<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    let file = File::create(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    file.lock().unwrap_or_else(|error| panic!("lock {}: {error}", path.display()));
    work()
}

/// An OCI runtime to test with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// The reference runtime.
    Runc,
    /// The one in C.
    Crun,
    /// Ours.
    WharfOci,
}

/// A monitor to test with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorKind {
    /// The stock one.
    Conmon,
    /// Ours.
    WharfMonitor,
}

/// A runtime and where it is.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Which.
    pub kind: RuntimeKind,
    /// Its program.
    pub path: PathBuf,
}

/// A monitor and where it is.
#[derive(Debug, Clone)]
pub struct Monitor {
    /// Which.
    pub kind: MonitorKind,
    /// Its program.
    pub path: PathBuf,
}

impl Runtime {
    /// The runtime by its name: `runc`, `crun` or `wharf-oci`.
    pub fn named(name: &str) -> Self {
        match name {
            "runc" => Self { kind: RuntimeKind::Runc, path: require("runc") },
            "crun" => Self { kind: RuntimeKind::Crun, path: require("crun") },
            "wharf-oci" => Self { kind: RuntimeKind::WharfOci, path: program("wharf-oci") },
            other => panic!("WHARF_TEST_RUNTIME={other}: want runc, crun or wharf-oci"),
        }
    }

    /// The name, as in `WHARF_TEST_RUNTIME`.
    pub fn name(&self) -> &'static str {
        match self.kind {
            RuntimeKind::Runc => "runc",
            RuntimeKind::Crun => "crun",
            RuntimeKind::WharfOci => "wharf-oci",
        }
    }
}

impl Monitor {
    /// The monitor by its name: `conmon` or `wharf-monitor`.
    pub fn named(name: &str) -> Self {
        match name {
            "conmon" => Self { kind: MonitorKind::Conmon, path: require("conmon") },
            "wharf-monitor" => Self { kind: MonitorKind::WharfMonitor, path: program("wharf-monitor") },
            other => panic!("WHARF_TEST_MONITOR={other}: want conmon or wharf-monitor"),
        }
    }

    /// The name, as in `WHARF_TEST_MONITOR`.
    pub fn name(&self) -> &'static str {
        match self.kind {
            MonitorKind::Conmon => "conmon",
            MonitorKind::WharfMonitor => "wharf-monitor",
        }
    }
}

/// The runtime that this run of the suite is for: `WHARF_TEST_RUNTIME`, else runc.
pub fn runtime_under_test() -> Runtime {
    Runtime::named(&std::env::var("WHARF_TEST_RUNTIME").unwrap_or_else(|_| "runc".to_owned()))
}

/// The monitor that this run of the suite is for: `WHARF_TEST_MONITOR`, else conmon.
pub fn monitor_under_test() -> Monitor {
    Monitor::named(&std::env::var("WHARF_TEST_MONITOR").unwrap_or_else(|_| "conmon".to_owned()))
}

/// The cgroup manager that this run of the suite is for: `WHARF_TEST_CGROUP_MANAGER`, else `cgroupfs`;
/// the other is `systemd`.
pub fn cgroup_manager_under_test() -> String {
    std::env::var("WHARF_TEST_CGROUP_MANAGER").unwrap_or_else(|_| "cgroupfs".to_owned())
}

/// The path of a tool that the test can't do without.
///
/// # Panics
/// With the name of the Debian package, if it is not installed.
pub fn require(tool: &str) -> PathBuf {
    find(tool).unwrap_or_else(|| {
        panic!("{tool}: not installed: `dev/setup.sh test`, or `apt-get install {}`", package(tool))
    })
}

/// The path of a tool, if it is installed.
pub fn find(tool: &str) -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"];
    std::env::split_paths(&dirs)
        .chain(more.iter().map(PathBuf::from))
        .map(|dir| dir.join(tool))
        .find(|path| path.is_file())
}

fn package(tool: &str) -> &str {
    match tool {
        "busybox" => "busybox-static",
        "setsid" | "unshare" | "nsenter" => "util-linux",
        "ip" => "iproute2",
        other => other,
    }
}
