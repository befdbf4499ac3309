//! What is done to the cgroup of a container that runs: who is in it, freezing, killing, removing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use sys::Ctx as _;

use super::apply::write;
use super::{Cgroup, Error, impossible, systemd};

/// How long the kernel may take to freeze, and dead processes to leave.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

impl Cgroup {
    /// All processes in it and in the cgroups below.
    ///
    /// # Errors
    /// A file that can't be read. A cgroup that is gone has none.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let Some(directory) = self.main_directory() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        for directory in tree(directory)? {
            let file = directory.join("cgroup.procs");
            match std::fs::read_to_string(&file) {
                Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                // Gone meanwhile, or a threaded cgroup, whose processes are its parent's.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)
                    ) => {}
                Err(error) => return Err(sys::Error::new("read", &file, error).into()),
            }
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Whether it is frozen, or on the way.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        let Some((file, _, _)) = self.freezer() else { return Ok(false) };
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok(matches!(text.trim(), "1" | "FROZEN" | "FREEZING")),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(sys::Error::new("read", &file, error).into()),
        }
    }

    /// Stops all processes where they are and waits until they are stopped.
    ///
    /// # Errors
    /// There is no freezer, or it does not get done in ten seconds; then all go on.
    pub fn freeze(&self) -> Result<(), Error> {
        let Some((file, frozen, thawed)) = self.freezer() else {
            return Err(impossible("freeze cgroup", "the container has no cgroup that can be frozen"));
        };
        let deadline = Instant::now() + PATIENCE;
        write(&file, frozen)?;
        while !self.has_frozen(&file) {
            if Instant::now() > deadline {
                write(&file, thawed)?;
                return Err(impossible(format!("freeze cgroup {}", file.display()), "it takes too long"));
            }
            std::thread::sleep(PAUSE);
            // v1 tries only while it is told to: a process that forked while freezing is missed otherwise.
            if !self.unified {
                write(&file, frozen)?;
            }
        }
        Ok(())
    }

    /// Lets all processes go on.
    ///
    /// # Errors
    /// There is no freezer.
    pub fn thaw(&self) -> Result<(), Error> {
        match self.freezer() {
            Some((file, _, thawed)) => Ok(write(&file, thawed)?),
            None => Err(impossible("thaw cgroup", "the container has no cgroup that can be frozen")),
        }
    }

    /// Sends `signal` to all processes in it. SIGKILL leaves nobody out, also those that are just being made.
    ///
    /// # Errors
    /// The processes can't be listed, or one can't be signalled.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let kill = self.directory("").filter(|_| self.unified).map(|directory| directory.join("cgroup.kill"));
        if let Some(kill) = kill.filter(|kill| signal == Signal::KILL && kill.exists()) {
            return Ok(write(&kill, "1")?);
        }
        let was_frozen = self.is_frozen()?;
        // Frozen processes neither fork nor end, so that the list stays true while it is used.
        let frozen = was_frozen || self.freeze().is_ok();
        let result = self.signal_each(signal);
        // A killed process dies only when it may go on.
        if frozen && (!was_frozen || signal == Signal::KILL) {
            self.thaw()?;
        }
        result
    }

    fn signal_each(&self, signal: Signal) -> Result<(), Error> {
        for pid in self.pids()? {
            let Some(process) = Pid::from_raw(pid) else { continue };
            match rustix::process::kill_process(process, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(sys::Error::new("kill", pid.to_string(), error).into()),
            }
        }
        Ok(())
    }

    /// Removes it and what the container made below. It must have no living processes; dying ones are waited for.
    ///
    /// # Errors
    /// All that could not be removed: the rest is removed all the same.
    pub fn remove(&self) -> Result<(), Error> {
        let mut first = Ok(());
        if let Some(unit) = &self.unit
            && let Err(error) = systemd::stop(unit)
        {
            first = Err(error.into());
        }
        for path in self.distinct() {
            let result = remove_tree(path);
            if first.is_ok() {
                first = result;
            }
        }
        first
    }

    /// Whether any of its directories is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.paths.values().any(|path| path.exists())
    }

    /// The file, and what freezes and thaws.
    fn freezer(&self) -> Option<(PathBuf, &'static str, &'static str)> {
        if self.unified {
            Some((self.directory("")?.join("cgroup.freeze"), "1", "0"))
        } else {
            Some((self.directory("freezer")?.join("freezer.state"), "FROZEN", "THAWED"))
        }
    }

    fn has_frozen(&self, file: &Path) -> bool {
        let (file, wanted) = if self.unified {
            (file.with_file_name("cgroup.events"), "frozen 1")
        } else {
            (file.to_owned(), "FROZEN")
        };
        std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.trim() == wanted))
    }
}

/// `top` and the cgroups below it, each before its children. Empty if it is gone.
fn tree(top: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut all = Vec::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => continue,
            Err(error) => return Err(sys::Error::new("read", &path, error).into()),
        };
        for entry in entries {
            let Ok(entry) = entry else { break };
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
        }
        all.push(path);
    }
    Ok(all)
}

fn remove_tree(top: &Path) -> Result<(), Error> {
    // Mostly there is nothing below and nobody in it.
    if gone(rustix::fs::rmdir(top)) {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut last = Ok(());
        for path in tree(top)?.iter().rev() {
            let result = rustix::fs::rmdir(path);
            if !gone(result) {
                last = result.ctx("rmdir", path);
            }
        }
        match last {
            Ok(()) => return Ok(()),
            Err(error) if error.errno() != Some(libc::EBUSY) || Instant::now() > deadline => {
                return Err(error.into());
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn gone(result: rustix::io::Result<()>) -> bool {
    matches!(result, Ok(()) | Err(Errno::NOENT))
}
