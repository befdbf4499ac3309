//! A bundle: a directory with a root file system and a config.json.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{Scratch, default_spec, install_rootfs, unique_id};

/// A bundle of the test's own, with an id for its container; gone when dropped.
///
/// What is edited is written at once, so the directory always is what [`Bundle::spec`] says.
#[derive(Debug)]
pub struct Bundle {
    dir: Scratch,
    id: String,
    spec: Value,
}

impl Bundle {
    /// A busybox container that runs `args`, with [`default_spec`].
    pub fn new(what: &str, args: &[&str]) -> Self {
        let dir = Scratch::new(what);
        install_rootfs(&dir.join("rootfs"));
        let bundle = Self { dir, id: unique_id(what), spec: default_spec(args) };
        bundle.write();
        bundle
    }

    /// A container that sleeps until it is told to end: SIGTERM ends it with 0, SIGUSR1 is counted on stdout.
    pub fn sleeper(what: &str) -> Self {
        Self::shell(what, "trap 'exit 0' TERM; trap 'echo usr1' USR1; while :; do sleep 3600 & wait $!; done")
    }

    /// A container that runs a line of shell.
    pub fn shell(what: &str, line: &str) -> Self {
        Self::new(what, &["sh", "-c", line])
    }

    /// Changes config.json.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        self.change(change);
        self
    }

    /// Changes config.json in place.
    pub fn change(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.spec);
        self.write();
    }

    /// Gives the container a pseudo-terminal.
    #[must_use]
    pub fn terminal(self) -> Self {
        self.edit(|spec| spec["process"]["terminal"] = json!(true))
    }

    /// Gives it the cgroup `/wharfinger-test/ID`; for tests that call a runtime directly.
    #[must_use]
    pub fn in_cgroup(self) -> Self {
        let path = self.cgroup();
        self.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path))
    }

    /// Puts the usual seccomp profile on it.
    #[must_use]
    pub fn seccomp(self) -> Self {
        self.edit(|spec| spec["linux"]["seccomp"] = crate::seccomp_profile())
    }

    /// The cgroup that [`Bundle::in_cgroup`] sets.
    pub fn cgroup(&self) -> String {
        format!("/wharfinger-test/{}", self.id)
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bundle directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// What config.json holds.
    pub fn spec(&self) -> &Value {
        &self.spec
    }

    fn write(&self) {
        let path = self.dir.join("config.json");
        let text = serde_json::to_vec_pretty(&self.spec).expect("a JSON value");
        fs::write(&path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}

impl AsRef<Path> for Bundle {
    fn as_ref(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Bundle {
    /// After a failed test the container is killed with its cgroups; after a good one nothing is done, so
    /// that a leak shows.
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::kill_cgroups(&self.id);
        }
    }
}
