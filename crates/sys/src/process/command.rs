//! Starting programs with exactly the descriptors, environment and standing that are stated.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::{Reap, Reaped, wait};
use crate::pidfd::PidFd;
use crate::{Ctx as _, Error, Result};

mod child;

/// The session and process group of a new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Session {
    /// The parent's.
    #[default]
    Inherit,
    /// A new session, and with it a new group (setsid(2)).
    New,
    /// A new session with this descriptor (its number in the new process) as the controlling terminal.
    NewWithTerminal(i32),
    /// A new group in the parent's session (setpgid(2)).
    NewGroup,
}

/// A program to run.
///
/// Nothing is passed on by accident: the environment is empty, descriptors 0, 1 and 2 are `/dev/null`, all
/// others are closed, signals have their usual effects and none is blocked, until stated otherwise.
#[derive(Debug)]
pub struct Command<'a> {
    program: Program<'a>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    fds: Vec<(BorrowedFd<'a>, i32)>,
    cwd: Option<PathBuf>,
    session: Session,
    death_signal: Option<i32>,
    umask: Option<u32>,
    cgroups: Vec<BorrowedFd<'a>>,
}

#[derive(Debug)]
enum Program<'a> {
    Path(PathBuf),
    Fd(BorrowedFd<'a>),
}

impl<'a> Command<'a> {
    /// The program at `path`, or one of this name in this process's `PATH`. It is its own argument 0.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self::of(Program::Path(path.to_owned()), path.as_os_str())
    }

    /// The program that `fd` is open on (execveat(2)), such as a sealed copy, with this argument 0.
    #[must_use]
    pub fn from_fd(fd: BorrowedFd<'a>, arg0: impl AsRef<OsStr>) -> Self {
        Self::of(Program::Fd(fd), arg0.as_ref())
    }

    fn of(program: Program<'a>, arg0: &OsStr) -> Self {
        Self {
            program,
            args: vec![arg0.to_owned()],
            env: Vec::new(),
            fds: Vec::new(),
            cwd: None,
            session: Session::Inherit,
            death_signal: None,
            umask: None,
            cgroups: Vec::new(),
        }
    }

    /// Sets argument 0.
    pub fn arg0(&mut self, arg0: impl AsRef<OsStr>) -> &mut Self {
        self.args[0] = arg0.as_ref().to_owned();
        self
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        let name = name.as_ref();
        self.env.retain(|(other, _)| other != name);
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets all variables of this process, over what was set before.
    pub fn inherit_env(&mut self) -> &mut Self {
        for (name, value) in std::env::vars_os() {
            self.env(name, value);
        }
        self
    }

    /// Passes `fd` as number `target`. A later one for the same number counts.
    pub fn fd(&mut self, fd: BorrowedFd<'a>, target: i32) -> &mut Self {
        self.fds.retain(|(_, other)| *other != target);
        self.fds.push((fd, target));
        self
    }

    /// Passes this process's own 0, 1 and 2.
    pub fn inherit_stdio(&mut self) -> &mut Self {
        // rustix asks for the promise that nobody closes these; std makes the same one.
        self.fd(rustix::stdio::stdin(), 0).fd(rustix::stdio::stdout(), 1).fd(rustix::stdio::stderr(), 2)
    }

    /// Starts it in this directory.
    pub fn cwd(&mut self, path: impl AsRef<Path>) -> &mut Self {
        self.cwd = Some(path.as_ref().to_owned());
        self
    }

    /// Its session and process group.
    pub fn session(&mut self, session: Session) -> &mut Self {
        self.session = session;
        self
    }

    /// The signal it gets when the *thread* that starts it ends (`PR_SET_PDEATHSIG`).
    pub fn death_signal(&mut self, signal: i32) -> &mut Self {
        self.death_signal = Some(signal);
        self
    }

    /// Its umask, else this process's.
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.umask = Some(mask);
        self
    }

    /// Joins a cgroup before it runs: `file` is open for writing on the cgroup's `tasks` or `cgroup.procs`. Once for
    /// each hierarchy.
    pub fn cgroup(&mut self, file: BorrowedFd<'a>) -> &mut Self {
        self.cgroups.push(file);
        self
    }

    /// Starts it. Returns once the program runs.
    ///
    /// # Errors
    /// With the step that failed in the new process, if any: nothing is left of it then.
    pub fn spawn(&self) -> Result<Child> {
        self.start(child::Hold::No)?.release()
    }

    /// Makes the process, which waits just before it would run the program.
    pub fn spawn_stopped(&self) -> Result<Stopped> {
        self.start(child::Hold::Yes)
    }

    fn start(&self, hold: child::Hold) -> Result<Stopped> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .ctx("open", "/dev/null")?;
        let mut fds = self.fds.clone();
        for target in 0..3 {
            if !fds.iter().any(|(_, other)| *other == target) {
                fds.push((null.as_fd(), target));
            }
        }
        let program = match &self.program {
            Program::Path(path) => child::Target::Path(c_string(find(path)?.as_os_str())?),
            Program::Fd(fd) => child::Target::Fd(*fd),
        };
        let env = self.env.iter().map(|(name, value)| {
            let mut entry = name.as_bytes().to_vec();
            entry.push(b'=');
            entry.extend_from_slice(value.as_bytes());
            c_string(&OsString::from_vec(entry))
        });
        let plan = child::Plan {
            program,
            args: self.args.iter().map(|arg| c_string(arg)).collect::<Result<_>>()?,
            env: env.collect::<Result<_>>()?,
            fds,
            cwd: self.cwd.as_ref().map(|path| c_string(path.as_os_str())).transpose()?,
            session: self.session,
            death_signal: self.death_signal,
            umask: self.umask,
            cgroups: self.cgroups.clone(),
            hold,
        };
        let name = self.args[0].to_string_lossy().into_owned();
        let started = child::start(&plan, &name)?;
        Ok(Stopped {
            child: Some(Child { pidfd: started.pidfd }),
            go: started.go,
            report: started.report,
            name,
        })
    }
}

