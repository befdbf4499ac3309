//! The process itself: the order of events that callers can observe (contract §1).
//!
//! ```text
//! parse, open logs ─► oom score ─► start pipe ─► fork ─► sockets, fifos, pipes ─► runtime ─► pid told ─► loop ─► end
//!        └ error: message, 1              caller's child ends here   └ error: told on the sync pipe, 1
//! ```

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::RawFd;

use sys::solo;

use crate::cli::high::{self, Around};
use crate::cli::{self, Args, Command, Low};
use crate::error::point;
use crate::logs::Logs;
use crate::{Error, message};

mod children;
pub mod ctl;
pub(crate) mod execs;
pub mod exit;
mod finish;
mod harden;
mod host;
pub(crate) mod notify;
pub mod oom;
mod output;
mod place;
pub mod runtime_child;
mod session;
mod start;
mod stdin;
pub mod stdio;
pub mod sync;

use sync::Pipe;

/// Runs the monitor with these arguments (the program's name is the first); its exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let inherited = solo::inherited();
    let low = match Low::parse(args.iter().skip(1).cloned()) {
        Ok(low) => low,
        Err(text) => {
            // stderr may be closed; the status tells as well.
            let _ = writeln!(std::io::stderr(), "conmon: option parsing failed: {text}");
            return 1;
        }
    };
    if low.control_socket.is_some() {
        harden::protect_program(&args);
    }
    let around = Around {
        cwd: std::env::current_dir().unwrap_or_default(),
        attach_pipe: std::env::var_os("_OCI_ATTACHPIPE").is_some(),
    };
    let text = match high::command(low, &around) {
        Ok(Command::Run(args)) => return run(&args, &inherited),
        Ok(Command::Version) => cli::version_text(),
        Ok(Command::Help) => cli::help_text(),
        Err(error) => {
            message::error(error);
            return 1;
        }
    };
    u8::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

/// What stays for the whole life of the process.
#[derive(Debug)]
struct Settled<'a> {
    args: &'a Args,
    /// Descriptors that the caller left open, for the runtime.
    inherited: &'a [RawFd],
    /// What our children's oom_score_adj is set back to.
    oom_score_adj: Option<i32>,
}

/// The caller's pipes. Taken over before the fork, so that a number that is wrong is told to the caller.
#[derive(Debug)]
struct Pipes {
    start: Pipe,
    sync: Pipe,
    attach: Pipe,
}

#[inline(never)]
fn run(args: &Args, inherited: &[RawFd]) -> u8 {
    message::init(args.level, args.syslog.then_some(args.cid.as_str()));
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    match begin(args, inherited) {
        Ok(status) => status,
        Err(error) => {
            message::error(error);
            1
        }
    }
}

/// Up to the fork: errors are told on stderr, to a caller that waits for this process.
fn begin(args: &Args, inherited: &[RawFd]) -> Result<u8, Error> {
    let logs = Logs::open(&args.logs)?;
    if args.logs.no_partial_message && !args.logs.paths.iter().any(|path| path.starts_with("journald")) {
        message::warning("--no-container-partial-message has no effect without journald log driver");
    }
    let oom_score_adj = harden::shield_from_oom();
    harden::survive_file_limit();
    solo::exit_at_once_on(libc_signals::TERM);
    let pipes = Pipes {
        start: Pipe::from_env("_OCI_STARTPIPE")?,
        sync: Pipe::from_env("_OCI_SYNCPIPE")?,
        attach: if args.exec_attach() { Pipe::from_env("_OCI_ATTACHPIPE")? } else { Pipe::none() },
    };
    pipes.start.wait();
    point("monitor.released")?;
    if !args.sync
        && let solo::Forked::Parent(pid) =
            solo::fork().map_err(|cause| Error::io("fork", "monitor", cause))?
    {
        return Ok(say_goodbye(args, pid));
    }
    point("monitor.forked")?;
    let settled = Settled { args, inherited, oom_score_adj };
    Ok(start::stand_by(&settled, logs, pipes))
}

/// The first process's end: the monitor's pid is known, and written down.
fn say_goodbye(args: &Args, pid: i32) -> u8 {
    let Some(path) = &args.conmon_pidfile else { return 0 };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let written = sys::fail::point("monitor.before-pidfile")
        .and_then(|()| exit::replace(dir, &name, pid.to_string().as_bytes()));
    match written {
        Ok(()) => 0,
        Err(error) => {
            message::error(format_args!("write conmon pidfile {}: {error}", path.display()));
            // A monitor that nobody can find must not go on.
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            1
        }
    }
}

/// Numbers of the signals that are spoken of here.
mod libc_signals {
    pub(super) const HUP: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const QUIT: i32 = 3;
    pub(super) const KILL: i32 = 9;
    pub(super) const TERM: i32 = 15;
    pub(super) const CHLD: i32 = 17;
}
