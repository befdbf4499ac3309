//! The end, in the order that callers rely on (contract §1, steps 12 to 18).

use std::time::{Duration, Instant};

use model::Exit;
use rustix::time::ClockId;
use sys::solo::{self, Reaped};

use super::exit;
use super::session::{Session, kill_group};
use super::sync::{self, Key};
use crate::error::point;
use crate::{Stream, message};

/// After a time-out the killed process is waited for so long, so that its resources are known.
const KILL_WAIT: Duration = Duration::from_millis(500);
/// Execs that outlive the container are killed; they get so long to be reaped.
const EXEC_WAIT: Duration = Duration::from_secs(2);

/// The process ended by itself, or was ended by others.
#[inline(never)]
pub(super) fn after_end(mut session: Session<'_>, reaped: Reaped) -> u8 {
    for stream in [Stream::Stdout, Stream::Stderr] {
        drain(&mut session, stream);
    }
    close_logs(&mut session);
    announce(session, reaped, "")
}

/// The process did not end in its time.
#[inline(never)]
pub(super) fn after_timeout(mut session: Session<'_>) -> u8 {
    session.output.close(&session.poll);
    close_logs(&mut session);
    kill_group(session.pid);
    let deadline = Instant::now() + KILL_WAIT;
    let mut usage = model::Usage::default();
    while Instant::now() < deadline {
        if let Some(reaped) = session.children.take(session.pid) {
            usage = reaped.usage;
            break;
        }
        session.turn(Some(deadline));
    }
    let reaped = Reaped { pid: session.pid, exit: Exit::TimedOut, usage };
    announce(session, reaped, "command timed out")
}

/// There is nothing to stand beside: the caller knows already. `ran`: a runtime was started.
#[inline(never)]
pub(super) fn after_failure(mut session: Session<'_>, ran: bool) -> u8 {
    session.stop_runtime();
    session.logs.close();
    solo::close_inherited(&unadopted(&session));
    session.clients.close(&session.poll);
    if let Some(control) = &mut session.control {
        control.close();
    }
    if ran { leave(session, 1) } else { 1 }
}

/// Reads what is there; who holds the pipe open and goes on writing is not waited for.
pub(super) fn drain(session: &mut Session<'_>, stream: Stream) {
    let mut left = session.output.left(stream);
    while left > 0 {
        session.logs.catch_up();
        session.copy(stream);
        match session.output.last_read() {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
}

fn close_logs(session: &mut Session<'_>) {
    session.logs.close();
    if let Some(failure) = session.logs.failure() {
        message::warning(failure);
    }
}

/// Tells everybody, each only after what it may rely on is there.
fn announce(mut session: Session<'_>, reaped: Reaped, text: &str) -> u8 {
    let args = session.settled.args;
    pass("monitor.end-seen");
    session.look_for_oom();
    end_execs(&mut session);
    session.output.close(&session.poll);
    solo::close_inherited(&unadopted(&session));
    session.clients.close(&session.poll);
    let oom =
        session.oom.as_mut().map_or(model::Oom::None, |watch| watch.verdict(reaped.exit, session.oom_seen));
    let record = exit::record(&args.cid, &reaped, oom);
    if let (Some(bundle), Some(_)) = (&args.bundle, &args.control_socket) {
        let written = serde_json::to_vec(&record).map_err(std::io::Error::other).and_then(|json| {
            sys::fail::point("monitor.before-exit-record")?;
            sys::durable::replace_path(bundle.join("exit.json"), &json, 0o644).map_err(std::io::Error::other)
        });
        if let Err(error) = written {
            message::error(format_args!("write exit record: {error}"));
        }
    }
    pass("monitor.exit-recorded");
    exit::write_files(args, reaped.exit);
    pass("monitor.exit-files-written");
    let status = exit::conmon_status(reaped.exit);
    if args.is_exec() {
        session.sync.send(&sync::encode(args.api, Key::ExitCode, status, text));
    }
    session.ended = Some(record.clone());
    session.with_control(|control, _, poll| {
        control.exited(&record, poll);
        control.close();
    });
    pass("monitor.told");
    leave(session, u8::try_from(status).unwrap_or(255))
}

/// The inherited descriptors that nothing of ours owns. Pipes that were adopted close with their owners; only the sync pipe is
/// needed beyond this point.
fn unadopted(session: &Session<'_>) -> Vec<std::os::fd::RawFd> {
    let variables = ["_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE"];
    let adopted: Vec<i32> =
        variables.into_iter().filter_map(|name| std::env::var(name).ok()?.parse().ok()).collect();
    session.settled.inherited.iter().copied().filter(|fd| !adopted.contains(fd)).collect()
}

fn end_execs(session: &mut Session<'_>) {
    session.kill_execs();
    let deadline = Instant::now() + EXEC_WAIT;
    while session.execs.any() && Instant::now() < deadline {
        session.turn(Some(deadline));
    }
    session.give_up_execs();
}

/// Sockets and links go, the exit command runs, zombies are reaped.
fn leave(session: Session<'_>, status: u8) -> u8 {
    let settled = session.settled;
    drop(session);
    pass("monitor.closed");
    let mut status = status;
    if let Some(command) = &settled.args.exit_command {
        let own = exit::run_command(command, settled.oom_score_adj);
        if own != 0 {
            status = own;
        }
    }
    while let Ok(Some(_)) = solo::reap_any() {}
    status
}

/// A failpoint where nothing can fail any more: an error is a line in our log.
fn pass(name: &'static str) {
    if let Err(error) = point(name) {
        message::warning(error);
    }
}

/// Now, in nanoseconds since the epoch.
pub(super) fn now_ns() -> u64 {
    exit::clock_ns(ClockId::Realtime)
}
