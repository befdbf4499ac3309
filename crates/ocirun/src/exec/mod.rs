//! Execs: a further process in a container that is there. Prepared once per container, one clone per exec.
//!
//! ```text
//! prepare: init's pidfd, the namespaces that are not ours, its cgroups' files, the filter   (once)
//! spawn:   join the pid namespace, clone, go back                                           (each)
//!   child: cgroup → oom_score_adj → setns by pidfd → session, terminal, keyring → settle → run
//! ```
//! Used by `exec` and, in its own process, by the monitor, for containers of any runtime whose init's pidfd it has.

mod child;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::oci::{Process, Spec};
use rustix::fs::{Mode, OFlags};
use sys::pidfd::PidFd;
use sys::socket::{Blocking, Kind as SocketKind};
use sys::spawn::{self, Cloned, SingleThread};
use sys::{Ctx as _, Error as SysError};

use crate::cgroup::Layout;
use crate::error::{Error, Result};
use crate::mempolicy::MemoryPolicy;
use crate::namespaces::Kind;
use crate::process::ProcessPlan;
use crate::seccomp::{Cache, Filter};
use crate::start::{follow, listener};

/// A container that execs can be made in.
#[derive(Debug)]
pub struct Target {
    init: PidFd,
    /// Namespaces that are not ours, without the pid namespace.
    namespaces: i32,
    /// Whether its pid namespace is not ours; then how to come back from it.
    own_pids: Option<OwnedFd>,
    user_namespace: bool,
    /// Its root directory, where its mount namespace is ours.
    root: Option<OwnedFd>,
    cgroup: CgroupFiles,
    filter: Option<Filter>,
    keyring: Option<String>,
    memory_policy: Option<MemoryPolicy>,
}

/// Files by which a process joins a cgroup.
#[derive(Debug, Default)]
pub struct CgroupFiles {
    /// The v2 directory: joined by the clone itself.
    pub(crate) unified: Option<OwnedFd>,
    /// Directories of v1 with their `tasks`: who writes 0 there moves itself, which spares the kernel its great lock.
    pub(crate) tasks: Vec<(PathBuf, OwnedFd)>,
}

impl CgroupFiles {
    /// Opens the files of these directories.
    ///
    /// # Errors
    /// The system's.
    pub fn open<'a>(directories: impl Iterator<Item = &'a Path>) -> Result<Self> {
        let mut files = Self::default();
        let mut seen: Vec<&Path> = Vec::new();
        for directory in directories {
            if seen.contains(&directory) {
                continue;
            }
            seen.push(directory);
            let dir = rustix::fs::open(
                directory,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .ctx("open", directory)?;
            match rustix::fs::openat(&dir, "tasks", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => files.tasks.push((directory.to_owned(), file)),
                Err(rustix::io::Errno::NOENT) => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    files.unified =
                        Some(rustix::fs::open(directory, flags, Mode::empty()).ctx("open", directory)?);
                }
                Err(error) => return Err(SysError::new("open", directory.join("tasks"), error).into()),
            }
        }
        Ok(files)
    }

    /// Moves this process; where `below` has a cgroup below one of these, only into that.
    pub(crate) fn enter(&self, below: Option<&Self>) -> sys::Result<()> {
        let below = below.map_or(&[][..], |below| &below.tasks);
        let above = self.tasks.iter().filter(|(dir, _)| !below.iter().any(|(own, _)| own.starts_with(dir)));
        for (_, file) in above.chain(below) {
            rustix::io::write(file, b"0").ctx("join", "cgroup")?;
        }
        Ok(())
    }
}

/// What an exec is given, besides its process.
#[derive(Debug, Default)]
pub struct Streams {
    /// Standard input, output and error; what is absent stays as it is here.
    pub stdio: [Option<OwnedFd>; 3],
    /// Gets the master of the terminal, if the process has one.
    pub console: Option<OwnedFd>,
    /// How many descriptors from 3 on are the program's.
    pub kept: u32,
}