/// A new process that waits to be let run its program. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Stopped {
    child: Option<Child>,
    go: Option<OwnedFd>,
    report: OwnedFd,
    name: String,
}

impl Stopped {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, Child::pid)
    }

    /// Lets it run, and returns once the program does.
    ///
    /// # Errors
    /// With the step that failed in the new process, which is reaped.
    pub fn release(mut self) -> Result<Child> {
        if let Some(go) = self.go.take() {
            // It may have failed before it came to wait: its report tells.
            let _ = rustix::io::write(&go, b"g");
        }
        match child::report(&self.report).ctx("start", &self.name)? {
            None => self.child.take().ok_or_else(|| Error::other("start", &self.name, "already released")),
            Some((step, error)) => Err(Error::new(step, &self.name, error)),
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            // What can't be signalled is dead; what can't be waited for was reaped by somebody else.
            let _ = child.pidfd.signal(libc::SIGKILL);
            let _ = child.wait();
        }
    }
}

/// A process that this one started. Dropped, it runs on: wait for it, or have somebody who reaps all.
#[derive(Debug)]
pub struct Child {
    pidfd: PidFd,
}

impl Child {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pidfd.pid()
    }

    /// Its handle.
    #[must_use]
    pub fn pidfd(&self) -> &PidFd {
        &self.pidfd
    }

    /// The handle alone.
    #[must_use]
    pub fn into_pidfd(self) -> PidFd {
        self.pidfd
    }

    /// Waits until it ends, and reaps it.
    ///
    /// # Errors
    /// `ECHILD` if it was reaped already.
    pub fn wait(&self) -> Result<Reaped> {
        match wait::wait_pid_blocking(self.pid())? {
            Reap::Ended(reaped) => Ok(reaped),
            Reap::Running | Reap::NoChild => {
                Err(Error::new("wait for", self.pid().to_string(), rustix::io::Errno::CHILD))
            }
        }
    }

    /// Waits at most so long until it ends, and reaps it then.
    pub fn wait_within(&self, timeout: Duration) -> Result<Option<Reaped>> {
        if self.pidfd.wait(Some(timeout))? { self.wait().map(Some) } else { Ok(None) }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A program's path: itself if it has a slash, else the first executable of that name in `PATH`.
///
/// # Errors
/// [`Error::is_gone`] if there is none.
pub fn find(program: &Path) -> Result<PathBuf> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return Ok(program.to_owned());
    }
    let path =
        std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into());
    let executable = |candidate: &PathBuf| {
        candidate.is_file() && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
    };
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(executable);
    found.ok_or_else(|| Error::new("find in PATH", program, rustix::io::Errno::NOENT))
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(std::io::Error::from).ctx("pass to a program", text)
}

#[cfg(test)]
mod tests;
