//! Execs asked for over the control socket: cloned by ourselves where we can (`inside`), else by the handler's `exec`
//! as our child; with the client's pipes.
//!
//! ```text
//! asked ─┬► cloned ───────┬► process runs ─► reaped ─► told
//!        └► runtime runs ─┘     └ time-out, cancel: the exec's own cgroup is killed, then reaped
//!             └ fails: told with its words
//! ```
//! One that is killed and does not end, as it is frozen, is told after [`kill::PATIENCE`], and reaped when it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::Exit;
use sys::solo::{Launch, Reaped};

use super::session::{Session, send_signal};
use super::stdio::{self, ConsoleSocket};
use super::{finish, libc_signals::KILL};
use crate::control::{ExecKey, ExecRequest, ExecResult};
use crate::message;
use crate::poll::{Kind, Ready, Token};

mod cgroup;
pub(crate) mod command;
mod inside;
mod kill;

use cgroup::ExecCgroup;
use inside::{Inside, Way};
use kill::{Killed, kill_tree};

#[derive(Debug)]
struct Exec {
    request: ExecRequest,
    /// The runtime while it runs, else 0.
    runtime: i32,
    /// The process once it is known, else 0.
    pid: i32,
    /// The process is ours and has not executed its program yet.
    way: Option<Way>,
    /// Why it did not begin: told when it is reaped.
    failed: Option<String>,
    /// The runtime's.
    pidfile: PathBuf,
    log: Option<OwnedFd>,
    console: Option<ConsoleSocket>,
    terminal: Option<OwnedFd>,
    cgroup: Option<ExecCgroup>,
    deadline: Option<Instant>,
    /// It is being killed: what its end is then called.
    killed: Option<Killed>,
    /// Since when, and how long until it is killed again.
    killed_since: Option<(Instant, Duration)>,
}

/// The execs that run.
#[derive(Debug, Default)]
pub(super) struct Execs {
    running: BTreeMap<u32, Exec>,
    inside: Inside,
    /// The runtime was found not to know `exec --cgroup`.
    no_cgroup: bool,
    /// cgroups of execs that have ended but left processes.
    left_over: Vec<ExecCgroup>,
    /// Those whose end was told although they run.
    told: BTreeSet<u32>,
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is no such exec")
}

impl Execs {
    pub(super) fn any(&self) -> bool {
        !self.running.is_empty()
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.running.values().filter_map(|exec| exec.deadline).min()
    }

    pub(super) fn terminal(&self, key: ExecKey) -> io::Result<&OwnedFd> {
        let exec = self.running.get(&key.0).ok_or_else(gone)?;
        exec.terminal.as_ref().ok_or_else(|| io::Error::other("the exec has no terminal"))
    }

    pub(super) fn pid(&self, key: ExecKey) -> io::Result<i32> {
        match self.running.get(&key.0) {
            Some(exec) if exec.pid > 0 => Ok(exec.pid),
            Some(_) => Err(io::Error::other("the exec has not begun yet")),
            None => Err(gone()),
        }
    }
}