impl Target {
    /// Prepares execs in the container whose init is `init` and whose configuration is `config`; `cgroups` are its
    /// directories, one for each hierarchy.
    ///
    /// # Errors
    /// Init is gone; the system's; a filter that can't be compiled.
    pub fn prepare(
        id: &str,
        init: PidFd,
        config: &Spec,
        cgroups: &[PathBuf],
        cache: Option<&Cache>,
    ) -> Result<Self> {
        let profile = config.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let filter = profile.map(|profile| Filter::prepare(profile, cache)).transpose()?;
        let pid = init.pid();
        let mut namespaces = 0;
        let mut own_pids = None;
        for kind in Kind::ALL {
            if !differs(pid, kind)? {
                continue;
            }
            if kind == Kind::Pid {
                own_pids = Some(open(&format!("/proc/self/ns/{}", kind.file()))?);
            } else {
                namespaces |= kind.flag();
            }
        }
        let root = if namespaces & libc::CLONE_NEWNS == 0 {
            let path = format!("/proc/{pid}/root");
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Some(rustix::fs::open(&path, flags, Mode::empty()).ctx("open", path)?)
        } else {
            None
        };
        if init.is_dead()? {
            return Err(Error::State {
                op: "exec in",
                id: id.to_owned(),
                cause: "container not running".to_owned(),
            });
        }
        Ok(Self {
            init,
            namespaces,
            own_pids,
            user_namespace: namespaces & libc::CLONE_NEWUSER != 0,
            root,
            cgroup: CgroupFiles::open(cgroups.iter().map(PathBuf::as_path))?,
            filter,
            keyring: Some(format!("_ses.{id}")),
            memory_policy: config.linux.as_ref().map(MemoryPolicy::new).transpose()?.flatten(),
        })
    }

    /// [`Target::prepare`] for a container of any runtime: the cgroups are those that init is in.
    ///
    /// # Errors
    /// As [`Target::prepare`].
    pub fn of_init(id: &str, init: PidFd, config: &Spec, cache: Option<&Cache>) -> Result<Self> {
        let cgroups = cgroups_of(init.pid())?;
        Self::prepare(id, init, config, &cgroups, cache)
    }

    /// For a process that has joined the container's pid namespace and can't go back.
    pub(crate) fn joined(mut self) -> Self {
        self.own_pids = None;
        self
    }

    /// Leaves the session keyring alone.
    #[must_use]
    pub fn without_keyring(mut self) -> Self {
        self.keyring = None;
        self
    }

    /// Starts a process, and comes back when its program has been executed. It is a child of this process.
    ///
    /// `notify` gets the notify descriptor and the pid, if the container's filter has a listener.
    ///
    /// # Errors
    /// The step that failed, as [`Error::Step`] where it was one of the new process; that has ended then.
    pub fn spawn(
        &self,
        proof: SingleThread,
        plan: &ProcessPlan,
        streams: Streams,
        notify: impl FnMut(OwnedFd, i32) -> Result<()>,
    ) -> Result<PidFd> {
        let begun = self.begin(proof, plan, streams, None)?;
        let told = crate::error::point("oci.exec.cloned").and_then(|()| begun.hear(plan, notify));
        if told.is_err() {
            // Its error is the one that counts; the process must not outlive it.
            drop(begun.process.signal(libc::SIGKILL));
            sys::process::wait::wait_pid_blocking(begun.process.pid())?;
        }
        told.map(|()| begun.process)
    }

    /// Clones a process, which goes on by itself; [`Begun::follow`] tells how far it got. It joins the container's
    /// cgroups, and then `own`, a cgroup below one of them.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(
        &self,
        proof: SingleThread,
        plan: &ProcessPlan,
        streams: Streams,
        own: Option<&CgroupFiles>,
    ) -> Result<Begun> {
        crate::error::point("oci.exec.begin")?;
        let (near, far) = sys::socket::pair(SocketKind::SeqPacket, Blocking::Yes)?;
        let unified = own.and_then(|own| own.unified.as_ref()).or(self.cgroup.unified.as_ref());
        if self.own_pids.is_some() {
            spawn::setns(self.init.as_fd(), Kind::Pid.flag()).ctx("join", "pid namespace")?;
        }
        let mut cloned = spawn::clone(proof, 0, unified.map(AsFd::as_fd));
        if matches!(&cloned, Err(error) if error.raw_os_error() == Some(libc::EBUSY)) {
            // The container has made cgroups below its own (v2), which takes no process then: where init is now.
            let moved = cgroups_of(self.init.pid())
                .and_then(|now| CgroupFiles::open(now.iter().map(PathBuf::as_path)));
            if let Ok(CgroupFiles { unified: Some(unified), .. }) = &moved {
                cloned = spawn::clone(proof, 0, Some(unified.as_fd()));
            }
        }
        if let Ok(Cloned::Child) = cloned {
            child::run(self, plan, streams, own, far);
        }
        if let Some(back) = &self.own_pids {
            spawn::setns(back, Kind::Pid.flag()).ctx("go back to", "pid namespace")?;
        }
        drop((far, streams));
        let Cloned::Parent { pid, pidfd } = cloned.ctx("clone", "exec")? else { spawn::exit_now(1) };
        let raise = self.user_namespace && !plan.rlimits.is_empty();
        Ok(Begun { process: PidFd::from_fd(pidfd, pid), socket: near, raise })
    }

    /// Whether the container's filter has a listener: then [`Begun::follow`] can't serve the process.
    #[must_use]
    pub fn has_listener(&self) -> bool {
        self.filter.as_ref().is_some_and(Filter::has_listener)
    }
}

