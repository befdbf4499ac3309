//! Killing an exec with all that it has begotten.

use std::time::{Duration, Instant};

use model::Exit;
use sys::pidfd::PidFd;

use super::super::libc_signals::KILL;
use super::super::session::{kill_group, send_signal};
use super::Exec;

/// A tree that is to be killed and still has processes is killed again after so long, and then twice as long, at most
/// [`KILL_SELDOM`].
const KILL_AGAIN: Duration = Duration::from_millis(100);
const KILL_SELDOM: Duration = Duration::from_secs(10);
/// For so long an end is waited for before it is told. A frozen process takes no signal (v1), or is not reaped.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Killed {
    TimedOut,
    Cancelled,
}

impl Killed {
    pub(super) fn exit(self) -> Exit {
        match self {
            Self::TimedOut => Exit::TimedOut,
            Self::Cancelled => Exit::Signal(9),
        }
    }
}

impl Exec {
    /// Whether it is killed and does not end.
    pub(super) fn lingers(&self, now: Instant) -> bool {
        self.killed_since.is_some_and(|(since, _)| now.saturating_duration_since(since) >= PATIENCE)
    }
}

/// Kills the runtime, the process and all their children; again later, if something is left.
pub(super) fn kill_tree(exec: &mut Exec) {
    let now = Instant::now();
    let (since, step) = exec.killed_since.unwrap_or((now, KILL_AGAIN));
    let (again, tell) = (now + step, since + PATIENCE);
    exec.deadline = Some(if tell > now { again.min(tell) } else { again });
    exec.killed_since = Some((since, (step * 2).min(KILL_SELDOM)));
    let top = if exec.pid > 0 { exec.pid } else { exec.runtime };
    let descendants = if exec.cgroup.is_none() || exec.pid == 0 { descendants(top) } else { Vec::new() };
    if let Some(cgroup) = &exec.cgroup {
        cgroup.kill();
    }
    if exec.runtime > 0 {
        send_signal(exec.runtime, KILL);
    }
    if exec.pid > 0 {
        kill_group(exec.pid);
    }
    for (pid, start_time) in descendants {
        // Gone is as good as killed, and its pid may be another's by now.
        if let Ok(Some(process)) = PidFd::open_verified(pid, start_time) {
            let _ = process.signal(KILL);
        }
    }
}

/// All that descend from `top`, as far as /proc tells, with their start times. `top` is a child of ours that was not waited
/// for, so its pid is nobody else's.
fn descendants(top: i32) -> Vec<(i32, u64)> {
    let mut found: Vec<(i32, u64)> = Vec::new();
    let mut ask = vec![(top, None)];
    while let Some((parent, start_time)) = ask.pop() {
        let children: Vec<(i32, u64)> = sys::proc::children(parent)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|pid| {
                Some((pid, sys::proc::stat(pid).ok().filter(|stat| stat.ppid == parent)?.start_time))
            })
            .collect();
        // They are its own if it is who it was.
        if start_time.is_some_and(|known| sys::proc::start_time(parent).ok() != Some(known)) {
            continue;
        }
        ask.extend(children.iter().map(|&(pid, start_time)| (pid, Some(start_time))));
        found.extend(children);
        if found.len() > 100_000 {
            break;
        }
    }
    found
}
