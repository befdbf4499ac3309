//! An exec through `conmon -e --sync`: our child, which runs the runtime's exec and holds its streams.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::State;
use sys::Ctx as _;
use sys::pidfd::PidFd;
use sys::process::Child;
use sys::socket::{Blocking, Kind, pair};

use super::group::ExecGroup;
use super::spec;
use crate::attach::connect_in;
use crate::dir::Dir;
use crate::driver::Driver;
use crate::monitor::{Answer, Answers, NoAnswer, Start, messages, parse, parse_pid};
use crate::process::args;
use crate::record::Record;
use crate::request::{ExecRequest, ExecStreams};
use crate::{Container, Error, Result, point};

const OP: &str = "exec";
/// How long the runtime may take to start the program.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a monitor may take to end after its process, or after it was killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A running exec: what must be ended and removed.
#[derive(Debug)]
pub(super) struct Session {
    id: String,
    monitor: Child,
    dir: PathBuf,
    group: ExecGroup,
    pub(super) pid: i32,
    /// Held, if it had not ended before it could be.
    pub(super) process: Option<PidFd>,
    cleaned: AtomicBool,
}

/// A session with its connections.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) session: Session,
    pub(super) answers: Answers,
    pub(super) streams: OwnedFd,
}

/// Starts the program. `given_up` is asked now and then: then everything is undone.
pub(super) fn start(
    container: &Container,
    request: &ExecRequest,
    streams: ExecStreams,
    given_up: &dyn Fn() -> bool,
) -> Result<Started> {
    let record = container.present(OP)?;
    require_running(&record)?;
    let process = spec::process(container.dir(), request, streams)?;
    point("exec.begin")?;
    let dir = make_dir(container, &process)?;
    let (ours_start, theirs_start) = pair(Kind::Stream, Blocking::Yes)?;
    let (ours_attach, theirs_attach) = pair(Kind::Stream, Blocking::Yes)?;
    let driver = container.driver().logging_to(dir.0.join("runtime.log"));
    let group = ExecGroup::make(&record, &dir.name(), &driver.name())?;
    point("exec.group-made")?;
    let spawned = Start {
        monitor: &record.monitor,
        args: monitor_args(&record, &driver, &dir, &group, streams),
        cwd: &dir.0,
        messages: &dir.0.join("monitor.log"),
        cgroups: Vec::new(),
        more: vec![("_OCI_STARTPIPE", theirs_start), ("_OCI_ATTACHPIPE", theirs_attach)],
    }
    .stopped()
    .and_then(|(stopped, sync)| {
        point("exec.before-release")?;
        Ok((stopped.release()?, sync))
    });
    let (monitor, sync) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => {
            // Nothing runs in it: it can be removed.
            let _ = group.remove();
            return Err(error);
        }
    };
    let dir = dir.keep();
    let id = record.id.to_string();
    let cleaned = AtomicBool::new(false);
    let mut session = Session { id, monitor, dir, group, pid: 0, process: None, cleaned };
    let end = Instant::now() + START_TIMEOUT;
    let mut answers = Answers::new(sync);
    let streams = session.talk(&mut answers, ours_start, ours_attach, (end, given_up), &driver)?;
    point("exec.started")?;
    Ok(Started { session, answers, streams })
}

pub(super) fn require_running(record: &Record) -> Result<()> {
    let state = |state| Error::State { op: OP, id: record.id.to_string(), state };
    if record.state != State::Running {
        return Err(state(record.state));
    }
    match record.hold_init()? {
        Some(init) if !init.is_dead()? => Ok(()),
        // It has ended and that will be recorded in a moment.
        _ => Err(state(State::Exited)),
    }
}

/// A directory that is removed unless it is kept.
struct ExecDir(PathBuf, bool);

impl ExecDir {
    fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn keep(mut self) -> PathBuf {
        self.1 = true;
        std::mem::take(&mut self.0)
    }
}

impl Drop for ExecDir {
    fn drop(&mut self) {
        if !self.1 {
            // Goes with the container if not now.
            let _ = sys::durable::remove_tree(&self.0);
        }
    }
}

fn make_dir(container: &Container, process: &[u8]) -> Result<ExecDir> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let start = sys::proc::start_time(i32::try_from(pid).unwrap_or(0)).unwrap_or(0);
    let name = format!("exec-{pid}-{start}-{number}");
    let path = container.dir().file("execs").join(name);
    crate::dir::make_dirs(&path)?;
    let dir = ExecDir(path, false);
    // The environment may hold secrets: for root's eyes only, as the directory.
    let file = dir.0.join("process.json");
    let options = || {
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)
    };
    std::io::Write::write_all(&mut options().ctx("create", &file)?, process).ctx("write", &file)?;
    Ok(dir)
}

/// Ends and removes execs whose callers are dead.
pub(crate) fn sweep(dir: &Dir, record: &Record) -> Result<()> {
    let execs = dir.file("execs");
    let Ok(entries) = std::fs::read_dir(&execs) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.strip_prefix("exec-").unwrap_or_default().splitn(3, '-');
        let pid = parts.next().and_then(|text| text.parse::<i32>().ok());
        let start = parts.next().and_then(|text| text.parse::<u64>().ok());
        if pid.is_some_and(|pid| sys::proc::start_time(pid).ok() == start) {
            continue;
        }
        point("recover.sweep-exec")?;
        for monitor in crate::cleanup::strays(&entry.path()) {
            // It takes its runtime with it. One that has ended is what is wanted.
            let _ = monitor.signal(9);
            monitor.wait(Some(END_TIMEOUT))?;
        }
        super::group::sweep(record, &name, END_TIMEOUT)?;
        sys::durable::remove_tree(entry.path())?;
    }
    Ok(())
}

