//! From the fork to the moment when the container, or the exec, is there; then the loop, then the end.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use sys::solo::Reaped;

use super::children::Stranger;
use super::ctl::{self, Fifo};
use super::libc_signals::{HUP, TERM};
use super::notify::Proxy;
use super::oom::Watch;
use super::output::Overflow;
use super::place::AttachSocket;
use super::runtime_child::{self, With};
use super::session::{Session, send_signal};
use super::stdin::Stdin;
use super::stdio::{self, ConsoleSocket};
use super::sync::{self, Key, Pipe};
use super::{Pipes, Settled, finish, harden};
use crate::cli::Args;
use crate::cli::high::Api;
use crate::error::point;
use crate::logs::Logs;
use crate::poll::{Kind, Ready, Token};
use crate::{Error, control, message};

/// What conmon says when a terminal was asked for and none came.
const NO_TERMINAL: &str = "Runtime did not set up terminal";

/// Why there is nothing to stand beside.
enum Failure {
    /// Ours, before a runtime ran.
    Own(Error),
    /// The runtime's, in its words.
    Runtime(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

/// The monitor's whole life; its exit status.
pub(super) fn stand_by(settled: &Settled<'_>, logs: Logs, pipes: Pipes) -> u8 {
    let args = settled.args;
    let Pipes { start: start_pipe, sync, attach: attach_pipe } = pipes;
    let mut session = match Session::new(settled, logs, sync) {
        Ok(session) => session,
        Err(error) => {
            message::error(error);
            return 1;
        }
    };
    match start(&mut session, start_pipe, attach_pipe) {
        Ok(()) => {}
        Err(failure) => {
            let (ran, text) = match failure {
                Failure::Own(error) => (false, error.to_string()),
                Failure::Runtime(text) => (true, text),
            };
            message::error(&text);
            let key = if args.is_exec() { Key::ExitCode } else { Key::Pid };
            session.sync.send(&sync::encode(args.api, key, -1, &text));
            return finish::after_failure(session, ran);
        }
    }
    sys::solo::give_back_memory();
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        if let Some(reaped) = session.ending() {
            return finish::after_end(session, reaped);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return finish::after_timeout(session);
        }
        session.turn(deadline);
    }
}

#[inline(never)]
fn start(session: &mut Session<'_>, start_pipe: Pipe, mut attach_pipe: Pipe) -> Result<(), Failure> {
    let args = session.settled.args;
    let passthrough = session.logs.passthrough();
    if let (Some(host), Some(bundle)) = (&args.sdnotify_socket, &args.bundle) {
        let proxy = Proxy::make(bundle, host)?;
        watch(session, &proxy, Kind::Notify)?;
        session.notify = Some(proxy);
    }
    if !passthrough {
        stdio::forget_own()?;
    }
    // It fails when the caller has made us a group's leader, which does no harm.
    let _ = rustix::process::setsid();
    sys::process::become_subreaper()
        .map_err(|error| Error::io("become", "subreaper", std::io::Error::other(error)))?;
    let ends = if passthrough { Ends::default() } else { make_stdio(session)? };
    if let (Some(bundle), false) = (&args.bundle, passthrough) {
        let attach = AttachSocket::make(args, bundle)?;
        watch(session, &attach, Kind::AttachListener)?;
        session.attach = Some(attach);
        for name in ["winsz", "ctl"] {
            let path = bundle.join(name);
            let fifo = Fifo::make(&path).map_err(|cause| Error::io("make", path.display(), cause))?;
            if name == "ctl" {
                watch(session, &fifo, Kind::Ctl)?;
                session.fifo = Some((fifo, ctl::Lines::default()));
            }
        }
    }
    point("monitor.before-control")?;
    if let Some(path) = &args.control_socket {
        let server = control::Server::bind(path, &session.poll)
            .map_err(|cause| Error::io("bind", path.display(), cause))?;
        session.control = Some(server);
    }
    point("monitor.sockets-made")?;
    if args.exec_attach() {
        attach_pipe.send(&sync::encode(args.api, Key::Pid, 0, ""));
    }
    drop(attach_pipe);
    run_runtime(session, ends, &start_pipe)?;
    drop(start_pipe);
    begin(session)
}

fn watch(session: &Session<'_>, fd: impl std::os::fd::AsFd, kind: Kind) -> Result<(), Error> {
    session
        .poll
        .add(fd, Token::of(kind), Ready::IN)
        .map_err(|cause| Error::io("watch", format!("{kind:?}"), cause))
}

/// The container's ends of its stdio.
#[derive(Default)]
struct Ends {
    fds: [Option<OwnedFd>; 3],
}

fn make_stdio(session: &mut Session<'_>) -> Result<Ends, Error> {
    let args = session.settled.args;
    let ours = |fd: OwnedFd| -> Result<OwnedFd, Error> {
        stdio::set_nonblocking(&fd).map_err(|cause| Error::io("set up", "pipe", cause))?;
        Ok(fd)
    };
    let (mut stdin, mut stdout, mut our_stdout) = (None, None, None);
    if args.terminal {
        let console = ConsoleSocket::make()?;
        watch(session, console.watched(), Kind::Console)?;
        session.console = Some(console);
    } else {
        if args.stdin {
            let (read, write) = stdio::pipe()?;
            session.stdin = Stdin::to(ours(write)?);
            stdin = Some(read);
        }
        let (read, write) = stdio::pipe()?;
        our_stdout = Some(ours(read)?);
        stdout = Some(write);
    }
    let (read, write) = stdio::pipe()?;
    let overflow = if args.is_exec() { Overflow::Copy } else { Overflow::Drop };
    session
        .output
        .start(our_stdout, Some(ours(read)?), overflow, &session.poll)
        .map_err(|cause| Error::io("watch", "stderr", cause))?;
    let or_null = |fd: Option<OwnedFd>| fd.map_or_else(stdio::dev_null, Ok);
    Ok(Ends { fds: [Some(or_null(stdin)?), Some(or_null(stdout)?), Some(write)] })
}

/// Runs the runtime to its end. Afterwards the process's pid is in the session.
fn run_runtime(session: &mut Session<'_>, ends: Ends, start_pipe: &Pipe) -> Result<(), Failure> {
    let args = session.settled.args;
    match std::fs::remove_file(&args.container_pidfile) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove stale", args.container_pidfile.display(), error).into());
        }
        _ => {}
    }
    let line = runtime_child::command_line(args, session.console.as_ref().map(ConsoleSocket::path));
    message::debug(format_args!("run {line:?}"));
    let own_pid = std::process::id().to_string();
    let with = With {
        stdio: ends.fds.each_ref().map(|fd| fd.as_ref().map(OwnedFd::as_fd)),
        gate: start_pipe.fd().filter(|_| args.exec_attach()).map(OwnedFd::as_fd),
        oom_score_adj: session.settled.oom_score_adj,
        own_listen_pid: args.replace_listen_pid
            || std::env::var("LISTEN_PID").is_ok_and(|pid| pid == own_pid),
    };
    point("monitor.before-runtime")?;
    session.children.keep_all();
    session.runtime =
        runtime_child::start(args, &line, with).map_err(|cause| Error::io("fork", "runtime", cause))?;
    session.children.await_pid(session.runtime);
    point("monitor.runtime-started")?;
    drop(ends);
    if session.logs.passthrough() {
        stdio::forget_own()?;
    }
    let wants_terminal = args.terminal && !session.logs.passthrough();
    let exit = loop {
        if let Some(reaped) = session.children.take(session.runtime) {
            break reaped.exit;
        }
        session.turn(None);
    };
    session.runtime = 0;
    point("monitor.runtime-ended")?;
    // What it has said and sent just before its end.
    if session.console.is_some() {
        session.take_terminal();
        session.take_terminal();
    }
    finish::drain(session, crate::Stream::Stderr);
    let pid = std::fs::read_to_string(&args.container_pidfile)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
        .filter(|&pid| pid > 0);
    let words = session.output.words();
    let or_words = |text: String| if words.is_empty() { text } else { words.clone() };
    match (exit, pid) {
        (model::Exit::Code(0), Some(_)) if wants_terminal && session.terminal.is_none() => {
            Err(Failure::Runtime(or_words(NO_TERMINAL.to_owned())))
        }
        (model::Exit::Code(0), Some(pid)) => {
            session.pid = pid;
            Ok(())
        }
        (model::Exit::Code(0), None) if wants_terminal && session.terminal.is_none() => {
            Err(Failure::Runtime(or_words(NO_TERMINAL.to_owned())))
        }
        (model::Exit::Code(0), None) => {
            Err(Failure::Runtime(or_words(format!("{} wrote no pid", args.runtime.display()))))
        }
        (model::Exit::Signal(signal), _) => {
            Err(Failure::Runtime(or_words(format!("{}: killed by signal {signal}", args.runtime.display()))))
        }
        (exit, _) => {
            let status = exit.code();
            Err(Failure::Runtime(or_words(format!("{}: exit status {status}", args.runtime.display()))))
        }
    }
}

