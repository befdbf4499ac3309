//! Stop: the stop signal, a grace, then everything in the cgroup is killed.
//!
//! ```text
//! begin (locked): Stopping, with the time of the kill, on disk ─► signal to init, thaw ─► wait
//!                                                                  ├─ it has ended ─────────► rest killed, done
//!                                                                  ├─ a shorter stop came ──► wait until then
//!                                                                  └─ time is up ─► kill all ─► wait until it has ended
//! ```
//! The lock is held only at the beginning. Each call is a job that goes on without its caller and ends with
//! the container; the record says when the kill is due, so that a second call shortens the first, in another
//! process too, and recovery goes on with a stop whose process died.

use std::time::Duration;

use model::{Signal, State, Transition};

use crate::blocking;
use crate::clock::boottime_ns;
use crate::container::{Container, Locked};
use crate::event::Happened;
use crate::kill::signal_init;
use crate::pause::frozen;
use crate::record::{Record, StopRecord};
use crate::status::Ended;
use crate::{Error, Result};

/// How long killed processes may take to go before the stop says that they don't.
const KILL_TIMEOUT: Duration = Duration::from_secs(120);
/// One round of killing everything in the cgroup.
const KILL_ROUND: Duration = Duration::from_secs(2);

impl Container {
    /// Stops the container: `signal` to its init, and after `grace` SIGKILL to everything in it; a grace of
    /// zero kills at once. Resolves when its init has ended and is accounted for.
    ///
    /// A container that is being stopped already keeps the earlier of both times. Dropping the future does
    /// not end the stop.
    ///
    /// # Errors
    /// [`Error::State`] while it is being created; [`Error::Timeout`] naming the processes that don't go
    /// within two minutes of being killed.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> Result<Ended> {
        let container = self.clone();
        let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        let stop = StopRecord { signal: signal.number(), kill_at_ns: boottime_ns().saturating_add(grace_ns) };
        // A task of its own, so that it outlives the caller. If this process ends, the record has the stop.
        let going = blocking::Going::begin();
        let job = tokio::spawn(async move {
            let _going = going;
            container.run_stop(stop).await
        });
        job.await.map_err(|_| Error::Cancelled { op: "stop", object: self.id().to_string() })?
    }

    /// Goes on with the stop of the record, whose process died. None when there is none.
    pub(crate) async fn continue_stop(&self) -> Result<Option<Ended>> {
        self.refresh();
        let record = self.record();
        match record.stop {
            Some(stop) if record.state == State::Stopping => self.run_stop(stop).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn run_stop(&self, stop: StopRecord) -> Result<Ended> {
        let ended = if self.locked("stop", move |locked| begin(locked, stop)).await? {
            if self.kill_at() > boottime_ns() {
                self.ask_to_end(stop.signal).await?;
            }
            self.wait_or_kill().await?
        } else {
            self.wait().await?
        };
        // What shares a pid namespace with others outlives init: execs, daemons.
        let container = self.clone();
        blocking::long(move || {
            // A later container with its id may have a cgroup of the same name.
            if let Some(group) = container.record().own_group().filter(|_| container.is_there()) {
                group.kill(KILL_ROUND);
            }
            Ok(())
        })
        .await?;
        Ok(ended)
    }

    /// Sends the signal, and lets a frozen container take it. A program that gets it twice, from two stops
    /// or after a recovery, has been asked twice; one that never gets it would wait for its grace in vain.
    async fn ask_to_end(&self, signal: i32) -> Result<()> {
        let container = self.clone();
        blocking::long(move || {
            let record = container.record();
            crate::point("stop.before-signal")?;
            if let Ok(signal) = Signal::from_number(signal.into()) {
                signal_init(&record, signal)?;
            }
            crate::point("stop.after-signal")?;
            if frozen(&record)
                && let Err(error) = container.driver().run("stop", ["resume", record.id.as_str()], &[])
                // Another stop, or a resume, was faster.
                && frozen(&record)
            {
                return Err(error);
            }
            Ok(())
        })
        .await
    }

    /// When everything is to be killed, by the record as it is now: a shorter stop may have changed it.
    fn kill_at(&self) -> u64 {
        self.refresh();
        self.record().stop.map_or(0, |stop| stop.kill_at_ns)
    }

    async fn wait_or_kill(&self) -> Result<Ended> {
        let mut changes = self.changes();
        let wait = self.wait();
        tokio::pin!(wait);
        loop {
            changes.mark_unchanged();
            let left = self.kill_at().saturating_sub(boottime_ns());
            if left == 0 {
                break;
            }
            tokio::select! {
                ended = &mut wait => return ended,
                () = tokio::time::sleep(Duration::from_nanos(left)) => {}
                _ = changes.changed() => {}
            }
        }
        let end = tokio::time::Instant::now() + KILL_TIMEOUT;
        loop {
            let container = self.clone();
            let kill = blocking::long(move || kill_all(&container));
            tokio::select! {
                ended = &mut wait => return ended,
                killed = kill => killed?,
            }
            // Killed, and perhaps gone: the exit is known in a moment.
            match tokio::time::timeout(KILL_ROUND, &mut wait).await {
                Ok(ended) => return ended,
                Err(_) if tokio::time::Instant::now() < end => {}
                Err(_) => {
                    let left = self.clone();
                    let left = blocking::quick(move || Ok(describe(&left.record()))).await?;
                    let object = format!("{}: {left}", self.id());
                    return Err(Error::Timeout { op: "stop", object, after: KILL_TIMEOUT });
                }
            }
        }
    }
}

/// Makes the stop durable. False when there is nothing to be asked: it has ended.
fn begin(locked: &mut Locked, stop: StopRecord) -> Result<bool> {
    let record = locked.record();
    let (state, earlier) = (record.state, record.stop);
    let mut stop = stop;
    match state {
        State::Exited => return Ok(false),
        State::Creating | State::Unknown => {
            return Err(Error::State { op: "stop", id: record.id.to_string(), state });
        }
        // Nothing runs in it that could do anything with a signal.
        State::Created => stop.kill_at_ns = 0,
        State::Running | State::Paused | State::Stopping => {}
    }
    crate::point("stop.before-record")?;
    if let Some(earlier) = earlier.filter(|_| state == State::Stopping) {
        stop.kill_at_ns = stop.kill_at_ns.min(earlier.kill_at_ns);
        if stop != earlier {
            locked.change(None, |record| record.stop = Some(stop))?;
        }
    } else {
        locked.transition(Transition::StopAsked, Happened::Stopping, |record| record.stop = Some(stop))?;
    }
    crate::point("stop.after-record")?;
    Ok(true)
}

/// Kills everything in the cgroup, and init, which is there whatever the cgroup says.
fn kill_all(container: &Container) -> Result<()> {
    let record = container.record();
    crate::point("stop.before-kill")?;
    signal_init(&record, Signal::KILL)?;
    if let Some(group) = record.own_group()
        && container.is_there()
        && !group.kill(KILL_ROUND)
    {
        tracing::warn!(container = %record.id, processes = describe(&record), "killed, and still there");
    }
    crate::point("stop.after-kill")
}

/// The processes that are left, with their state: `D` is one that the kernel does not let go.
fn describe(record: &Record) -> String {
    let mut pids = record.own_group().map(|group| group.pids()).unwrap_or_default();
    pids.extend(record.init.map(|init| init.pid));
    let shown = pids.into_iter().take(20).filter_map(|pid| {
        let stat = sys::proc::stat(pid).ok()?;
        let what = match stat.state {
            'D' => "in uninterruptible sleep",
            'Z' => "a zombie",
            'T' | 't' => "stopped",
            _ => "alive",
        };
        Some(format!("process {pid} ({:?}) is {what}", stat.comm))
    });
    shown.collect::<Vec<_>>().join(", ")
}