fn monitor_args(
    record: &Record,
    driver: &Driver,
    dir: &ExecDir,
    group: &ExecGroup,
    streams: ExecStreams,
) -> Vec<OsString> {
    let id = record.id.as_str();
    let session = format!("{id}-{}", dir.name());
    let mut all = args(["--api-version", "1", "--sync", "-e", "--exec-attach", "--full-attach"]);
    all.extend(args(["-c", id, "-u", &session, "-n", id, "-l", "none"]));
    for (flag, value) in [
        ("-r", record.handler.path.clone()),
        ("-b", dir.0.clone()),
        ("-p", dir.0.join("pidfile")),
        ("--exec-process-spec", dir.0.join("process.json")),
        ("--socket-dir-path", dir.0.clone()),
    ] {
        all.push(flag.into());
        all.push(value.into());
    }
    if streams.terminal.is_some() {
        all.push("-t".into());
    }
    if streams.stdin {
        all.push("-i".into());
    }
    for global in driver.globals() {
        let mut arg = OsString::from("--runtime-arg=");
        arg.push(global);
        all.push(arg);
    }
    all.extend(group.runtime_args().into_iter().map(|arg| OsString::from(format!("--runtime-opt={arg}"))));
    all
}

impl Session {
    /// The conversation up to the running program: attach before it runs, so that no output is missed.
    fn talk(
        &mut self,
        answers: &mut Answers,
        start: OwnedFd,
        attach: OwnedFd,
        (end, given_up): (Instant, &dyn Fn() -> bool),
        driver: &Driver,
    ) -> Result<OwnedFd> {
        let no_answer = |this: &Self, why| match why {
            NoAnswer::Timeout if given_up() => Error::Cancelled { op: OP, object: this.id.clone() },
            NoAnswer::Timeout => Error::Timeout { op: OP, object: this.id.clone(), after: START_TIMEOUT },
            NoAnswer::Failed(error) => error,
            NoAnswer::Odd(cause) => this.monitor_error(&format!("answers {cause}")),
            NoAnswer::Silent => this.monitor_error("ended without an answer"),
        };
        rustix::io::write(&start, b"1").ctx("write", "start pipe")?;
        let line = Answers::new(attach).line(end, given_up).map_err(|why| no_answer(self, why))?;
        match parse(&line) {
            Ok((number, _)) if number >= 0 => {}
            Ok((_, message)) => return Err(self.monitor_error(&message)),
            Err(cause) => return Err(self.monitor_error(&format!("answers {cause}"))),
        }
        let streams = connect_in(&self.dir)?;
        point("exec.attached")?;
        rustix::io::write(&start, b"2").ctx("write", "start pipe")?;
        let line = answers.line(end, given_up).map_err(|why| no_answer(self, why))?;
        match parse_pid(&line) {
            Ok(Answer::Pid(pid)) => self.hold(pid),
            Ok(Answer::Failed { message, .. }) => {
                let message = driver
                    .logged()
                    .or_else(|| Some(message).filter(|text| !text.is_empty()))
                    .unwrap_or_else(|| format!("{} failed without a word", driver.name()));
                return Err(Error::runtime(OP, &self.id, message));
            }
            Err(cause) => return Err(self.monitor_error(&format!("answers {cause}"))),
        }
        Ok(streams)
    }

    fn hold(&mut self, pid: i32) {
        self.pid = pid;
        let process = PidFd::open(pid).ok();
        // The monitor has not reaped it, so it is that one.
        let child = sys::proc::stat(pid).is_ok_and(|stat| stat.ppid == self.monitor.pid());
        self.process = process.filter(|_| child);
    }

    fn monitor_error(&self, what: &str) -> Error {
        let said = messages(&self.dir.join("monitor.log"));
        let message = if said.is_empty() { what.to_owned() } else { format!("{what}: {said}") };
        Error::runtime("exec", &self.id, format!("monitor {message}"))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Kills the program with all that it started.
    pub(super) fn kill(&self) {
        self.group.kill(self.process.as_ref());
    }

    /// Waits for the monitor's end, which is near or made so, and removes what the exec had. Once.
    pub(super) fn clean(&self) {
        if self.cleaned.swap(true, Ordering::AcqRel) {
            return;
        }
        if !matches!(self.monitor.wait_within(END_TIMEOUT), Ok(Some(_))) {
            // It takes the runtime with it (PR_SET_PDEATHSIG).
            let _ = self.monitor.pidfd().signal(9);
            let _ = self.monitor.wait();
        }
        for removed in [self.group.remove(), sys::durable::remove_tree(&self.dir).map_err(Into::into)] {
            if let Err(error) = removed {
                tracing::warn!(container = %self.id, %error, "what an exec left goes with its container");
            }
        }
    }

    /// Kills everything and removes it.
    pub(super) fn abort(&self) {
        if self.cleaned.load(Ordering::Acquire) {
            return;
        }
        if self.process.is_none() {
            // The runtime may be about to start it.
            let _ = self.monitor.pidfd().signal(9);
        }
        self.kill();
        self.clean();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abort();
    }
}
