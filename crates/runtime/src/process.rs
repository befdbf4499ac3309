//! Runs a program to its end: bounded in time and output, its error text kept.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::Ctx as _;

use crate::{Error, Result};

/// How long after its end a program's output may still come: a child that keeps the pipe is not waited for.
const LINGER: Duration = Duration::from_millis(200);

/// A program to be run.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// The operation, for errors: "start", "ask version of".
    pub(crate) op: &'static str,
    /// The container or handler, for errors.
    pub(crate) object: &'a str,
    pub(crate) path: &'a Path,
    pub(crate) args: Vec<OsString>,
    pub(crate) stdin: &'a [u8],
    pub(crate) timeout: Duration,
    /// More than this on its standard output is an error.
    pub(crate) stdout_max: usize,
}

/// What a program gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// Its first 64 KiB.
    pub(crate) stderr: Vec<u8>,
}

/// Bytes kept of the standard error.
const STDERR_MAX: usize = 64 << 10;

impl Program<'_> {
    /// Runs it. A program that is not done in its time, or says too much, is killed with SIGKILL.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Invalid`] for too much output, [`Error::Sys`] when it can't be run.
    pub(crate) fn run(&self) -> Result<Ran> {
        let mut command = Command::new(self.path);
        // Not all of ours: a NOTIFY_SOCKET or LISTEN_FDS is not meant for a runtime.
        command.env_clear().envs(passed_env());
        command.args(&self.args).current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        tracing::debug!(program = %self.path.display(), args = ?self.args, "run");
        let mut child = Guard(spawn(&mut command, self.path)?);
        let end = Instant::now() + self.timeout;
        let mut ran = self.feed_and_read(&mut child.0, end)?;
        ran.status = self.reap(&mut child.0, end)?;
        Ok(ran)
    }

    fn feed_and_read(&self, child: &mut Child, end: Instant) -> Result<Ran> {
        let mut input = child.stdin.take();
        let mut out = child.stdout.take();
        let mut err = child.stderr.take();
        for fd in
            [input.as_ref().map(AsFd::as_fd), out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)]
                .into_iter()
                .flatten()
        {
            rustix::io::ioctl_fionbio(fd, true).ctx("set", "non-blocking pipe")?;
        }
        let exited = pidfd(child)?;
        let mut left = self.stdin;
        let mut ran = Ran { status: ExitStatus::default(), stdout: Vec::new(), stderr: Vec::new() };
        let mut end = end;
        let mut ended = false;
        let mut buffer = vec![0; 64 << 10];
        while out.is_some() || err.is_some() {
            let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(4);
            push(&mut fds, input.as_ref().map(AsFd::as_fd), PollFlags::OUT);
            push(&mut fds, out.as_ref().map(AsFd::as_fd), PollFlags::IN);
            push(&mut fds, err.as_ref().map(AsFd::as_fd), PollFlags::IN);
            push(&mut fds, Some(exited.as_fd()).filter(|_| !ended), PollFlags::IN);
            let rest = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(rest).ok();
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) if ended => break,
                Ok(0) => return Err(self.timed_out()),
                Err(rustix::io::Errno::INTR) | Ok(_) => {}
                Err(error) => return Err(error).ctx("poll", self.path)?,
            }
            if input.is_some() {
                match input.as_mut().map_or(Ok(0), |pipe| pipe.write(left)) {
                    Ok(n) => left = left.get(n..).unwrap_or_default(),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    // It does not want to read the rest.
                    Err(_) => left = &[],
                }
                if left.is_empty() {
                    input = None;
                }
            }
            if take(&mut out, &mut buffer, &mut ran.stdout, self.stdout_max)? {
                let cause = format!("writes more than {} bytes", self.stdout_max);
                return Err(Error::invalid(self.op, self.object, cause));
            }
            take(&mut err, &mut buffer, &mut ran.stderr, STDERR_MAX)?;
            if !ended && is_readable(exited.as_fd()) {
                ended = true;
                end = end.min(Instant::now() + LINGER);
            }
        }
        Ok(ran)
    }

    fn reap(&self, child: &mut Child, end: Instant) -> Result<ExitStatus> {
        let exited = pidfd(child)?;
        let rest = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        let mut fds = [PollFd::new(&exited, PollFlags::IN)];
        // A signal that interrupts the wait costs at most the rest of the time once more.
        while let Err(rustix::io::Errno::INTR) = poll(&mut fds, rest.as_ref()) {}
        match child.try_wait().ctx("wait for", self.path)? {
            Some(status) => Ok(status),
            None => Err(self.timed_out()),
        }
    }

    fn timed_out(&self) -> Error {
        Error::Timeout { op: self.op, object: self.object.to_owned(), after: self.timeout }
    }
}

