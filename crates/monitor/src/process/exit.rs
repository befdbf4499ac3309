//! What is left behind at the end: exit files, oom files, the exit record, the exit command (contract §6).

use std::io::{self, Write as _};
use std::path::Path;

use model::{Exit, ExitRecord, Oom};
use sys::solo::{self, Launch, Reaped};

use super::stdio;
use crate::cli::Args;
use crate::cli::high::ExitCommand;
use crate::message;

/// The status as conmon writes it: the code, 128 + signal, -1 for a time-out.
#[must_use]
pub fn conmon_status(exit: Exit) -> i32 {
    match exit {
        Exit::TimedOut | Exit::StartError => -1,
        // A process that was never our child, and is gone: conmon 2.2 says 0.
        Exit::Lost => 0,
        exit => i32::from(exit.code()),
    }
}

/// Writes `PERSIST/exit`, then `EXITDIR/CID`; a failure is told and the other is still written.
pub fn write_files(args: &Args, exit: Exit) {
    let status = conmon_status(exit).to_string();
    for (dir, name) in [(&args.persist_dir, "exit"), (&args.exit_dir, args.cid.as_str())] {
        if let Some(dir) = dir
            && let Err(error) = replace(dir, name, status.as_bytes())
        {
            message::error(format_args!("write exit file {}: {error}", dir.join(name).display()));
        }
    }
}

/// Writes the oom files, which say that somebody was killed for want of memory.
pub fn write_oom_files(args: &Args) {
    for dir in [&args.persist_dir, &args.bundle].into_iter().flatten() {
        let path = dir.join("oom");
        if let Err(error) = std::fs::write(&path, "") {
            message::error(format_args!("write oom file {}: {error}", path.display()));
        }
    }
}

/// Writes `name` in `dir` so that nobody reads half of it: a temporary file that looks like no id, and a rename.
///
/// # Errors
/// The directory is missing, not writable or full.
pub fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = std::fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| std::fs::rename(&temporary, dir.join(name)));
    if written.is_err() {
        // What is in the way is of no use to anyone.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// The record of how `reaped` ended.
#[must_use]
pub fn record(id: &str, reaped: &Reaped, oom: Oom) -> ExitRecord {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    ExitRecord {
        version: ExitRecord::VERSION,
        id: id.to_owned(),
        pid: reaped.pid,
        exit: reaped.exit,
        oom,
        finished_ns: clock_ns(rustix::time::ClockId::Realtime),
        boottime_ns: clock_ns(rustix::time::ClockId::Boottime),
        boot_id: boot_id.trim().to_owned(),
        usage: reaped.usage,
    }
}

/// A clock's reading in nanoseconds.
#[must_use]
pub fn clock_ns(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000) + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Runs the exit command and waits for it. What it returns, if not 0, becomes the monitor's status.
#[must_use]
pub fn run_command(command: &ExitCommand, oom_score_adj: Option<i32>) -> u8 {
    if !command.delay.is_zero() {
        std::thread::sleep(command.delay);
    }
    if let Err(error) = rustix::process::set_child_subreaper(None) {
        message::warning(format_args!("give up being subreaper: {error}"));
    }
    match launch(command, oom_score_adj) {
        Ok(exit) => exit.code(),
        Err(error) => {
            message::error(format_args!("run exit command: {error}"));
            1
        }
    }
}

fn launch(command: &ExitCommand, oom_score_adj: Option<i32>) -> io::Result<Exit> {
    let null = stdio::dev_null().map_err(io::Error::other)?;
    let stdio = [(); 3].map(|()| Some(std::os::fd::AsFd::as_fd(&null)));
    let argv = std::iter::once(&command.program).chain(&command.args);
    let pid = Launch::new(&command.program, argv)?
        .stdio(stdio)
        .pass_only(Vec::new())
        .oom_score_adj(oom_score_adj)
        .start()?;
    Ok(solo::reap_blocking(pid)?.exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let cases = [
            (Exit::Code(0), 0),
            (Exit::Code(255), 255),
            (Exit::Signal(9), 137),
            (Exit::TimedOut, -1),
            (Exit::Lost, 0),
        ];
        for (exit, status) in cases {
            assert_eq!(conmon_status(exit), status);
        }
    }
}
