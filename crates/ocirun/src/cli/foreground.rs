//! `run`, and what a process in the foreground needs: its signals, its terminal, its exit status.

use std::os::fd::{AsFd, OwnedFd};

use model::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use sys::Ctx as _;
use sys::pidfd::PidFd;
use sys::process::SignalFd;

use super::{creation, log};
use crate::create::{self, Context};
use crate::error::{Error, Result};
use crate::lifecycle::{self, Force};
use crate::record::read_config;
use crate::sdnotify::{self, Notify};
use crate::start;

/// `run`: create, start, and wait unless it is detached.
pub(super) fn run(context: &Context, asked: creation::Options, log: &log::Log) -> Result<u8> {
    let (mut options, run) = asked.connect()?;
    let (spec, _) = read_config(&options.bundle.join("config.json"))?;
    let mut terminal = None;
    if spec.process.is_some_and(|process| process.terminal) && options.console.is_none() && !run.detach {
        let (console, own) = Terminal::new()?;
        options.console = Some(console);
        terminal = Some(own);
    }
    let id = options.id.clone();
    if !run.detach && !run.no_subreaper {
        sys::process::become_subreaper()?;
    }
    let relay = if run.detach { None } else { Some(Relay::new()?) };
    let host = sdnotify::host();
    options.notify = host.is_some();
    let created = create::create(context, options)?;
    created.warnings.iter().for_each(|warning| log.warning(warning));
    let notify = host.map(|host| Notify::new(&created.dir, &host)).transpose();
    let notify = match notify.and_then(|notify| start::start(context, &id).map(|()| notify.flatten())) {
        Ok(notify) => notify,
        Err(error) => {
            // The error of the start is the one that is told.
            drop(lifecycle::delete(context, &id, Force::Yes));
            return Err(error);
        }
    };
    let Some(relay) = relay else {
        if let Some(Err(error)) = notify.map(|notify| notify.wait(&created.init)) {
            log.warning(&error.to_string());
        }
        return Ok(0);
    };
    let status = relay.wait(&created.init, terminal, notify)?;
    if !run.keep {
        for failure in lifecycle::delete(context, &id, Force::Yes)? {
            log.warning(&failure);
        }
    }
    Ok(status)
}

/// The terminal that the process gets, as seen from here.
#[derive(Debug)]
pub(crate) struct Terminal {
    socket: OwnedFd,
}

impl Terminal {
    /// What the process is given, and our side of it.
    pub(crate) fn new() -> Result<(OwnedFd, Self)> {
        use sys::socket::{Blocking, Kind, pair};
        let (given, socket) = pair(Kind::Stream, Blocking::Yes)?;
        Ok((given, Self { socket }))
    }

    fn master(self) -> Result<OwnedFd> {
        let mut name = [0u8; 256];
        let received = sys::socket::recv_with_fds(&self.socket, &mut name, 1)?;
        let master = received.fds.into_iter().next();
        master.ok_or_else(|| Error::Step("receive terminal: no descriptor came".to_owned()))
    }
}

/// Our own terminal, raw for as long as this lives.
struct Raw(Option<Termios>);

impl Raw {
    fn new() -> Self {
        let stdin = rustix::stdio::stdin();
        let Ok(before) = tcgetattr(stdin) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        // Without it the terminal only echoes twice.
        let _refused = tcsetattr(stdin, OptionalActions::Now, &raw);
        Self(Some(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing else can be done for a terminal that has gone.
            let _refused = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Hands signals on to a process until it has ended.
#[derive(Debug)]
pub(crate) struct Relay {
    signals: SignalFd,
}

/// What others send: not what the kernel tells a process of its own mistakes.
const SIGNALS: [i32; 21] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGABRT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGSTKFLT,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGURG,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];
/// The real-time signals of glibc, whose programs send them; those below are the C library's own (signal(7)).
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

impl Relay {
    /// Begins to collect signals; they are blocked from now on.
    pub(crate) fn new() -> Result<Self> {
        let all: Vec<i32> = SIGNALS.into_iter().chain(REAL_TIME).collect();
        Ok(Self { signals: SignalFd::new(&all)? })
    }

    /// Waits for the end of `process`, a child of ours, and gives its exit status: 128 + N for signal N.
    pub(crate) fn wait(
        self,
        process: &PidFd,
        terminal: Option<Terminal>,
        mut notify: Option<Notify>,
    ) -> Result<u8> {
        let master = terminal.map(Terminal::master).transpose()?;
        let raw = master.as_ref().map(|_| Raw::new());
        if let Some(master) = &master {
            resize(master);
        }
        let mut stdin_open = master.is_some();
        let mut output_open = master.is_some();
        loop {
            let mut fds = vec![
                PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            ];
            if let Some(master) = master.as_ref().filter(|_| output_open) {
                fds.push(PollFd::new(master, PollFlags::IN));
                if stdin_open {
                    fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
                }
            }
            let notified = fds.len();
            fds.extend(notify.iter().map(|notify| PollFd::new(notify.socket(), PollFlags::IN)));
            rustix::io::retry_on_intr(|| poll(&mut fds, None)).ctx("wait for", "process")?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready[1] {
                self.pass(process, master.as_ref())?;
            }
            if let Some(master) = &master {
                if output_open && ready.get(2) == Some(&true) {
                    output_open = copy(master, rustix::stdio::stdout());
                }
                if stdin_open && ready.get(3) == Some(&true) {
                    stdin_open = copy(rustix::stdio::stdin(), master);
                }
            }
            // We are the service's process: we end with the container. A manager that is gone waits for nothing.
            if ready.get(notified) == Some(&true)
                && let Some(pair) = &notify
                && pair.pass(std::process::id()).unwrap_or(true)
            {
                notify = None;
            }
            if ready[0] {
                break;
            }
        }
        if let Some(master) = &master {
            // What was written before the end.
            while output_open && sys::poll::readable(master, Some(std::time::Duration::ZERO)).unwrap_or(false)
            {
                output_open = copy(master, rustix::stdio::stdout());
            }
        }
        drop(raw);
        let status = process.exit_status()?;
        Ok(status.map_or(255, |status| status.exit().code()))
    }

    fn pass(&self, process: &PidFd, master: Option<&OwnedFd>) -> Result<()> {
        while let Some(received) = self.signals.take()? {
            if received.signal == libc::SIGWINCH
                && let Some(master) = master
            {
                resize(master);
                continue;
            }
            let Ok(signal) = Signal::from_number(i64::from(received.signal)) else { continue };
            match process.signal(signal.number()) {
                Err(error) if error.is_gone() => {}
                result => result?,
            }
        }
        Ok(())
    }
}

fn resize(master: &OwnedFd) {
    // Only where we have a terminal ourselves.
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _refused = tcsetwinsize(master, size);
    }
}

/// Copies what there is; whether there may be more.
fn copy(from: impl AsFd, to: impl AsFd) -> bool {
    let mut buffer = [0u8; 16384];
    match rustix::io::read(from, &mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(len) => {
            let mut rest = &buffer[..len];
            while !rest.is_empty() {
                match rustix::io::write(to.as_fd(), rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return false,
                }
            }
            true
        }
    }
}