impl Session<'_> {
    pub(super) fn begin_exec(&mut self, key: ExecKey, request: ExecRequest) -> io::Result<()> {
        sys::fail::point("monitor.exec.begin")?;
        let deadline = request.timeout.map(|timeout| Instant::now() + timeout);
        let request = match self.clone_exec(key, request, deadline) {
            Cloning::Done(exec) => {
                self.execs.running.insert(key.0, *exec);
                return Ok(());
            }
            Cloning::Not(request) => request,
        };
        let cgroup = if self.execs.no_cgroup { None } else { self.exec_cgroup(key) };
        let exec = self.launch_exec(key, request, cgroup, deadline)?;
        self.execs.running.insert(key.0, exec);
        Ok(())
    }

    /// Clones the process from ourselves.
    fn clone_exec(&mut self, key: ExecKey, mut request: ExecRequest, deadline: Option<Instant>) -> Cloning {
        if self.execs.inside.ready(self.settled.args, self.pid).is_none() {
            return Cloning::Not(request);
        }
        let cgroup = self.exec_cgroup(key);
        let Inside::Ready(prepared) = &self.execs.inside else { return Cloning::Not(request) };
        let begun = sys::fail::point("monitor.exec.before-clone")
            .map_err(|error| error.to_string())
            .and_then(|()| prepared.begin(&mut request, cgroup.as_ref(), self.settled.oom_score_adj));
        let mut exec = Exec::new(request, cgroup, deadline);
        match begun {
            Ok((pid, way)) => {
                if let Err(error) = self.poll.add(way.watched(), Token::nth(Kind::Exec, key.0), Ready::IN) {
                    exec.failed = Some(format!("watch exec: {error}"));
                    send_signal(pid, KILL);
                }
                (exec.pid, exec.way) = (pid, Some(way));
                // Only the process holds the client's pipes from here on: their end is its end.
                exec.request.process = Vec::new();
                self.children.await_pid(pid);
            }
            Err(error) => exec.failed = Some(error),
        }
        Cloning::Done(Box::new(exec))
    }

    /// The process that we cloned has told something.
    fn follow(&mut self, key: u32) {
        let Some(exec) = self.execs.running.get_mut(&key) else { return };
        let Some(way) = &mut exec.way else { return };
        let followed = match way.follow() {
            Ok(false) => return,
            Ok(true) => way.terminal().map_err(|error| format!("receive terminal: {error}")),
            Err(error) => Err(error),
        };
        // It is closed just below, which ends the watch as well.
        let _ = self.poll.remove(way.watched());
        exec.way = None;
        match followed {
            Ok(terminal) if exec.failed.is_none() => {
                exec.terminal = terminal;
                let pid = exec.pid;
                self.tell_started(key, pid);
            }
            Ok(_) => {}
            Err(error) => {
                exec.failed.get_or_insert(error);
                // It ends by itself, unless it runs without the terminal that nobody got.
                send_signal(exec.pid, KILL);
            }
        }
    }

    fn exec_cgroup(&self, key: ExecKey) -> Option<ExecCgroup> {
        match ExecCgroup::make(self.pid, &format!("wharf-exec-{}", key.0)) {
            Ok(cgroup) => Some(cgroup),
            Err(error) => {
                message::debug(format_args!("make a cgroup for exec {}: {error}", key.0));
                None
            }
        }
    }

    fn launch_exec(
        &mut self,
        key: ExecKey,
        request: ExecRequest,
        cgroup: Option<ExecCgroup>,
        deadline: Option<Instant>,
    ) -> io::Result<Exec> {
        let args = self.settled.args;
        let directory = args.bundle.clone().unwrap_or_else(std::env::temp_dir);
        let pidfile = directory.join(format!(".exec-{}.pid", key.0));
        let process = sys::memfd::sealed("wharf-exec-process", &request.process).map_err(io::Error::other)?;
        let log = rustix::fs::memfd_create("wharf-exec-log", rustix::fs::MemfdFlags::CLOEXEC)?;
        let console =
            if request.terminal { Some(ConsoleSocket::make().map_err(io::Error::other)?) } else { None };
        if let Some(console) = &console {
            self.poll.add(console.watched(), Token::nth(Kind::Exec, key.0), Ready::IN)?;
        }
        let line = command::line(
            args,
            &pidfile,
            cgroup.as_ref().map(ExecCgroup::option),
            console.as_ref().map(ConsoleSocket::path),
        );
        let null = stdio::dev_null().map_err(io::Error::other)?;
        let given = request.stdio.each_ref().map(|fd| fd.as_ref().filter(|_| !request.terminal));
        let stdio = given.map(|fd| Some(fd.map_or(null.as_fd(), OwnedFd::as_fd)));
        sys::fail::point("monitor.exec.before-launch")?;
        let runtime = Launch::new(&args.runtime, &line)?
            .stdio(stdio)
            .pass_only(vec![process.as_fd(), log.as_fd()])
            .oom_score_adj(self.settled.oom_score_adj)
            .die_with_parent()
            .start()?;
        self.children.keep_all();
        self.children.await_pid(runtime);
        let exec = Exec::new(request, cgroup, deadline);
        Ok(Exec { runtime, pidfile, log: Some(log), console, ..exec })
    }

    /// What exec `index` is watched by is ready: its error pipe, or its console socket.
    pub(super) fn exec_ready(&mut self, index: u32) {
        self.follow(index);
        let Some(exec) = self.execs.running.get_mut(&index) else { return };
        let Some(console) = &mut exec.console else { return };
        // What is watched may become another descriptor; it is added again below.
        let _ = self.poll.remove(console.watched());
        match console.receive().0 {
            Ok(Some(master)) => {
                if let Err(error) = stdio::prepare_terminal(&master) {
                    message::warning(format_args!("prepare terminal of exec {index}: {error}"));
                }
                exec.terminal = Some(master);
                exec.console = None;
                return;
            }
            Ok(None) => {}
            Err(error) => message::debug(format_args!("receive terminal of exec {index}: {error}")),
        }
        let token = Token::nth(Kind::Exec, index);
        if let Err(error) = self.poll.add(console.watched(), token, Ready::IN) {
            message::warning(format_args!("watch console socket of exec {index}: {error}"));
        }
    }

    /// Moves each exec on as far as it gets: after each turn of the loop.
    #[inline(never)]
    pub(super) fn serve_execs(&mut self) {
        if !self.execs.any() {
            return;
        }
        let now = Instant::now();
        let keys: Vec<u32> = self.execs.running.keys().copied().collect();
        for key in keys {
            self.runtime_ended(key);
            self.process_ended(key);
            let Some(exec) = self.execs.running.get_mut(&key) else { continue };
            if exec.deadline.is_some_and(|at| at <= now) {
                exec.killed.get_or_insert(Killed::TimedOut);
                kill_tree(exec);
            }
            if let Some(killed) = exec.killed
                && exec.lingers(now)
                && !self.execs.told.contains(&key)
            {
                let words = "it was killed and has not ended: it is frozen, or waits for a device".to_owned();
                self.tell_ended(key, killed.exit(), words, model::Usage::default());
                self.execs.told.insert(key);
            }
        }
    }

    fn runtime_ended(&mut self, key: u32) {
        let Some(exec) = self.execs.running.get(&key) else { return };
        if exec.runtime == 0 {
            return;
        }
        let Some(ended) = self.children.take(exec.runtime) else { return };
        // The terminal was sent before the end, and may not have been seen yet.
        self.exec_ready(key);
        self.exec_ready(key);
        let Some(exec) = self.execs.running.get_mut(&key) else { return };
        exec.runtime = 0;
        let pid =
            std::fs::read_to_string(&exec.pidfile).ok().and_then(|text| text.trim().parse::<i32>().ok());
        // Nobody else knows of it; what can't be removed goes with the bundle.
        let _ = std::fs::remove_file(&exec.pidfile);
        exec.pid = pid.filter(|&pid| pid > 0).unwrap_or(0);
        match Some(exec.pid).filter(|&pid| pid > 0 && ended.exit == Exit::Code(0)) {
            Some(pid) => {
                // Only the process itself holds the client's pipes from here on: their end is its end.
                exec.request.stdio = [None, None, None];
                exec.request.process = Vec::new();
                self.children.await_pid(pid);
                self.children.keep_awaited();
                self.tell_started(key, pid);
            }
            None => {
                self.children.keep_awaited();
                self.exec_failed(key, &ended);
            }
        }
    }

    fn tell_started(&mut self, key: u32, pid: i32) {
        let terminal = self.execs.running.get(&key).and_then(|exec| exec.terminal.as_ref());
        let terminal = terminal.and_then(|master| master.try_clone().ok());
        self.with_control(|control, _, poll| {
            control.exec_started(ExecKey(key), pid, terminal.as_ref().map(OwnedFd::as_fd), poll);
        });
    }

    fn exec_failed(&mut self, key: u32, ended: &Reaped) {
        let Some(mut exec) = self.execs.running.remove(&key) else { return };
        let words = exec.log.as_ref().map(command::words).unwrap_or_default();
        if exec.killed.is_some() {
            // What the runtime has begotten while it was killed.
            kill_tree(&mut exec);
        }
        if exec.cgroup.is_some() && exec.killed.is_none() && command::knows_no_cgroup(&words) {
            message::debug("the runtime's exec knows no --cgroup");
            self.execs.no_cgroup = true;
            match self.launch_exec(ExecKey(key), exec.request, None, exec.deadline) {
                Ok(again) => drop(self.execs.running.insert(key, again)),
                Err(error) => self.tell_ended(key, Exit::StartError, error.to_string(), ended.usage),
            }
            return;
        }
        let exit = exec.killed.map_or(Exit::StartError, |killed| killed.exit());
        let words = if words.is_empty() {
            format!("{}: {:?}", self.settled.args.runtime.display(), ended.exit)
        } else {
            words
        };
        self.tell_ended(key, exit, words, ended.usage);
    }

    fn process_ended(&mut self, key: u32) {
        let Some(exec) = self.execs.running.get(&key) else { return };
        if exec.pid == 0 {
            if exec.runtime == 0 {
                // Not even cloned.
                let exec = self.execs.running.remove(&key);
                let words = exec.and_then(|exec| exec.failed).unwrap_or_default();
                self.tell_ended(key, Exit::StartError, words, model::Usage::default());
            }
            return;
        }
        let Some(ended) = self.children.take(exec.pid) else { return };
        // What it has said before its end.
        self.follow(key);
        let Some(mut exec) = self.execs.running.remove(&key) else { return };
        if let (Some(words), None) = (exec.failed.take(), exec.killed) {
            return self.tell_ended(key, Exit::StartError, words, ended.usage);
        }
        let exit = match exec.killed {
            Some(killed) => {
                // Its children may have been born while it was killed.
                kill_tree(&mut exec);
                killed.exit()
            }
            None => ended.exit,
        };
        self.execs.left_over.extend(exec.cgroup.take());
        self.execs.left_over.retain_mut(|cgroup| !cgroup.remove());
        self.tell_ended(key, exit, String::new(), ended.usage);
    }

    fn tell_ended(&mut self, key: u32, exit: Exit, message: String, usage: model::Usage) {
        if self.execs.told.remove(&key) {
            return;
        }
        let result = ExecResult { exit, message, finished_ns: finish::now_ns(), usage };
        self.with_control(|control, _, poll| control.exec_ended(ExecKey(key), &result, poll));
        if !self.execs.any() {
            // The next may be long in coming.
            sys::solo::give_back_memory();
        }
    }

    pub(super) fn cancel(&mut self, key: ExecKey) -> io::Result<()> {
        let exec = self.execs.running.get_mut(&key.0).ok_or_else(gone)?;
        exec.killed.get_or_insert(Killed::Cancelled);
        kill_tree(exec);
        Ok(())
    }

    /// Kills all: the container has ended.
    pub(super) fn kill_execs(&mut self) {
        for exec in self.execs.running.values_mut() {
            exec.killed.get_or_insert(Killed::Cancelled);
            kill_tree(exec);
        }
    }

    /// Tells of those that did not end although they were killed.
    pub(super) fn give_up_execs(&mut self) {
        for key in std::mem::take(&mut self.execs.running).into_keys() {
            self.tell_ended(key, Exit::Lost, String::new(), model::Usage::default());
        }
        self.execs.left_over.retain_mut(|cgroup| !cgroup.remove());
    }
}

/// Whether an exec could be cloned.
enum Cloning {
    /// It was, or it failed and that is to be told.
    Done(Box<Exec>),
    /// It is the runtime's work.
    Not(ExecRequest),
}

impl Exec {
    fn new(request: ExecRequest, cgroup: Option<ExecCgroup>, deadline: Option<Instant>) -> Self {
        Self {
            request,
            runtime: 0,
            pid: 0,
            way: None,
            failed: None,
            pidfile: PathBuf::new(),
            log: None,
            console: None,
            terminal: None,
            cgroup,
            deadline,
            killed: None,
            killed_since: None,
        }
    }
}
