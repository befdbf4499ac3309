//! Exits: one task for each living container waits for its init's pidfd, and then for the monitor's record.
//!
//! The time and status come from a record: the monitor's, or the kernel's own word for who held a pidfd. Any
//! number of processes may watch; the first one commits.

use std::time::{Duration, Instant};

use model::{Exit, ExitRecord, Oom, Reason, State, Transition};
use sys::pidfd::PidFd;

use crate::clock::now_ns;
use crate::container::{Locked, Shared};
use crate::dir::Dir;
use crate::event::Happened;
use crate::ready::Ready;
use crate::record::Record;
use crate::status::Ended;
use crate::{Container, Result, blocking, point};

/// How long a living monitor may take to write down an exit before the kernel's word is taken.
const RECORD_WAIT: Duration = Duration::from_secs(20);
/// The largest exit.json that is read, in bytes.
const RECORD_MAX: u64 = 64 << 10;

impl Container {
    /// Watches for the exit in the background, once, as long as anybody holds the container.
    pub(crate) fn watch(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.record().state.is_alive() || !self.shared().begin_watch() {
            return;
        }
        let weak = std::sync::Arc::downgrade(self.shared());
        let changes = self.changes();
        runtime.spawn(watch(weak, changes));
    }
}

/// Ends with the container, or when nobody holds it any more.
async fn watch(weak: std::sync::Weak<Shared>, mut changes: tokio::sync::watch::Receiver<bool>) {
    let mut pause = Duration::from_millis(20);
    loop {
        let Some(container) = weak.upgrade().map(Container::from_shared) else { return };
        let record = container.record();
        if !record.state.is_alive() {
            container.shared().end_watch();
            return;
        }
        let held = record
            .hold_init()
            .and_then(|init| init.map(|init| Ready::of(&init).map(|ready| (init, ready))).transpose());
        drop(container);
        let init = match held {
            Ok(Some((init, ready))) => {
                tokio::select! {
                    ready = ready.readable() => { if ready.is_err() { return } }
                    changed = changes.changed() => match changed {
                        Err(_) => return,
                        Ok(()) if *changes.borrow_and_update() => return,
                        Ok(()) => continue,
                    }
                }
                Some(init)
            }
            Ok(None) => None,
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
                continue;
            }
        };
        let Some(container) = weak.upgrade().map(Container::from_shared) else { return };
        match settle(&container, init).await {
            Ok(()) => {
                // Another process may have been the one to write it.
                container.refresh();
                container.shared().end_watch();
                return;
            }
            Err(crate::Error::NotFound { .. }) => {
                container.shared().runtimes.forget_this(&container);
                container.shared().end_watch();
                return;
            }
            Err(error) => {
                tracing::warn!(container = %container.id(), %error, "can't record the exit yet");
                drop(container);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

/// Finds out how the container, whose init is dead, ended, and records it.
pub(crate) async fn settle(container: &Container, init: Option<PidFd>) -> Result<()> {
    let begin = Instant::now();
    let mut pause = Duration::from_micros(500);
    let wait_for = container.clone();
    // Without the lock: the monitor may take a moment, and others need not wait for that.
    while !written(&wait_for).await? && begin.elapsed() < RECORD_WAIT {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    container.locked("record exit", move |locked| commit(locked, init.as_ref())).await
}

/// Whether there is a record, or nobody left who would write one.
async fn written(container: &Container) -> Result<bool> {
    let (dir, record) = (container.dir().clone(), container.record());
    blocking::quick(move || {
        let alive = match record.hold_monitor()? {
            Some(monitor) => !monitor.is_dead()?,
            None => false,
        };
        Ok(!alive || dir.file("exit.json").exists() || conmon_file(&dir).exists())
    })
    .await
}

fn conmon_file(dir: &Dir) -> std::path::PathBuf {
    dir.file("exits").join(dir.id().as_str())
}

/// Records the exit of a container whose init is dead. Another may have done it.
pub(crate) fn commit(locked: &mut Locked, init: Option<&PidFd>) -> Result<()> {
    let record = locked.record();
    if !record.state.is_alive() {
        return Ok(());
    }
    point("exit.before-commit")?;
    let ended = ended(locked.container().dir(), record, init);
    let happened = Happened::Exited { exit: ended.exit, oom: ended.oom };
    let group = record.monitor.cgroup.as_deref().and_then(crate::cgroups::Group::at);
    locked.transition(Transition::Exited, happened, |record| {
        if record.started_ns.is_none() {
            record.started_ns = record.starting_ns.take();
        }
        record.ended = Some(ended);
        record.stop = None;
    })?;
    // The monitor's cgroup is empty in a moment; if it is not yet, delete or recovery removes it. systemd does
    // so itself with a scope's, and must.
    let by_us = !locked.record().handler.systemd;
    if let Some(group) = group.filter(|group| by_us && group.pids().is_empty()) {
        let _ = group.remove();
    }
    Ok(())
}

/// How it ended: from our monitor's record, else conmon's file with the kernel's word, else that alone.
fn ended(dir: &Dir, record: &Record, init: Option<&PidFd>) -> Ended {
    if let Some(exit) = own_record(dir, record) {
        return of(exit.exit, exit.oom, Some(exit.finished_ns));
    }
    let kernel = init.and_then(|init| init.exit_status().ok().flatten()).map(|status| status.exit());
    let file = conmon_record(dir);
    let (exit, finished_ns) = match (file, kernel) {
        // conmon has 128 + N for the signal N and for that status; the kernel can tell them apart.
        (Some((Exit::TimedOut, at)), _) => (Exit::TimedOut, Some(at)),
        (Some((_, at)), Some(exit)) => (exit, Some(at)),
        (Some((exit, at)), None) => (exit, Some(at)),
        // The pidfd became readable a moment ago.
        (None, Some(exit)) => (exit, Some(now_ns())),
        (None, None) => (Exit::Lost, None),
    };
    of(exit, oom(dir, record, exit), finished_ns)
}

fn of(exit: Exit, oom: Oom, finished_ns: Option<u64>) -> Ended {
    Ended { exit, code: exit.code(), reason: Reason::of(exit, oom), oom, finished_ns, message: None }
}

fn own_record(dir: &Dir, record: &Record) -> Option<ExitRecord> {
    let bytes = sys::durable::read_bounded(dir.file("exit.json"), RECORD_MAX).ok()?;
    let exit: ExitRecord = serde_json::from_slice(&bytes).ok()?;
    let ours = exit.version == ExitRecord::VERSION && exit.id == record.id.as_str();
    (ours && record.init.is_none_or(|init| init.pid == exit.pid)).then_some(exit)
}

/// conmon's exit file and its time: it is renamed into place when the init has ended.
fn conmon_record(dir: &Dir) -> Option<(Exit, u64)> {
    let path = conmon_file(dir);
    let text = sys::durable::read_bounded(&path, 64).ok()?;
    let status: i32 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    let modified = std::fs::metadata(&path).ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((Exit::from_conmon(status), u64::try_from(since.as_nanos()).ok()?))
}

/// Whom the kernel killed: the cgroup counts, and conmon leaves a file. A SIGKILL while a stop goes on is
/// the stop's.
fn oom(dir: &Dir, record: &Record, exit: Exit) -> Oom {
    let counted = record.own_group().is_some_and(|group| group.oom_kills() > 0);
    if !counted && !dir.file("oom").exists() {
        return Oom::None;
    }
    if exit == Exit::Signal(9) && record.state != State::Stopping { Oom::Init } else { Oom::Child }
}