/// The process is there: tell, watch, and begin to copy.
fn begin(session: &mut Session<'_>) -> Result<(), Failure> {
    let args = session.settled.args;
    session.children.await_pid(session.pid);
    session.children.keep_awaited();
    match Stranger::meet(session.pid) {
        None => {}
        Some(Ok(stranger)) => {
            watch(session, &stranger, Kind::Pid)?;
            session.stranger = Some(stranger);
        }
        Some(Err(error)) => {
            message::debug(format_args!("watch pid {}: {error}", session.pid));
            session.lost = true;
        }
    }
    point("monitor.before-pid-told")?;
    tell_pid(session, args);
    point("monitor.pid-told")?;
    match Watch::of(session.pid) {
        Ok(oom) => match watch(session, &oom, Kind::Oom) {
            Ok(()) => session.oom = Some(oom),
            Err(error) => message::warning(error),
        },
        Err(error) => message::debug(format_args!("watch memory of pid {}: {error}", session.pid)),
    }
    let kept = session.output.begin(&session.poll).map_err(|cause| Error::io("watch", "stdout", cause))?;
    if !kept.is_empty() {
        session.logs.write(crate::Stream::Stderr, &kept);
        session.clients.output(crate::Stream::Stderr, &kept, &session.poll);
    }
    harden::drop_power(session.control.is_some());
    Ok(())
}

fn tell_pid(session: &mut Session<'_>, args: &Args) {
    // A probe of CRI-O's reads one message, and a number without exit_code would be success to it.
    if args.is_exec() && args.api == Api::V0 {
        return;
    }
    session.sync.send(&sync::encode(args.api, Key::Pid, session.pid, ""));
}

impl Session<'_> {
    /// How the process ended, once it has.
    fn ending(&mut self) -> Option<Reaped> {
        if let Some(reaped) = self.children.take(self.pid) {
            return Some(reaped);
        }
        let gone = self.lost || self.stranger.as_ref().is_some_and(Stranger::is_gone);
        gone.then(|| Reaped { pid: self.pid, exit: model::Exit::Lost, usage: model::Usage::default() })
    }

    /// Ends a runtime that still runs when the monitor gives up.
    pub(super) fn stop_runtime(&self) {
        if self.runtime > 0 {
            for signal in [TERM, HUP] {
                send_signal(self.runtime, signal);
            }
        }
    }
}