/// Variables of ours that monitors and runtimes get.
pub(crate) fn passed_env() -> impl Iterator<Item = (&'static str, OsString)> {
    const PASSED: [&str; 5] = ["PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SYSTEM_BUS_ADDRESS"];
    PASSED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// Kills and reaps a child that is still there.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            // Either works on our own child; there is nobody to tell if not.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Spawns; a program that is just being written by a process that forked meanwhile (ETXTBSY) is tried again.
pub(crate) fn spawn(command: &mut Command, path: &Path) -> Result<Child> {
    for pause in [1, 2, 5, 10, 20, 50, 100, 200] {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(pause));
            }
            result => return Ok(result.ctx("run", path)?),
        }
    }
    Ok(command.spawn().ctx("run", path)?)
}

fn pidfd(child: &Child) -> Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(std::io::ErrorKind::InvalidInput).map_err(std::io::Error::from);
    let pid = pid.ctx("open", "pidfd of a child")?;
    let flags = rustix::process::PidfdFlags::empty();
    Ok(rustix::process::pidfd_open(pid, flags).ctx("open", "pidfd of a child")?)
}

fn push<'fd>(fds: &mut Vec<PollFd<'fd>>, fd: Option<BorrowedFd<'fd>>, flags: PollFlags) {
    if let Some(fd) = fd {
        fds.push(PollFd::from_borrowed_fd(fd, flags));
    }
}

pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(n) if n > 0)
}

/// Reads what is there, keeps at most `max` bytes, closes at the end. True when there was more.
fn take<R: std::io::Read>(
    pipe: &mut Option<R>,
    buffer: &mut [u8],
    into: &mut Vec<u8>,
    max: usize,
) -> Result<bool> {
    let Some(reader) = pipe else { return Ok(false) };
    match reader.read(buffer) {
        Ok(0) => *pipe = None,
        Ok(n) => {
            let room = max.saturating_sub(into.len()).min(n);
            into.extend_from_slice(buffer.get(..room).unwrap_or_default());
            return Ok(n > room);
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
        Err(error) => return Ok(Err(error).ctx("read", "output of a program")?),
    }
    Ok(false)
}

/// Text that a program wrote, as one line for a message: trimmed, control characters escaped.
pub(crate) fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim()
        .chars()
        .flat_map(|c| {
            let plain = !c.is_control() || matches!(c, '\n' | '\t');
            let escaped = (!plain).then(|| c.escape_default());
            plain.then_some(c).into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// A list of arguments.
pub(crate) fn args<S: AsRef<OsStr>>(list: impl IntoIterator<Item = S>) -> Vec<OsString> {
    list.into_iter().map(|arg| arg.as_ref().to_owned()).collect()
}

/// A program's path when it can be run, else why not.
pub(crate) fn check_program(path: &Path) -> Result<PathBuf, String> {
    let found = crate::config::find_program(path)
        .ok_or_else(|| format!("{}: not beside this program and not in PATH", path.display()))?;
    let meta =
        std::fs::metadata(&found).map_err(|error| sys::Error::new("open", &found, error).to_string())?;
    if !meta.is_file() {
        return Err(format!("{}: not a file", found.display()));
    }
    rustix::fs::access(&found, rustix::fs::Access::EXEC_OK)
        .map_err(|_| format!("{}: not executable", found.display()))?;
    std::path::absolute(&found).map_err(|error| sys::Error::new("resolve", &found, error).to_string())
}
