//! Start.

use std::time::Duration;

use model::{Exit, Oom, Reason, State, Transition};

use crate::clock::now_ns;
use crate::container::Locked;
use crate::event::Happened;
use crate::status::Ended;
use crate::{Container, Error, Result, point};

/// How long the init of a failed start may take to be gone after SIGKILL.
const DEATH: Duration = Duration::from_secs(30);

impl Container {
    /// Starts the program of a created container. Goes to its end even if the caller is dropped. One whose program
    /// runs, though an earlier start failed to write that down, is started by that.
    ///
    /// # Errors
    /// [`Error::State`] unless it is created; [`Error::Runtime`] with the runtime's message, or
    /// [`Error::Timeout`]: then the container is Exited with [`Exit::StartError`].
    pub async fn start(&self) -> Result<()> {
        self.locked("start", start).await
    }
}

fn start(locked: &mut Locked) -> Result<()> {
    locked.require(&[State::Created])?;
    let container = locked.container().clone();
    point("start.begin")?;
    // The runtime would refuse to start it again, and it would be ended for that.
    if locked.record().starting_ns.is_some() {
        crate::recover::half_started(locked)?;
        if locked.record().state == State::Running {
            return Ok(());
        }
    }
    locked.change(None, |record| record.starting_ns = Some(now_ns()))?;
    point("start.before-runtime")?;
    let started = container.driver().run("start", ["start", container.id().as_str()], &[]);
    point("start.after-runtime")?;
    match started {
        Ok(_) => locked.transition(Transition::Started, Happened::Started, |record| {
            record.started_ns = record.starting_ns.take();
        }),
        Err(error) => {
            failed(locked, &error)?;
            Err(error)
        }
    }
}

/// Ends what could not be started, and keeps the reason.
pub(crate) fn failed(locked: &mut Locked, error: &Error) -> Result<()> {
    if let Some(init) = locked.record().hold_init()? {
        // One that has ended by itself can't be signalled.
        let _ = init.signal(9);
        if !init.wait(Some(DEATH))? {
            let object = locked.record().id.to_string();
            return Err(Error::Timeout { op: "kill init of", object, after: DEATH });
        }
    }
    let ended = Ended {
        exit: Exit::StartError,
        code: Exit::StartError.code(),
        reason: Reason::StartError,
        oom: Oom::None,
        finished_ns: Some(now_ns()),
        message: Some(error.to_string()),
    };
    let happened = Happened::Exited { exit: Exit::StartError, oom: Oom::None };
    locked.transition(Transition::Exited, happened, |record| {
        record.starting_ns = None;
        record.ended = Some(ended);
    })
}