/// A process between its clone and its program.
#[derive(Debug)]
pub struct Begun {
    process: PidFd,
    socket: OwnedFd,
    /// Its limits are still to be raised from outside.
    raise: bool,
}

impl AsFd for Begun {
    /// Readable when [`Begun::follow`] gets on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Begun {
    /// The process, a child of this one.
    #[must_use]
    pub fn process(&self) -> &PidFd {
        &self.process
    }

    /// Goes on as far as it gets without waiting: true once the program has been executed.
    ///
    /// # Errors
    /// The step that failed; the process ends by itself then.
    pub fn follow(&mut self, plan: &ProcessPlan) -> Result<bool> {
        while sys::poll::readable(&self.socket, Some(Duration::ZERO)).ctx("poll", "the process's socket")? {
            if !std::mem::take(&mut self.raise) {
                return follow(&self.socket, |_| Err(Error::Step("its filter has a listener".to_owned())))
                    .map(|()| true);
            }
            self.raise_limits(plan)?;
        }
        Ok(false)
    }

    fn hear(&self, plan: &ProcessPlan, mut notify: impl FnMut(OwnedFd, i32) -> Result<()>) -> Result<()> {
        if self.raise {
            self.raise_limits(plan)?;
        }
        let told = |number| listener(&self.process, number).and_then(|fd| notify(fd, self.process.pid()));
        follow(&self.socket, told)
    }

    /// Only from outside can they be raised; the process waits for it.
    fn raise_limits(&self, plan: &ProcessPlan) -> Result<()> {
        if let Err(text) = crate::init::expect_or_error(&self.socket, b'r')? {
            return Err(Error::Step(text));
        }
        for limit in &plan.rlimits {
            crate::become_program::set_rlimit(Some(self.process.pid()), limit)?;
        }
        Ok(crate::init::send(&self.socket, b"r")?)
    }
}

/// Gives `process` what it leaves out and its container has, as runc does for a process of an exec: capabilities, limits,
/// labels, `oom_score_adj`, I/O priority, scheduling, processors.
pub fn inherit(process: &mut Process, config: &Spec) {
    let Some(init) = &config.process else { return };
    if process.capabilities.is_none() {
        process.capabilities.clone_from(&init.capabilities);
    }
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&init.rlimits);
    }
    for (wanted, given) in [
        (&mut process.apparmor_profile, &init.apparmor_profile),
        (&mut process.selinux_label, &init.selinux_label),
    ] {
        if wanted.as_deref().is_none_or(str::is_empty) {
            wanted.clone_from(given);
        }
    }
    if process.oom_score_adj.is_none() {
        process.oom_score_adj = init.oom_score_adj;
    }
    if process.io_priority.is_none() {
        process.io_priority.clone_from(&init.io_priority);
    }
    if process.scheduler.is_none() {
        process.scheduler.clone_from(&init.scheduler);
    }
    if process.exec_cpu_affinity.is_none() {
        process.exec_cpu_affinity.clone_from(&init.exec_cpu_affinity);
    }
}

/// The directories of the cgroups that a process is in, one for each hierarchy that is mounted here.
///
/// # Errors
/// The system's.
pub fn cgroups_of(pid: i32) -> Result<Vec<PathBuf>> {
    let lines = sys::proc::cgroups(pid)?;
    let at = |mount: &Path, controller: &str| {
        let has = |names: &[String]| {
            names.iter().any(|name| name == controller) || controller.is_empty() && names.is_empty()
        };
        let line = lines.iter().find(|line| has(&line.controllers))?;
        Some(mount.join(line.path.trim_start_matches('/')))
    };
    let mut found: Vec<PathBuf> = match Layout::detect()? {
        Layout::V2 { root, .. } => at(&root, "").into_iter().collect(),
        Layout::V1 { hierarchies } => {
            hierarchies.iter().filter_map(|one| at(&one.mount, &one.controller)).collect()
        }
    };
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn open(path: &str) -> Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ctx("open", path)?)
}

/// Whether the process is in another namespace of this kind than we are.
fn differs(pid: i32, kind: Kind) -> Result<bool> {
    let identity = |path: String| match rustix::fs::stat(&path) {
        Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
        // A kernel without this kind.
        Err(rustix::io::Errno::NOENT) if Path::new(&format!("/proc/{pid}")).exists() => Ok(None),
        Err(error) => Err(SysError::new("stat", path, error)),
    };
    Ok(identity(format!("/proc/self/ns/{}", kind.file()))?
        != identity(format!("/proc/{pid}/ns/{}", kind.file()))?)
}
