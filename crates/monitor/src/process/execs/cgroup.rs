//! A cgroup below the container's for one exec, so that all it begets can be killed.
//!
//! v2: a child of the container's cgroup. v1 and hybrid: one in the freezer hierarchy, where freezing stops the
//! begetting while the members are killed.

use std::io;
use std::path::{Path, PathBuf};

use sys::pidfd::PidFd;

use super::super::libc_signals::KILL;
use super::super::oom::{cgroup_path, is_unified};

/// How often the freezer is asked whether it has frozen all.
const FREEZE_TRIES: u32 = 200;

#[derive(Debug)]
enum Version {
    V1,
    V2,
}

/// It exists from [`make`](Self::make) until [`remove`](Self::remove) succeeds.
#[derive(Debug)]
pub(super) struct ExecCgroup {
    dir: PathBuf,
    version: Version,
    option: String,
    gone: bool,
}

impl ExecCgroup {
    /// Makes `name` below the cgroup that the process `pid` is in.
    pub(super) fn make(pid: i32, name: &str) -> io::Result<Self> {
        sys::fail::point("monitor.exec.cgroup")?;
        let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let root = Path::new("/sys/fs/cgroup");
        let unified = is_unified(root)?;
        let path = path(&membership, unified)
            .ok_or_else(|| io::Error::other("the container has no cgroup of its own that can be killed"))?;
        let (dir, version, option) = if unified {
            (root.join(path), Version::V2, name.to_owned())
        } else {
            (root.join("freezer").join(path), Version::V1, format!("freezer:{name}"))
        };
        let dir = dir.join(name);
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Self { dir, version, option, gone: false }),
        }
    }

    /// Its directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `exec --cgroup` is told.
    pub(super) fn option(&self) -> &str {
        &self.option
    }

    /// Kills all its members. Who can't be killed now is killed by the next call.
    pub(super) fn kill(&self) {
        match self.version {
            Version::V2 if std::fs::write(self.dir.join("cgroup.kill"), "1").is_ok() => {}
            Version::V2 => self.kill_members(),
            Version::V1 => {
                let state = self.dir.join("freezer.state");
                let frozen = std::fs::write(&state, "FROZEN").is_ok();
                for _ in 0..if frozen { FREEZE_TRIES } else { 0 } {
                    if std::fs::read_to_string(&state).is_ok_and(|state| state.trim() == "FROZEN") {
                        break;
                    }
                    std::thread::yield_now();
                }
                self.kill_members();
                if frozen && let Err(error) = std::fs::write(&state, "THAWED") {
                    crate::message::warning(format_args!("thaw {}: {error}", self.dir.display()));
                }
            }
        }
    }

    fn kill_members(&self) {
        // So many at once are held open.
        for some in self.members().chunks(256) {
            let held: Vec<PidFd> = some.iter().filter_map(|&pid| PidFd::open(pid).ok()).collect();
            // Whose pid is in there still was not another's when it was opened.
            let still = self.members();
            for process in held.iter().filter(|process| still.contains(&process.pid())) {
                // Gone is as good as killed.
                let _ = process.signal(KILL);
            }
        }
    }

    fn members(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Removes it; false if it has members still.
    pub(super) fn remove(&mut self) -> bool {
        self.gone = self.gone
            || match std::fs::remove_dir(&self.dir) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
        self.gone
    }
}

impl Drop for ExecCgroup {
    fn drop(&mut self) {
        // With members left it goes with the container's, which the runtime removes.
        self.remove();
    }
}

/// In the root nobody but the container should be killed, and others are there: no path for that.
fn path(membership: &str, unified: bool) -> Option<&str> {
    cgroup_path(membership, unified, "freezer").filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cgroup_of_its_own() {
        let hybrid = "4:freezer:/wharfinger/c1\n0::/\n";
        assert_eq!(path(hybrid, false), Some("wharfinger/c1"));
        assert_eq!(path(hybrid, true), None);
        assert_eq!(path("4:freezer:/\n", false), None);
        assert_eq!(path("0::/a/b\n", true), Some("a/b"));
    }
}
